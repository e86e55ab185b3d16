//! How long each of many things took, and what is said of them.

use std::time::Duration;

use crate::table::short;

/// Times of many things.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread(Vec<Duration>);

impl Spread {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The shortest time within which this share of them was done; nothing of nothing.
    pub(super) fn percentile(&self, percent: usize) -> Option<Duration> {
        // Nearest rank: of 300 the 297th is the 99th percentile, of 50 it is the longest.
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.checked_sub(1)?).copied()
    }

    /// Seconds of a percentile.
    pub(super) fn seconds(&self, percent: usize) -> Option<f64> {
        self.percentile(percent).map(|time| time.as_secs_f64())
    }

    /// p50, p99 and the longest, in milliseconds.
    pub(super) fn millis(&self) -> String {
        self.told(1e3)
    }

    /// p50, p99 and the longest, in seconds.
    pub(super) fn in_seconds(&self) -> String {
        self.told(1.0)
    }

    fn told(&self, unit: f64) -> String {
        let cell = |percent| {
            let value = self.seconds(percent);
            value.map_or_else(|| "-".to_owned(), |value| short(value * unit))
        };
        [50, 99, 100].map(cell).join(" / ")
    }
}

impl FromIterator<Duration> for Spread {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let spread: Spread = (1..=300).rev().map(Duration::from_millis).collect();
        let millis = |percent| spread.percentile(percent).map(|time| time.as_millis());
        assert_eq!([50, 99, 100].map(millis), [Some(150), Some(297), Some(300)]);
        assert_eq!(spread.millis(), "150 / 297 / 300");
        assert_eq!(Spread::default().millis(), "- / - / -");
        let few: Spread = (1..=50).map(Duration::from_secs).collect();
        assert_eq!(few.percentile(99), Some(Duration::from_secs(50)));
    }
}
