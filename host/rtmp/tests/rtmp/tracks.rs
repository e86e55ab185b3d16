//! The tracks of Enhanced RTMP messages.

use restreamd_rtmp::flv::{self, Codec, PacketKind, Part};
use restreamd_rtmp::type_id;

fn video(payload: &[u8]) -> Vec<(u8, Codec, &[u8])> {
    tell(flv::video_parts(payload).collect())
}

fn audio(payload: &[u8]) -> Vec<(u8, Codec, &[u8])> {
    tell(flv::audio_parts(payload).collect())
}

fn tell(parts: Vec<Part<'_>>) -> Vec<(u8, Codec, &[u8])> {
    parts.iter().map(|p| (p.track, p.codec, p.data)).collect()
}

#[test]
fn a_message_of_one_track_is_one_part_behind_its_headers() {
    assert_eq!(
        video(b"\x17\x01\0\0\x28rest"),
        [(0, Codec::Avc, &b"rest"[..])]
    );
    assert_eq!(
        video(b"\x12rest"),
        [(0, Codec::Other([0, 0, 0, 2]), &b"rest"[..])]
    );
    assert_eq!(
        video(b"\x91hvc1\0\0\x28rest"),
        [(0, Codec::Hevc, &b"rest"[..])]
    );
    assert_eq!(video(b"\x93hvc1rest"), [(0, Codec::Hevc, &b"rest"[..])]);
    assert_eq!(video(b"\x91av01rest"), [(0, Codec::Av1, &b"rest"[..])]);
    assert_eq!(
        video(b"\x96\x01avc1\x05\0\0\x28rest"),
        [(5, Codec::Avc, &b"rest"[..])]
    );
    assert_eq!(audio(b"\xAF\x01rest"), [(0, Codec::Aac, &b"rest"[..])]);
    assert_eq!(audio(b"\x2Frest"), [(0, Codec::Mp3, &b"rest"[..])]);
    assert_eq!(audio(b"\x91Opusrest"), [(0, Codec::Opus, &b"rest"[..])]);
    assert_eq!(
        audio(b"\x95\x01Opus\x07rest"),
        [(7, Codec::Opus, &b"rest"[..])]
    );
}

#[test]
fn many_tracks_of_one_codec_are_a_part_each() {
    let message = b"\x96\x11hvc1\x00\0\0\x05\0\0\x28ab\x01\0\0\x04\xFF\xFF\xFEc";
    assert_eq!(
        video(message),
        [(0, Codec::Hevc, &b"ab"[..]), (1, Codec::Hevc, &b"c"[..])]
    );
    let parts: Vec<_> = flv::video_parts(message).collect();
    assert_eq!((parts[0].composition_ms, parts[1].composition_ms), (40, -2));
    assert!(
        parts
            .iter()
            .all(|p| p.keyframe && p.kind == PacketKind::Frame)
    );
}

#[test]
fn many_tracks_of_many_codecs_have_a_codec_each() {
    assert_eq!(
        audio(b"\x95\x20Opus\x00\0\0\x02abfLaC\x02\0\0\x00mp4a\x03\0\0\x01c"),
        [
            (0, Codec::Opus, &b"ab"[..]),
            (2, Codec::Flac, &b""[..]),
            (3, Codec::Aac, &b"c"[..]),
        ]
    );
    // Only those codecs have an offset that have it alone as well.
    assert_eq!(
        video(b"\xA6\x21av01\x00\0\0\x04\0\0\x28aavc1\x01\0\0\x04\0\0\x28b"),
        [
            (0, Codec::Av1, &b"\0\0\x28a"[..]),
            (1, Codec::Avc, &b"b"[..])
        ]
    );
}

#[test]
fn modifiers_in_front_change_no_part() {
    for modifiers in [
        // A nanosecond offset, an unknown modifier, and both.
        &b"\x97\x02\x0F\x42\x40"[..],
        b"\x97\x00\xAA",
        b"\x97\x00\xAA\x57\x02\x0F\x42\x40",
    ] {
        let message = [modifiers, b"\x06\x11vp09\x01\0\0\x01a\x02\0\0\x01b"].concat();
        assert_eq!(
            video(&message),
            [(1, Codec::Vp9, &b"a"[..]), (2, Codec::Vp9, &b"b"[..])]
        );
        let header = flv::video(&message).unwrap();
        assert_eq!((header.keyframe, header.track), (true, 1));
        let message = [modifiers, b"\x01Opusab"].concat();
        assert_eq!(audio(&message), [(0, Codec::Opus, &b"ab"[..])]);
    }
}

#[test]
fn what_cannot_be_walked_has_no_part_and_what_is_cut_has_its_whole_ones() {
    for (message, parts) in [
        (&b""[..], 0),
        (b"\x97", 0),
        (b"\x97\xFF\xFF\xFF\0", 0),
        (b"\xD1\0", 0),
        (b"\x96\x31av01\x00\0\0\x01a", 0),
        (b"\x96\x11av01\x00\0\0\x01a\x01\0", 1),
        (b"\x96\x21av01\x00\0\0\x01aav0", 1),
        // Of the second part some bytes are missing.
        (b"\x96\x11av01\x00\0\0\x01a\x01\0\0\x09b", 2),
    ] {
        assert_eq!(flv::video_parts(message).count(), parts, "{message:02x?}");
    }
    let mut ended = flv::video_parts(b"\x91av01a");
    assert!(ended.next().is_some() && ended.next().is_none() && ended.next().is_none());
}

#[test]
fn basic_messages_are_those_of_one_track_without_more() {
    for (message, basic) in [
        (&b"\x17\x01\0\0\0"[..], true),
        (b"\x90hvc1", true),
        (b"\xA3hvc1", true),
        (b"\xD4hvc1", false),
        (b"\x96\x00hvc1\0", false),
        (b"\x97\x00\0\x01hvc1", false),
        (b"", true),
    ] {
        assert_eq!(
            flv::is_basic(type_id::VIDEO, message),
            basic,
            "{message:02x?}"
        );
    }
    for (message, basic) in [
        (&b"\xAF\x01"[..], true),
        (b"\x91Opus", true),
        (b"\x94Opus", false),
        (b"\x95\x01Opus\0", false),
    ] {
        assert_eq!(
            flv::is_basic(type_id::AUDIO, message),
            basic,
            "{message:02x?}"
        );
    }
    assert!(flv::is_basic(type_id::DATA_AMF0, b"\x96\x96"));
}
