//! An origin that asks its players to connect again: they go without a gap.

use std::time::{Duration, Instant};

use restreamd_tests::black_hole::Mute;
use restreamd_tests::clip::{Clip, SMALL};
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Behaviour, Source};

use crate::{SOON, node};

/// A keyframe's distance, and what a busy machine adds.
const GAP: Duration = Duration::from_millis(1_500);

/// A pull of a source with a player who has seen some of it.
fn playing(source: &Source) -> (TestHost, Player) {
    let host = node().start();
    let pull = Provision::pull("moved-pull", "live/pull1", &source.url("live/stream1"));
    host.client().start(&pull);
    host.client().wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    (host, player)
}

/// The player sees one stream, and the policy one source.
fn unnoticed(host: &TestHost, player: &Player, asked: Instant) {
    player.wait_for_more(200, SOON);
    player.assert_attached();
    player.assert_monotonic();
    let gap = player.longest_gap(asked);
    assert!(gap < GAP, "{gap:?} without a frame");
    let status = host.client().status("moved-pull");
    assert_eq!(
        (&status["state"], &status["attempt"]),
        (&"LIVE".into(), &1.into()),
        "{status}"
    );
    assert_eq!(status["history"], serde_json::json!([]), "{status}");
}

#[test]
fn a_reconnect_to_another_server_is_unnoticed() {
    let clip = Clip::of(SMALL);
    let (first, second) = (Source::open(&clip), Source::open(&clip));
    let (host, player) = playing(&first);
    let asked = Instant::now();
    first.ask_to_reconnect(Some(&second.url("edge")));
    eventually("the new server has the pull", SOON, || {
        let (old, new) = (first.connections(), second.connections());
        when((old, new) == (0, 1), || {
            format!("{old} and {new} connections")
        })
    });
    unnoticed(&host, &player, asked);
    let play = second.commands("play").remove(0);
    assert_eq!(restreamd_tests::amf::text(play.get(3)), "stream1");
}

#[test]
fn a_reconnect_to_the_same_server_is_unnoticed() {
    let source = Source::open(&Clip::small());
    let (host, player) = playing(&source);
    let asked = Instant::now();
    source.ask_to_reconnect(None);
    eventually("it was dialled again, and left once", SOON, || {
        let (dials, open) = (source.dials(), source.connections());
        when((dials, open) == (2, 1), || {
            format!("{dials} dials, {open} open")
        })
    });
    unnoticed(&host, &player, asked);
}

#[test]
fn the_old_connection_stays_when_the_new_server_does_not_answer() {
    let source = Source::open(&Clip::small());
    let (host, player) = playing(&source);
    let asked = Instant::now();
    let hole = Mute::open();
    for to in [
        hole.url("live"),
        "rtmp://169.254.169.254/live".to_owned(),
        "http://x".to_owned(),
    ] {
        source.ask_to_reconnect(Some(&to));
        holds(
            "the old connection stays",
            Duration::from_millis(1_200),
            || {
                let (dials, open) = (source.dials(), source.connections());
                when((dials, open) == (1, 1), || {
                    format!("{dials} dials, {open} open")
                })
            },
        );
    }
    unnoticed(&host, &player, asked);
}

#[test]
fn the_old_server_may_hang_up_before_the_new_one_plays() {
    let clip = Clip::small();
    let (first, second) = (Source::open(&clip), Source::open(&clip));
    second.set(Behaviour::Silent);
    let (host, player) = playing(&first);
    let asked = Instant::now();
    first.ask_to_reconnect(Some(&second.url("live")));
    let played = || !second.commands("play").is_empty();
    eventually("the new server is asked to play", SOON, || {
        when(played(), || format!("{} dials", second.dials()))
    });
    first.hang_up();
    eventually("the old server has closed", SOON, || {
        let open = first.connections();
        when(open == 0, || format!("{open} connections"))
    });
    second.set(Behaviour::Play);
    unnoticed(&host, &player, asked);
    assert_eq!((first.dials(), second.dials()), (1, 1));
}

#[test]
fn a_server_that_asks_all_the_time_is_heard_once_a_second() {
    const WINDOW: Duration = Duration::from_secs(3);
    let source = Source::open(&Clip::small());
    let (host, player) = playing(&source);
    let asked = Instant::now();
    holds("few dials", WINDOW, || {
        source.ask_to_reconnect(None);
        let dials = source.dials();
        when(dials <= 1 + 4, || format!("{dials} dials"))
    });
    assert!(source.dials() > 1);
    unnoticed(&host, &player, asked);
}
