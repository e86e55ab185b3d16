//! A source that is not there yet: the status says so, and the pull begins when it comes.

use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::ffmpeg;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;

use crate::{LIVE, RETRY, SOON, node};

fn attempts(status: &Value) -> u64 {
    status["attempt"]
        .as_u64()
        .unwrap_or_else(|| panic!("attempt of {status}"))
}

fn classes(status: &Value) -> Vec<String> {
    let history = status["history"]
        .as_array()
        .unwrap_or_else(|| panic!("history of {status}"));
    history
        .iter()
        .map(|incident| incident["class"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn status_says_wait_until_ffmpeg_begins_to_publish() {
    let host = node().without("dial").start();
    let api = host.client();
    let pull = Provision::pull("rtmppull1", "live/pull1", &host.url("live/stream1"));
    api.create(&pull);
    let before = api.status(pull.guid());
    assert_eq!(
        (&before["state"], &before["serverAddress"]),
        (&Value::from("WAIT"), &Value::Null),
        "{before}"
    );

    api.distribute(&pull);
    let waiting = api.wait_for(pull.guid(), "a second attempt", SOON, |s| attempts(s) >= 2);
    assert_eq!(waiting["state"], "WAIT", "{waiting}");
    assert!(
        classes(&waiting).contains(&"not-found".to_owned()),
        "{waiting}"
    );
    let sleeping = api.wait_for(pull.guid(), "the next attempt is told", SOON, |s| {
        s["nextAttemptMs"].is_u64()
    });
    assert!(sleeping["error"].is_string(), "{sleeping}");
    let listed = api.streams();
    assert!(
        listed
            .iter()
            .any(|s| s["streamGuid"] == "live/pull1" && s["state"] == "WAIT"),
        "{listed:?}"
    );

    let mut publisher = ffmpeg::publish(&Clip::small(), &host.url("live/stream1"));
    let source_is_live = || {
        api.streams()
            .iter()
            .any(|s| s["streamGuid"] == "live/stream1" && s["state"] == "LIVE")
    };
    ffmpeg::wait_until_publishing(&mut publisher, source_is_live, SOON);
    let live = api.wait_for_state(pull.guid(), "LIVE", LIVE + RETRY);
    assert!(
        live["nextAttemptMs"].is_null() && live["error"].is_null(),
        "{live}"
    );
    ffmpeg::decodes(&host.url("live/pull1"), Duration::from_secs(2));
}

#[test]
fn refused_source_is_dialled_again_until_it_listens() {
    let mut source = Source::open(&Clip::small());
    source.go_away();
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("refused-source", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let waiting = api.wait_for(pull.guid(), "a third attempt", SOON, |s| attempts(s) >= 3);
    assert!(
        classes(&waiting).contains(&"refused".to_owned()),
        "{waiting}"
    );
    source.come_back();
    api.wait_for_state(pull.guid(), "LIVE", LIVE + RETRY);
}

#[test]
fn player_of_a_waiting_stream_is_served_when_the_source_comes() {
    let clip = Clip::small();
    let mut source = Source::open(&clip);
    source.go_away();
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("early-player", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/pull1"));
    api.wait_for(pull.guid(), "the player is counted", SOON, |s| {
        s["subscribers"] == 1
    });
    source.come_back();
    player.wait_for_more(60, LIVE + RETRY + SOON);
    player.assert_unbroken(&clip);
}

#[test]
fn blocked_address_is_never_dialled() {
    let source = Source::open(&Clip::small());
    let host = node().without("dial").start();
    let api = host.client();
    let pull = Provision::pull("blocked-source", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let status = api.wait_for(pull.guid(), "an attempt", SOON, |s| !classes(s).is_empty());
    assert_eq!(classes(&status)[0], "blocked", "{status}");
    assert_eq!(source.dials(), 0, "a refused address was dialled");
}
