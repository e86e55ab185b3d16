//! How often a policy hears of a source that goes on as it was.
//!
//! Changes are told at once and are not the matter here. Waking a policy is nearly all
//! the work that a restreamer whose source plays gives it, so what has been on air for a
//! while is told of less often.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// Of a source that may be chosen, left or returned to soon.
pub const OFTEN: Duration = Duration::from_secs(1);
/// Of one that has been on air for [`SETTLED`].
pub const SELDOM: Duration = Duration::from_secs(5);
/// A source on air without a stall for so long is expected to stay.
pub const SETTLED: Duration = Duration::from_secs(10);

/// News that are not urgent wait for each other: a policy that follows another finds the
/// processor awake and its code in the cache.
const TOGETHER: Duration = Duration::from_millis(500);

/// The moments they wait for are counted from here.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When the news that follow those of now are due: after the gap, or a little before.
pub fn due(now: Instant, gap: Duration) -> Instant {
    let due = now + gap;
    if gap < SELDOM {
        return due;
    }
    let beyond = due.saturating_duration_since(*EPOCH).as_nanos() % TOGETHER.as_nanos();
    due - Duration::from_nanos(u64::try_from(beyond).unwrap_or_default())
}

/// How long until it is told of again. `flowing` is how long media has come without a stall.
pub fn gap(on_air: bool, flowing: Option<Duration>) -> Duration {
    match flowing {
        Some(flowing) if on_air && flowing >= SETTLED => SELDOM,
        _ => OFTEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn seldom_news_come_at_the_same_moments_and_others_when_they_are_due() {
        let now = Instant::now();
        assert_eq!(due(now, OFTEN), now + OFTEN);
        let moments: std::collections::BTreeSet<_> = (0..1_000)
            .map(|ms| due(now + Duration::from_millis(ms), SELDOM))
            .collect();
        assert!((2..=3).contains(&moments.len()), "{moments:?}");
        for late in [0, 1, 499, 500, 777] {
            let now = now + Duration::from_millis(late);
            let gap = due(now, SELDOM) - now;
            assert!(gap <= SELDOM && gap > SELDOM - TOGETHER, "{gap:?}");
        }
    }

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
