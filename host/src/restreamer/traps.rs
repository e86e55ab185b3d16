//! What follows a crash of a restreamer's plugin: another run after a pause, or none. Pure:
//! time and chance are arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many crashes within [`WINDOW`] fail the restreamer.
const MOST: usize = 5;
/// See [`MOST`].
const WINDOW: Duration = Duration::from_secs(60);
/// A new instance starts within these bounds, each time within more of them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The crashes of a restreamer's plugin. At most [`MOST`] are remembered.
#[derive(Debug, Default)]
pub(super) struct Traps(VecDeque<Instant>);

impl Traps {
    /// It crashed. `chance` is from 0 to 1; the pause before the next run, or `None` when
    /// there is to be none.
    pub(super) fn note(&mut self, now: Instant, chance: f64) -> Option<Duration> {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < WINDOW;
        self.0.retain(recent);
        self.0.push_back(now);
        if self.0.len() >= MOST {
            self.0.clear();
            return None;
        }
        let (least, most) = PAUSE;
        let top = least * 4u32.pow(self.0.len() as u32);
        Some(least + (top.min(most) - least).mul_f64(chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn five_crashes_within_a_minute_are_the_end_and_begin_anew() {
        let (mut traps, begin) = (Traps::default(), Instant::now());
        for n in 0..4 {
            assert!(traps.note(begin + n * SECOND, 0.5).is_some(), "{n}");
        }
        assert_eq!(traps.note(begin + 59 * SECOND, 0.5), None);
        // Whoever is started again after that has all of them again.
        for n in 60..64 {
            assert!(traps.note(begin + n * SECOND, 0.5).is_some(), "{n}");
        }
        assert_eq!(traps.note(begin + 64 * SECOND, 0.5), None);
    }

    #[test]
    fn crashes_a_quarter_of_a_minute_apart_go_on_for_ever_and_are_not_all_remembered() {
        let (mut traps, begin) = (Traps::default(), Instant::now());
        for n in 0..1_000 {
            assert!(traps.note(begin + n * 15 * SECOND, 1.0).is_some(), "{n}");
            assert!(traps.0.len() < MOST);
        }
    }

    #[test]
    fn pauses_grow_within_their_bounds_and_are_spread() {
        let begin = Instant::now();
        let pauses = |chance: f64| {
            let mut traps = Traps::default();
            let pause = |_| traps.note(begin, chance).expect("not yet").as_millis();
            [(); 4].map(pause)
        };
        assert_eq!(pauses(0.0), [100; 4]);
        assert_eq!(pauses(0.5), [250, 850, 2_550, 2_550]);
        assert_eq!(pauses(1.0), [400, 1_600, 5_000, 5_000]);
    }
}
