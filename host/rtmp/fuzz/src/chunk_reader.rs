//! The chunk reader: any bytes, whole and in pieces.

use bytes::BytesMut;
use restreamd_rtmp::chunk::{self, ChunkError, ChunkReader, Limits, Wire};
use restreamd_rtmp::{Message, type_id};

use super::input::Input;

/// The largest header: basic header, message header, extended timestamp.
const HEADER: usize = 18;
/// Buffers grow by doubling and begin with some room.
const SLACK: usize = 64 * 1024;
/// So small that short inputs reach every limit.
const TINY: Limits = Limits {
    message: 300,
    partial: 700,
    chunk_streams: 4,
};

/// The first byte chooses limits and pieces, the rest is what a peer sends.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let limits = [Limits::BEFORE_GRANT, Limits::GRANTED, TINY][usize::from(choice % 3)];
    let bytes = input.rest();
    let whole = read(bytes, limits, bytes.len().max(1));
    let cut = read(bytes, limits, usize::from(choice / 3) + 1);
    assert_eq!(whole, cut, "pieces change what is read");
    for message in &whole.0 {
        survives_writing(message);
    }
}

/// All messages and the error after them.
fn read(bytes: &[u8], limits: Limits, piece: usize) -> (Vec<Message>, Option<ChunkError>) {
    let mut reader = ChunkReader::new(limits);
    let mut messages = Vec::new();
    let mut given = 0;
    for part in bytes.chunks(piece) {
        reader.buffer().extend_from_slice(part);
        given += part.len();
        loop {
            let next = reader.next_message();
            let partial = reader.partial_bytes();
            assert!(partial <= limits.partial, "{partial} partial bytes");
            match next {
                Ok(None) => break,
                Ok(Some(message)) => {
                    assert!(message.payload.len() <= limits.message);
                    messages.push(message);
                    assert!(messages.len() <= given, "a message costs at least a byte");
                }
                Err(error) => {
                    assert_eq!(reader.next_message(), Err(error.clone()), "errors stay");
                    assert_eq!(reader.partial_bytes(), 0);
                    return (messages, Some(error));
                }
            }
        }
        let waiting = reader.buffer().len();
        assert!(waiting <= HEADER + limits.message, "{waiting} bytes wait");
        assert!(waiting + reader.partial_bytes() <= given);
        assert!(reader.buffer().capacity() <= 2 * given + SLACK);
    }
    let payloads: usize = messages.iter().map(|message| message.payload.len()).sum();
    assert!(payloads <= given, "payloads are bytes that were sent");
    (messages, None)
}

/// A message that was read is the same after our writer and our reader.
fn survives_writing(message: &Message) {
    if matches!(
        message.type_id,
        type_id::SET_CHUNK_SIZE | type_id::ABORT | type_id::AGGREGATE
    ) {
        return;
    }
    let mut out = BytesMut::new();
    let Message {
        timestamp,
        type_id,
        stream_id,
        payload,
    } = message;
    chunk::encode(3, *type_id, *stream_id, *timestamp, payload, 128, &mut out);
    assert_eq!(
        read(&out, Limits::GRANTED, usize::MAX).0,
        std::slice::from_ref(message)
    );

    let wire = Wire::media(*type_id, *timestamp, payload);
    assert_eq!(wire.payload_len(), payload.len());
    let parts: Vec<u8> = wire.payload_parts().flatten().collect();
    assert_eq!(parts, payload[..]);
}
