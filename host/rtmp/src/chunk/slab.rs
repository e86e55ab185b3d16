//! Memory that the chunks of many small messages are cut from.
//!
//! A message in memory of its own costs two allocations, and the gaps that messages of
//! all sizes leave behind. Kept and forgotten in order, as a stream's are, those of a
//! slab come and go together, and the next messages of any stream take their place.
//! Invariants: a message keeps at most one slab alive; of slabs without a message that is
//! kept, few a thread are.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::BytesMut;

use super::writer::{self, Wire};

/// Two hundred milliseconds of a common stream: what is kept of a slab for its last
/// message alone stays small beside the ring of a stream.
const SLAB: usize = 8 * 1024;
/// A larger message has memory of its own.
const LARGEST: usize = SLAB / 2;
/// Slabs that a thread keeps for whoever comes next. A stream forgets a group of pictures
/// at a time and takes slabs one by one; those that were given back last are in the
/// processor's cache.
const SPARE: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// The slab that is being filled. See the module.
#[derive(Debug, Default)]
pub struct Slab {
    free: BytesMut,
    /// Full ones, oldest first.
    full: VecDeque<Full>,
    /// Messages so far.
    count: u64,
}

/// A slab that is full.
#[derive(Debug)]
struct Full {
    /// What was left of it: through it the slab comes back.
    rest: BytesMut,
    /// How many messages there had been.
    count: u64,
}

impl Slab {
    /// The same as [`Wire::media`], cut from the slab. Of the messages before it the last
    /// `kept` are still kept.
    pub fn media(&mut self, message_type: u8, timestamp: u32, payload: &[u8], kept: usize) -> Wire {
        let needed = writer::wire_len(timestamp, payload.len());
        let wire = if needed > LARGEST {
            Wire::media(message_type, timestamp, payload)
        } else {
            if self.free.capacity() < needed {
                self.turn(kept as u64);
            }
            Wire::media_in(&mut self.free, message_type, timestamp, payload)
        };
        self.count += 1;
        wire
    }

    /// Goes on with a slab that was forgotten, or a new one. What is held although it was
    /// forgotten is left to who holds it.
    fn turn(&mut self, kept: u64) {
        let forgotten = self.count.saturating_sub(kept);
        let next = FREE.with_borrow_mut(|free| {
            while self
                .full
                .front()
                .is_some_and(|full| full.count <= forgotten)
            {
                if let Some(Full { mut rest, .. }) = self.full.pop_front()
                    && free.len() < SPARE
                    && rest.try_reclaim(SLAB)
                {
                    free.push(rest);
                }
            }
            free.pop()
        });
        let next = next.unwrap_or_else(|| BytesMut::with_capacity(SLAB));
        let full = Full {
            rest: std::mem::replace(&mut self.free, next),
            count: self.count,
        };
        if full.rest.capacity() > 0 {
            self.full.push_back(full);
        }
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
                let cut = slab.media(type_id::VIDEO, timestamp, &payload, 0);
                assert_eq!(own.bytes(), cut.bytes());
                assert_eq!(own.bytes().len(), writer::wire_len(timestamp, size));
                assert_eq!(own.payload_len(), cut.payload_len());
            }
        }
    }

    /// The slabs that so many messages of a slab's half each went through.
    fn slabs(slab: &mut Slab, kept: &mut VecDeque<Wire>, keep: usize, messages: usize) -> usize {
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..messages {
            let wire = slab.media(type_id::VIDEO, 0, &[7; LARGEST - 100], kept.len());
            places.insert(wire.bytes().as_ptr() as usize);
            kept.push_back(wire);
            while kept.len() > keep {
                kept.pop_front();
            }
        }
        places.len() / 2
    }

    #[test]
    fn what_was_forgotten_makes_room_for_what_comes() {
        let (mut slab, mut kept) = (Slab::default(), VecDeque::new());
        slabs(&mut slab, &mut kept, 20, 40);
        assert!(slabs(&mut slab, &mut kept, 20, 1_000) <= 12);
        assert!(kept.iter().all(|wire| wire.payload_len() == LARGEST - 100));
        // What is held long after it was forgotten holds up nothing but its slab.
        let held = kept[0].clone();
        kept.clear();
        assert!(slabs(&mut slab, &mut kept, 4, 100) <= 4);
        assert!(held.bytes().ends_with(&[7; 100]));
        assert!(slab.full.len() <= 3, "{}", slab.full.len());
    }

    #[test]
    fn slabs_of_what_is_kept_no_more_are_given_back() {
        let (mut slab, mut kept) = (Slab::default(), VecDeque::new());
        slabs(&mut slab, &mut kept, 400, 800);
        assert!(slab.full.len() >= 199);
        slabs(&mut slab, &mut kept, 4, 10);
        assert!(slab.full.len() <= 4, "{}", slab.full.len());
        let spare = FREE.with_borrow(Vec::len);
        assert!((SPARE - 5..=SPARE).contains(&spare), "{spare}");
    }

    #[test]
    fn what_one_stream_forgot_another_one_takes() {
        let (mut one, mut kept) = (Slab::default(), VecDeque::new());
        slabs(&mut one, &mut kept, 40, 80);
        slabs(&mut one, &mut kept, 4, 4);
        let spare = FREE.with_borrow(Vec::len);
        assert!(spare >= 10, "{spare}");
        let (mut another, mut kept) = (Slab::default(), VecDeque::new());
        slabs(&mut another, &mut kept, 20, 20);
        let left = FREE.with_borrow(Vec::len);
        assert!((spare - 11..=spare - 9).contains(&left), "{spare} {left}");
    }

    #[test]
    fn small_messages_lie_beside_each_other() {
        let mut slab = Slab::default();
        let wires: Vec<Wire> = (0..20)
            .map(|at| slab.media(type_id::AUDIO, at, &[0; 300], at as usize))
            .collect();
        let apart = |pair: &[Wire]| {
            let [a, b] = [&pair[0], &pair[1]].map(|wire| wire.bytes().as_ptr() as usize);
            b - a
        };
        assert!(wires.windows(2).all(|pair| apart(pair) == 312));
    }
}
