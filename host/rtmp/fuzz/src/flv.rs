//! Media headers, sequence parameter sets, metadata, aggregates and files.

use bytes::Bytes;
use restreamd_rtmp::aggregate::Tags;
use restreamd_rtmp::flv::{self, FileError, PacketKind};
use restreamd_rtmp::{Message, type_id};

/// What comes before a parameter set in a sequence header, up to its length.
const BEFORE_SPS: &[u8] = &[0x17, 0, 0, 0, 0, 1, 100, 0, 30, 0xFF, 0xE1];
/// The byte a parameter set begins with.
const SPS: u8 = 0x67;
/// What comes before a parameter set or a frame of the codecs that tell something.
const HEADS: [&[u8]; 12] = [
    b"\x90hvc1\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x21\0\x01\0\x40\x42\x01",
    b"\x90av01\x81\0\0\0\x0A\x20",
    b"\x91av01\x12\0",
    b"\x91vp09\x82\x49\x83\x42",
    b"\x91vp08\0\0\0\x9D\x01\x2A",
    b"\x96\x20",
    b"\xAF\0",
    b"\x90OpusOpusHead\x01",
    b"\x90fLaC\0\0\0\x22",
    b"\x91ac-3\x0B\x77",
    b"\x2F\xFF",
    b"\x95\x11Opus",
];
/// The most pixels a side that any codec can say.
const MAX_SIDE: u32 = 1 << 16;

/// The input is a payload of each kind, and a file.
pub fn run(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    headers(data);
    sequence_header(data);
    metadata(&bytes);
    aggregate(&bytes);
    file(&bytes);
    file(&[&flv::FILE_HEADER[..], data].concat().into());
}

fn headers(data: &[u8]) {
    if let Some(video) = flv::video(data) {
        assert!(video.kind == PacketKind::Frame || !video.keyframe);
        assert!((-0x80_0000..0x80_0000).contains(&video.composition_ms));
        assert!(!video.codec.name().is_empty());
    }
    if let Some(audio) = flv::audio(data) {
        assert!(!audio.codec.name().is_empty());
    }
    assert!(!data.is_empty() || (flv::video(data).is_none() && flv::audio(data).is_none()));
}

fn sequence_header(data: &[u8]) {
    let length = u16::try_from(data.len() + 1).unwrap_or(u16::MAX);
    let sps = [BEFORE_SPS, &length.to_be_bytes(), &[SPS], data].concat();
    parts(data);
    parts(&sps);
    for head in HEADS {
        parts(&[head, data].concat());
    }
}

fn parts(payload: &[u8]) {
    let mut taken = 0;
    for part in flv::video_parts(payload) {
        taken += part.data.len() + 1;
        assert!(taken <= payload.len(), "a part costs its bytes");
        let Some(picture) = part.picture() else {
            continue;
        };
        assert!((1..=MAX_SIDE).contains(&picture.width));
        assert!((1..=MAX_SIDE).contains(&picture.height));
        assert!(picture.fps.is_none_or(|fps| fps > 0.0 && fps <= 1_000.0));
    }
    for part in flv::audio_parts(payload) {
        if let Some(sound) = part.sound() {
            assert!(sound.sample_rate > 0 && sound.sample_rate < 1 << 24);
        }
    }
}

fn metadata(data: &Bytes) {
    let Some(metadata) = flv::metadata_payload(data) else {
        return;
    };
    assert!(data.ends_with(&metadata));
    assert!(metadata.starts_with(b"\x02\0\x0AonMetaData"));
    assert_eq!(flv::metadata_payload(&metadata), Some(metadata));
}

fn aggregate(data: &Bytes) {
    let mut taken = 0;
    for tag in Tags::new(Message {
        timestamp: u32::MAX,
        type_id: type_id::AGGREGATE,
        stream_id: 1,
        payload: data.clone(),
    }) {
        taken += 11 + tag.payload.len();
        assert!(taken <= data.len(), "a tag costs its header and its bytes");
        assert_eq!(tag.stream_id, 1);
        assert_ne!(tag.type_id, type_id::AGGREGATE);
    }
}

/// All messages of a file that comes in pieces, and how it ended.
fn read(data: &[u8], piece: usize) -> (Vec<Message>, Result<(), FileError>) {
    let mut reader = flv::Reader::new();
    let mut messages = Vec::new();
    for part in data.chunks(piece) {
        reader.buffer().extend_from_slice(part);
        loop {
            match reader.poll() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.poll(), Ok(None), "an error is the end");
                    assert_eq!(reader.finish(), Ok(()), "it is said once");
                    return (messages, Err(error));
                }
            }
        }
    }
    (messages, reader.finish())
}

/// What was read from a file is the same when it is written and read again.
fn file(data: &Bytes) {
    let whole = read(data, usize::MAX);
    assert_eq!(read(data, 7), whole, "pieces change what is read");
    let messages = whole.0;
    let mut copy = flv::FILE_HEADER.to_vec();
    for message in &messages {
        let length = message.payload.len();
        copy.extend(flv::tag_header(message.type_id, length, message.timestamp));
        copy.extend_from_slice(&message.payload);
        copy.extend(flv::tag_trailer(length));
    }
    assert_eq!(read(&copy, usize::MAX), (messages, Ok(())));
}
