//! Players.

use std::path::Path;
use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::nginx::Nginx;
use restreamd_tests::player::Player;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::rtmpdump::Rtmpdump;
use restreamd_tests::source::Source;
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
    // Longer than the clip, so that its loop is in it.
    ffmpeg::plays_the_clip(&clip, &url, 12, 200);
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

/// Its recording decodes, and its packets are those of the clip.
fn recorded(clip: &Clip, file: &Path) {
    let file = file.to_str().expect("temporary paths are UTF-8");
    ffmpeg::decodes(file, Duration::from_secs(20));
    ffmpeg::plays_the_clip(clip, file, 60, 40);
}

#[test]
fn rtmpdump_records_every_packet_live_and_as_a_file() {
    let clip = Clip::small();
    let (host, _publisher) = stage(&clip);
    let url = host.url("live/cam");
    // Without --live it asks for a recording from its begin, with a buffer to fill.
    for arguments in [&["--live", "-r", &url][..], &["-r", &url]] {
        let mut player = Rtmpdump::with(arguments);
        player.wait_for_more(150_000, SOON);
        player.finish();
        recorded(&clip, &player.file());
    }
}

#[test]
fn rtmpdump_plays_odd_names_with_queries_in_each_way_to_write_them() {
    let clip = Clip::small();
    let host = node().start();
    let api = host.client();
    let odd = "live/room/cam-1_x.y~z";
    let _publisher = ffmpeg::publish(&clip, &host.url(odd));
    api.wait_for_stream(odd, SOON);
    let (app, name) = odd.rsplit_once('/').expect("it has a slash");
    let url = host.url(&format!("{odd}?key=a/b&c=="));
    let parts = format!("{name}?token=a/b&c==");
    let tc_url = format!("rtmp://{}/{app}", host.rtmp);
    for arguments in [
        &["--live", "-r", &url, "--app", app, "-y", &parts][..],
        &["--live", "-r", &tc_url, "--app", app, "--playpath", &parts],
        // FCSubscribe first, as some CDNs want it.
        &[
            "--live", "-r", &tc_url, "--app", app, "-y", name, "-d", name,
        ],
    ] {
        let mut player = Rtmpdump::with(arguments);
        player.wait_for_more(100_000, SOON);
        player.finish();
        recorded(&clip, &player.file());
    }
}

#[test]
fn rtmpdump_stays_and_records_on_when_the_source_of_a_pull_comes_back() {
    let clip = Clip::small();
    let mut source = Source::open(&clip);
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("dumped-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let mut player = Rtmpdump::record(&host.url("live/pull1"));
    player.wait_for_more(60_000, SOON);
    for _ in 0..2 {
        source.go_away();
        api.wait_for_state(pull.guid(), "WAIT", SOON);
        source.come_back();
        api.wait_for_state(pull.guid(), "LIVE", SOON);
        player.wait_for_more(60_000, SOON);
    }
    player.finish();
    let file = player.file();
    ffmpeg::decodes(
        file.to_str().expect("temporary paths are UTF-8"),
        Duration::from_secs(60),
    );
    for kind in ["v", "a"] {
        let times = ffmpeg::decoding_times(&file, kind);
        assert!(times.len() > 60, "{} packets of {kind}", times.len());
        assert!(times.is_sorted(), "{kind}: {times:?}");
    }
}

#[test]
fn gstreamer_records_every_packet_with_its_own_rtmp_and_with_librtmp() {
    let clip = Clip::small();
    let (host, _publisher) = stage(&clip);
    let url = host.url("live/cam");
    gst::plays(&url, 100);
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let (own, librtmp) = (folder.path().join("own"), folder.path().join("librtmp"));
    gst::record(&url, 300, &own);
    recorded(&clip, &own);
    gst::record_with_librtmp(&url, 50, &librtmp);
    recorded(&clip, &librtmp);
}

#[test]
fn nginx_pulls_from_us_and_pulls_again_when_the_publisher_returns() {
    let clip = Clip::small();
    let (host, mut publisher) = stage(&clip);
    let nginx = Nginx::with(&format!(
        "pull_reconnect 500ms; pull rtmp://{}/live/cam name=relayed static;",
        host.rtmp
    ));
    let url = nginx.url("relayed");
    let player = Player::attach(&url);
    player.wait_for_more(200, SOON);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    ffmpeg::decodes(&url, Duration::from_secs(2));
    drop(player);

    publisher.interrupt();
    publisher.wait(SOON);
    let _next = ffmpeg::publish(&clip, &host.url("live/cam"));
    eventually("nginx has come again", SOON * 2, || {
        let list = host.client().streams();
        let played = list.iter().any(|s| s["subscribers"] == 1);
        when(played, || format!("{list:?}"))
    });
    ffmpeg::plays_the_clip(&clip, &url, 3, 40);
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
