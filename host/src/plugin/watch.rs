//! When a file of the plugin directory is read, and what becomes of it. Pure: told what
//! lies there and when, it says what to do.
//!
//! A file is read when it has looked the same for a moment. One that is no good then may
//! be half of a slow copy: what is wrong with it is kept back until it has looked the
//! same for longer.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::id::RestreamType;

/// A file that has not changed for so long is read. Shorter than two looks are apart, so
/// it is the second look that tells.
const SETTLED: Duration = Duration::from_millis(40);
/// A file that is no good and has not changed for so long stays so.
const PATIENCE: Duration = Duration::from_secs(2);

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) size: u64,
    pub(super) inode: u64,
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
}

/// How a plugin looks from outside: its file, or why there is none to look at, and its
/// signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) file: Result<Mark, io::ErrorKind>,
    pub(super) signature: Option<Mark>,
}

impl Stamp {
    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.file.map_or(0, |mark| mark.size)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step<R> {
    /// Read this file, admit it if it is good, and tell [`Watch::tried`].
    Try(RestreamType, Stamp),
    /// It is no good, and that is final.
    Reject(RestreamType, R),
    /// It is gone.
    Remove(RestreamType),
}

#[derive(Debug)]
enum State<R> {
    /// It may still be changing.
    New,
    /// It is being read.
    Trying,
    /// It is no good, for this reason, unless it changes soon.
    Doubtful(R),
    /// Nothing to do until it changes.
    Known,
}

#[derive(Debug)]
struct Seen<R> {
    stamp: Stamp,
    since: Instant,
    state: State<R>,
    /// Since when it is not there.
    missing: Option<Instant>,
}

/// All that is known of the directory; `R` is a reason.
#[derive(Debug)]
pub(super) struct Watch<R>(BTreeMap<RestreamType, Seen<R>>);

impl<R> Default for Watch<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R> Watch<R> {
    /// This is what lies there now.
    pub(super) fn look(
        &mut self,
        now: Instant,
        files: &BTreeMap<RestreamType, Stamp>,
    ) -> Vec<Step<R>> {
        let mut steps = Vec::new();
        for (kind, stamp) in files {
            let seen = self
                .0
                .entry(kind.clone())
                .or_insert_with(|| Seen::new(now, *stamp));
            steps.extend(seen.look(now, *stamp, kind));
        }
        self.0.retain(|kind, seen| {
            if files.contains_key(kind) {
                return true;
            }
            let gone = now.saturating_duration_since(*seen.missing.get_or_insert(now)) >= SETTLED;
            if gone {
                steps.push(Step::Remove(kind.clone()));
            }
            !gone
        });
        steps
    }

    /// What came of reading a file that looked so. What it looks like by now may differ.
    pub(super) fn tried(&mut self, kind: &RestreamType, stamp: &Stamp, wrong: Option<R>) {
        let Some(seen) = self.0.get_mut(kind).filter(|seen| seen.stamp == *stamp) else {
            return;
        };
        seen.state = match wrong {
            Some(reason) => State::Doubtful(reason),
            None => State::Known,
        };
    }

    /// Somebody else has read a file that looked so, and told what is wrong with it.
    pub(super) fn known(&mut self, now: Instant, kind: &RestreamType, stamp: Stamp) {
        let mut seen = Seen::new(now, stamp);
        seen.state = State::Known;
        self.0.insert(kind.clone(), seen);
    }
}

impl<R> Seen<R> {
    fn new(now: Instant, stamp: Stamp) -> Self {
        Self {
            stamp,
            since: now,
            state: State::New,
            missing: None,
        }
    }

    fn look(&mut self, now: Instant, stamp: Stamp, kind: &RestreamType) -> Option<Step<R>> {
        self.missing = None;
        if self.stamp != stamp {
            *self = Self::new(now, stamp);
        }
        let age = now.saturating_duration_since(self.since);
        match std::mem::replace(&mut self.state, State::Known) {
            State::New if age >= SETTLED => {
                self.state = State::Trying;
                Some(Step::Try(kind.clone(), stamp))
            }
            State::Doubtful(reason) if age >= PATIENCE => Some(Step::Reject(kind.clone(), reason)),
            state => {
                self.state = state;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        let mark = Mark {
            size,
            inode: 1,
            modified: (0, 0),
            changed: (0, 0),
        };
        Stamp {
            file: Ok(mark),
            signature: None,
        }
    }

    struct Test {
        watch: Watch<&'static str>,
        begin: Instant,
    }

    fn a() -> RestreamType {
        "a".parse().expect("legal")
    }

    impl Test {
        fn new() -> Self {
            Self {
                watch: Watch::default(),
                begin: Instant::now(),
            }
        }

        /// What lies there so many milliseconds after the begin.
        fn look(&mut self, at: u64, size: Option<u64>) -> Vec<Step<&'static str>> {
            let files = size.map(|size| (a(), stamp(size))).into_iter().collect();
            self.watch
                .look(self.begin + Duration::from_millis(at), &files)
        }
    }

    #[test]
    fn a_file_is_read_once_it_looks_the_same_twice() {
        let mut test = Test::new();
        assert_eq!(test.look(0, Some(5)), []);
        assert_eq!(test.look(250, Some(9)), []);
        assert_eq!(test.look(500, Some(9)), [Step::Try(a(), stamp(9))]);
        assert_eq!(test.look(750, Some(9)), [], "it is being read");
        test.watch.tried(&a(), &stamp(9), None);
        assert_eq!(test.look(9_000, Some(9)), []);
        assert_eq!(test.look(9_250, Some(10)), []);
        assert_eq!(test.look(9_500, Some(10)), [Step::Try(a(), stamp(10))]);
    }

    #[test]
    fn half_a_copy_is_never_called_bad_when_the_rest_comes_in_time() {
        let mut test = Test::new();
        test.look(0, Some(5));
        assert_eq!(test.look(250, Some(5)), [Step::Try(a(), stamp(5))]);
        test.watch.tried(&a(), &stamp(5), Some("half"));
        assert_eq!(test.look(1_750, Some(5)), []);
        assert_eq!(test.look(1_999, Some(10)), []);
        assert_eq!(test.look(2_250, Some(10)), [Step::Try(a(), stamp(10))]);
        // What comes of the half that was read before says nothing of the whole.
        test.watch.tried(&a(), &stamp(5), Some("half"));
        test.watch.tried(&a(), &stamp(10), Some("bad"));
        assert_eq!(test.look(3_500, Some(10)), []);
        assert_eq!(test.look(4_000, Some(10)), [Step::Reject(a(), "bad")]);
        assert_eq!(test.look(9_000, Some(10)), [], "once");
    }

    #[test]
    fn a_file_is_gone_when_it_is_missing_twice() {
        let mut test = Test::new();
        test.watch.known(test.begin, &a(), stamp(5));
        assert_eq!(test.look(0, Some(5)), [], "somebody has read it");
        assert_eq!(test.look(250, None), []);
        assert_eq!(test.look(500, Some(5)), [], "an editor's save");
        assert_eq!(test.look(750, None), []);
        assert_eq!(test.look(1_000, None), [Step::Remove(a())]);
        assert_eq!(test.look(1_250, None), []);
        test.look(1_500, Some(5));
        assert_eq!(test.look(1_750, Some(5)), [Step::Try(a(), stamp(5))]);
    }
}
