//! When to dial again: full jitter by error class.
//!
//! Pure: time and randomness are arguments. It says how long to wait and knows
//! nothing of dialing. Invariant: a wait is never longer than the cap, and the
//! second failure in a row is never answered at once.

use crate::IoError;

/// What the kind of failure means for the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The media was there a moment ago: be quick once, then look often for a while.
    Dropped,
    /// The stream or its server is not there yet: look often for a while.
    Absent,
    /// A person must mend it: be patient.
    Refused,
    /// All else.
    Other,
}

impl From<&IoError> for Class {
    fn from(error: &IoError) -> Self {
        match error {
            IoError::Closed(_) | IoError::Ended(_) | IoError::Stalled(_) => Self::Dropped,
            IoError::NotFound(_) | IoError::Refused(_) => Self::Absent,
            IoError::Auth(_)
            | IoError::Blocked(_)
            | IoError::Tls(_)
            | IoError::Invalid(_)
            | IoError::Unsupported(_) => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// How long an absent stream is looked for often, counted from when it was last
/// live: an encoder that restarts is back within a minute.
const PATIENCE_MS: u64 = 60_000;
/// Media for so long means that the source is good again.
const GOOD_RUN_MS: u64 = 10_000;
/// The first wait after media stopped, at most.
const QUICK_MS: u32 = 250;
/// The shortest wait after an error that needs a person.
const REFUSED_MIN_MS: u32 = 4_000;
/// No second attempt follows sooner than this.
const FLOOR_MS: u32 = 50;

/// The waiting rule of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    min_ms: u32,
    max_ms: u32,
    failures: u32,
    last_live_ms: u64,
}

impl Retry {
    /// Bytes that [`Retry::save`] gives.
    pub const SAVED: usize = 12;

    /// A rule for a restreamer distributed at `now_ms`.
    pub fn new(min_ms: u32, max_ms: u32, now_ms: u64) -> Self {
        Self {
            min_ms,
            max_ms: max_ms.max(min_ms),
            failures: 0,
            last_live_ms: now_ms,
        }
    }

    /// Takes new bounds, keeps the count.
    pub fn reconfigure(&mut self, min_ms: u32, max_ms: u32) {
        self.min_ms = min_ms;
        self.max_ms = max_ms.max(min_ms);
    }

    /// Media flows and has done so for `flowing_ms`.
    pub fn media(&mut self, now_ms: u64, flowing_ms: u64) {
        self.last_live_ms = now_ms;
        if flowing_ms >= GOOD_RUN_MS {
            self.failures = 0;
        }
    }

    /// An attempt failed: how many milliseconds to wait before the next.
    pub fn failed(&mut self, class: Class, now_ms: u64, random: u32) -> u32 {
        let first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        match class {
            Class::Dropped if first => jitter(0, QUICK_MS.min(self.max_ms), random),
            Class::Absent | Class::Dropped
                if now_ms.saturating_sub(self.last_live_ms) < PATIENCE_MS =>
            {
                let top = 1_000.min(self.max_ms);
                jitter(top / 2, top, random)
            }
            Class::Refused => {
                let top = self
                    .top()
                    .max(2 * REFUSED_MIN_MS)
                    .min(self.max_ms.max(REFUSED_MIN_MS));
                jitter(REFUSED_MIN_MS.min(top), top, random)
            }
            _ => jitter(FLOOR_MS.min(self.max_ms), self.top(), random),
        }
    }

    /// Attempts that failed since the last good run.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The rule's memory, to be handed over.
    pub fn save(&self, now_ms: u64) -> Vec<u8> {
        let quiet = now_ms.saturating_sub(self.last_live_ms);
        let mut bytes = self.failures.to_le_bytes().to_vec();
        bytes.extend(quiet.to_le_bytes());
        bytes
    }

    /// Takes over what [`Retry::save`] gave; bytes of another shape are ignored.
    pub fn restore(&mut self, bytes: &[u8], now_ms: u64) {
        if let Some((failures, quiet)) = bytes.split_first_chunk::<4>()
            && let Ok(quiet) = <[u8; 8]>::try_from(quiet)
        {
            self.failures = u32::from_le_bytes(*failures);
            self.last_live_ms = now_ms.saturating_sub(u64::from_le_bytes(quiet));
        }
    }

    fn top(&self) -> u32 {
        let doublings = self.failures.saturating_sub(1).min(20);
        self.min_ms.saturating_mul(1 << doublings).min(self.max_ms)
    }
}

/// Evenly between two bounds.
fn jitter(low: u32, high: u32, random: u32) -> u32 {
    let span = u64::from(high.saturating_sub(low)) + 1;
    low + ((u64::from(random) * span) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOWEST: u32 = 0;
    const HIGHEST: u32 = u32::MAX;

    #[test]
    fn full_jitter_doubles_to_the_cap_and_stays_there() {
        let mut retry = Retry::new(250, 30_000, 0);
        let tops: Vec<u32> = (0..10)
            .map(|_| retry.failed(Class::Other, 0, HIGHEST))
            .collect();
        assert_eq!(
            tops,
            [
                250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000
            ]
        );
        assert_eq!(retry.failed(Class::Other, 0, LOWEST), FLOOR_MS);
    }

    #[test]
    fn a_drop_is_answered_quickly_once_then_like_an_absent_stream() {
        let mut retry = Retry::new(250, 30_000, 0);
        assert_eq!(retry.failed(Class::Dropped, 0, HIGHEST), 250);
        assert_eq!(retry.failed(Class::Dropped, 0, HIGHEST), 1_000);
        assert_eq!(retry.failed(Class::Dropped, 0, LOWEST), 500);
        assert!(
            retry.failed(Class::Dropped, 60_000, HIGHEST) > 1_000,
            "not for ever"
        );
    }

    #[test]
    fn an_absent_stream_is_looked_for_often_for_a_minute_only() {
        let mut retry = Retry::new(250, 30_000, 0);
        for second in 0..59 {
            let wait = retry.failed(Class::Absent, second * 1000, HIGHEST);
            assert!((500..=1000).contains(&wait));
        }
        assert_eq!(retry.failed(Class::Absent, 60_000, HIGHEST), 30_000);
        retry.media(100_000, 1_000);
        assert!(retry.failed(Class::Absent, 101_000, HIGHEST) <= 1000);
    }

    #[test]
    fn wrong_credentials_are_not_hammered() {
        let mut retry = Retry::new(250, 30_000, 0);
        assert!(retry.failed(Class::Refused, 0, LOWEST) >= 4_000);
    }

    #[test]
    fn a_good_run_resets_and_a_short_one_does_not() {
        let mut retry = Retry::new(250, 30_000, 0);
        for _ in 0..5 {
            retry.failed(Class::Other, 0, HIGHEST);
        }
        retry.media(1, 9_999);
        assert_eq!(retry.failures(), 5);
        retry.media(2, 10_000);
        assert_eq!(retry.failures(), 0);
    }

    #[test]
    fn memory_survives_a_hand_over_and_foreign_bytes_are_ignored() {
        let mut retry = Retry::new(250, 30_000, 1000);
        retry.failed(Class::Other, 1000, 0);
        let saved = retry.save(5_000);
        let mut next = Retry::new(250, 30_000, 70_000);
        next.restore(&saved, 70_000);
        assert_eq!((next.failures, next.last_live_ms), (1, 66_000));
        let before = next.clone();
        next.restore(b"nonsense from another build", 80_000);
        assert_eq!(next, before);
    }
}
