//! What holds for any input.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::chunk::encode;
use restreamd_rtmp::session::Purpose;
use restreamd_rtmp::{ChunkReader, Handshake, Limits, Message, RtmpUrl, flv, type_id};

use crate::peer::{RawClient, RawServer, command, message, payload, read_all};

/// Memory a reader may hold beyond what it was given: buffers grow by
/// doubling.
const SLACK: usize = 64 * 1024;

/// A message cut into the chunks our writer makes of it.
fn chunks(csid: u8, message: &Message, chunk_size: usize) -> Vec<Vec<u8>> {
    let mut out = BytesMut::new();
    let size = u32::try_from(chunk_size).unwrap();
    let Message {
        timestamp,
        type_id,
        stream_id,
        payload,
    } = message;
    encode(
        csid, *type_id, *stream_id, *timestamp, payload, size, &mut out,
    );
    let extended = if *timestamp >= 0xFF_FFFF { 4 } else { 0 };
    let mut chunks = Vec::new();
    let mut header = 12 + extended;
    let mut left = payload.len();
    loop {
        let size = left.min(chunk_size);
        chunks.push(out.split_to(header + size).to_vec());
        left -= size;
        header = 1 + extended;
        if left == 0 {
            return chunks;
        }
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    let time = prop_oneof![any::<u32>(), 0xFF_FFF0_u32..0x100_0010, 0_u32..5_000];
    let kind = prop_oneof![
        Just(type_id::AUDIO),
        Just(type_id::VIDEO),
        Just(type_id::DATA_AMF0)
    ];
    let size = prop_oneof![0_usize..10, 100_usize..300, 0_usize..20_000];
    (time, kind, size, any::<u8>(), 0_u32..5).prop_map(
        |(timestamp, type_id, size, seed, stream_id)| {
            let payload = Bytes::from(payload(size, seed));
            Message {
                timestamp,
                type_id,
                stream_id,
                payload,
            }
        },
    )
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<f64>()
            .prop_filter("equal to itself", |n| !n.is_nan())
            .prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,20}".prop_map(Value::String),
        Just(Value::Null),
        Just(Value::Undefined),
        Just(Value::Date(5.0)),
        Just(Value::Unsupported),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(("[a-z]{1,8}", inner.clone()), 0..6).prop_map(Value::Object),
            vec(("[a-z]{1,8}", inner.clone()), 0..6).prop_map(Value::EcmaArray),
            vec(inner, 0..6).prop_map(Value::StrictArray),
        ]
    })
}

/// Bytes that get past the first checks now and then.
fn likely_chunks() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => (2_u8..8, any::<u8>(), vec(any::<u8>(), 0..300), 0_u32..3)
            .prop_map(|(csid, kind, body, stream)| message(csid, kind % 24, stream, &body, 128)),
        2 => (0_u32..3, "[a-zA-Z]{1,12}", vec(any_value(), 0..4)).prop_map(|(stream, name, mut values)| {
            values.insert(0, Value::String(name));
            command(stream, &values)
        }),
        3 => (0_u32..3, prop::sample::select(NAMES), vec(any_value(), 0..4)).prop_map(|(stream, name, values)| {
            let mut all = vec![Value::from(name), Value::Number(2.0)];
            all.extend(values);
            command(stream, &all)
        }),
        2 => vec(any::<u8>(), 0..40),
    ];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

