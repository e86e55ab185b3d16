//! Rates of a track: as its frames arrive, and as their timestamps say.
//!
//! Pure: the time is an argument.

use std::collections::VecDeque;

/// Bytes and frames per second over the last few whole seconds.
#[derive(Debug, Default)]
pub(super) struct Meter {
    second: u64,
    current: (u64, u32),
    past: [(u64, u32); 4],
    filled: usize,
}

impl Meter {
    /// Begins to count in a second.
    pub(super) fn new(second: u64) -> Self {
        Self {
            second,
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, second: u64, bytes: usize) {
        while self.second < second && self.filled < self.past.len() {
            self.close();
        }
        if self.second < second {
            let missed = (second - self.second).min(self.past.len() as u64);
            (0..missed).for_each(|_| self.close());
            self.second = second;
        }
        self.current.0 += bytes as u64;
        self.current.1 += 1;
    }

    fn close(&mut self) {
        self.past.rotate_right(1);
        self.past[0] = std::mem::take(&mut self.current);
        self.filled = (self.filled + 1).min(self.past.len());
        self.second += 1;
    }

    pub(super) fn kbps(&self) -> Option<u64> {
        let bytes: u64 = self.past[..self.filled]
            .iter()
            .map(|(bytes, _)| bytes)
            .sum();
        (self.filled > 0).then(|| bytes * 8 / 1000 / self.filled as u64)
    }

    pub(super) fn per_second(&self) -> Option<f64> {
        let frames: u32 = self.past[..self.filled]
            .iter()
            .map(|(_, frames)| frames)
            .sum();
        (self.filled > 1).then(|| f64::from(frames) / self.filled as f64)
    }
}

/// Frames a second by the timestamps of the last frames, which is known long before
/// anything was measured for seconds.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<u32>);

impl Pace {
    /// Timestamps are whole milliseconds: over so many the error is below a thousandth.
    const FRAMES: usize = 64;
    /// Fewer tell nothing.
    const LEAST: usize = 8;
    /// A longer step is a jump, as one back is.
    const LONGEST_MS: u32 = 10_000;

    pub(super) fn count(&mut self, timestamp: u32) {
        let step = self.0.back().map(|last| timestamp.wrapping_sub(*last));
        if step.is_some_and(|step| step > Self::LONGEST_MS) {
            self.0.clear();
        } else if self.0.len() == Self::FRAMES {
            self.0.pop_front();
        }
        self.0.push_back(timestamp);
    }

    /// Without the gaps of seams and loops: what is far from the common step is none.
    pub(super) fn per_second(&self) -> Option<f64> {
        let times = self.0.iter().zip(self.0.iter().skip(1));
        let mut steps: Vec<u32> = times.map(|(a, b)| b.wrapping_sub(*a)).collect();
        steps.sort_unstable();
        let common = *steps.get(steps.len() / 2).filter(|common| **common > 0)?;
        steps.retain(|step| (common / 2..=common * 2).contains(step));
        let span: u32 = steps.iter().sum();
        let known = self.0.len() >= Self::LEAST;
        known.then(|| steps.len() as f64 * 1000.0 / f64::from(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(timestamps: impl IntoIterator<Item = u32>) -> Option<f64> {
        let mut pace = Pace::default();
        timestamps.into_iter().for_each(|at| pace.count(at));
        pace.per_second()
    }

    #[test]
    fn the_pace_is_that_of_the_timestamps() {
        assert_eq!(pace((0..8).map(|n| n * 40)), Some(25.0));
        assert_eq!(pace((0..7).map(|n| n * 40)), None);
        // Rounded to milliseconds, and over the wrap.
        let ntsc = pace((0..500).map(|n| (f64::from(n) * 1001.0 / 30.0) as u32));
        assert!(
            ntsc.is_some_and(|fps| (fps - 29.97).abs() < 0.03),
            "{ntsc:?}"
        );
        assert_eq!(
            pace((0..9).map(|n| (u32::MAX - 100).wrapping_add(n * 20))),
            Some(50.0)
        );
    }

    #[test]
    fn a_gap_of_a_loop_is_no_slower_pace() {
        let looped = (0..60).map(|n| n * 40 + n / 25 * 170);
        assert_eq!(pace(looped), Some(25.0));
    }

    #[test]
    fn a_jump_and_a_step_back_begin_anew() {
        let slow = (0..20).map(|n| n * 100);
        assert_eq!(
            pace(slow.clone().chain((0..10).map(|n| n * 20))),
            Some(50.0)
        );
        let later = (0..10).map(|n| 500_000 + n * 20);
        assert_eq!(pace(slow.chain(later)), Some(50.0));
        assert_eq!(pace([7; 100]), None, "it stands still");
    }
}
