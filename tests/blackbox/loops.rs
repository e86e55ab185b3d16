//! Streams of one node that pull each other: none plays what it sent itself.

use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::{Value, json};

use crate::{SOON, node};

fn pull(guid: &str, url: &str) -> Provision {
    Provision::pull(guid, &format!("live/{guid}"), url).with("retryMaxMs", 500)
}

/// The pull of one stream of the node by another.
fn inner(host: &TestHost, guid: &str, of: &str) -> Provision {
    pull(guid, &host.url(&format!("live/{of}")))
}

fn says_loop(status: &Value, round: &str) -> bool {
    let text = format!("this would make a loop: {round}");
    let history = status["history"].as_array().into_iter().flatten();
    let mut classes = history.filter(|one| one["class"] == "rejected");
    classes.any(|one| {
        one["text"]
            .as_str()
            .is_some_and(|said| said.contains(&text))
    })
}

fn wait_for_loop(api: &Api, guid: &str, round: &str) {
    api.wait_for(guid, "it names the loop", SOON, |status| {
        says_loop(status, round)
    });
}

#[test]
fn a_pull_that_would_close_a_loop_is_refused_and_says_so() {
    let mut source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    api.start(&pull("one", &source.url("live/stream1")));
    api.start(&inner(&host, "two", "one"));
    api.start(&inner(&host, "six", "two"));
    api.wait_for_state("six", "LIVE", SOON);
    let player = Player::attach(&host.url("live/six"));
    player.wait_for_more(60, SOON);

    let body = json!([inner(&host, "one", "six").json()]);
    api.call("PUT", &provision_path(""), Some(&body))
        .expect(200);
    wait_for_loop(&api, "one", "live/one -> live/six -> live/two -> live/one");
    // What played goes on until there is something else.
    player.wait_for_more(60, SOON);
    assert_eq!(api.status("six")["state"], "LIVE");

    // Nothing goes round when the only source is gone.
    source.go_away();
    for guid in ["one", "two", "six"] {
        api.wait_for_state(guid, "WAIT", SOON);
    }
    let count = player.count();
    api.wait_for("one", "it tries again", SOON, |status| {
        status["attempt"].as_u64().is_some_and(|n| n > 4)
    });
    assert_eq!(player.count(), count);
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn two_pulls_of_each_other_wait_and_recover_when_one_is_changed() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    api.start(&inner(&host, "one", "two"));
    api.start(&inner(&host, "two", "one"));
    // Whoever comes second, and that is for the two of them to find out.
    eventually("one of them is refused", SOON, || {
        let (one, two) = (api.status("one"), api.status("two"));
        let refused = says_loop(&one, "live/one -> live/two -> live/one")
            || says_loop(&two, "live/two -> live/one -> live/two");
        when(refused, || format!("{one} {two}"))
    });
    for guid in ["one", "two"] {
        assert_eq!(api.status(guid)["state"], "WAIT");
    }
    let body = json!([pull("two", &source.url("live/stream1")).json()]);
    api.call("PUT", &provision_path(""), Some(&body))
        .expect(200);
    api.wait_for_state("two", "LIVE", SOON);
    api.wait_for_state("one", "LIVE", SOON);
}
