//! The chunk layer.

use bytes::{Bytes, BytesMut};
use restreamd_rtmp::chunk::{EGRESS_CHUNK_SIZE, Wire, encode};
use restreamd_rtmp::{ChunkError, ChunkReader, Limits, type_id};

use crate::peer::{message, payload, read_all, type0, type1, type2};

fn reader() -> ChunkReader {
    ChunkReader::new(Limits::GRANTED)
}

fn set_chunk_size(size: u32) -> Vec<u8> {
    message(2, type_id::SET_CHUNK_SIZE, 0, &size.to_be_bytes(), 128)
}

#[test]
fn interleaved_chunk_streams_are_assembled_apart() {
    let video = payload(300, 1);
    let audio = payload(200, 2);
    let mut bytes = type0(4, 10, 300, type_id::VIDEO, 1);
    bytes.extend(&video[..128]);
    bytes.extend(type0(5, 11, 200, type_id::AUDIO, 1));
    bytes.extend(&audio[..128]);
    bytes.push(0xC4);
    bytes.extend(&video[128..256]);
    bytes.push(0xC5);
    bytes.extend(&audio[128..]);
    bytes.push(0xC4);
    bytes.extend(&video[256..]);
    let mut reader = reader();
    let messages = read_all(&mut reader, &bytes);
    assert_eq!(messages.len(), 2);
    assert_eq!(
        (messages[0].timestamp, &messages[0].payload[..]),
        (11, &audio[..])
    );
    assert_eq!(
        (messages[1].timestamp, &messages[1].payload[..]),
        (10, &video[..])
    );
    assert_eq!(reader.partial_bytes(), 0);
}

#[test]
fn window_ack_in_the_middle_of_a_video_message_harms_nothing() {
    let video = payload(1_000, 3);
    let mut bytes = type0(4, 0, 1_000, type_id::VIDEO, 1);
    bytes.extend(&video[..128]);
    bytes.extend(message(2, type_id::WINDOW_ACK_SIZE, 0, &[0, 1, 0, 0], 128));
    for part in video[128..].chunks(128) {
        bytes.push(0xC4);
        bytes.extend(part);
    }
    let messages = read_all(&mut reader(), &bytes);
    assert_eq!(messages[0].type_id, type_id::WINDOW_ACK_SIZE);
    assert_eq!(messages[1].payload, video);
}

#[test]
fn abort_drops_the_unfinished_message_of_one_chunk_stream_only() {
    let mut bytes = type0(4, 0, 200, type_id::VIDEO, 1);
    bytes.extend(payload(128, 1));
    bytes.extend(type0(5, 0, 200, type_id::AUDIO, 1));
    bytes.extend(payload(128, 2));
    let mut reader = reader();
    assert!(read_all(&mut reader, &bytes).is_empty());
    assert_eq!(reader.partial_bytes(), 256);
    let abort = message(2, type_id::ABORT, 0, &4_u32.to_be_bytes(), 128);
    assert!(read_all(&mut reader, &abort).is_empty());
    assert_eq!(reader.partial_bytes(), 128);
    // Type 3 now starts a message with the old header.
    let mut bytes = vec![0xC4];
    bytes.extend(payload(128, 7));
    bytes.push(0xC5);
    bytes.extend(payload(72, 9));
    bytes.push(0xC4);
    bytes.extend(payload(72, 8));
    let messages = read_all(&mut reader, &bytes);
    assert_eq!(messages[0].type_id, type_id::AUDIO);
    assert_eq!(messages[1].payload[..128], payload(128, 7));
    assert_eq!(reader.partial_bytes(), 0);
}

#[test]
fn new_header_in_the_middle_of_a_message_restarts_it() {
    let mut bytes = type0(4, 0, 400, type_id::VIDEO, 1);
    bytes.extend(payload(128, 1));
    bytes.extend(type0(4, 40, 10, type_id::VIDEO, 1));
    bytes.extend(payload(10, 2));
    let mut reader = reader();
    let messages = read_all(&mut reader, &bytes);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].payload, payload(10, 2));
    assert_eq!(reader.partial_bytes(), 0);
}

