//! Peers that speak nonsense, or nothing: the node drops them and serves the rest.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;

use crate::{SOON, node};

/// What the node gives a peer to finish the handshake, and again to connect.
const HANDSHAKE: Duration = Duration::from_secs(5);

fn dial(host: &TestHost) -> TcpStream {
    let stream = TcpStream::connect(host.rtmp).expect("the node listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket option");
    stream
}

/// Dials and goes through the simple handshake.
fn shake(host: &TestHost) -> TcpStream {
    let mut stream = dial(host);
    let mut c0_c1 = vec![0; 1 + 1536];
    c0_c1[0] = 3;
    stream.write_all(&c0_c1).expect("the node reads");
    let mut answer = vec![0; 1 + 1536 + 1536];
    stream
        .read_exact(&mut answer)
        .expect("the node shakes hands");
    stream.write_all(&answer[1..=1536]).expect("the node reads");
    stream
}

/// Reads until the node closes, and answers how long that took.
fn closed_after(mut stream: TcpStream) -> Duration {
    let begin = Instant::now();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return begin.elapsed(),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return begin.elapsed(),
            Err(e) => panic!("still open after {:?}: {e}", begin.elapsed()),
        }
    }
}

/// A type 0 chunk header on chunk stream 3 of message stream 0.
fn header(length: u32, kind: u8) -> Vec<u8> {
    let length = length.to_be_bytes();
    vec![
        3, 0, 0, 0, length[1], length[2], length[3], kind, 0, 0, 0, 0,
    ]
}

#[test]
fn nonsense_ends_its_own_connection_only() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("calm-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    let before = host.footprint();

    let mut deep_array = header(60_000, 20);
    // Strict arrays of one element in each other: five bytes a level.
    deep_array.extend([10, 0, 0, 0, 1].repeat(25));
    let messages = [
        ("an empty command", header(0, 20)),
        (
            "a command of two bytes",
            [header(2, 20), vec![5, 5]].concat(),
        ),
        ("an announced 16 MiB", header(0x00ff_ffff, 9)),
        ("a chunk size of 0", [header(4, 1), vec![0; 4]].concat()),
        (
            "a chunk size of 2 GiB",
            [header(4, 1), vec![0x7f, 0xff, 0xff, 0xff]].concat(),
        ),
        ("nested arrays", deep_array),
        (
            "@setDataFrame alone",
            [header(16, 18), vec![2, 0, 13], b"@setDataFrame".to_vec()].concat(),
        ),
        ("all ones", vec![0xff; 4096]),
    ];
    for (_, message) in &messages {
        let mut stream = shake(&host);
        stream.write_all(message).expect("the node reads");
        drop(stream);
        let mut raw = dial(&host);
        // Without a handshake; the node may be gone before all is written.
        let _refused = raw.write_all(message);
    }
    for fill in [0_u8, 3, 6, 0xff] {
        let mut raw = dial(&host);
        let _refused = raw.write_all(&vec![fill; 100_000]);
    }
    player.wait_for_more(60, SOON);
    player.assert_unbroken(&clip);
    eventually("their sockets are closed", SOON, || {
        let now = host.footprint();
        when(now.sockets <= before.sockets, || {
            format!("{now:?}, before {before:?}")
        })
    });
}

#[test]
fn peers_that_say_nothing_are_closed() {
    let host = node().start();
    let (mute, shaken) = (dial(&host), shake(&host));
    for stream in [mute, shaken] {
        let after = closed_after(stream);
        assert!(
            after < HANDSHAKE + Duration::from_secs(3),
            "after {after:?}"
        );
    }
}
