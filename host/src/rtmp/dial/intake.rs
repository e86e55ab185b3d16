//! How much a source is asked for at a time, and how often.
//!
//! Each read costs as much as many frames, so that a source whose stream waits for a
//! long window anyway is read once a window: the kernel holds what comes meanwhile. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes asked of the socket at a time: twice what came last, between these. The buffer
/// of a source stays as large as its largest read, so that this is memory of each.
const LEAST: usize = 4 * 1024;
/// See [`LEAST`]. 20 ms at 6 Mbit/s.
const MOST: usize = 16 * 1024;
/// For a shorter window the timer costs more than the reads it spares (measured).
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// However long the window is: a peer's sending is not to be held up.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What to ask the socket for next. See the module.
#[derive(Debug)]
pub(super) struct Intake {
    size: usize,
    pause: Duration,
    rest: Option<Instant>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            size: LEAST,
            pause: Duration::ZERO,
            rest: None,
        }
    }
}

impl Intake {
    /// How long to let media gather between two reads; zero reads at once what comes.
    pub(super) fn set_pause(&mut self, pause: Duration) {
        self.pause = match pause {
            pause if pause < SHORTEST_PAUSE => Duration::ZERO,
            pause => pause.min(LONGEST_PAUSE),
        };
        if self.pause.is_zero() {
            self.rest = None;
        }
    }

    /// Not to be read before.
    pub(super) fn rest(&self) -> Option<Instant> {
        self.rest
    }

    /// Room to offer to the next read, in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// A read gave so many bytes although there was that much room. A read without any
    /// room left is followed by the next at once.
    pub(super) fn took(&mut self, read: usize, room: usize, now: Instant) {
        self.size = (2 * read).clamp(LEAST, MOST);
        let rests = read < room && !self.pause.is_zero();
        self.rest = rests.then(|| now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_source_is_read_once_a_long_window_and_on_at_once_when_it_sends_more() {
        let now = Instant::now();
        let mut intake = Intake::default();
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), None, "no window, no pause");
        intake.set_pause(20 * MS);
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), None, "too short to pause for");
        intake.set_pause(60 * MS);
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), Some(now + 60 * MS));
        intake.took(LEAST, LEAST, now);
        assert_eq!(intake.rest(), None, "there may be more");
        intake.set_pause(1_000 * MS);
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), Some(now + LONGEST_PAUSE));
        intake.set_pause(Duration::ZERO);
        assert_eq!(intake.rest(), None, "low latency begins now");
    }

    #[test]
    fn room_follows_what_comes_within_its_bounds() {
        let now = Instant::now();
        let mut intake = Intake::default();
        let sizes = [LEAST, 5_000, 50_000, MOST, 10, 0].map(|read| {
            intake.took(read, intake.size(), now);
            intake.size()
        });
        assert_eq!(sizes, [8_192, 10_000, MOST, MOST, LEAST, LEAST]);
    }
}
