//! What a policy did in a rehearsal, and when. Bounded: a policy that does too
//! much is cut off, not remembered.

use std::collections::VecDeque;

use super::document::Phase;

/// Attempts remembered; a day at one a second stays well below.
pub(super) const DIALS: usize = 200_000;
/// Lines of the trace; the newest stay.
const TRACE: usize = 5_000;
/// Characters of a line of the trace.
const LINE: usize = 200;
/// Mistakes told; one is usually the cause of the others.
const WRONGS: usize = 20;

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) at: u64,
    pub(super) url: String,
    /// When it failed, ended or was closed.
    pub(super) over: Option<u64>,
}

/// What the status said at a moment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) at: u64,
    pub(super) phase: Phase,
    pub(super) on_air: String,
    pub(super) next_attempt: Option<u64>,
}

/// Something that is wrong whatever the scenario expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: u64,
    pub(super) text: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) attempts: Vec<Attempt>,
    /// Questions by HTTP.
    pub(super) fetches: Vec<Attempt>,
    pub(super) seen: Vec<Seen>,
    pub(super) wrong: Vec<Wrong>,
    /// How often each expected line of the log came.
    pub(super) lines: Vec<u64>,
    /// Sources open at once, at most.
    pub(super) most_open: u64,
    /// Calls and waits.
    pub(super) steps: u64,
    trace: VecDeque<(u64, String)>,
}

impl Record {
    /// Of a run in whose log so many lines are looked for.
    pub(super) fn of(lines: usize) -> Self {
        Self {
            lines: vec![0; lines],
            ..Self::default()
        }
    }

    /// Something happened.
    pub(super) fn trace(&mut self, at: u64, text: &str) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back((at, shown(text)));
    }

    /// Something is wrong.
    pub(super) fn wrong(&mut self, at: u64, text: String) {
        self.trace(at, &text);
        if self.wrong.len() < WRONGS {
            let text = shown(&text);
            self.wrong.push(Wrong { at, text });
        }
    }

    /// The last lines up to a time, at most so many; without one the last of all.
    pub(super) fn around(&self, at: Option<u64>, lines: usize) -> Vec<String> {
        let until = at.unwrap_or(u64::MAX);
        // A little of what came after is worth seeing, too.
        let end = self.trace.partition_point(|(when, _)| *when <= until) + lines / 4;
        let end = end.min(self.trace.len());
        let shown = self.trace.range(end.saturating_sub(lines)..end);
        shown
            .map(|(at, text)| format!("{:>12}  {text}", clock(*at)))
            .collect()
    }
}

/// A guest's text as a terminal may see it.
pub(super) fn shown(text: &str) -> String {
    let safe = text.chars().take(LINE);
    safe.map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Milliseconds as people read them: `0.250s`, `1m05.000s`, `23h59m30.000s`.
pub(super) fn clock(millis: u64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}.{millis:03}s"),
        (0, _) => format!("{minutes}m{seconds:02}.{millis:03}s"),
        _ => format!("{hours}h{minutes:02}m{seconds:02}.{millis:03}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_remembered_by_its_end() {
        let mut record = Record::default();
        for at in 0..100_000 {
            record.trace(at, &"x".repeat(1000));
            record.wrong(at, "wrong".to_owned());
        }
        assert_eq!((record.trace.len(), record.wrong.len()), (TRACE, WRONGS));
        assert!(record.trace.iter().all(|(_, text)| text.len() <= LINE));
        let last = record.around(None, 2);
        assert!(last[1].contains("1m39.999s"), "{last:?}");
    }

    #[test]
    fn what_a_guest_writes_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }

    #[test]
    fn times_are_shown_as_people_read_them() {
        let times = [0, 250, 65_000, 86_370_000].map(clock);
        assert_eq!(times, ["0.000s", "0.250s", "1m05.000s", "23h59m30.000s"]);
    }
}