#[test]
fn extended_timestamps_are_read_with_and_without_their_repetition() {
    let time = 0x0123_4567;
    let video = payload(300, 1);
    for repeats in [true, false] {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            bytes.extend(type0(4, time, 300, type_id::VIDEO, 1));
            for (index, part) in video.chunks(128).enumerate() {
                if index > 0 {
                    bytes.push(0xC4);
                    if repeats {
                        bytes.extend(time.to_be_bytes());
                    }
                }
                bytes.extend(part);
            }
        }
        // Whole and byte by byte.
        for piece in [bytes.len(), 1] {
            let mut reader = reader();
            let mut messages = Vec::new();
            for part in bytes.chunks(piece) {
                messages.extend(read_all(&mut reader, part));
            }
            assert_eq!(messages.len(), 3, "repeats: {repeats}");
            for message in messages {
                assert_eq!(
                    (message.timestamp, &message.payload[..]),
                    (time, &video[..])
                );
            }
        }
    }
}

#[test]
fn extended_delta_wraps_at_32_bits() {
    let mut bytes = type0(4, 0xFFFF_FF00, 1, type_id::VIDEO, 1);
    bytes.push(1);
    bytes.extend(type1(4, 0x200, true, 1, type_id::VIDEO));
    bytes.push(2);
    bytes.extend(type2(4, 0xFFFF_FFFF, true));
    bytes.push(3);
    let messages = read_all(&mut reader(), &bytes);
    let times: Vec<u32> = messages.iter().map(|m| m.timestamp).collect();
    assert_eq!(times, [0xFFFF_FF00, 0x100, 0xFF]);
}

#[test]
fn type_3_message_start_repeats_the_last_delta() {
    let mut bytes = type0(5, 1_000_000, 1, type_id::AUDIO, 1);
    bytes.push(0);
    bytes.extend(type1(5, 23, false, 1, type_id::AUDIO));
    bytes.push(1);
    bytes.extend([0xC5, 2, 0xC5, 3]);
    bytes.extend(type2(5, 21, false));
    bytes.push(4);
    bytes.extend([0xC5, 5]);
    let times: Vec<u32> = read_all(&mut reader(), &bytes)
        .iter()
        .map(|m| m.timestamp)
        .collect();
    assert_eq!(
        times,
        [
            1_000_000, 1_000_023, 1_000_046, 1_000_069, 1_000_090, 1_000_111
        ]
    );
}

#[test]
fn type_3_after_type_0_adds_its_timestamp_unless_that_would_jump() {
    for (first, second) in [(40, 80), (1_000, 2_000), (1_001, 1_001), (90_000, 90_000)] {
        let mut bytes = type0(5, first, 1, type_id::AUDIO, 1);
        bytes.extend([1, 0xC5, 2]);
        let messages = read_all(&mut reader(), &bytes);
        assert_eq!(messages[1].timestamp, second);
    }
}

