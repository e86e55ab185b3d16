//! The far end of a session: checks that what the session says is RTMP.

use bytes::{Bytes, BytesMut};
use restreamd_rtmp::amf0::{self, Amf0Error, Value};
use restreamd_rtmp::{ChunkReader, Limits, type_id};

/// Version byte and two packets of 1,536 bytes, in either direction.
const HANDSHAKE: usize = 1 + 2 * 1_536;

/// Reads the output of one session.
pub struct Heard {
    handshake: BytesMut,
    reader: ChunkReader,
}

impl Heard {
    pub fn new() -> Self {
        Self {
            handshake: BytesMut::new(),
            reader: ChunkReader::new(Limits::GRANTED),
        }
    }

    /// Takes output of the session; media is only heard from a publisher.
    pub fn take(&mut self, bytes: &Bytes) {
        let missing = HANDSHAKE - self.handshake.len();
        let (handshake, chunks) = bytes.split_at(missing.min(bytes.len()));
        self.handshake.extend_from_slice(handshake);
        self.reader.buffer().extend_from_slice(chunks);
        while let Some(message) = self.reader.next_message().expect("output is chunks") {
            let length = message.payload.len();
            match message.type_id {
                type_id::ACKNOWLEDGEMENT | type_id::WINDOW_ACK_SIZE => assert_eq!(length, 4),
                type_id::SET_PEER_BANDWIDTH => assert_eq!(length, 5),
                type_id::USER_CONTROL => assert!(length == 6 || length == 10),
                type_id::COMMAND_AMF0 => command(&message.payload),
                type_id::AUDIO | type_id::VIDEO | type_id::DATA_AMF0 => {}
                other => panic!("message type {other} was sent"),
            }
        }
        assert!(self.reader.buffer().is_empty(), "output is whole messages");
        assert_eq!(self.reader.partial_bytes(), 0);
    }

    /// The handshake so far.
    pub fn handshake(&self) -> &[u8] {
        &self.handshake
    }
}

/// A command begins with its name and its transaction.
fn command(payload: &[u8]) {
    match amf0::decode(payload).as_deref() {
        Ok([Value::String(_), Value::Number(_), ..]) => {}
        // An echoed name that was not UTF-8 has grown.
        Err(Amf0Error::Size) => {}
        other => panic!("{other:?} was sent as a command"),
    }
}
