//! PUT: a provision changes under its subscribers, who stay.

use std::time::{Duration, Instant};

use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::ffmpeg;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Behaviour, Source};
use serde_json::json;

use crate::{SOON, node};

/// What a second source takes before it plays.
const SLOW: Duration = Duration::from_millis(2_000);
/// A keyframe's distance, and what a busy machine adds; well below [`SLOW`].
const GAP: Duration = Duration::from_millis(1_500);

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
    // It takes its time, and the first one plays on meanwhile.
    second.set(Behaviour::Silent);
    let asked = Instant::now();
    update(&api, &pull(&second));
    eventually("the second source is dialed", SOON, || {
        let open = second.connections();
        when(open == 1, || format!("{open} connections"))
    });
    while asked.elapsed() < SLOW {
        player.wait_for_more(10, SOON);
    }
    second.set(Behaviour::Play);
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
    let gap = player.longest_gap(asked - Duration::from_secs(1));
    assert!(gap < GAP, "{gap:?} without a frame");
    let status = api.status("moved-pull");
    assert_eq!(
        (&status["state"], &status["source"]),
        (&"LIVE".into(), &second.url("live/stream1").into()),
        "{status}"
    );
}

#[test]
fn options_of_a_put_are_in_force_also_when_another_put_follows_at_once() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("twice-put", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    // The source with the new options does not come on air yet.
    source.set(Behaviour::NotFound);
    let asked = pull.with("pageUrl", "http://page/");
    update(&api, &asked);
    api.wait_for(asked.guid(), "it was refused", SOON, |s| {
        s["history"][0]["class"] == "not-found"
    });
    update(&api, &asked.with("retryMaxMs", 20_000));
    let plays = || source.commands("play").len();
    let before = plays();
    source.set(Behaviour::Play);
    eventually("a source with the options plays alone", SOON, || {
        let (plays, open) = (plays(), source.connections());
        when(plays > before && open == 1, || {
            format!("{before} and {plays} plays, {open} open")
        })
    });
    player.wait_for_more(60, SOON);
    player.assert_attached();
    player.assert_monotonic();
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

/// The longest silence between the last frames that came, which is about two seconds' worth.
fn longest_of_the_last(player: &Player, frames: usize) -> Duration {
    let all = player.frames();
    let last = &all[all.len().saturating_sub(frames)..];
    let gaps = last.windows(2).map(|pair| pair[1].at - pair[0].at);
    gaps.max().unwrap_or_default()
}

#[test]
fn another_latency_is_in_force_under_the_same_player() {
    let source = Source::open(&Clip::small());
    let host = node().set("stream.latency", "low").start();
    let api = host.client();
    let pull = Provision::pull("paced-pull", "live/pull1", &source.url("live/stream1"));
    let slow = pull.clone().with("latency", 1_000);
    api.start(&slow);
    let player = Player::attach(&host.url("live/pull1"));
    let (batch, alone) = (Duration::from_millis(700), Duration::from_millis(400));
    player.wait_for_more(150, SOON);
    eventually("frames come a second's worth at a time", SOON, || {
        player.assert_attached();
        let gap = longest_of_the_last(&player, 150);
        when(gap > batch, || format!("{gap:?}"))
    });
    assert_eq!(api.status(pull.guid())["latencyMs"], 1_000);
    for (latency, shown) in [(json!("low"), 0), (json!("30"), 30)] {
        update(&api, &pull.clone().with("latency", latency));
        eventually("frames come when they are there", SOON, || {
            player.assert_attached();
            let gap = longest_of_the_last(&player, 150);
            when(gap < alone, || format!("{gap:?}"))
        });
        assert_eq!(api.status(pull.guid())["latencyMs"], shown);
    }
    update(&api, &slow);
    update(&api, &pull);
    // What the node says again.
    api.wait_for(pull.guid(), "latency 0", SOON, |s| s["latencyMs"] == 0);
    // The source was none of the plugin's business meanwhile.
    assert_eq!(api.status(pull.guid())["attempt"], 1);
    assert_eq!(source.connections(), 1);
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn an_apps_latency_is_that_of_its_streams_and_a_provisions_beats_it() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let host = node()
        .set("apps.studio", toml::toml! { latency = 250 })
        .start();
    let api = host.client();
    let _publisher = ffmpeg::publish(&clip, &host.url("studio/room/cam"));
    api.wait_for_stream("studio/room/cam", SOON);
    let own = Provision::pull("own-latency", "studio/a", &source.url("live/s"));
    api.start(&own.with("latency", "low"));
    let other = Provision::pull("no-latency", "live/a", &source.url("live/s"));
    api.start(&other);
    let streams = api.streams();
    for (name, millis) in [("studio/room/cam", 250), ("studio/a", 0), ("live/a", 20)] {
        let stream = streams.iter().find(|s| s["streamGuid"] == name);
        assert_eq!(
            stream.map(|s| &s["latencyMs"]),
            Some(&json!(millis)),
            "{name}"
        );
    }
}
