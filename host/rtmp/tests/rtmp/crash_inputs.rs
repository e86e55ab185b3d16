//! The inputs that crash or bloat other implementations, one test each.

use restreamd_rtmp::amf0::{self, Amf0Error, Value};
use restreamd_rtmp::flv;
use restreamd_rtmp::session::{ClientEvent, MediaKind, Purpose, ServerEvent, SessionError};
use restreamd_rtmp::{ChunkError, ChunkReader, Limits, type_id};

use crate::peer::{RawClient, RawServer, command, message, payload, read_all, type0, type1, type2};

/// Arrays inside arrays, five bytes a level.
fn nested(levels: usize) -> Vec<u8> {
    [0x0A, 0, 0, 0, 1].repeat(levels)
}

fn empty_command(kind: u8) -> Vec<u8> {
    message(3, kind, 0, b"", 128)
}

#[test]
fn c1_command_with_too_few_values_ends_a_server_session_with_an_error() {
    for kind in [type_id::COMMAND_AMF0, type_id::COMMAND_AMF3] {
        let mut client = RawClient::handshaken();
        let result = client.say(&empty_command(kind));
        assert!(matches!(result, Err(SessionError::Protocol(_))));
    }
    // A name alone is a command; without connect before it, it is misplaced.
    let mut client = RawClient::handshaken();
    let result = client.say(&command(0, &[Value::from("_checkbw")]));
    assert!(matches!(result, Err(SessionError::Protocol(_))));
    let mut client = RawClient::connected();
    assert_eq!(
        client.say(&command(0, &[Value::from("_checkbw")])),
        Ok(vec![])
    );
}

#[test]
fn c1_command_with_too_few_values_ends_a_client_session_with_an_error() {
    let mut server = RawServer::handshaken(Purpose::Play);
    let result = server.say(&empty_command(type_id::COMMAND_AMF0));
    assert!(matches!(result, Err(SessionError::Protocol(_))));
    let mut server = RawServer::playing();
    for name in ["_result", "_error", "onStatus", "close"] {
        server.say_command(0, &[Value::from(name)]).unwrap();
    }
}

#[test]
fn c2_set_data_frame_alone_before_connect_is_ignored() {
    let data = amf0::encode(&[Value::from("@setDataFrame")]);
    let mut client = RawClient::handshaken();
    for kind in [type_id::DATA_AMF0, type_id::DATA_AMF3] {
        assert_eq!(client.say(&message(5, kind, 0, &data, 128)), Ok(vec![]));
    }
    assert_eq!(flv::metadata_payload(&data), None);
    let mut server = RawServer::handshaken(Purpose::Play);
    let bytes = message(5, type_id::DATA_AMF0, 0, &data, 128);
    assert_eq!(server.say(&bytes), Ok(vec![]));
}