#[test]
fn aggregate_is_split_and_rebased_on_its_own_timestamp() {
    let tag = |kind: u8, time: u32, data: &[u8]| {
        let mut tag = restreamd_rtmp::flv::tag_header(kind, data.len(), time).to_vec();
        tag.extend(data);
        tag.extend(restreamd_rtmp::flv::tag_trailer(data.len()));
        tag
    };
    let large = payload(9_000, 4);
    let mut body = tag(type_id::VIDEO, 5_000, &large);
    body.extend(tag(type_id::AUDIO, 5_023, b"audio"));
    body.extend(tag(type_id::AGGREGATE, 5_024, b"nested"));
    body.extend(tag(type_id::DATA_AMF0, 4_990, b""));
    body.extend([9, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'x']); // cut
    let mut bytes = BytesMut::new();
    encode(6, type_id::AGGREGATE, 1, 700, &body, 128, &mut bytes);
    bytes.extend_from_slice(&message(5, type_id::AUDIO, 1, b"next", 128));
    let messages = read_all(&mut reader(), &bytes);
    let seen: Vec<_> = messages
        .iter()
        .map(|m| (m.type_id, m.timestamp, m.payload.len()))
        .collect();
    assert_eq!(
        seen,
        [
            (type_id::VIDEO, 700, 9_000),
            (type_id::AUDIO, 723, 5),
            (type_id::DATA_AMF0, 690, 0),
            (type_id::AUDIO, 0, 4),
        ]
    );
    assert_eq!(messages[0].payload, large);
    assert!(
        messages
            .iter()
            .all(|m| m.type_id != type_id::AUDIO || m.stream_id == 1)
    );
}

#[test]
fn every_chunk_size_carries_large_and_empty_messages() {
    for chunk_size in [1, 2, 127, 128, 129, 4_096, 60_000, 1 << 20] {
        let mut bytes = BytesMut::from(&set_chunk_size(chunk_size)[..]);
        let sizes = [0, 1, 127, 128, 129, 4_096, 4_097, 60_000, 60_001, 130_000];
        for (index, size) in sizes.iter().enumerate() {
            let seed = u8::try_from(index).unwrap();
            encode(
                4,
                type_id::VIDEO,
                1,
                0x0100_0000,
                &payload(*size, seed),
                chunk_size,
                &mut bytes,
            );
        }
        let mut reader = reader();
        let messages = read_all(&mut reader, &bytes);
        assert_eq!(messages.len(), sizes.len());
        for (index, (message, size)) in messages.iter().zip(sizes).enumerate() {
            assert_eq!(message.payload, payload(size, u8::try_from(index).unwrap()));
            assert_eq!(message.timestamp, 0x0100_0000);
        }
        assert!(reader.buffer().is_empty());
    }
}

#[test]
fn payload_in_one_chunk_is_a_slice_of_the_read_buffer() {
    let mut bytes = set_chunk_size(60_000);
    bytes.extend(message(4, type_id::VIDEO, 1, &payload(5_000, 1), 60_000));
    bytes.extend(message(5, type_id::AUDIO, 1, &payload(300, 1), 60_000));
    let mut reader = reader();
    reader.buffer().extend_from_slice(&bytes);
    let range = reader.buffer().as_ptr_range();
    let video = reader.next_message().unwrap().unwrap();
    let audio = reader.next_message().unwrap().unwrap();
    assert!(range.contains(&video.payload.as_ptr()));
    assert!(range.contains(&audio.payload.as_ptr()));
    // Let go, it is read into again.
    drop((video, audio));
    reader.buffer().reserve(bytes.len());
    assert!(range.contains(&reader.buffer().as_ptr()));
}

#[test]
fn chunk_size_set_before_anything_else_holds_from_the_next_chunk() {
    let mut bytes = set_chunk_size(1);
    bytes.extend(message(3, type_id::COMMAND_AMF0, 0, b"abc", 1));
    assert_eq!(read_all(&mut reader(), &bytes)[0].payload, &b"abc"[..]);
}

#[test]
fn chunk_streams_of_all_three_forms_and_their_limit() {
    let mut bytes = Vec::new();
    for csid in [2_u8, 63] {
        bytes.extend(message(csid, type_id::AUDIO, 1, b"x", 128));
    }
    let rest = [0, 0, 0, 0, 0, 1, type_id::AUDIO, 1, 0, 0, 0, b'x'];
    bytes.extend([0x00, 7]);
    bytes.extend(rest);
    bytes.extend([0x01, 255, 255]);
    bytes.extend(rest);
    let mut reader = reader();
    assert_eq!(read_all(&mut reader, &bytes).len(), 4);

    let mut reader = ChunkReader::new(Limits {
        chunk_streams: 2,
        ..Limits::GRANTED
    });
    reader.buffer().extend_from_slice(&bytes);
    assert!(reader.next_message().unwrap().is_some());
    assert!(reader.next_message().unwrap().is_some());
    let error = ChunkError::TooManyChunkStreams { limit: 2 };
    assert_eq!(reader.next_message(), Err(error.clone()));
    assert_eq!(reader.next_message(), Err(error), "the error stays");
}

