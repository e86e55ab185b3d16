//! FLV media headers and files.

use bytes::Bytes;
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::flv::{self, Codec, FileError, PacketKind};
use restreamd_rtmp::{Message, type_id};

fn video(payload: &[u8]) -> (Codec, bool, PacketKind, u8, i32) {
    let header = flv::video(payload).unwrap();
    (
        header.codec,
        header.keyframe,
        header.kind,
        header.track,
        header.composition_ms,
    )
}

fn audio(payload: &[u8]) -> (Codec, PacketKind, u8) {
    let header = flv::audio(payload).unwrap();
    (header.codec, header.kind, header.track)
}

#[test]
fn classic_video_headers_are_classified() {
    use PacketKind::{EndOfSequence, Frame, Other, SequenceHeader};
    assert_eq!(
        video(&[0x17, 0, 0, 0, 0, 1]),
        (Codec::Avc, false, SequenceHeader, 0, 0)
    );
    assert_eq!(
        video(&[0x17, 1, 0, 0, 80]),
        (Codec::Avc, true, Frame, 0, 80)
    );
    assert_eq!(
        video(&[0x27, 1, 0xFF, 0xFF, 0xFE]),
        (Codec::Avc, false, Frame, 0, -2)
    );
    assert_eq!(
        video(&[0x17, 2, 0, 0, 0]),
        (Codec::Avc, false, EndOfSequence, 0, 0)
    );
    assert_eq!(video(&[0x1C, 1, 0, 0, 0]), (Codec::Hevc, true, Frame, 0, 0));
    assert_eq!(video(&[0x57, 0]), (Codec::Avc, false, Other, 0, 0));
    assert_eq!(
        video(&[0x12, 0]),
        (Codec::Other([0, 0, 0, 2]), true, Frame, 0, 0)
    );
    for short in [&[][..], &[0x17], &[0x17, 1, 0, 0]] {
        assert_eq!(flv::video(short), None);
    }
}

#[test]
fn enhanced_video_headers_are_classified() {
    use PacketKind::{EndOfSequence, Frame, Metadata, Other, SequenceHeader};
    let with = |first: u8, rest: &[u8]| video(&[&[first], rest].concat());
    assert_eq!(
        with(0x90, b"hvc1"),
        (Codec::Hevc, false, SequenceHeader, 0, 0)
    );
    assert_eq!(
        with(0x91, b"hvc1\0\0\x28"),
        (Codec::Hevc, true, Frame, 0, 40)
    );
    assert_eq!(with(0x91, b"av01"), (Codec::Av1, true, Frame, 0, 0));
    assert_eq!(with(0xA3, b"vp09"), (Codec::Vp9, false, Frame, 0, 0));
    assert_eq!(
        with(0x92, b"avc1"),
        (Codec::Avc, false, EndOfSequence, 0, 0)
    );
    assert_eq!(with(0x94, b"av01"), (Codec::Av1, false, Metadata, 0, 0));
    assert_eq!(
        with(0x95, b"av01"),
        (Codec::Av1, false, SequenceHeader, 0, 0)
    );
    assert_eq!(
        with(0x91, b"vvc1\0\0\x28"),
        (Codec::Vvc, true, Frame, 0, 40)
    );
    assert_eq!(
        with(0x93, b"evc1"),
        (Codec::Other(*b"evc1"), true, Frame, 0, 0)
    );
    // Commands to the player, and packet types nobody has defined.
    assert_eq!(
        with(0xD1, b"\0"),
        (Codec::Other([0; 4]), false, Other, 0, 0)
    );
    assert_eq!(with(0x98, b"av01"), (Codec::Av1, false, Other, 0, 0));
    assert_eq!(
        with(0x96, b"\x33av01\0"),
        (Codec::Other([0; 4]), false, Other, 0, 0)
    );
    assert_eq!(
        with(0x96, b"\x06av01\x01"),
        (Codec::Av1, false, Other, 1, 0)
    );
    // One track, many tracks, many tracks and codecs.
    assert_eq!(
        with(0x96, b"\x00hvc1\x05"),
        (Codec::Hevc, false, SequenceHeader, 5, 0)
    );
    assert_eq!(
        with(0x96, b"\x03hvc1\x05"),
        (Codec::Hevc, true, Frame, 5, 0)
    );
    assert_eq!(
        with(0x96, b"\x13av01\x02\0\0\x01"),
        (Codec::Av1, true, Frame, 2, 0)
    );
    assert_eq!(
        with(0xA6, b"\x23av01\x02\0\0\x01"),
        (Codec::Av1, false, Frame, 2, 0)
    );
    // Modifiers in front, short and long.
    let mut long = vec![255, 0, 255];
    long.extend([0; 256]);
    long.extend(*b"\x03avc1");
    assert_eq!(
        with(0x97, b"\x02\0\0\0\x01hvc1\0\0\x28"),
        (Codec::Hevc, true, Frame, 0, 40)
    );
    assert_eq!(with(0x97, &long), (Codec::Avc, true, Frame, 0, 0));
    for short in [
        &b"\x91hvc"[..],
        b"\x91hvc1\0\0",
        b"\x96\x13av01\x02",
        b"\x97\xFF\xFF\xFF",
    ] {
        assert_eq!(flv::video(short), None);
    }
}