#[test]
fn c3_metadata_without_a_value_is_data_and_not_metadata() {
    let data = amf0::encode(&[Value::from("@setDataFrame"), Value::from("onMetaData")]);
    let mut client = RawClient::publishing();
    let events = client
        .say(&message(5, type_id::DATA_AMF0, 1, &data, 128))
        .unwrap();
    let [ServerEvent::Media { media, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((media.kind, &media.payload), (MediaKind::Data, &data));
    assert_eq!(flv::metadata_payload(&media.payload), None);
}

#[test]
fn c4_messages_between_the_chunks_of_another_neither_crash_nor_corrupt() {
    let video = payload(300, 1);
    let between: [(u8, Vec<u8>); 5] = [
        (type_id::AUDIO, payload(10, 2)),
        (type_id::WINDOW_ACK_SIZE, vec![0, 0, 0x20, 0]),
        (type_id::USER_CONTROL, vec![0, 6, 0, 0, 0, 9]),
        (type_id::SET_CHUNK_SIZE, vec![0, 0, 0, 128]),
        (type_id::AUDIO, payload(2_000, 3)),
    ];
    for (kind, body) in between {
        let mut client = RawClient::publishing();
        let mut bytes = type0(4, 0, 300, type_id::VIDEO, 1);
        bytes.extend(&video[..128]);
        bytes.extend(message(
            if kind == type_id::AUDIO { 5 } else { 2 },
            kind,
            1,
            &body,
            128,
        ));
        bytes.push(0xC4);
        bytes.extend(&video[128..256]);
        bytes.push(0xC4);
        bytes.extend(&video[256..]);
        let events = client.say(&bytes).unwrap();
        let Some(ServerEvent::Media { media, .. }) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(media.payload, video);
        if events.len() == 2 {
            let ServerEvent::Media { media, .. } = &events[0] else {
                panic!("{events:?}");
            };
            assert_eq!(media.payload, body);
        }
    }
}

#[test]
fn c4_smaller_header_in_the_middle_of_a_message_does_not_underflow() {
    for header in [
        type0(4, 0, 10, type_id::VIDEO, 1),
        type1(4, 0, false, 10, type_id::VIDEO),
    ] {
        let mut reader = ChunkReader::new(Limits::GRANTED);
        let mut bytes = type0(4, 0, 300, type_id::VIDEO, 1);
        bytes.extend(payload(128, 1));
        bytes.extend(header);
        bytes.extend(payload(10, 2));
        assert_eq!(read_all(&mut reader, &bytes)[0].payload, payload(10, 2));
    }
}

#[test]
fn c5_small_extended_deltas_are_read_as_they_are() {
    let mut bytes = type0(4, 100, 1, type_id::VIDEO, 1);
    bytes.push(0);
    bytes.extend(type1(4, 5, true, 1, type_id::VIDEO));
    bytes.push(0);
    bytes.extend(type2(4, 7, true));
    bytes.push(0);
    let mut reader = ChunkReader::new(Limits::GRANTED);
    let times: Vec<u32> = read_all(&mut reader, &bytes)
        .iter()
        .map(|m| m.timestamp)
        .collect();
    assert_eq!(times, [100, 105, 112]);
}

#[test]
fn c6_deep_nesting_is_refused_and_does_not_use_the_stack() {
    assert_eq!(amf0::decode(&nested(5_000)), Err(Amf0Error::Depth));
    assert_eq!(amf0::decode(&nested(20_000)), Err(Amf0Error::Size));
    let objects = [&[0x03][..], &[0, 1, b'a', 0x03].repeat(5_000)].concat();
    assert_eq!(amf0::decode(&objects), Err(Amf0Error::Depth));
    let arrays = [
        &[0x08, 0, 0, 0, 1][..],
        &[0, 1, b'a', 0x08, 0, 0, 0, 1].repeat(5_000),
    ]
    .concat();
    assert_eq!(amf0::decode(&arrays), Err(Amf0Error::Depth));

    let mut body = amf0::encode(&[Value::from("connect"), Value::Number(1.0)]).to_vec();
    body.extend(nested(10_000));
    let bytes = message(3, type_id::COMMAND_AMF0, 0, &body, 128);
    let error = Err(SessionError::Amf0(Amf0Error::Depth));
    assert_eq!(RawClient::handshaken().say(&bytes), error);
    let result = RawServer::handshaken(Purpose::Play).say(&bytes);
    assert_eq!(result, Err(SessionError::Amf0(Amf0Error::Depth)));
}

#[test]
fn c7_sender_that_omits_extended_timestamps_in_type_3_is_understood() {
    let mut client = RawClient::publishing();
    let video = payload(1_000, 5);
    let mut bytes = Vec::new();
    for index in 0..3 {
        bytes.extend(type0(4, 0x0100_0000 + index, 1_000, type_id::VIDEO, 1));
        for (index, part) in video.chunks(128).enumerate() {
            if index > 0 {
                bytes.push(0xC4);
            }
            bytes.extend(part);
        }
    }
    let events = client.say(&bytes).unwrap();
    assert_eq!(events.len(), 3);
    for event in events {
        let ServerEvent::Media { media, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(media.payload, video);
    }
}

#[test]
fn d1_announced_16_mib_message_before_connect_is_refused_at_its_header() {
    let bytes = type0(3, 0, 0xFF_FFFF, type_id::COMMAND_AMF0, 0);
    let limit = Limits::BEFORE_GRANT.message;
    let error = ChunkError::MessageTooLarge {
        length: 0xFF_FFFF,
        limit,
    };
    let mut client = RawClient::handshaken();
    assert_eq!(client.say(&bytes), Err(SessionError::Chunk(error.clone())));
    let mut server = RawServer::handshaken(Purpose::Play);
    assert_eq!(server.say(&bytes), Err(SessionError::Chunk(error)));
}

#[test]
fn d1_after_the_grant_memory_grows_with_received_bytes_only() {
    let mut reader = ChunkReader::new(Limits::GRANTED);
    for csid in 3..60 {
        let mut bytes = type0(csid, 0, 8 * 1024 * 1024, type_id::VIDEO, 1);
        bytes.extend(payload(128, 0));
        assert!(read_all(&mut reader, &bytes).is_empty());
    }
    assert_eq!(reader.partial_bytes(), 57 * 128);
    assert!(reader.buffer().capacity() < 64 * 1024);
}

#[test]
fn d2_chunk_sizes_out_of_range_are_refused_and_huge_ones_reserve_nothing() {
    for size in [0_u32, 0x8000_0000, u32::MAX] {
        let bytes = message(2, type_id::SET_CHUNK_SIZE, 0, &size.to_be_bytes(), 128);
        let error = Err(SessionError::Chunk(ChunkError::ChunkSize));
        assert_eq!(RawClient::handshaken().say(&bytes), error);
        let result = RawServer::handshaken(Purpose::Play).say(&bytes);
        assert_eq!(result, Err(SessionError::Chunk(ChunkError::ChunkSize)));
    }
    let short = message(2, type_id::SET_CHUNK_SIZE, 0, &[1], 128);
    let result = RawClient::handshaken().say(&short);
    assert_eq!(result, Err(SessionError::Chunk(ChunkError::ChunkSize)));

    let size = 0x7FFF_FFFF_u32;
    let mut client = RawClient::connected();
    let bytes = message(2, type_id::SET_CHUNK_SIZE, 0, &size.to_be_bytes(), 128);
    assert_eq!(client.say(&bytes), Ok(vec![]));
    assert!(client.server.buffer().capacity() < 64 * 1024);
}

#[test]
fn d3_create_stream_flood_is_bounded_before_and_after_the_grant() {
    let mut client = RawClient::handshaken();
    let result = client.call(0, "createStream", 2.0, &[]);
    assert!(
        matches!(result, Err(SessionError::Protocol(_))),
        "before connect"
    );

    let mut client = RawClient::connected();
    let mut sent = 0;
    let error = loop {
        match client.call(0, "createStream", 2.0, &[]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SessionError::Protocol(_)));
    assert!(sent <= 64);
    let created = client.hear_commands();
    let granted = created.iter().filter(|c| c[0] == Value::from("_result"));
    assert_eq!(granted.count(), 8);

    // After it the answers a peer does not read are what is bounded.
    let mut client = RawClient::publishing();
    let error = (0..1_000_000)
        .find_map(|_| client.call(0, "createStream", 2.0, &[]).err())
        .unwrap();
    assert!(matches!(error, SessionError::OutputFull { .. }));
    assert!(client.server.output_pending() < 1_100_000);
}

#[test]
fn d4_one_header_per_chunk_stream_is_bounded() {
    let mut client = RawClient::connected();
    let mut bytes = Vec::new();
    for csid in 64..200_u8 {
        bytes.extend([
            0x00,
            csid - 64,
            0,
            0,
            0,
            0,
            0,
            1,
            type_id::AUDIO,
            1,
            0,
            0,
            0,
            0,
        ]);
    }
    let error = ChunkError::TooManyChunkStreams { limit: 64 };
    assert_eq!(client.say(&bytes), Err(SessionError::Chunk(error)));
}

#[test]
fn d5_our_own_chunk_size_of_zero_does_not_hang() {
    let mut out = bytes::BytesMut::new();
    restreamd_rtmp::chunk::encode(3, 20, 0, 0, &payload(1_000, 0), 0, &mut out);
    assert!(out.len() < 2_100);
}

#[test]
fn d6_tiny_acknowledgement_windows_are_raised() {
    for window in [0_u32, 1] {
        let mut client = RawClient::publishing();
        let bytes = message(2, type_id::WINDOW_ACK_SIZE, 0, &window.to_be_bytes(), 128);
        client.say(&bytes).unwrap();
        client.hear();
        let mut acks = Vec::new();
        for _ in 0..1_000 {
            client
                .say(&message(5, type_id::AUDIO, 1, b"x", 128))
                .unwrap();
            let heard = client.hear();
            acks.extend(
                heard
                    .into_iter()
                    .filter(|m| m.type_id == type_id::ACKNOWLEDGEMENT),
            );
        }
        assert!(
            (1..=7).contains(&acks.len()),
            "{} acks for 13 kB",
            acks.len()
        );
        let count =
            |m: &restreamd_rtmp::Message| u32::from_be_bytes(m.payload[..].try_into().unwrap());
        assert!(
            acks.windows(2)
                .all(|two| count(&two[0]) + 2_048 <= count(&two[1]))
        );
    }
}

#[test]
fn events_before_an_error_are_not_lost() {
    let mut client = RawClient::publishing();
    let mut bytes = message(5, type_id::AUDIO, 1, b"one", 128);
    bytes.extend(message(5, type_id::AUDIO, 1, b"two", 128));
    bytes.extend(empty_command(type_id::COMMAND_AMF0));
    client.server.buffer().extend_from_slice(&bytes);
    for _ in 0..2 {
        assert!(matches!(
            client.server.poll(),
            Ok(Some(ServerEvent::Media { .. }))
        ));
    }
    assert!(client.server.poll().is_err());

    let mut server = RawServer::playing();
    server.client.buffer().extend_from_slice(&bytes);
    for _ in 0..2 {
        assert!(matches!(
            server.client.poll(),
            Ok(Some(ClientEvent::Media(_)))
        ));
    }
    assert!(server.client.poll().is_err());
}

#[test]
fn amf3_in_a_command_is_refused() {
    let mut body = amf0::encode(&[Value::from("connect"), Value::Number(1.0)]).to_vec();
    body.extend([0x11, 0x0A, 0x0B, 0x01]);
    let bytes = message(3, type_id::COMMAND_AMF0, 0, &body, 128);
    let error = Err(SessionError::Amf0(Amf0Error::Amf3));
    assert_eq!(RawClient::handshaken().say(&bytes), error);
}
