//! The first bytes of real peers, which `host/rtmp/tests/testdata` keeps for tests without
//! sockets: taken again here, to see that the peers still open as they did.
//!
//! `RETAKE_CAPTURES=1` writes the files anew.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::{ChunkReader, Limits, type_id};
use restreamd_tests::clip::{Clip, SMALL, Shape};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::nginx::Nginx;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::rtmpdump::Rtmpdump;
use restreamd_tests::tap::{KEPT, Tap};
use restreamd_tests::{ffmpeg, gst, plugins, port};

use crate::{SOON, node};

/// What a file holds of a peer that goes on: the opening and the first frames.
const OPENING: usize = 12 * 1_024;
/// Version byte and two packets of 1,536 bytes.
const HANDSHAKE: usize = 1 + 2 * 1_536;

fn file(name: &str) -> PathBuf {
    plugins::root().join(format!("host/rtmp/tests/testdata/{name}.bin"))
}

/// What a peer calls and says, without media, up to the end of its opening.
fn opening(bytes: &[u8]) -> Vec<String> {
    let mut reader = ChunkReader::new(Limits::GRANTED);
    reader
        .buffer()
        .extend_from_slice(bytes.get(HANDSHAKE..).unwrap_or_default());
    let mut said = Vec::new();
    while let Ok(Some(message)) = reader.next_message() {
        if message.type_id != type_id::COMMAND_AMF0 {
            continue;
        }
        let values = amf0::decode(&message.payload).expect("real peers send legal AMF0");
        let name = text(values.first()).to_owned();
        let transaction = values.get(1).and_then(Value::as_f64).unwrap_or(-1.0);
        let code = values.last().and_then(|last| last.get("code"));
        said.push(format!("{name} {transaction} {}", text(code)));
        let last = matches!(name.as_str(), "play" | "publish");
        if last || text(code) == "NetStream.Play.Start" {
            break;
        }
    }
    said
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

/// Compares what was just taken with what is kept.
fn compare(name: &str, taken: &[u8]) {
    let path = file(name);
    if std::env::var_os("RETAKE_CAPTURES").is_some() {
        fs::write(&path, taken).expect("the tree is writable");
    }
    let kept = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(!opening(&kept).is_empty(), "{name} holds no opening");
    assert_eq!(
        opening(taken),
        opening(&kept),
        "{name}: the peer opens in another way than it did; look at it, then run with RETAKE_CAPTURES=1"
    );
}

/// GStreamer plays a clip once.
fn long() -> Clip {
    Clip::of(Shape {
        seconds: 60,
        ..SMALL
    })
}

/// Bytes of a publisher's opening and first frames.
fn published(name: &str, publish: impl FnOnce(SocketAddr) -> Running) {
    let host = node().start();
    let tap = Tap::before(host.rtmp);
    let _publisher = publish(tap.addr());
    host.client().wait_for_stream("live/cam", SOON);
    eventually("enough was said", SOON, || {
        let count = tap.client().len();
        when(count >= OPENING, || format!("{count} bytes"))
    });
    compare(name, &tap.client()[..OPENING]);
}

/// All bytes of a publisher that plays a second of a small clip and leaves.
fn published_once(name: &str, publish: impl FnOnce(&Clip, &str) -> Running) {
    let clip = Clip::of(Shape {
        size: (64, 36),
        fps: 10,
        gop: 10,
        seconds: 1,
    });
    let host = node().start();
    let tap = Tap::before(host.rtmp);
    let mut publisher = publish(&clip, &format!("rtmp://{}/live/cam", tap.addr()));
    assert!(
        publisher.wait(SOON).success(),
        "{}",
        publisher.stderr.text()
    );
    eventually("it has left", SOON, || {
        when(tap.ended(), || "it is there".to_owned())
    });
    let bytes = tap.client();
    assert!(bytes.len() < KEPT, "it said more than is kept");
    compare(name, &bytes);
}

/// Bytes of a player's opening.
fn played<T>(name: &str, play: impl FnOnce(SocketAddr) -> T) {
    let host = node().start();
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    played_from(name, host.rtmp, play);
}

fn played_from<T>(name: &str, server: SocketAddr, play: impl FnOnce(SocketAddr) -> T) {
    let tap = Tap::before(server);
    let _player = play(tap.addr());
    eventually("it plays", SOON, || {
        let count = tap.server().len();
        when(count >= OPENING, || format!("{count} bytes"))
    });
    let bytes = tap.client();
    compare(name, &bytes[..bytes.len().min(OPENING)]);
}

/// Bytes of a player whose server asks for a bandwidth check, as ffmpeg does.
fn checked<T>(name: &str, play: impl FnOnce(SocketAddr) -> T) {
    let addr = port::free();
    let _server = ffmpeg::serve(&Clip::small(), &format!("rtmp://{addr}/live/cam"));
    // It takes one connection in its life, which must be the tap's, and has no line for
    // the log when it listens.
    eventually("ffmpeg listens", SOON, || {
        let sockets = fs::read_to_string("/proc/net/tcp").expect("Linux tells");
        let listens = format!("0100007F:{:04X} 00000000:0000 0A", addr.port());
        when(sockets.contains(&listens), || "not yet".to_owned())
    });
    played_from(name, addr, play);
}

#[test]
fn ffmpeg_opens_as_it_did() {
    let clip = Clip::small();
    published("ffmpeg_publish", |addr| {
        ffmpeg::publish(&clip, &format!("rtmp://{addr}/live/cam?key=1"))
    });
    published_once("ffmpeg_publish_once", ffmpeg::publish_once);
    let play = |addr| ffmpeg::player(&format!("rtmp://{addr}/live/cam?key=1"));
    played("ffmpeg_play", play);
    checked("ffmpeg_play_checked", play);
}

#[test]
fn librtmp_opens_as_it_did() {
    published("librtmp_publish", |addr| {
        gst::publish_with_librtmp(&long(), &format!("rtmp://{addr}/live/cam"))
    });
    let url = |addr| format!("rtmp://{addr}/live/cam?key=1");
    played("librtmp_play_live", |addr| Rtmpdump::record(&url(addr)));
    played("librtmp_play", |addr| Rtmpdump::with(&["-r", &url(addr)]));
    checked("librtmp_play_checked", |addr| Rtmpdump::record(&url(addr)));
    published_once("librtmp_publish_once", gst::publish_with_librtmp);
}

#[test]
fn gstreamer_opens_as_it_did() {
    published("gstreamer_publish", |addr| {
        gst::publish(&long(), &format!("rtmp://{addr}/live/cam"))
    });
    published_once("gstreamer_publish_once", gst::publish);
    played("gstreamer_play", |addr| {
        gst::plays(&format!("rtmp://{addr}/live/cam"), 100);
    });
}

#[test]
fn nginx_opens_as_it_did() {
    let clip = Clip::small();
    let mut upstream = None;
    published("nginx_push", |addr| {
        let nginx = Nginx::with(&format!("push rtmp://{addr}/live;"));
        let publisher = ffmpeg::publish(&clip, &nginx.url("cam"));
        upstream = Some(nginx);
        publisher
    });
    played("nginx_pull", |addr| {
        Nginx::with(&format!("pull rtmp://{addr}/live/cam name=relayed static;"))
    });
}

/// Bytes of a server that is pulled from.
fn pulled(name: &str, server: SocketAddr, stream: &str) {
    let tap = Tap::before(server);
    let host = node().start();
    let api = host.client();
    let url = format!("rtmp://{}/{stream}", tap.addr());
    api.start(&Provision::pull("tapped-pull", "live/pull1", &url));
    api.wait_for_state("tapped-pull", "LIVE", SOON);
    eventually("enough was said", SOON, || {
        let count = tap.server().len();
        when(count >= OPENING, || format!("{count} bytes"))
    });
    compare(name, &tap.server()[..OPENING]);
}

#[test]
fn servers_answer_as_they_did() {
    let clip = Clip::small();
    let nginx = Nginx::start();
    let mut publisher = ffmpeg::publish(&clip, &nginx.url("cam"));
    pulled("nginx_serve", nginx.addr(), "live/cam");
    assert!(publisher.ended().is_none(), "{}", publisher.stderr.text());
    let addr = port::free();
    let _server = ffmpeg::serve(&clip, &format!("rtmp://{addr}/live/cam"));
    pulled("ffmpeg_serve", addr, "live/cam");
}
