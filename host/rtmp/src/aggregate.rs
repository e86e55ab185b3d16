//! Splits aggregate messages (type 22) into the FLV tags they hold.
//!
//! It does not know chunks. Invariants: tags are cut lazily, so a peer pays
//! for each with the bytes it sent; a damaged tag ends the aggregate and is
//! no error, because the messages around it are sound.

use bytes::{Buf, Bytes};

use crate::message::{Message, type_id};

/// Type, length, timestamp and stream id of an FLV tag.
const TAG_HEADER: usize = 11;
/// The back pointer after each tag.
const BACK_POINTER: usize = 4;

/// The messages in one aggregate.
#[derive(Debug)]
pub struct Tags {
    rest: Bytes,
    timestamp: u32,
    stream_id: u32,
    /// The timestamp of the first tag: the aggregate's own timestamp is what
    /// it really is, and all others keep their distance to it.
    first: Option<u32>,
}

impl Tags {
    /// Takes an aggregate message apart.
    #[must_use]
    pub fn new(aggregate: Message) -> Self {
        Self {
            rest: aggregate.payload,
            timestamp: aggregate.timestamp,
            stream_id: aggregate.stream_id,
            first: None,
        }
    }

    fn tag(&mut self) -> Option<Message> {
        let header: [u8; TAG_HEADER] = *self.rest.first_chunk()?;
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = header;
        let length = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        let timestamp = u32::from_be_bytes([t3, t2, t1, t0]);
        if self.rest.len() < TAG_HEADER + length {
            return None;
        }
        self.rest.advance(TAG_HEADER);
        let payload = self.rest.split_to(length);
        self.rest.advance(BACK_POINTER.min(self.rest.len()));
        let first = *self.first.get_or_insert(timestamp);
        Some(Message {
            timestamp: self.timestamp.wrapping_add(timestamp.wrapping_sub(first)),
            type_id: kind & 0x1F,
            stream_id: self.stream_id,
            payload,
        })
    }
}

impl Iterator for Tags {
    type Item = Message;

    /// The next audio, video or data message; anything else inside an
    /// aggregate, an aggregate above all, is skipped.
    fn next(&mut self) -> Option<Message> {
        loop {
            let Some(message) = self.tag() else {
                self.rest.clear();
                return None;
            };
            if matches!(
                message.type_id,
                type_id::AUDIO | type_id::VIDEO | type_id::DATA_AMF0
            ) {
                return Some(message);
            }
        }
    }
}
