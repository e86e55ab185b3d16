//! A watch that tells nothing: when to ask etcd whether it is still served, and when to
//! leave it.
//!
//! That the member answers other calls says nothing of it: etcd serves watches apart, and
//! has starved them while it renewed leases (etcd issue 15402). A node would hear of no
//! delete and no new placement, and go on as long as its lease does. One that was just
//! opened is asked at once: where members die every few seconds none gets old enough to be
//! quiet, and nothing would be heard of any. Pure.

use std::time::{Duration, Instant};

use crate::store::WORD;

/// Without a word for so long it is asked for progress, …
const QUIET: Duration = WORD.checked_div(2).expect("two is not zero");
/// … and left when it says nothing for so long then, …
const ANSWER: Duration = QUIET;
/// … and for so long in all: what one that was just opened has to tell first may be long.
const SILENT: Duration = WORD;

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    /// Ask for progress.
    Ask,
    /// It is not served.
    Leave,
}

/// One watch. See the module.
#[derive(Debug)]
pub(super) struct Quiet {
    since: Instant,
    /// For how long it may be silent until it is asked.
    quiet: Duration,
    asked: Option<Instant>,
}

impl Quiet {
    /// It was opened.
    pub(super) fn opened(now: Instant) -> Self {
        Self {
            since: now,
            quiet: Duration::ZERO,
            asked: None,
        }
    }

    /// It told something.
    pub(super) fn told(now: Instant) -> Self {
        Self {
            quiet: QUIET,
            ..Self::opened(now)
        }
    }

    /// Nothing came until now. Whoever is told to ask does.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let over = |since: Instant, wait| now.saturating_duration_since(since) >= wait;
        match self.asked {
            Some(asked) if over(asked, ANSWER) && over(self.since, SILENT) => Step::Leave,
            None if over(self.since, self.quiet) => {
                self.asked = Some(now);
                Step::Ask
            }
            _ => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_once_and_left_when_it_does_not_answer() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut quiet = Quiet::told(begin);
        let steps = [0, 4_999, 5_000, 5_001, 9_999, 10_000].map(|ms| quiet.step(at(ms)));
        use Step::{Ask, Leave, Wait};
        assert_eq!(steps, [Wait, Wait, Ask, Wait, Wait, Leave]);
        // Who stood still for a minute asks first.
        let mut late = Quiet::told(begin);
        assert_eq!(late.step(at(60_000)), Ask);
        assert_eq!(late.step(at(60_500)), Wait);
    }

    #[test]
    fn one_that_was_just_opened_is_asked_at_once_and_has_as_long_to_answer() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut quiet = Quiet::opened(begin);
        let steps = [500, 1_000, 9_999, 10_000].map(|ms| quiet.step(at(ms)));
        use Step::{Ask, Leave, Wait};
        assert_eq!(steps, [Ask, Wait, Wait, Leave]);
    }
}