#[test]
fn audio_headers_are_classified() {
    use PacketKind::{EndOfSequence, Frame, Metadata, Other, SequenceHeader};
    assert_eq!(audio(&[0xAF, 0, 0x12]), (Codec::Aac, SequenceHeader, 0));
    assert_eq!(audio(&[0xAF, 1, 0x12]), (Codec::Aac, Frame, 0));
    assert_eq!(audio(&[0x2F]), (Codec::Mp3, Frame, 0));
    assert_eq!(audio(&[0xB2]), (Codec::Speex, Frame, 0));
    assert_eq!(audio(&[0x7F]), (Codec::Other([0, 0, 0, 7]), Frame, 0));
    assert_eq!(audio(b"\x90Opus"), (Codec::Opus, SequenceHeader, 0));
    assert_eq!(audio(b"\x91fLaC"), (Codec::Flac, Frame, 0));
    assert_eq!(audio(b"\x91ac-3"), (Codec::Ac3, Frame, 0));
    assert_eq!(audio(b"\x92ec-3"), (Codec::Eac3, EndOfSequence, 0));
    assert_eq!(audio(b"\x94mp4a"), (Codec::Aac, Metadata, 0));
    assert_eq!(audio(b"\x95\x01Opus\x03"), (Codec::Opus, Frame, 3));
    assert_eq!(audio(b"\x95\x11.mp3\x03\0\0\0"), (Codec::Mp3, Frame, 3));
    assert_eq!(audio(b"\x96Opus"), (Codec::Opus, Other, 0));
    assert_eq!(audio(b"\x95\x51"), (Codec::Other([0; 4]), Other, 0));
    assert_eq!(audio(b"\x97\x00\0\x01Opus"), (Codec::Opus, Frame, 0));
    for short in [&[][..], &[0xAF], b"\x91Opu"] {
        assert_eq!(flv::audio(short), None);
    }
}

#[test]
fn codec_names_are_those_of_the_api() {
    let all = [
        (Codec::Avc, "avc"),
        (Codec::Hevc, "hevc"),
        (Codec::Vvc, "vvc"),
        (Codec::Av1, "av1"),
        (Codec::Vp9, "vp9"),
        (Codec::Vp8, "vp8"),
        (Codec::Aac, "aac"),
        (Codec::Mp3, "mp3"),
        (Codec::Opus, "opus"),
        (Codec::Flac, "flac"),
        (Codec::Ac3, "ac3"),
        (Codec::Eac3, "eac3"),
        (Codec::Speex, "speex"),
        (Codec::Other(*b"evc1"), "other"),
    ];
    for (codec, name) in all {
        assert_eq!(codec.name(), name);
    }
}

#[test]
fn metadata_is_found_bare_and_wrapped_and_left_as_it_is() {
    let bare = amf0::encode(&[
        Value::from("onMetaData"),
        Value::EcmaArray(vec![("a".to_owned(), Value::Date(0.0))]),
    ]);
    let wrapped: Bytes = [amf0::encode(&[Value::from("@setDataFrame")]), bare.clone()]
        .concat()
        .into();
    assert_eq!(flv::metadata_payload(&bare), Some(bare.clone()));
    assert_eq!(flv::metadata_payload(&wrapped), Some(bare));
    for other in ["@clearDataFrame", "onCuePoint", "onMetaDataX"] {
        let data = amf0::encode(&[Value::from(other), Value::Null]);
        assert_eq!(flv::metadata_payload(&data), None);
    }
    assert_eq!(flv::metadata_payload(&Bytes::new()), None);
}

