//! The header a message really has: what its chunk said and, where that said
//! nothing, what the message before it on the chunk stream had.
//!
//! It does not know payloads. Invariant: timestamps are absolute and wrap.

use super::header::{Fields, Header};

/// A type 3 chunk that starts a message after a type 0 repeats the timestamp
/// field as a delta, says the specification; some senders mean "no change".
/// Beyond a second the first reading would be a jump, so the second is taken.
const MAX_REPEATED_TIMESTAMP: u32 = 1_000;

/// The last message header of a chunk stream, made absolute.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) timestamp: u32,
    /// What a following type 3 message start adds.
    pub(super) delta: u32,
    /// The timestamp field as sent, when it was an extended one.
    pub(super) extended: Option<u32>,
    pub(super) length: usize,
    pub(super) type_id: u8,
    pub(super) stream_id: u32,
}

impl Head {
    /// The head of a message that `header` starts after `last`; `None` when
    /// the header leans on one that was never sent. A first header of type 1
    /// is read as type 0: some librtmp-based senders open csid 2 that way.
    pub(super) fn after(last: Option<Head>, header: &Header) -> Option<Head> {
        let field = |value| header.extended.then_some(value);
        match (header.fields, last) {
            (
                Fields::Full {
                    timestamp,
                    length,
                    type_id,
                    stream_id,
                },
                _,
            ) => Some(Head {
                timestamp,
                delta: if timestamp > MAX_REPEATED_TIMESTAMP {
                    0
                } else {
                    timestamp
                },
                extended: field(timestamp),
                length,
                type_id,
                stream_id,
            }),
            (
                Fields::SameStream {
                    delta,
                    length,
                    type_id,
                },
                last,
            ) => Some(Head {
                timestamp: last.map_or(0, |last| last.timestamp).wrapping_add(delta),
                delta,
                extended: field(delta),
                length,
                type_id,
                stream_id: last.map_or(0, |last| last.stream_id),
            }),
            // In types 1 and 2 the extended field is a delta like the short one.
            (Fields::Delta { delta }, Some(last)) => Some(Head {
                timestamp: last.timestamp.wrapping_add(delta),
                delta,
                extended: field(delta),
                ..last
            }),
            (Fields::Nothing, Some(last)) => Some(Head {
                timestamp: last.timestamp.wrapping_add(last.delta),
                ..last
            }),
            (Fields::Delta { .. } | Fields::Nothing, None) => None,
        }
    }
}
