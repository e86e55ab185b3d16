//! Sources that keep the connection and stop the media.

use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, holds};
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Behaviour, Source};

use crate::{SOON, node};

/// From the last media to "stalled".
const STALLED: Duration = Duration::from_secs(3);

fn stalls(behaviour: Behaviour) {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("stalling-source", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);

    source.set(behaviour);
    api.wait_for(pull.guid(), "it is seen as stalled", STALLED, |s| {
        let history = s["history"].as_array().into_iter().flatten();
        s["phase"] == "stalled"
            || history
                .clone()
                .any(|incident| incident["class"] == "stalled")
    });
    eventually("it is dialled again", SOON, || {
        if source.dials() >= 2 {
            Ok(())
        } else {
            Err(format!("{} dials", source.dials()))
        }
    });
    source.set(Behaviour::Play);
    source.hang_up();
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    player.wait_for_more(60, SOON);
    player.assert_monotonic();
}

#[test]
fn silent_source_is_stalled_and_dialled_again() {
    stalls(Behaviour::Silent);
}

#[test]
fn source_without_picture_is_stalled_and_dialled_again() {
    stalls(Behaviour::AudioOnly);
}

#[test]
fn source_without_sound_is_stalled_and_dialled_again() {
    stalls(Behaviour::VideoOnly);
}

#[test]
fn source_with_frozen_timestamps_is_stalled_and_dialled_again() {
    stalls(Behaviour::Frozen);
}

#[test]
fn state_is_never_live_while_nothing_moves() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("truthful-state", "live/pull1", &source.url("live/stream1"))
        .with("stallMs", "500");
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    source.set(Behaviour::Silent);
    api.wait_for_state(pull.guid(), "WAIT", STALLED);
    holds("a mute source is not LIVE", STALLED, || {
        let status = api.status(pull.guid());
        if status["state"] == "WAIT" {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}
