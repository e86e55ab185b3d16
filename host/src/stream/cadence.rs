//! When the frames that a stream has gathered leave for its subscribers.
//!
//! Each departure costs a write for every subscriber, whatever it carries, so that
//! waiting a little is what makes a large audience cheap. Pure: time and the size of
//! the audience are arguments. Invariant: no frame waits longer than the window, or
//! than 40 ms when there is none.

use std::time::{Duration, Instant};

/// Without a window sound waits for the next picture, but not longer: the distance of
/// pictures at 25 a second.
const SOUND_WAIT: Duration = Duration::from_millis(40);
/// Up to so many subscribers sound does not wait: their writes cost little.
const SMALL_AUDIENCE: usize = 100;
/// A departure may be early by this part of the window: sources that send in steps of
/// the window would else wait a timer for each.
const EARLY: u32 = 8;

/// What to do about the frames that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// They leave.
    Now,
    /// They leave then, unless something comes before.
    At(Instant),
    /// Nothing waits.
    None,
}

/// The clock of departures. See the module.
#[derive(Debug, Default)]
pub struct Cadence {
    /// The first frame that waits came then.
    since: Option<Instant>,
    /// A picture waits.
    picture: bool,
    /// The last departure.
    left: Option<Instant>,
    /// Somebody keeps the time of the next departure.
    armed: bool,
}

impl Cadence {
    /// A frame was added. Whatever is no sound of a stream with pictures counts as a picture.
    pub fn added(&mut self, picture: bool, now: Instant) {
        self.since.get_or_insert(now);
        self.picture |= picture;
    }

    /// Whether frames leave now. A window of zero is none. `next` is when more frames come
    /// at the earliest, where that is known: those that wait could not wait for these.
    pub fn ask(
        &mut self,
        now: Instant,
        window: Duration,
        audience: usize,
        next: Option<Instant>,
    ) -> Departure {
        let Some(since) = self.since else {
            return Departure::None;
        };
        let (due, wait_until) = if window.is_zero() {
            let at_once = self.picture || audience <= SMALL_AUDIENCE;
            let until = since + SOUND_WAIT;
            (if at_once { now } else { until }, until)
        } else {
            let until = self.left.map_or(now, |left| left + window);
            let in_vain = next.is_some_and(|next| next > until);
            let early = until.checked_sub(window / EARLY).unwrap_or(until);
            (if in_vain { now } else { early }, until)
        };
        if now >= due {
            *self = Self {
                left: Some(now),
                ..Self::default()
            };
            return Departure::Now;
        }
        Departure::At(wait_until)
    }

    /// Says that a timer will ask when the time has come. False when there is one.
    pub fn arm(&mut self) -> bool {
        !std::mem::replace(&mut self.armed, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const WINDOW: Duration = Duration::from_millis(100);

    /// Departures of 75 messages a second, 27.5 of them pictures, over ten seconds.
    fn departures(window: Duration, audience: usize) -> usize {
        let begin = Instant::now();
        let mut events: Vec<(Duration, bool)> = (0..275)
            .map(|n| (Duration::from_secs(1) * n * 2 / 55, true))
            .chain((0..475).map(|n| (Duration::from_secs(1) * n * 2 / 95, false)))
            .collect();
        events.sort_unstable();
        let mut cadence = Cadence::default();
        let (mut count, mut timer) = (0, None);
        for (at, picture) in events {
            let now = begin + at;
            if timer.is_some_and(|timer| timer <= now) {
                let due = timer.take().expect("just looked");
                assert_eq!(cadence.ask(due, window, audience, None), Departure::Now);
                count += 1;
            }
            cadence.added(picture, now);
            match cadence.ask(now, window, audience, None) {
                Departure::Now => {
                    count += 1;
                    timer = None;
                }
                Departure::At(at) => timer = Some(at),
                Departure::None => {}
            }
        }
        count
    }

    #[test]
    fn a_window_bounds_departures_and_waits() {
        let begin = Instant::now();
        let mut cadence = Cadence::default();
        assert_eq!(cadence.ask(begin, WINDOW, 1, None), Departure::None);
        cadence.added(true, begin);
        assert_eq!(cadence.ask(begin, WINDOW, 1, None), Departure::Now);
        cadence.added(false, begin + 30 * MS);
        assert_eq!(
            cadence.ask(begin + 30 * MS, WINDOW, 1, None),
            Departure::At(begin + WINDOW)
        );
        cadence.added(true, begin + 60 * MS);
        assert_eq!(
            cadence.ask(begin + 60 * MS, WINDOW, 1, None),
            Departure::At(begin + WINDOW)
        );
        assert!(cadence.arm() && !cadence.arm(), "one timer is enough");
        assert_eq!(cadence.ask(begin + WINDOW, WINDOW, 1, None), Departure::Now);
        assert_eq!(
            cadence.ask(begin + WINDOW, WINDOW, 1, None),
            Departure::None
        );
        assert!(cadence.arm(), "the next departure needs another");
        assert!((95..=115).contains(&departures(WINDOW, 1_000)));
    }

    #[test]
    fn frames_do_not_wait_in_vain_for_others_that_come_later_than_they_may_wait() {
        let begin = Instant::now();
        let mut cadence = Cadence::default();
        // A departure late after its read, as on a busy machine: the timer would be late
        // after each read from then on.
        for late in [0, 15, 60, 99] {
            let read = begin + 2 * WINDOW;
            cadence.left = Some(begin + WINDOW + late * MS);
            cadence.added(true, read);
            let next = Some(read + WINDOW);
            assert_eq!(cadence.ask(read, WINDOW, 1, next), Departure::Now, "{late}");
        }
        // What is read more often than once a window is gathered.
        let (mut cadence, mut count) = (Cadence::default(), 0);
        for read in (0..200).map(|n| begin + n * WINDOW / 4) {
            cadence.added(true, read);
            let next = Some(read + WINDOW / 4);
            count += usize::from(cadence.ask(read, WINDOW, 1, next) == Departure::Now);
        }
        assert!((48..=50).contains(&count), "{count}");
    }

    #[test]
    fn without_a_window_every_frame_leaves_at_once_to_a_small_audience() {
        assert_eq!(departures(Duration::ZERO, SMALL_AUDIENCE), 750);
    }

    #[test]
    fn without_a_window_sound_rides_with_pictures_to_a_large_audience() {
        assert_eq!(departures(Duration::ZERO, SMALL_AUDIENCE + 1), 275);
    }

    #[test]
    fn sound_without_pictures_waits_no_longer_than_its_bound() {
        let begin = Instant::now();
        let mut cadence = Cadence::default();
        cadence.added(false, begin);
        assert_eq!(
            cadence.ask(begin, Duration::ZERO, 1_000, None),
            Departure::At(begin + SOUND_WAIT)
        );
        assert_eq!(
            cadence.ask(begin + SOUND_WAIT, Duration::ZERO, 1_000, None),
            Departure::Now
        );
    }
}
