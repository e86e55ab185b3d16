//! The last seconds of a stream, shared by all its subscribers.
//!
//! Holds ready-to-send frames in order, knows where decoding can start, and
//! forgets the oldest. Pure: it knows neither clocks nor sockets. Invariant:
//! bounded by bytes and by time, whatever the source sends.

use std::collections::VecDeque;

use restreamd_rtmp::chunk::Wire;

/// A frame as every subscriber gets it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Position in the stream, one more for each frame.
    pub seq: u64,
    /// On the stream's timeline, milliseconds.
    pub at: u64,
    /// A place where decoding can start.
    pub start: bool,
    /// The chunks, ready to send.
    pub wire: Wire,
}

/// The bounds of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes kept at most, unless a single frame is larger.
    pub bytes: usize,
    /// Milliseconds kept at most.
    pub millis: u64,
    /// Milliseconds kept although a newer start exists, so that a short stutter of
    /// a subscriber costs it nothing.
    pub slack_millis: u64,
}

/// What a frame takes beside its bytes: the entry here, the shared buffer's own
/// counts, and what an allocator adds. Tiny messages would be free without it.
pub(super) const FRAME_COST: usize = 160;

fn cost(wire: &Wire) -> usize {
    wire.bytes().len() + FRAME_COST
}

/// The ring. See the module.
#[derive(Debug)]
pub struct Ring {
    bounds: Bounds,
    frames: VecDeque<Frame>,
    /// Sequence numbers of the starts still held, oldest first.
    starts: VecDeque<u64>,
    bytes: usize,
    next: u64,
    /// Frames from here on belong to the current sequence headers.
    valid_from: u64,
}

impl Ring {
    /// An empty ring.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            frames: VecDeque::new(),
            starts: VecDeque::new(),
            bytes: 0,
            next: 0,
            valid_from: 0,
        }
    }

    /// The sequence number the next frame gets.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// The oldest frame still held.
    pub fn first_seq(&self) -> u64 {
        self.next - self.frames.len() as u64
    }

    /// How many frames are held.
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// The newest place where a subscriber can start.
    pub fn newest_start(&self) -> Option<&Frame> {
        let seq = self
            .starts
            .back()
            .copied()
            .filter(|seq| *seq >= self.valid_from)?;
        self.frames.get((seq - self.first_seq()) as usize)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame and forgets what the bounds no longer allow.
    pub fn push(&mut self, at: u64, start: bool, wire: Wire) {
        self.bytes += cost(&wire);
        if start {
            self.starts.push_back(self.next);
        }
        self.frames.push_back(Frame {
            seq: self.next,
            at,
            start,
            wire,
        });
        self.next += 1;
        while self.frames.len() > 1 && self.oldest_may_go(at) {
            self.forget_oldest();
        }
    }

    /// Sequence headers changed: nobody may start before this point any more.
    pub fn invalidate_starts(&mut self) {
        self.valid_from = self.next;
    }

    /// Frames from `seq` on, oldest first.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = &Frame> {
        let skip = seq.saturating_sub(self.first_seq()) as usize;
        self.frames.range(skip.min(self.frames.len())..)
    }

    fn oldest_may_go(&self, now: u64) -> bool {
        let Some(oldest) = self.frames.front() else {
            return false;
        };
        let age = now.saturating_sub(oldest.at);
        // Two starts are kept: a subscriber that reads the older one has time to
        // get through while the newer one arrives.
        let spare = self.starts.len() > 2
            && self
                .starts
                .get(self.starts.len() - 2)
                .is_some_and(|seq| oldest.seq < *seq);
        let no_use = spare || self.starts.is_empty();
        self.bytes > self.bounds.bytes
            || age > self.bounds.millis
            || (no_use && age > self.bounds.slack_millis)
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.frames.pop_front() else {
            return;
        };
        self.bytes -= cost(&oldest.wire);
        if self.starts.front() == Some(&oldest.seq) {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use restreamd_rtmp::message::type_id;

    use super::*;

    fn ring(bytes: usize, millis: u64) -> Ring {
        Ring::new(Bounds {
            bytes,
            millis,
            slack_millis: 1_000,
        })
    }

    fn push(ring: &mut Ring, at: u64, start: bool) {
        ring.push(at, start, Wire::media(type_id::VIDEO, at as u32, &[0; 88]));
    }

    #[test]
    fn bytes_are_bounded_whatever_the_gop() {
        let mut ring = ring(10_000, 1_000_000);
        for at in 0..10_000 {
            push(&mut ring, at, at == 0);
            assert!(ring.bytes() <= 10_000);
        }
        assert!(
            ring.newest_start().is_none(),
            "its start is gone, so nobody may start"
        );
    }

    #[test]
    fn time_is_bounded() {
        let mut ring = ring(usize::MAX, 5_000);
        for at in (0..60_000).step_by(40) {
            push(&mut ring, at, at == 0);
        }
        assert!(ring.from(0).next().is_some_and(|frame| frame.at >= 54_900));
    }

    #[test]
    fn the_last_two_starts_stay_within_the_bounds() {
        let mut ring = ring(usize::MAX, 20_000);
        for at in (0..60_000).step_by(40) {
            push(&mut ring, at, at % 2_000 == 0);
        }
        let starts: Vec<u64> = ring
            .from(0)
            .filter(|frame| frame.start)
            .map(|frame| frame.at)
            .collect();
        assert_eq!(starts, [56_000, 58_000]);
        assert_eq!(ring.newest_start().map(|frame| frame.at), Some(58_000));
    }

    #[test]
    fn changed_headers_close_the_starts_before_them() {
        let mut ring = ring(usize::MAX, 20_000);
        push(&mut ring, 0, true);
        ring.invalidate_starts();
        push(&mut ring, 40, false);
        assert!(ring.newest_start().is_none());
        push(&mut ring, 80, true);
        assert_eq!(ring.newest_start().map(|frame| frame.at), Some(80));
    }
}