const NAMES: &[&str] = &[
    "connect",
    "createStream",
    "publish",
    "play",
    "play2",
    "deleteStream",
    "closeStream",
    "FCPublish",
    "FCUnpublish",
    "FCSubscribe",
    "releaseStream",
    "_checkbw",
    "_result",
    "_error",
    "onStatus",
    "close",
    "_onbwcheck",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn messages_survive_any_interleaving_and_any_cut(
        messages in vec(any_message(), 1..6),
        order in vec(any::<prop::sample::Index>(), 0..400),
        chunk_size in prop_oneof![Just(1_usize), Just(128), 2_usize..5_000],
        piece in 1_usize..5_000,
    ) {
        let size = u32::try_from(chunk_size).unwrap();
        let mut bytes = message(2, type_id::SET_CHUNK_SIZE, 0, &size.to_be_bytes(), 128);
        let mut queues: Vec<_> = messages
            .iter()
            .zip(3_u8..)
            .map(|(message, csid)| (message, chunks(csid, message, chunk_size).into_iter().peekable()))
            .collect();
        let mut expected = Vec::new();
        let mut order = order.into_iter();
        while !queues.is_empty() {
            let at = order.next().map_or(0, |index| index.index(queues.len()));
            bytes.extend(queues[at].1.next().unwrap());
            if queues[at].1.peek().is_none() {
                expected.push(queues.remove(at).0.clone());
            }
        }
        let mut reader = ChunkReader::new(Limits::GRANTED);
        let mut got = Vec::new();
        for part in bytes.chunks(piece) {
            got.extend(read_all(&mut reader, part));
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!(reader.partial_bytes(), 0);
        prop_assert!(reader.buffer().is_empty());
    }

    #[test]
    fn reader_takes_any_bytes_and_holds_no_more_than_it_got(
        bytes in vec(any::<u8>(), 0..4_000),
        likely in likely_chunks(),
        piece in 1_usize..600,
    ) {
        for bytes in [bytes, likely] {
            let mut reader = ChunkReader::new(Limits::BEFORE_GRANT);
            for part in bytes.chunks(piece) {
                reader.buffer().extend_from_slice(part);
                while let Ok(Some(_)) = reader.next_message() {}
                prop_assert!(reader.partial_bytes() + reader.buffer().len() <= bytes.len());
                prop_assert!(reader.buffer().capacity() <= 2 * bytes.len() + SLACK);
            }
        }
    }

    #[test]
    fn sessions_take_any_bytes(
        raw in vec(any::<u8>(), 0..2_000),
        likely in likely_chunks(),
    ) {
        for bytes in [&raw, &likely] {
            let _ = RawClient::handshaken().say(bytes);
            let _ = RawClient::connected().say(bytes);
            let mut client = RawClient::publishing();
            let _ = client.say(bytes);
            client.server.accept_play(1);
            client.server.accept_publish(2);
            client.server.end_play(1);
            let _ = client.say(bytes);
            prop_assert!(client.server.output_pending() < 2 * 1024 * 1024);
            for purpose in [Purpose::Play, Purpose::Publish] {
                let _ = RawServer::handshaken(purpose).say(bytes);
                let _ = RawServer::asked(purpose).say(bytes);
            }
            let mut server = RawServer::playing();
            let _ = server.say(bytes);
            server.client.finish();
            let _ = server.say(bytes);
        }
    }

    #[test]
    fn handshake_takes_any_bytes_and_no_more_than_its_own(
        mut bytes in vec(any::<u8>(), 0..5_000),
        version in any::<bool>(),
    ) {
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = 3;
        }
        let mut out = BytesMut::new();
        for mut handshake in [Handshake::server(), Handshake::client(&mut BytesMut::new())] {
            let mut input = BytesMut::from(&bytes[..]);
            if let Ok(done) = handshake.advance(&mut input, &mut out) {
                prop_assert_eq!(done, bytes.len() >= 3_073);
                prop_assert_eq!(input.len(), bytes.len().saturating_sub(3_073));
            }
        }
    }

    #[test]
    fn amf0_takes_any_bytes(bytes in vec(any::<u8>(), 0..2_000), markers in vec(0_u8..0x12, 0..2_000)) {
        let _ = amf0::decode(&bytes);
        let _ = amf0::decode(&markers);
    }

    #[test]
    fn amf0_values_survive_encoding(values in vec(any_value(), 0..5)) {
        let bytes = amf0::encode(&values);
        prop_assert_eq!(amf0::decode(&bytes), Ok(values));
    }

    #[test]
    fn media_headers_and_files_take_any_bytes(first in any::<u8>(), rest in vec(any::<u8>(), 0..400)) {
        let bytes = [&[first][..], &rest].concat();
        let _ = flv::video(&bytes);
        let _ = flv::audio(&bytes);
        // The parts are those of the message, and each costs something.
        for parts in [flv::video_parts(&bytes), flv::audio_parts(&bytes)] {
            let mut taken = 0;
            for part in parts {
                taken += part.data.len() + 1;
                prop_assert!(taken <= bytes.len());
                prop_assert!(bytes.as_ptr_range().contains(&part.data.as_ptr()) || part.data.is_empty());
            }
        }
        let _ = flv::metadata_payload(&Bytes::from(bytes.clone()));
        let file = [&flv::FILE_HEADER[..], &bytes].concat();
        for bytes in [file, bytes] {
            let mut reader = flv::Reader::new();
            reader.buffer().extend(bytes);
            while let Ok(Some(_)) = reader.poll() {}
            let _ = reader.finish();
        }
    }

    #[test]
    fn urls_take_any_text_and_never_show_a_secret(
        text in ".{0,80}",
        user in "[a-z]{1,8}",
        secret in "[A-Z]{12}",
    ) {
        let _ = RtmpUrl::parse(&text);
        let _ = RtmpUrl::parse(&format!("rtmp://{text}"));
        let url = RtmpUrl::parse(&format!("rtmp://{user}:{secret}@host/live/cam?key={secret}")).unwrap();
        let shown = format!("{url} {url:?} {} {}", url.masked(), url.tc_url());
        prop_assert!(!shown.contains(&secret));
    }
}
