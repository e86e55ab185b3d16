//! What the actors go by: rough, they are at work; calm, they rest; over, they end.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Calm,
    Rough,
    Over,
}

/// The weather, and who is out in it.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    now: Mutex<(State, usize)>,
    changed: Condvar,
}

impl Weather {
    fn lock(&self) -> MutexGuard<'_, (State, usize)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, state: State) {
        self.lock().0 = state;
        self.changed.notify_all();
    }

    pub(crate) fn rough(&self) {
        self.turn(State::Rough);
    }

    pub(crate) fn calm(&self) {
        self.turn(State::Calm);
    }

    pub(crate) fn end(&self) {
        self.turn(State::Over);
    }

    /// Actors at work.
    pub(crate) fn busy(&self) -> usize {
        self.lock().1
    }

    pub(crate) fn is_rough(&self) -> bool {
        self.lock().0 == State::Rough
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().0 == State::Over
    }

    /// Runs `work` again and again while it is rough, until it is over.
    pub(crate) fn each_rough(&self, mut work: impl FnMut()) {
        loop {
            {
                let mut now = self.lock();
                while now.0 == State::Calm {
                    now = self
                        .changed
                        .wait(now)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                if now.0 == State::Over {
                    return;
                }
                now.1 += 1;
            }
            work();
            self.lock().1 -= 1;
        }
    }

    /// Waits; false when it is not rough any more.
    pub(crate) fn rough_for(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut now = self.lock();
        while now.0 == State::Rough {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(now, left);
            now = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

/// Randomness enough to be unlike each other (xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Of so many sides, from 0.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Between two times.
    pub(crate) fn time(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.roll(most_ms - least_ms))
    }
}
