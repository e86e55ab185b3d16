//! Players.

use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::continuity::breaks;
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::proc::Running;
use restreamd_tests::rtmpdump::Rtmpdump;
use restreamd_tests::{ffmpeg, gst};

use crate::{SOON, node};

/// A node with one stream, `live/cam`, published by ffmpeg.
fn stage(clip: &Clip) -> (TestHost, Running) {
    let host = node().start();
    let publisher = ffmpeg::publish(clip, &host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    (host, publisher)
}

#[test]
fn ffmpeg_decodes_and_ffprobe_sees_the_packets_that_were_published() {
    let clip = Clip::small();
    let (host, _publisher) = stage(&clip);
    let url = host.url("live/cam");
    ffmpeg::decodes(&url, Duration::from_secs(3));
    let source = ffmpeg::packets(clip.path().to_str().expect("UTF-8"), 60);
    // Longer than the clip, so that its loop is in it.
    let played = ffmpeg::packets(&url, 12);
    for kind in ["video", "audio"] {
        let (source, played) = (
            ffmpeg::of_kind(&source, kind),
            ffmpeg::of_kind(&played, kind),
        );
        assert!(played.len() > 200, "only {} {kind} packets", played.len());
        assert_eq!(breaks(&source, &played), [0_usize; 0], "{kind}");
    }
}

#[test]
fn rtmpdump_records_what_decodes_without_errors() {
    let (host, mut publisher) = stage(&Clip::small());
    let mut player = Rtmpdump::record(&host.url("live/cam"));
    player.wait_for_more(100_000, SOON);
    // The end of the stream makes it leave by itself.
    publisher.interrupt();
    restreamd_tests::eventually::eventually("rtmpdump leaves", SOON, || {
        if player.is_running() {
            Err(player.said())
        } else {
            Ok(())
        }
    });
    ffmpeg::decodes(
        player.file().to_str().expect("UTF-8"),
        Duration::from_secs(10),
    );
}

#[test]
fn gstreamer_plays() {
    let (host, _publisher) = stage(&Clip::small());
    gst::plays(&host.url("live/cam"), 100);
}

#[test]
fn ffmpeg_leaves_when_the_stream_ends() {
    let (host, mut publisher) = stage(&Clip::small());
    let mut player = ffmpeg::player(&host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    restreamd_tests::eventually::eventually("the player is counted", SOON, || {
        let list = host.client().streams();
        if list[0]["subscribers"] == 1 {
            Ok(())
        } else {
            Err(format!("{list:?}"))
        }
    });
    publisher.interrupt();
    assert!(player.wait(SOON).success(), "{}", player.stderr.text());
}

#[test]
fn late_player_starts_at_a_keyframe_and_loses_nothing_from_there() {
    let clip = Clip::small();
    let (host, _publisher) = stage(&clip);
    let players: Vec<_> = (0..20)
        .map(|_| Player::attach(&host.url("live/cam")))
        .collect();
    for player in &players {
        player.wait_for_more(120, SOON);
        player.assert_unbroken(&clip);
        player.assert_monotonic();
    }
}

#[test]
fn unknown_stream_is_refused_at_once() {
    let host = node().start();
    assert!(!ffmpeg::plays(&host.url("live/none")));
    let player = Player::attach(&host.url("live/none"));
    let reason = restreamd_tests::eventually::eventually("it is told", SOON, || {
        player.gone().ok_or_else(|| "attached".to_owned())
    });
    assert!(reason.contains("NetStream.Play.StreamNotFound"), "{reason}");
}
