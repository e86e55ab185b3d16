//! How long a stream's frames may wait to be sent together.
//!
//! Parsing is the only way in. Pure: whoever sends keeps the time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// Longer than a second is no live stream any more.
const MAX_MILLIS: u16 = 1_000;
/// What is said of a bad value.
const TOLD: &str = "must be \"low\", or milliseconds from 0 to 1000";

/// Milliseconds that a frame may wait for others, or `low`: no wait, every frame at once
/// (see `stream::cadence` for the sound of large audiences).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency(u16);

/// A latency that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TOLD}")]
pub struct BadLatency;

impl Latency {
    /// Every frame at once. Costs more.
    pub const LOW: Self = Self(0);

    /// So many milliseconds; 0 is [`Latency::LOW`].
    pub fn millis(millis: u64) -> Result<Self, BadLatency> {
        let millis = u16::try_from(millis).map_err(|_| BadLatency)?;
        (millis <= MAX_MILLIS)
            .then_some(Self(millis))
            .ok_or(BadLatency)
    }

    /// How long the first frame of a batch waits for others.
    pub fn window(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl Default for Latency {
    /// Less than a frame of most cameras, and a fifth of the writes of a talkative one.
    fn default() -> Self {
        Self(20)
    }
}

impl FromStr for Latency {
    type Err = BadLatency;

    fn from_str(text: &str) -> Result<Self, BadLatency> {
        match text {
            "low" => Ok(Self::LOW),
            millis => Self::millis(millis.parse().map_err(|_| BadLatency)?),
        }
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Latency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"low\", or milliseconds from 0 to 1000")
            }

            fn visit_i64<E: Error>(self, millis: i64) -> Result<Latency, E> {
                let millis = u64::try_from(millis).map_err(|_| E::custom(BadLatency))?;
                self.visit_u64(millis)
            }

            fn visit_u64<E: Error>(self, millis: u64) -> Result<Latency, E> {
                Latency::millis(millis).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Latency, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_and_milliseconds_are_read_and_the_rest_is_refused() {
        assert_eq!("low".parse(), Ok(Latency::LOW));
        assert_eq!("0".parse(), Ok(Latency::LOW));
        assert_eq!("1000".parse(), Latency::millis(1_000));
        for bad in [
            "",
            "1001",
            "-1",
            "20ms",
            "LOW",
            "1.5",
            "99999999999999999999",
        ] {
            assert_eq!(bad.parse::<Latency>(), Err(BadLatency), "{bad:?}");
        }
    }
}
