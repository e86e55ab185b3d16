//! Cuts messages into chunks.
//!
//! Responsible for bytes that do not depend on what was sent before: always a
//! type 0 header with an absolute timestamp, type 3 for the rest, the extended
//! timestamp repeated in each. Hence any message may be left out at any time
//! and one buffer serves every receiver. It does not know sessions.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::EXTENDED;
use crate::message::type_id;

/// The chunk size we announce: nearly every message fits in one chunk, and it
/// stays below the 64 KiB that some receivers take at most.
pub const EGRESS_CHUNK_SIZE: u32 = 60_000;

/// Lengths have 24 bits on the wire.
const MAX_PAYLOAD: usize = 0x00FF_FFFF;
/// Basic header of one byte and the message header of type 0.
const FIRST_HEADER: usize = 12;
/// Where the message type sits in the first header.
const TYPE_AT: usize = 7;
/// Where the message stream id sits in the first header.
const STREAM_ID_AT: usize = 8;
/// The message stream nearly every client gets as its first.
const SHARED_STREAM_ID: u32 = 1;

/// Appends one message as chunks to `out`. `csid` is 2 to 63; a chunk size of
/// 0 counts as 1; a payload beyond 24 bits of length is cut there.
pub fn encode(
    csid: u8,
    message_type: u8,
    stream_id: u32,
    timestamp: u32,
    payload: &[u8],
    chunk_size: u32,
    out: &mut BytesMut,
) {
    let csid = csid.clamp(2, 63);
    let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
    let chunk_size = chunk_size.max(1) as usize;
    let extended = (timestamp >= EXTENDED).then_some(timestamp);
    out.reserve(encoded_len(timestamp, payload.len(), chunk_size));

    out.put_u8(csid);
    out.put_uint(u64::from(timestamp.min(EXTENDED)), 3);
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(message_type);
    out.put_u32_le(stream_id);
    if let Some(timestamp) = extended {
        out.put_u32(timestamp);
    }
    for (index, part) in payload.chunks(chunk_size).enumerate() {
        if index > 0 {
            out.put_u8(0xC0 | csid);
            if let Some(timestamp) = extended {
                out.put_u32(timestamp);
            }
        }
        out.put_slice(part);
    }
}

/// The bytes of all chunks of a message.
fn encoded_len(timestamp: u32, payload: usize, chunk_size: usize) -> usize {
    let timestamp = if timestamp >= EXTENDED { 4 } else { 0 };
    let chunks = payload.div_ceil(chunk_size).max(1);
    FIRST_HEADER + timestamp + payload + (chunks - 1) * (1 + timestamp)
}

/// The bytes of a [`Wire`] of this payload.
pub(super) fn wire_len(timestamp: u32, payload: usize) -> usize {
    let payload = payload.min(MAX_PAYLOAD);
    encoded_len(timestamp, payload, EGRESS_CHUNK_SIZE as usize)
}

/// One media message as chunks, built once and shared by all receivers.
#[derive(Clone)]
pub struct Wire {
    bytes: Bytes,
    payload_len: usize,
    extended: bool,
}

impl Wire {
    /// Builds the chunks of an audio, video or data message for message
    /// stream 1 at [`EGRESS_CHUNK_SIZE`].
    #[must_use]
    pub fn media(message_type: u8, timestamp: u32, payload: &[u8]) -> Wire {
        Self::media_in(&mut BytesMut::new(), message_type, timestamp, payload)
    }

    /// The same at the end of a buffer, from which it is split off.
    pub(super) fn media_in(
        out: &mut BytesMut,
        message_type: u8,
        timestamp: u32,
        payload: &[u8],
    ) -> Wire {
        encode(
            media_csid(message_type),
            message_type,
            SHARED_STREAM_ID,
            timestamp,
            payload,
            EGRESS_CHUNK_SIZE,
            out,
        );
        Wire {
            bytes: out.split().freeze(),
            payload_len: payload.len().min(MAX_PAYLOAD),
            extended: timestamp >= EXTENDED,
        }
    }

    /// The chunks for message stream 1.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The chunks for any message stream, as a head and the rest: all shared for 1, else
    /// the first header is a patched copy.
    #[must_use]
    pub fn for_stream(&self, stream_id: u32) -> (Bytes, Bytes) {
        if stream_id == SHARED_STREAM_ID {
            return (self.bytes.clone(), Bytes::new());
        }
        let mut head = BytesMut::from(&self.bytes[..FIRST_HEADER]);
        head[STREAM_ID_AT..].copy_from_slice(&stream_id.to_le_bytes());
        (head.freeze(), self.bytes.slice(FIRST_HEADER..))
    }

    /// Appends the chunks for any message stream.
    pub fn put(&self, stream_id: u32, out: &mut BytesMut) {
        let at = out.len() + STREAM_ID_AT;
        out.extend_from_slice(&self.bytes);
        if stream_id != SHARED_STREAM_ID {
            out[at..at + 4].copy_from_slice(&stream_id.to_le_bytes());
        }
    }

    /// The type of the message.
    #[must_use]
    pub fn message_type(&self) -> u8 {
        // Every wire begins with a whole first header.
        self.bytes[TYPE_AT]
    }

    /// The payload without chunk headers, in order, as slices of the chunks.
    pub fn payload_parts(&self) -> impl Iterator<Item = Bytes> + '_ {
        let timestamp = if self.extended { 4 } else { 0 };
        let mut at = FIRST_HEADER + timestamp;
        let mut left = self.payload_len;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let size = left.min(EGRESS_CHUNK_SIZE as usize);
            let part = self.bytes.slice(at..at + size);
            at += size + 1 + timestamp;
            left -= size;
            Some(part)
        })
    }

    /// The bytes of the payload without chunk headers.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({} bytes)", self.bytes.len())
    }
}

/// Chunk streams of our media; commands go on 3, protocol control on 2.
pub(crate) fn media_csid(message_type: u8) -> u8 {
    match message_type {
        type_id::VIDEO => 4,
        type_id::AUDIO => 5,
        _ => 6,
    }
}
