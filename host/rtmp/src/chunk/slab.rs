//! Memory that the chunks of many small messages are cut from.
//!
//! A message in memory of its own costs two allocations, and the gaps that messages of
//! all sizes leave behind. Kept and forgotten in order, as a stream's are, those of a
//! slab come and go together. Invariant: a message keeps at most one slab alive.

use bytes::BytesMut;

use super::writer::{self, Wire};

/// Two hundred milliseconds of a common stream: what is kept of a slab for its last
/// message alone stays small beside the ring of a stream.
const SLAB: usize = 8 * 1024;
/// A larger message has memory of its own.
const LARGEST: usize = SLAB / 2;

/// The slab that is being filled. See the module.
#[derive(Debug, Default)]
pub struct Slab {
    free: BytesMut,
}

impl Slab {
    /// The same as [`Wire::media`], cut from the slab.
    pub fn media(&mut self, message_type: u8, timestamp: u32, payload: &[u8]) -> Wire {
        let needed = writer::wire_len(timestamp, payload.len());
        if needed > LARGEST {
            return Wire::media(message_type, timestamp, payload);
        }
        if self.free.capacity() < needed {
            self.free = BytesMut::with_capacity(SLAB);
        }
        Wire::media_in(&mut self.free, message_type, timestamp, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::type_id;

    #[test]
    fn messages_of_a_slab_are_those_that_have_memory_of_their_own() {
        let mut slab = Slab::default();
        for size in [0, 1, 100, 3_000, LARGEST, SLAB, 200_000, 7] {
            for timestamp in [0, 0x00FF_FFFF, u32::MAX] {
                let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
                let own = Wire::media(type_id::VIDEO, timestamp, &payload);
                let cut = slab.media(type_id::VIDEO, timestamp, &payload);
                assert_eq!(own.bytes(), cut.bytes());
                assert_eq!(own.bytes().len(), writer::wire_len(timestamp, size));
                assert_eq!(own.payload_len(), cut.payload_len());
            }
        }
    }

    #[test]
    fn small_messages_lie_beside_each_other() {
        let mut slab = Slab::default();
        let wires: Vec<Wire> = (0..20)
            .map(|at| slab.media(type_id::AUDIO, at, &[0; 300]))
            .collect();
        let apart = |pair: &[Wire]| {
            let [a, b] = [&pair[0], &pair[1]].map(|wire| wire.bytes().as_ptr() as usize);
            b - a
        };
        assert!(wires.windows(2).all(|pair| apart(pair) == 312));
    }
}
