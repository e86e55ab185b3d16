//! Enhanced RTMP as no tool of the suites sends it: every form of a message goes through
//! bit by bit, and a late player gets each track's newest header.

use restreamd_tests::clip::{AUDIO, VIDEO};
use restreamd_tests::continuity::fingerprint;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::player::Player;
use restreamd_tests::publisher::Publisher;

use crate::{SOON, node};

/// A message: its kind and its payload.
type Sent = (u8, &'static [u8]);

/// The default track, one track, and two tracks of two codecs in one message.
const HEADERS: [Sent; 5] = [
    (VIDEO, b"\x90hvc1default"),
    (VIDEO, b"\x96\x00avc1\x01second"),
    (
        VIDEO,
        b"\x96\x20av01\x02\0\0\x05thirdvp09\x03\0\0\x06fourth",
    ),
    (AUDIO, b"\x90OpusOpusHead\x01\x02\0\0\x80\xBB\0\0\0\0\0"),
    (AUDIO, b"\x95\x00mp4a\x01\x11\x90"),
];

/// Colour info and a channel map.
const SETTINGS: [Sent; 2] = [
    (VIDEO, b"\x94hvc1\x02\0\x09colorInfo\x03\0\0\x09"),
    (AUDIO, b"\x94Opus\x01\x02\0\0\0\x03"),
];

const KEYFRAME: Sent = (VIDEO, b"\x91hvc1\0\0\0keyframe");

/// What may come between two keyframes.
const FRAMES: [Sent; 12] = [
    (VIDEO, b"\x96\x03avc1\x01a keyframe of another track"),
    (VIDEO, b"\xA1hvc1\0\0\x28coded frames"),
    (VIDEO, b"\xA3hvc1coded frames x"),
    (
        VIDEO,
        b"\xA6\x11hvc1\0\0\0\x05\0\0\0ab\x01\0\0\x04\0\0\x28c",
    ),
    (VIDEO, b"\xA6\x23hvc1\0\0\0\x01aav01\x02\0\0\x02bc"),
    // A nanosecond offset, and a modifier nobody knows in front of another one.
    (VIDEO, b"\xA7\x02\x0F\x42\x40\x03hvc1frame"),
    (
        VIDEO,
        b"\xA7\x00\xAA\xF7\x02\x0F\x42\x40\x06\x03avc1\x01frame",
    ),
    // Packet types and forms of multitrack nobody knows, and a command.
    (VIDEO, b"\xA9hvc1who knows"),
    (VIDEO, b"\xA6\x71hvc1who knows"),
    (VIDEO, b"\xD1\x00"),
    (AUDIO, b"\x97\x02\x0F\x42\x40\x01Opusframe"),
    (AUDIO, b"\x95\x11mp4a\x01\0\0\x01a\x02\0\0\x01b"),
];

/// What a player has to get, in its order and with times of its own.
fn expect(player: &Player, sent: &[(u32, Sent)]) {
    let expected: Vec<_> = sent
        .iter()
        .map(|(at, (kind, payload))| (*kind, *at, fingerprint(payload)))
        .collect();
    eventually("the player has it all", SOON, || {
        player.assert_attached();
        let frames = player.frames();
        let got: Vec<_> = frames
            .iter()
            .map(|f| (f.kind, f.timestamp, f.hash))
            .collect();
        when(got == expected, || {
            let places = got.iter().map(|g| expected.iter().position(|e| e == g));
            format!("places of what came: {:?}", places.collect::<Vec<_>>())
        })
    });
}

fn at(time: u32, messages: &[Sent]) -> Vec<(u32, Sent)> {
    messages.iter().map(|message| (time, *message)).collect()
}

#[test]
fn every_form_passes_bit_by_bit_and_a_late_player_gets_all_headers() {
    let host = node().start();
    let url = host.url("live/cam");
    let mut publisher = Publisher::connect(&url);
    let mut send = |messages: &[(u32, Sent)]| {
        for (time, (kind, payload)) in messages {
            publisher.message(*kind, *time, payload);
        }
    };
    let group = |time: u32| [at(time, &[KEYFRAME]), at(time + 20, &FRAMES)].concat();
    send(&at(0, &HEADERS));
    send(&at(0, &SETTINGS));
    send(&group(0));
    host.client().wait_for_stream("live/cam", SOON);
    let first = Player::attach(&url);
    let begin = [at(0, &HEADERS), at(0, &SETTINGS), group(0)].concat();
    expect(&first, &begin);

    // Headers that are known say nothing new; an end of sequence ends no stream.
    send(&at(40, &HEADERS));
    send(&at(
        40,
        &[(VIDEO, b"\x92hvc1"), (VIDEO, b"\x96\x02avc1\x01")],
    ));
    // One track of the message for two has a new header, and the default track new colours.
    let news: [Sent; 2] = [
        (VIDEO, b"\x96\x00vp09\x03changed"),
        (VIDEO, b"\x94hvc1\x02\0\x09colorInfo\x06"),
    ];
    send(&at(40, &news));
    send(&group(40));
    // What is no frame goes out with the frame before it, whatever its own time.
    expect(&first, &[begin, at(20, &news), group(40)].concat());
    let late = Player::attach(&url);
    let begin = [
        at(40, &HEADERS),
        at(40, &news[..1]),
        at(40, &news[1..]),
        at(40, &SETTINGS[1..]),
        group(40),
    ];
    expect(&late, &begin.concat());
}
