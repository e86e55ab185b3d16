//! When a message of a file is due.
//!
//! Pure. Invariant: dues never go back, and no timestamp makes a file wait for
//! longer than the stream's own clock would follow.

use std::time::Duration;

/// Steps beyond these are a new base, as on the stream's timeline.
const MAX_BACK_MS: i32 = -1_000;
/// See [`MAX_BACK_MS`].
const MAX_FORWARD_MS: i32 = 10_000;
/// What a new base costs: a frame.
const SEAM: Duration = Duration::from_millis(40);

/// The pace of one file.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<u32>,
    at: Duration,
}

impl Pace {
    /// When a frame of this timestamp is due, since the first one.
    pub(super) fn due(&mut self, timestamp: u32) -> Duration {
        let last = *self.last.get_or_insert(timestamp);
        let step = timestamp.wrapping_sub(last) as i32;
        match step {
            0..=MAX_FORWARD_MS => self.at += Duration::from_millis(step.unsigned_abs().into()),
            // A late frame of the other track.
            MAX_BACK_MS..0 => return self.at,
            _ => self.at += SEAM,
        }
        self.last = Some(timestamp);
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(timestamps: &[u32]) -> Vec<u128> {
        let mut pace = Pace::default();
        let due = |at: &u32| pace.due(*at).as_millis();
        timestamps.iter().map(due).collect()
    }

    #[test]
    fn frames_are_due_at_their_distance_from_the_first_over_the_wrap() {
        assert_eq!(dues(&[1_000, 1_040, 1_023, 1_080]), [0, 40, 40, 80]);
        assert_eq!(dues(&[u32::MAX - 19, 20]), [0, 40]);
    }

    #[test]
    fn no_timestamp_makes_a_file_wait_for_days() {
        assert_eq!(dues(&[0, 10_000, 2_000_000_000]), [0, 10_000, 10_040]);
        assert_eq!(dues(&[50_000, 0, 40]), [0, 40, 80]);
    }
}