fn file(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
    let mut out = flv::FILE_HEADER.to_vec();
    for (kind, timestamp, data) in tags {
        out.extend(flv::tag_header(*kind, data.len(), *timestamp));
        out.extend(*data);
        out.extend(flv::tag_trailer(data.len()));
    }
    out
}

#[test]
fn file_is_read_tag_by_tag() {
    let bytes = file(&[
        (type_id::DATA_AMF0, 0, b"meta"),
        (type_id::VIDEO, 0x0123_4567, b"video"),
        (type_id::AUDIO, u32::MAX, b""),
    ]);
    let messages = read(&bytes).unwrap();
    let seen: Vec<_> = messages
        .iter()
        .map(|m| (m.type_id, m.timestamp, &m.payload[..]))
        .collect();
    assert_eq!(
        seen,
        [
            (type_id::DATA_AMF0, 0, &b"meta"[..]),
            (type_id::VIDEO, 0x0123_4567, b"video"),
            (type_id::AUDIO, u32::MAX, b""),
        ]
    );
    assert_eq!(
        read(&bytes[..bytes.len() - 4]).unwrap().len(),
        3,
        "last back pointer missing"
    );
    assert_eq!(read(&flv::FILE_HEADER).unwrap(), []);
    assert_eq!(read(b""), Err(FileError::NotFlv));
    assert_eq!(
        read(b"FLV\x01\x05\xFF\xFF\xFF\xFF\0\0\0\0"),
        Err(FileError::NotFlv)
    );
    let encrypted = file(&[(0x20 | type_id::VIDEO, 0, b"x")]);
    assert_eq!(read(&encrypted), Err(FileError::Encrypted));
}

#[test]
fn cut_file_gives_its_whole_tags_and_then_one_error() {
    let bytes = file(&[(type_id::VIDEO, 0, b"video"), (type_id::VIDEO, 1, b"video")]);
    for cut in [1, 5, 6, 15] {
        let mut reader = flv::Reader::new();
        reader.buffer().extend(&bytes[..bytes.len() - 4 - cut]);
        assert!(matches!(reader.poll(), Ok(Some(_))));
        assert_eq!(reader.poll(), Ok(None));
        assert_eq!(reader.finish(), Err(FileError::Truncated), "cut by {cut}");
    }
}

#[test]
fn file_that_ends_inside_its_header_is_an_error() {
    let header = [b"FLV\x01\x05\0\0\0\x14", &[0; 11][..]].concat();
    for end in 4..header.len() {
        let cut = read(&header[..end]).expect_err("cut");
        let begun = end >= 9;
        let expected = match begun {
            true => FileError::Truncated,
            false => FileError::NotFlv,
        };
        assert_eq!(cut, expected, "at {end}");
    }
    // The first back pointer may be missing like any other.
    for end in 0..=4 {
        let whole = [&header[..], &[0; 4][..end]].concat();
        assert_eq!(read(&whole), Ok(vec![]), "{end} bytes behind it");
    }
}

#[test]
fn file_in_any_portions_gives_the_same_messages() {
    let bytes = file(&[
        (type_id::VIDEO, 0, b"video"),
        (type_id::AUDIO, 1, b""),
        (type_id::VIDEO, 2, &[7; 3000]),
    ]);
    let whole = read(&bytes).unwrap();
    for portion in 1..20 {
        let mut reader = flv::Reader::new();
        let mut messages = Vec::new();
        for part in bytes.chunks(portion) {
            reader.buffer().extend(part);
            while let Some(message) = reader.poll().unwrap() {
                messages.push(message);
            }
        }
        assert_eq!((messages, reader.finish()), (whole.clone(), Ok(())));
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Message>, FileError> {
    let mut reader = flv::Reader::new();
    reader.buffer().extend(bytes);
    let mut messages = Vec::new();
    while let Some(message) = reader.poll()? {
        messages.push(message);
    }
    reader.finish().map(|()| messages)
}
