//! One RTMP message: what the chunk layer delivers and takes.
//!
//! It does not know what the payload means. Invariant: the payload is whole.

use std::fmt;

use bytes::Bytes;

/// A whole RTMP message, reassembled from its chunks.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds, modulo 2^32, in the sender's epoch.
    pub timestamp: u32,
    /// What the payload is; see [`type_id`].
    pub type_id: u8,
    /// The message stream; 0 is the connection itself.
    pub stream_id: u32,
    /// The payload as it was sent.
    pub payload: Bytes,
}

// Payloads are media or credentials: neither belongs in a log line.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("timestamp", &self.timestamp)
            .field("type_id", &self.type_id)
            .field("stream_id", &self.stream_id)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish()
    }
}

/// Message type ids of the RTMP specification, section 5.4 and 7.1.
pub mod type_id {
    /// Protocol control: the sender's chunk size changes.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Protocol control: the unfinished message of a chunk stream is dropped.
    pub const ABORT: u8 = 2;
    /// Protocol control: how many bytes have been received so far.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User control: stream begin and end, ping, buffer length.
    pub const USER_CONTROL: u8 = 4;
    /// Protocol control: acknowledge after this many bytes.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Protocol control: limit what is sent but not acknowledged.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio, with its FLV header.
    pub const AUDIO: u8 = 8;
    /// Video, with its FLV header.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3 envelope: mostly a zero byte and then AMF0.
    pub const DATA_AMF3: u8 = 15;
    /// Command in AMF3 envelope: mostly a zero byte and then AMF0.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA_AMF0: u8 = 18;
    /// Command in AMF0.
    pub const COMMAND_AMF0: u8 = 20;
    /// Several FLV tags in one message.
    pub const AGGREGATE: u8 = 22;
}
