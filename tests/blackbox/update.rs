//! PUT: a provision changes under its subscribers, who stay.

use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::eventually;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::json;

use crate::{SOON, node};

fn update(api: &Api, provision: &Provision) {
    let body = api
        .call("PUT", &provision_path(""), Some(&json!([provision.json()])))
        .expect(200);
    assert_eq!(body, json!({"result": "UPDATED"}));
}

#[test]
fn a_new_source_takes_over_under_the_same_player() {
    let clip = Clip::small();
    let (first, second) = (Source::open(&clip), Source::open(&clip));
    let host = node().start();
    let api = host.client();
    let pull =
        |source: &Source| Provision::pull("moved-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull(&first));
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    update(&api, &pull(&second));
    eventually("the first source is left", SOON, || {
        let (old, new) = (first.connections(), second.connections());
        if (old, new) == (0, 1) {
            Ok(())
        } else {
            Err(format!("{old} and {new} connections"))
        }
    });
    player.wait_for_more(60, SOON);
    player.assert_attached();
    player.assert_monotonic();
    let status = api.status("moved-pull");
    assert_eq!(
        (&status["state"], &status["source"]),
        (&"LIVE".into(), &second.url("live/stream1").into()),
        "{status}"
    );
}

#[test]
fn another_type_takes_over_under_the_same_player() {
    let source = Source::open(&Clip::small());
    let host = node().plugin("rtmp-fixed").start();
    let api = host.client();
    api.start(&Provision::pull(
        "retyped-pull",
        "live/pull1",
        &source.url("live/stream1"),
    ));
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    update(
        &api,
        &Provision::of_type("rtmp-fixed", "retyped-pull", "live/pull1")
            .with("url", source.url("live/stream1")),
    );
    api.wait_for("retyped-pull", "the new type is LIVE", SOON, |s| {
        s["type"] == "rtmp-fixed" && s["plugin"]["name"] == "rtmp-fixed" && s["state"] == "LIVE"
    });
    player.wait_for_more(60, SOON);
    player.assert_attached();
    player.assert_monotonic();
}
