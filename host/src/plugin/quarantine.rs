//! When a build has crashed so often that it is taken out of use. Pure: told what
//! happened and when, it says what to do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A build is new for so long.
const NEW: Duration = Duration::from_secs(30);
/// So many crashes of a new build, and the one before it comes back.
const CRASHES: u32 = 2;
/// So many failed restreamers, and a build is unsound whatever its age.
const FAILURES: usize = 3;
/// Failures further back tell nothing of the build: it ran well in between.
const FORGET: Duration = Duration::from_secs(3600);

/// What to think of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Verdict {
    /// It crashed, lately in this way, as soon as it was there.
    #[error("crashed twice in its first 30 s: {0}")]
    Stillborn(&'static str),
    /// It crashed again and again under several restreamers.
    #[error("{0} restreamers failed because it crashed again and again")]
    Unsound(usize),
}

impl Verdict {
    /// A label for metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Stillborn(_) => "stillborn",
            Self::Unsound(_) => "unsound",
        }
    }
}

/// What is known of the build in use.
#[derive(Debug)]
pub(super) struct Record {
    since: Instant,
    /// It was in use before, and others ran on it.
    known: bool,
    crashes: u32,
    /// Restreamers, and when they failed last.
    failed: BTreeMap<String, Instant>,
    quarantined: Option<String>,
}

impl Default for Record {
    /// The build is in use from now on.
    fn default() -> Self {
        Self {
            since: Instant::now(),
            known: false,
            crashes: 0,
            failed: BTreeMap::new(),
            quarantined: None,
        }
    }
}

impl Record {
    /// The build is in use again.
    pub(super) fn of_known() -> Self {
        Self {
            known: true,
            ..Self::default()
        }
    }

    /// An instance crashed.
    pub(super) fn crashed(&mut self, now: Instant, kind: &'static str) -> Option<Verdict> {
        if self.known || now.saturating_duration_since(self.since) >= NEW {
            return None;
        }
        self.crashes = self.crashes.saturating_add(1);
        (self.crashes >= CRASHES).then_some(Verdict::Stillborn(kind))
    }

    /// A restreamer failed because of crashes. It counts once, however often it fails.
    pub(super) fn failed(&mut self, now: Instant, restreamer: &str) -> Option<Verdict> {
        if self.quarantined.is_some() {
            return None;
        }
        self.failed
            .retain(|_, at| now.saturating_duration_since(*at) < FORGET);
        self.failed.insert(restreamer.to_owned(), now);
        let failed = self.failed.len();
        (failed >= FAILURES).then_some(Verdict::Unsound(failed))
    }

    /// Nothing new runs on the build.
    pub(super) fn quarantine(&mut self, why: String) {
        self.quarantined = Some(why);
    }

    /// Why nothing new runs on the build, if so.
    pub(super) fn quarantined(&self) -> Option<&str> {
        self.quarantined.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_crashes_count_while_a_build_is_new() {
        let mut record = Record::default();
        let at = |record: &Record, seconds| record.since + Duration::from_secs(seconds);
        let (early, later, late) = (at(&record, 1), at(&record, 29), at(&record, 30));
        assert_eq!(record.crashed(early, "trapped"), None);
        assert_eq!(record.crashed(late, "trapped"), None);
        let verdict = record.crashed(later, "memory");
        assert_eq!(verdict, Some(Verdict::Stillborn("memory")));
    }

    #[test]
    fn a_build_that_comes_back_is_not_new() {
        let mut record = Record::of_known();
        let now = record.since;
        for _ in 0..5 {
            assert_eq!(record.crashed(now, "trapped"), None);
        }
    }

    #[test]
    fn three_restreamers_have_to_fail_and_not_one_thrice() {
        let mut record = Record::default();
        let now = record.since;
        for restreamer in ["a", "b", "a", "b", "b"] {
            assert_eq!(record.failed(now, restreamer), None);
        }
        assert_eq!(record.failed(now, "c"), Some(Verdict::Unsound(3)));
        record.quarantine("so".to_owned());
        assert_eq!(record.failed(now, "d"), None, "the set is bounded");
    }

    #[test]
    fn failures_of_long_ago_are_forgotten() {
        let mut record = Record::default();
        let hour = |n: u32| record.since + FORGET * n;
        let hours: Vec<Instant> = (0..10).map(hour).collect();
        for (n, at) in hours.into_iter().enumerate() {
            assert_eq!(record.failed(at, &n.to_string()), None);
        }
        assert_eq!(record.failed.len(), 1);
    }
}
