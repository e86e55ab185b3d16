//! RTMPS: publishers and players over TLS.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use restreamd_tests::certificate::Certificate;
use restreamd_tests::clip::{Clip, SMALL, Shape};
use restreamd_tests::continuity::breaks;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::{Builder, TestHost};
use restreamd_tests::rtmpdump::Rtmpdump;
use restreamd_tests::{ffmpeg, gst};

use crate::{SOON, node};

fn secure() -> Builder {
    let builder = node();
    Certificate::make(builder.folder());
    let path = |name: &str| text(&builder.folder().join(name));
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    builder
        .set("rtmps_listen", "127.0.0.1:0")
        .set("rtmp.tls_cert", cert)
        .set("rtmp.tls_key", key)
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

fn url(host: &TestHost) -> String {
    format!("rtmps://{}/live/cam", host.service("rtmps"))
}

#[test]
fn ffmpeg_publishes_and_plays_over_tls() {
    let clip = Clip::small();
    let host = secure().start();
    let mut publisher = ffmpeg::publish(&clip, &url(&host));
    let api = host.client();
    api.wait_for_stream("live/cam", SOON);
    let source = ffmpeg::packets(clip.path().to_str().expect("UTF-8"), 60);
    // Over TLS and in the clear: the same stream.
    for url in [url(&host), host.url("live/cam")] {
        let played = ffmpeg::packets(&url, 5);
        for kind in ["video", "audio"] {
            let (source, played) = (
                ffmpeg::of_kind(&source, kind),
                ffmpeg::of_kind(&played, kind),
            );
            assert!(played.len() > 80, "only {} {kind} packets", played.len());
            assert_eq!(breaks(&source, &played), [0_usize; 0], "{url} {kind}");
        }
    }
    let mut player = ffmpeg::player(&url(&host));
    eventually("the player is counted", SOON, || {
        let list = api.streams();
        when(list[0]["subscribers"] == 1, || format!("{list:?}"))
    });
    publisher.interrupt();
    assert!(player.wait(SOON).success(), "{}", player.stderr.text());
}

#[test]
fn rtmpdump_records_every_packet_over_tls() {
    let clip = Clip::small();
    let host = secure().start();
    let _publisher = ffmpeg::publish(&clip, &url(&host));
    host.client().wait_for_stream("live/cam", SOON);
    let mut player = Rtmpdump::record(&url(&host));
    player.wait_for_more(100_000, SOON);
    player.finish();
    ffmpeg::plays_the_clip(&clip, &text(&player.file()), 60, 40);
}

#[test]
fn packets_of_librtmp_come_out_over_tls_as_they_went_in() {
    let clip = Clip::of(Shape {
        seconds: 60,
        ..SMALL
    });
    let host = secure().start();
    let _publisher = gst::publish_with_librtmp(&clip, &url(&host));
    host.client().wait_for_stream("live/cam", SOON);
    ffmpeg::plays_the_clip(&clip, &url(&host), 3, 40);
}

#[test]
fn a_renewed_certificate_is_taken_over_without_a_restart() {
    let host = secure()
        // It may be looked at between the writing of its two files.
        .announce("not usable yet")
        .start();
    let _publisher = ffmpeg::publish(&Clip::small(), &url(&host));
    host.client().wait_for_stream("live/cam", SOON);
    Certificate::make(host.folder());
    eventually("the certificate is read again", SOON, || {
        let told = host
            .logs()
            .iter()
            .any(|l| l.contains("certificate reloaded"));
        when(told, || "not yet".to_owned())
    });
    assert!(ffmpeg::plays(&url(&host)));
}

#[test]
fn peers_that_do_not_shake_hands_are_closed() {
    let host = secure().start();
    let mut mute = TcpStream::connect(host.service("rtmps")).expect("the node listens");
    mute.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket option");
    assert!(!ffmpeg::plays(&url(&host).replace("rtmps:", "rtmp:")));
    let begin = Instant::now();
    assert_eq!(mute.read(&mut [0; 16]).expect("it is closed"), 0);
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn who_finds_no_place_is_told_so_over_tls_too() {
    let host = secure().set("limits.connections", 1).start();
    let _publisher = ffmpeg::publish(&Clip::small(), &url(&host));
    host.client().wait_for_stream("live/cam", SOON);
    let mut player = ffmpeg::player(&url(&host));
    let status = player.wait(SOON);
    let said = player.stderr.text();
    assert!(
        !status.success() && said.contains("limits.connections"),
        "{said}"
    );
}
