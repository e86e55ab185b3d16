//! How much a source is asked for at a time, and how often.
//!
//! Each read costs as much as many frames, so that a source whose stream waits for a
//! long window anyway is read once a window: the kernel holds what comes meanwhile.
//! Sources of a node are read at the same moments, so that few of these wake a thread.
//! Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes asked of the socket at a time: twice what came last, between these.
const LEAST: usize = 4 * 1024;
/// See [`LEAST`]. 20 ms at 6 Mbit/s.
const MOST: usize = 16 * 1024;
/// For a shorter window the timer costs more than the reads it spares (measured).
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// However long the window is: a peer's sending is not to be held up.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Bytes that may gather: of the 64 KiB that Linux grants a peer at first.
const GATHERED: u64 = 48 * 1024;
/// A rate is taken over so long.
const RATED: Duration = Duration::from_millis(500);
/// Moments of reading in a pause. More of them wake more threads, and all sources at one
/// would wait for each other.
const MOMENTS: u32 = 2;
/// A source that had nothing so often in a row is waited for again.
const NOTHING: u32 = 10;

/// What to ask the socket for next. See the module.
#[derive(Debug)]
pub(super) struct Intake {
    /// The first moment of reading there was.
    epoch: Instant,
    size: usize,
    /// As the stream's window has it.
    window: Duration,
    /// As the source's rate allows.
    pause: Duration,
    /// Bytes since then, for the rate.
    rated: (u64, Instant),
    rest: Option<Instant>,
    nothing: u32,
}

impl Intake {
    /// Of a source that begins now. `epoch` is the same for all of a node.
    pub(super) fn new(epoch: Instant, now: Instant) -> Self {
        Self {
            epoch,
            size: LEAST,
            window: Duration::ZERO,
            pause: Duration::ZERO,
            rated: (0, now),
            rest: None,
            nothing: 0,
        }
    }

    /// How long media may gather between two reads; zero reads at once what comes.
    pub(super) fn set_pause(&mut self, window: Duration) {
        if self.window != window {
            self.window = window;
            self.pause = pause(window);
            self.rest = self.rest.filter(|_| !self.pause.is_zero());
        }
    }

    /// Not to be read before, nor to be waited for.
    pub(super) fn rest(&self) -> Option<Instant> {
        self.rest
    }

    /// Room to offer to the next read, in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// A read gave so many bytes although there was that much room.
    pub(super) fn took(&mut self, read: usize, room: usize, now: Instant) {
        self.size = (2 * read).clamp(LEAST, MOST);
        self.nothing = 0;
        self.rate(read, now);
        // There may be more.
        let at_once = read >= room;
        let next = if at_once { now } else { self.moment(now) };
        self.rest = (!self.pause.is_zero()).then_some(next);
    }

    /// A read gave nothing, as nothing had come.
    pub(super) fn nothing(&mut self, now: Instant) {
        self.nothing += 1;
        let rests = self.nothing < NOTHING && !self.pause.is_zero();
        self.rest = rests.then(|| self.moment(now));
    }

    /// The last moment of reading within a pause from now on.
    fn moment(&self, now: Instant) -> Instant {
        let latest = now + self.pause - self.epoch;
        let beyond = latest.as_nanos() % (self.pause / MOMENTS).as_nanos().max(1);
        let beyond = Duration::from_nanos(u64::try_from(beyond).unwrap_or_default());
        self.epoch + (latest - beyond)
    }

    /// A source that sends more than may gather is read more often.
    fn rate(&mut self, read: usize, now: Instant) {
        let (bytes, since) = &mut self.rated;
        *bytes += read as u64;
        let over = now.saturating_duration_since(*since);
        if over < RATED {
            return;
        }
        let ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        let fits = GATHERED.saturating_mul(ms) / (*bytes).max(1);
        self.rated = (0, now);
        self.pause = pause(self.window.min(Duration::from_millis(fits)));
    }
}

/// The pause for a window, if it is long enough for one.
fn pause(window: Duration) -> Duration {
    match window {
        window if window < SHORTEST_PAUSE => Duration::ZERO,
        window => window.min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn intake() -> (Intake, Instant) {
        let now = Instant::now();
        (Intake::new(now, now), now)
    }

    #[test]
    fn a_source_is_read_once_a_long_window_and_on_at_once_when_it_sends_more() {
        let (mut intake, now) = intake();
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), None, "no window, no pause");
        intake.set_pause(19 * MS);
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), None, "too short to pause for");
        intake.set_pause(60 * MS);
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), Some(now + 60 * MS));
        intake.took(LEAST, LEAST, now);
        assert_eq!(intake.rest(), Some(now), "there may be more");
        intake.set_pause(1_000 * MS);
        intake.took(100, LEAST, now);
        assert_eq!(intake.rest(), Some(now + LONGEST_PAUSE));
        intake.set_pause(Duration::ZERO);
        assert_eq!(intake.rest(), None, "low latency begins now");
    }

    #[test]
    fn sources_are_read_at_the_same_moments_and_none_later_than_its_pause() {
        let (mut intake, now) = intake();
        intake.set_pause(100 * MS);
        for late in 0..40 {
            let at = now + late * MS;
            intake.took(100, LEAST, at);
            let rest = intake.rest().expect("a pause");
            assert!(rest > at + 50 * MS && rest <= at + 100 * MS);
            assert_eq!((rest - now).as_millis() % 50, 0);
        }
    }

    #[test]
    fn a_source_that_has_nothing_for_long_is_waited_for() {
        let (mut intake, now) = intake();
        intake.set_pause(100 * MS);
        intake.took(100, LEAST, now);
        for _ in 1..NOTHING {
            intake.nothing(now);
            assert_eq!(intake.rest(), Some(now + 100 * MS));
        }
        intake.nothing(now);
        assert_eq!(intake.rest(), None);
        intake.took(100, LEAST, now);
        assert!(intake.rest().is_some(), "it is back");
    }

    #[test]
    fn no_more_gathers_than_the_kernel_takes() {
        let (mut intake, mut now) = intake();
        intake.set_pause(100 * MS);
        let mut pauses = |bytes_a_second: usize| {
            // Read as often as it wants to be, or every 10 ms.
            for _ in 0..100 {
                let next = intake.rest().unwrap_or(now + 10 * MS);
                let gathered = bytes_a_second * (next - now).as_millis() as usize / 1_000;
                now = next.max(now + MS);
                intake.took(gathered, usize::MAX, now);
            }
            intake.rest().map(|rest| (rest - now).as_millis())
        };
        assert_eq!(pauses(75_000), Some(100));
        assert!(pauses(700_000).is_some_and(|pause| (50..=70).contains(&pause)));
        assert_eq!(pauses(3_000_000), None, "it is read as it comes");
        assert_eq!(pauses(75_000), Some(100));
    }

    #[test]
    fn room_follows_what_comes_within_its_bounds() {
        let (mut intake, now) = intake();
        let sizes = [LEAST, 5_000, 50_000, MOST, 10, 0].map(|read| {
            intake.took(read, intake.size(), now);
            intake.size()
        });
        assert_eq!(sizes, [8_192, 10_000, MOST, MOST, LEAST, LEAST]);
    }
}
