//! The harness on itself: its peers among each other, without the host.
//!
//! When these fail, a failure of the other suites says nothing about the host.

mod upstream;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use restreamd_tests::black_hole::{Mute, Unanswered};
use restreamd_tests::clip::{Clip, VIDEO};
use restreamd_tests::eventually::{eventually, holds};
use restreamd_tests::nginx::Nginx;
use restreamd_tests::player::Player;
use restreamd_tests::rtmpdump::Rtmpdump;
use restreamd_tests::source::{Behaviour, Source};
use restreamd_tests::{ffmpeg, gst, netns};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn scripted_source_plays_its_clip_unbroken_over_the_loop() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let player = Player::attach(&source.url("live/cam"));
    // Twelve seconds of 30 pictures and 43 sounds each.
    player.wait_for_more(12 * 73, SOON + Duration::from_secs(12));
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    assert_eq!((source.dials(), source.connections()), (1, 1));
}

#[test]
fn scripted_source_is_good_enough_for_ffmpeg_and_rtmpdump() {
    let source = Source::open(&Clip::small());
    ffmpeg::decodes(&source.url("live/cam"), Duration::from_secs(3));
    assert_eq!(ffmpeg::picture(&source.url("live/cam")), "h264,320,180");
    let mut dump = Rtmpdump::record(&source.url("live/cam"));
    dump.wait_for_more(50_000, SOON);
    dump.finish();
    assert!(ffmpeg::decoding_times(&dump.file(), "v").len() > 30);
}

#[test]
fn scripted_source_misbehaves_as_told() {
    let clip = Clip::small();
    let mut source = Source::open(&clip);
    let player = Player::attach(&source.url("live/cam"));
    player.wait_for_more(30, SOON);
    source.set(Behaviour::AudioOnly);
    let pictures = || player.frames().iter().filter(|f| f.kind == VIDEO).count();
    let settled = Instant::now();
    eventually("the picture stops", SOON, || {
        let last = player
            .frames()
            .iter()
            .filter(|f| f.kind == VIDEO)
            .map(|f| f.at)
            .next_back();
        let quiet = settled.elapsed() > Duration::from_millis(200)
            && last.is_some_and(|at| at.elapsed() > Duration::from_millis(200));
        if quiet {
            Ok(())
        } else {
            Err(format!("{} pictures", pictures()))
        }
    });
    source.set(Behaviour::Silent);
    eventually("all stops", SOON, || {
        let last = player
            .frames()
            .last()
            .map(|f| f.at.elapsed())
            .unwrap_or_default();
        if last > Duration::from_millis(300) {
            Ok(())
        } else {
            Err(format!("{last:?}"))
        }
    });
    player.assert_attached();
    source.set(Behaviour::Frozen);
    player.wait_for_more(30, SOON);
    let frames = player.frames();
    assert_eq!(
        frames[frames.len() - 1].timestamp,
        frames[frames.len() - 20].timestamp
    );
    source.go_away();
    eventually("the player is disconnected", SOON, || {
        player.gone().ok_or_else(|| "attached".to_owned())
    });
    assert!(
        TcpStream::connect(source.addr()).is_err(),
        "it still listens"
    );
    source.come_back();
    source.set(Behaviour::NotFound);
    let refused = Player::attach(&source.url("live/cam"));
    let reason = eventually("the player is refused", SOON, || {
        refused.gone().ok_or_else(|| "attached".to_owned())
    });
    assert!(reason.contains("StreamNotFound"), "{reason}");
}

#[test]
fn nginx_relays_ffmpeg_and_gstreamer_unbroken() {
    let clip = Clip::small();
    let nginx = Nginx::start();
    let mut ffmpeg = ffmpeg::publish(&clip, &nginx.url("ffmpeg"));
    let mut gst = gst::publish(&clip, &nginx.url("gst"));
    let player = Player::attach(&nginx.url("ffmpeg"));
    player.wait_for_more(60, SOON);
    player.assert_unbroken(&clip);
    gst::plays(&nginx.url("ffmpeg"), 50);
    ffmpeg::decodes(&nginx.url("gst"), Duration::from_secs(2));
    let source = ffmpeg::of_kind(
        &ffmpeg::packets(clip.path().to_str().expect("UTF-8"), 60),
        "video",
    );
    let played = ffmpeg::of_kind(&ffmpeg::packets(&nginx.url("ffmpeg"), 12), "video");
    assert!(restreamd_tests::continuity::breaks(&source, &played).is_empty());
    assert!(ffmpeg.ended().is_none(), "{}", ffmpeg.stderr.text());
    gst.interrupt();
    gst.wait(SOON);
}

#[test]
fn black_holes_swallow_dials() {
    let hole = Unanswered::open();
    let url = hole.url("live/cam");
    let addr = url
        .trim_start_matches("rtmp://")
        .split('/')
        .next()
        .and_then(|a| a.parse().ok())
        .expect("an address");
    let failed =
        TcpStream::connect_timeout(&addr, Duration::from_millis(700)).expect_err("nobody answers");
    assert_eq!(failed.kind(), std::io::ErrorKind::TimedOut);
    let mute = Mute::open();
    let player = Player::attach(&mute.url("live/cam"));
    holds("nothing is said", Duration::from_millis(500), || {
        player.gone().map_or(Ok(()), Err)
    });
}

#[test]
fn namespace_has_its_own_loopback() {
    netns::inside(
        "namespace_has_its_own_loopback",
        Duration::from_secs(30),
        || {
            let listener =
                std::net::TcpListener::bind("127.0.0.1:1935").expect("the port is free in here");
            TcpStream::connect("localhost:1935").expect("loopback is up");
            drop(listener);
        },
    );
}
