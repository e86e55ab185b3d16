//! Sources that go and come back, under players that stay.

use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::ffmpeg;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::rtmpdump::Rtmpdump;
use restreamd_tests::source::{Gate, Script, Source};

use crate::{SOON, node};

/// From the source being back to LIVE.
const BACK: Duration = Duration::from_secs(2);
/// Kills a player has to survive.
const KILLS: usize = 5;
/// Longer than librtmp's own 30 s of patience.
const LONG_GAP: Duration = Duration::from_secs(45);

/// While the status says WAIT, no media may reach the player: the state is the truth.
fn waits_in_silence(api: &Api, guid: &str, player: &Player) {
    api.wait_for_state(guid, "WAIT", SOON);
    eventually(
        "what was under way has arrived",
        Duration::from_secs(1),
        || {
            let quiet = player.last_frame_age();
            when(quiet > Duration::from_millis(200), || {
                format!("a frame {quiet:?} ago")
            })
        },
    );
    let count = player.count();
    holds(
        "WAIT means that no media moves",
        Duration::from_millis(300),
        || {
            player.assert_attached();
            if player.count() == count {
                Ok(())
            } else {
                Err(format!("{} more frames", player.count() - count))
            }
        },
    );
}

#[test]
fn player_stays_attached_while_ffmpeg_is_killed_five_times() {
    let clip = Clip::small();
    let origin = node().start();
    let edge = node().start();
    let (at_origin, at_edge) = (origin.client(), edge.client());
    let mut publisher = ffmpeg::publish(&clip, &origin.url("live/stream1"));
    at_origin.wait_for_stream("live/stream1", SOON);
    let pull = Provision::pull("five-kills", "live/pull1", &origin.url("live/stream1"));
    at_edge.start(&pull);
    at_edge.wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&edge.url("live/pull1"));
    player.wait_for_more(60, SOON);

    for _ in 0..KILLS {
        publisher.kill();
        waits_in_silence(&at_edge, pull.guid(), &player);
        publisher = ffmpeg::publish(&clip, &origin.url("live/stream1"));
        at_origin.wait_for_stream("live/stream1", SOON);
        at_edge.wait_for_state(pull.guid(), "LIVE", BACK);
        player.wait_for_more(60, SOON);
    }
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn player_stays_attached_while_the_sources_server_dies_five_times() {
    let mut source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("dead-server", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);

    for _ in 0..KILLS {
        source.go_away();
        waits_in_silence(&api, pull.guid(), &player);
        source.come_back();
        api.wait_for_state(pull.guid(), "LIVE", BACK);
        player.wait_for_more(60, SOON);
    }
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn rtmpdump_survives_a_gap_of_45_seconds() {
    let mut source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("long-gap", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let mut player = Rtmpdump::record(&host.url("live/pull1"));
    player.wait_for_more(50_000, SOON);

    source.go_away();
    api.wait_for_state(pull.guid(), "WAIT", SOON);
    holds("rtmpdump stays", LONG_GAP, || {
        if player.is_running() {
            Ok(())
        } else {
            Err(player.said())
        }
    });
    source.come_back();
    api.wait_for_state(pull.guid(), "LIVE", BACK);
    player.wait_for_more(50_000, SOON);
    player.finish();

    for kind in ["v", "a"] {
        let times = ffmpeg::decoding_times(&player.file(), kind);
        assert!(
            times.len() > 60,
            "only {} packets of kind {kind}",
            times.len()
        );
        let back = times.windows(2).find(|pair| pair[1] < pair[0]);
        assert!(
            back.is_none(),
            "timestamps of kind {kind} go back: {back:?}"
        );
    }
}

#[test]
fn a_host_that_plays_again_wakes_nobody_whom_it_said_no_to() {
    let clip = Clip::small();
    let script = Script {
        gate: Gate::Adobe("me", "secret"),
        ..Script::default()
    };
    let source = Source::scripted(&clip, script);
    let host = node().start();
    let api = host.client();
    let flapping = Provision::pull(
        "good-pull",
        "live/good",
        &source.url_as("me:secret", "live/s"),
    );
    api.start(&flapping);
    api.wait_for_state(flapping.guid(), "LIVE", SOON);
    let denied = Provision::pull("bad-pull", "live/bad", &source.url_as("me:wrong", "live/s"));
    api.start(&denied.clone().with("retryMinMs", 20_000));
    api.wait_for(denied.guid(), "it is refused", SOON, |s| {
        s["history"][0]["class"] == "auth"
    });
    let wait = api.status(denied.guid())["nextAttemptMs"].as_u64();
    let due = Instant::now() + Duration::from_millis(wait.unwrap_or_default());
    let attempts = api.status(flapping.guid())["attempt"].clone();
    source.hang_up();
    api.wait_for(flapping.guid(), "it is LIVE again", SOON, |s| {
        s["state"] == "LIVE" && s["attempt"] != attempts
    });
    // What else wakes it is its own time, seconds later.
    holds("it is not tried early", Duration::from_secs(1), || {
        let attempt = api.status(denied.guid())["attempt"].clone();
        when(attempt == 1 || Instant::now() >= due, || {
            attempt.to_string()
        })
    });
}