#[test]
fn header_that_leans_on_nothing_is_an_error_but_for_type_1() {
    for first in [0x83_u8, 0xC3] {
        let mut reader = reader();
        reader.buffer().extend_from_slice(&[first, 0, 0, 0, 0]);
        assert_eq!(reader.next_message(), Err(ChunkError::NoHeader { csid: 3 }));
    }
    let mut bytes = type1(2, 7, false, 6, type_id::USER_CONTROL);
    bytes.extend([0, 6, 0, 0, 0, 1]);
    let messages = read_all(&mut reader(), &bytes);
    assert_eq!((messages[0].timestamp, messages[0].stream_id), (7, 0));
}

#[test]
fn partial_messages_of_all_chunk_streams_share_one_limit() {
    let mut reader = ChunkReader::new(Limits::BEFORE_GRANT);
    let mut result = Ok(None);
    for csid in 3..64 {
        let buffer = reader.buffer();
        buffer.extend_from_slice(&type0(csid, 0, 60_000, type_id::VIDEO, 1));
        for part in payload(59_904, 0).chunks(128) {
            buffer.extend_from_slice(part);
            buffer.extend_from_slice(&[0xC0 | csid]);
        }
        let length = buffer.len();
        buffer.truncate(length - 1);
        result = reader.next_message();
        if result.is_err() {
            assert_eq!(csid, 3 + 4);
            break;
        }
        assert!(reader.partial_bytes() <= Limits::BEFORE_GRANT.partial);
    }
    let limit = Limits::BEFORE_GRANT.partial;
    assert_eq!(result, Err(ChunkError::PartialTooLarge { limit }));
}

#[test]
fn wire_is_what_the_reader_reads_for_any_stream() {
    for timestamp in [0, 0xFF_FFFE, 0xFF_FFFF, 0x8000_0000, u32::MAX] {
        for size in [0, 5, 60_000, 60_001, 200_000] {
            let body = payload(size, 9);
            let wire = Wire::media(type_id::VIDEO, timestamp, &body);
            for stream_id in [1, 2, 0x0102_0304] {
                let mut bytes = BytesMut::from(&set_chunk_size(EGRESS_CHUNK_SIZE)[..]);
                let (head, rest) = wire.for_stream(stream_id);
                bytes.extend_from_slice(&head);
                bytes.extend_from_slice(&rest);
                let mut put = BytesMut::from(&set_chunk_size(EGRESS_CHUNK_SIZE)[..]);
                wire.put(stream_id, &mut put);
                assert_eq!(put, bytes);
                let messages = read_all(&mut reader(), &bytes);
                assert_eq!(messages.len(), 1);
                assert_eq!(messages[0].timestamp, timestamp);
                assert_eq!(messages[0].stream_id, stream_id);
                assert_eq!(messages[0].payload, body);
            }
            assert_eq!(wire.for_stream(1).0.as_ptr(), wire.bytes().as_ptr());
            let parts: Vec<Bytes> = wire.payload_parts().collect();
            assert_eq!(parts.concat(), body);
            assert_eq!(wire.payload_len(), size);
        }
    }
}

#[test]
fn chunk_size_zero_of_our_own_does_not_hang_the_writer() {
    let mut out = BytesMut::new();
    encode(4, type_id::VIDEO, 1, 0, b"abc", 0, &mut out);
    assert_eq!(out.len(), 12 + 3 + 2);
}
