//! How often a policy hears of a source that goes on as it was.
//!
//! Changes are told at once and are not the matter here. Waking a policy is nearly all
//! the work that a restreamer whose source plays gives it, so what has been on air for a
//! while is told of less often.

use std::time::Duration;

/// Of a source that may be chosen, left or returned to soon.
pub const OFTEN: Duration = Duration::from_secs(1);
/// Of one that has been on air for [`SETTLED`].
pub const SELDOM: Duration = Duration::from_secs(5);
/// A source on air without a stall for so long is expected to stay.
pub const SETTLED: Duration = Duration::from_secs(10);

/// When to tell of it next. `flowing` is how long media has come without a stall.
pub fn gap(on_air: bool, flowing: Option<Duration>) -> Duration {
    match flowing {
        Some(flowing) if on_air && flowing >= SETTLED => SELDOM,
        _ => OFTEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_plays_on_air_for_a_while_is_told_of_seldom() {
        assert_eq!(gap(true, Some(SETTLED)), SELDOM);
        for (on_air, flowing) in [
            (true, None),
            (true, Some(SETTLED - Duration::from_millis(1))),
            (false, Some(SETTLED)),
        ] {
            assert_eq!(gap(on_air, flowing), OFTEN);
        }
    }
}
