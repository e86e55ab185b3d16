//! Bytes a second, as the last whole seconds had them.
//!
//! Pure: the caller says which second it is. One atomic addition for each report.

use std::sync::atomic::{AtomicU64, Ordering};

/// Whole seconds that count; fewer and the bursts of keyframes would decide.
const SECONDS: u64 = 3;
/// One more, which is being filled.
const SLOTS: usize = SECONDS as usize + 1;
/// Of a slot's bits, those with its bytes: a terabyte. The others say which second it is,
/// which comes again after half a year.
const BYTE_BITS: u32 = 40;
const MOST_BYTES: u64 = (1 << BYTE_BITS) - 1;
const MOST_STAMPS: u64 = 1 << (u64::BITS - BYTE_BITS);

/// A rate that many threads report to.
#[derive(Debug, Default)]
pub(super) struct Rate {
    slots: [AtomicU64; SLOTS],
}

impl Rate {
    /// So many bytes in this second.
    pub(super) fn add(&self, second: u64, bytes: u64) {
        let fill = |slot: u64| {
            let before = if is_of(slot, second) {
                slot & MOST_BYTES
            } else {
                0
            };
            let bytes = before.saturating_add(bytes).min(MOST_BYTES);
            Some(stamp(second) << BYTE_BITS | bytes)
        };
        // It never refuses.
        let _ = self
            .slot(second)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill);
    }

    /// The mean of the whole seconds before this one.
    pub(super) fn per_second(&self, second: u64) -> u64 {
        let whole = second.saturating_sub(SECONDS)..second;
        let sum: u64 = whole.map(|second| self.bytes_of(second)).sum();
        sum / SECONDS
    }

    fn bytes_of(&self, second: u64) -> u64 {
        let slot = self.slot(second).load(Ordering::Relaxed);
        if is_of(slot, second) {
            slot & MOST_BYTES
        } else {
            0
        }
    }

    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.slots[(second % SLOTS as u64) as usize]
    }
}

fn stamp(second: u64) -> u64 {
    second % MOST_STAMPS
}

fn is_of(slot: u64, second: u64) -> bool {
    slot >> BYTE_BITS == stamp(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_mean_of_the_last_whole_seconds() {
        let rate = Rate::default();
        assert_eq!(rate.per_second(0), 0);
        rate.add(10, 200);
        rate.add(10, 100);
        rate.add(11, 600);
        assert_eq!(rate.per_second(10), 0, "a second that is not over");
        assert_eq!(rate.per_second(11), 100);
        assert_eq!(rate.per_second(12), 300);
        assert_eq!(rate.per_second(14), 200);
        assert_eq!(rate.per_second(15), 0);
        // Slots of long ago are not taken for new ones.
        rate.add(18, 3);
        assert_eq!(rate.per_second(19), 1);
        assert_eq!(rate.per_second(10_000), 0);
    }

    #[test]
    fn more_than_a_slot_holds_stays_the_most_it_holds() {
        let rate = Rate::default();
        rate.add(7, u64::MAX);
        rate.add(7, u64::MAX);
        assert_eq!(rate.per_second(8), MOST_BYTES / SECONDS);
        assert_eq!(rate.per_second(12), 0);
    }
}
