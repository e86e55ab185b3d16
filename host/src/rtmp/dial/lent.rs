//! What sources are read into: buffers lent for as long as what came is looked at.
//!
//! A thousand sources with buffers of their own would hold megabytes that are empty nearly
//! always and never in the processor's cache. Between two reads a connection keeps only
//! the beginning of a message that is still to come. Invariant: what was lent to one
//! connection and is still held by somebody is lent to no other.

use std::cell::RefCell;
use std::io::{self, Read};

use bytes::BytesMut;

/// Bytes of a buffer: half of what the kernel takes in for a connection at first.
pub(super) const SIZE: usize = 64 * 1024;
/// Bytes that one read can bring at least.
pub(super) const ROOM: usize = SIZE / 2;
/// More of a message that is still to come is not copied.
const LEFT_OVER: usize = SIZE / 4;
/// Buffers kept for each thread. More are lent at a time only when connections wait for
/// peers to take an answer.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    /// What a plain read goes into, as it wants bytes to overwrite.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads once into a buffer that is lent for it.
pub(super) fn read(from: &mut impl Read, buffer: &mut BytesMut) -> io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(ROOM, 0);
        let read = from.read(scratch)?;
        lend(buffer);
        buffer.extend_from_slice(&scratch[..read]);
        Ok(read)
    })
}

/// Gives a buffer with what was left over room for a read. A long beginning stays where
/// it is: copied for each read, a peer that sends it in small pieces would be served for ever.
pub(super) fn lend(buffer: &mut BytesMut) {
    if buffer.len() > LEFT_OVER {
        return buffer.reserve(ROOM);
    }
    let mut lent = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    lent.reserve(SIZE);
    lent.extend_from_slice(buffer);
    *buffer = lent;
}

/// Takes it back, and leaves what was not used yet in memory of its own.
pub(super) fn take_back(buffer: &mut BytesMut) {
    if buffer.capacity() < LEFT_OVER || buffer.len() > LEFT_OVER {
        return;
    }
    let rest = BytesMut::from(&buffer[..]);
    let mut lent = std::mem::replace(buffer, rest);
    lent.clear();
    // It grew for a large message, whatever part of it is left.
    let grew = lent.try_reclaim(2 * SIZE + 1);
    FREE.with_borrow_mut(|free| {
        if free.len() < KEPT && !grew {
            free.push(lent);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_over_stays_and_what_is_held_is_not_overwritten() {
        let mut one = BytesMut::from(&b"begin"[..]);
        lend(&mut one);
        assert!(one.capacity() - one.len() >= ROOM);
        one.extend_from_slice(b" end");
        let held = one.split_to(5).freeze();
        take_back(&mut one);
        assert_eq!(&one[..], b" end");
        assert!(one.capacity() < SIZE / 4, "it keeps what it needs");
        let mut another = BytesMut::new();
        lend(&mut another);
        another.resize(SIZE, 7);
        assert_eq!((&held[..], &one[..]), (&b"begin"[..], &b" end"[..]));
    }

    #[test]
    fn a_long_beginning_has_room_for_the_rest_and_is_not_copied_for_each_piece() {
        let mut buffer = BytesMut::from(&vec![1; 3 * SIZE][..]);
        let (mut moves, mut place) = (0, buffer.as_ptr());
        for _ in 0..1_000 {
            lend(&mut buffer);
            assert!(buffer.capacity() - buffer.len() >= ROOM);
            moves += usize::from(std::mem::replace(&mut place, buffer.as_ptr()) != place);
            buffer.extend_from_slice(&[1]);
            take_back(&mut buffer);
        }
        assert_eq!(buffer.len(), 3 * SIZE + 1_000);
        assert!(moves <= 2, "{moves}");
    }

    #[test]
    fn what_grew_for_a_large_message_is_not_kept() {
        let mut buffer = BytesMut::with_capacity(20 * SIZE);
        buffer.resize(19 * SIZE + 1, 1);
        drop(buffer.split_to(19 * SIZE));
        take_back(&mut buffer);
        assert_eq!(&buffer[..], [1]);
        assert_eq!(FREE.with_borrow(Vec::len), 0);
    }

    #[test]
    fn few_are_kept() {
        let mut buffers = vec![BytesMut::new(); 10 * KEPT];
        buffers.iter_mut().for_each(lend);
        buffers.iter_mut().for_each(take_back);
        assert_eq!(FREE.with_borrow(Vec::len), KEPT);
    }
}
