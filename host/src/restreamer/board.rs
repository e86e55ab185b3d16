//! What the status says of a restreamer, and why.
//!
//! What can be measured is measured (dialing, live, stalled); only what cannot be
//! is taken from the policy (waiting, backing off).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::host::{Claim, Class, Failure, SourceState, Stall};

/// Failures remembered.
const HISTORY: usize = 20;

/// The class of a policy's crash.
const CRASHED: &str = "plugin-crashed";

/// What a restreamer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the words of the API, in design order")]
pub enum Phase {
    Waiting,
    Dialing,
    Live,
    Stalled,
    BackingOff,
    Stopping,
    Failed,
}

impl Phase {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialing => "dialing",
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::BackingOff => "backing-off",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// Whether a policy that ended for a reason of this class decided so itself.
pub fn is_own_decision(class: &str) -> bool {
    matches!(class, "gave-up" | "finished")
}

/// A failure, remembered.
#[derive(Clone, Debug)]
pub struct Incident {
    /// When.
    pub at: jiff::Timestamp,
    /// The error class.
    pub class: String,
    /// For people.
    pub text: String,
}

/// The board of one restreamer.
#[derive(Debug)]
pub struct Board {
    claim: Claim,
    /// What the policy says beside it.
    text: String,
    next_attempt: Option<Instant>,
    shown: (Phase, jiff::Timestamp),
    /// Sources opened so far.
    pub attempts: u64,
    /// Where the newest source was opened, masked.
    pub source: Option<String>,
    /// The newest failure, gone when media flows again.
    pub error: Option<String>,
    /// The newest failures, oldest first.
    pub history: VecDeque<Incident>,
    /// Why it will not go on by itself.
    failed: Option<String>,
    stopping: bool,
}

impl Default for Board {
    /// Nothing has happened yet.
    fn default() -> Self {
        Self {
            claim: Claim::Waiting,
            text: String::new(),
            next_attempt: None,
            shown: (Phase::Waiting, jiff::Timestamp::now()),
            attempts: 0,
            source: None,
            error: None,
            history: VecDeque::new(),
            failed: None,
            stopping: false,
        }
    }
}

impl Board {
    /// The policy says what it waits for, and why.
    pub fn claim(&mut self, claim: Claim, text: String, next_attempt: Option<Duration>) {
        (self.claim, self.text) = (claim, text);
        self.next_attempt = next_attempt.and_then(|wait| Instant::now().checked_add(wait));
    }

    /// A source is dialed.
    pub fn dialing(&mut self, source: String) {
        self.attempts += 1;
        self.source = Some(source);
        self.next_attempt = None;
    }

    /// Something failed.
    pub fn incident(&mut self, failure: &Failure) {
        self.note(failure.class.as_str(), &failure.text);
    }

    /// Media stopped on an open connection; told once, however long it lasts.
    pub fn stalled(&mut self, stall: Stall) {
        let text = format!("{}: {}", Class::Stalled.as_str(), stall.as_str());
        if self.error.as_ref() != Some(&text) {
            self.note(Class::Stalled.as_str(), stall.as_str());
        }
    }

    /// Its policy crashed and will be run again.
    pub fn crashed(&mut self, text: &str) {
        self.note(CRASHED, text);
    }

    /// Its policy crashed so often that it is not run again.
    pub fn fail_crashed(&mut self, text: &str) {
        self.fail(CRASHED, text);
    }

    /// It will not go on by itself.
    pub fn fail(&mut self, class: &str, text: &str) {
        self.failed = Some(class.to_owned());
        (self.text, self.next_attempt) = (String::new(), None);
        self.note(class, text);
    }

    /// It goes on after a failure.
    pub fn revive(&mut self) {
        self.failed = None;
    }

    /// Its policy returned by its own decision, and may be asked to begin anew.
    pub fn may_begin_anew(&self) -> bool {
        self.failed.as_deref().is_some_and(is_own_decision)
    }

    /// What the policy says, while its word is what the status goes by.
    pub fn text(&self) -> Option<String> {
        let claimed = matches!(self.shown.0, Phase::Waiting | Phase::BackingOff);
        (claimed && !self.text.is_empty()).then(|| self.text.clone())
    }

    /// It was told to stop.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    fn note(&mut self, class: &str, text: &str) {
        self.error = Some(format!("{class}: {text}"));
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Incident {
            at: jiff::Timestamp::now(),
            class: class.to_owned(),
            text: text.to_owned(),
        });
    }

    /// How long until the next attempt, while one is planned.
    pub fn next_attempt(&self) -> Option<Duration> {
        self.next_attempt
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The phase that the sources' states and the policy's claim add up to, and
    /// since when it is so.
    pub fn phase(
        &mut self,
        sources: impl Iterator<Item = (SourceState, bool)>,
    ) -> (Phase, jiff::Timestamp) {
        let phase = self.judge(sources);
        if phase != self.shown.0 {
            self.shown = (phase, jiff::Timestamp::now());
        }
        if phase == Phase::Live {
            self.error = None;
        }
        self.shown
    }

    fn judge(&self, sources: impl Iterator<Item = (SourceState, bool)>) -> Phase {
        if self.stopping {
            return Phase::Stopping;
        }
        let mut dialing = false;
        let mut stalled = false;
        for (state, on_air) in sources {
            match state {
                SourceState::Flowing if on_air => return Phase::Live,
                SourceState::Stalled => stalled = true,
                SourceState::Flowing | SourceState::Dialing => dialing = true,
                SourceState::Ended => {}
            }
        }
        match () {
            () if stalled => Phase::Stalled,
            () if dialing => Phase::Dialing,
            () if self.failed.is_some() => Phase::Failed,
            () if self.claim == Claim::BackingOff => Phase::BackingOff,
            () => Phase::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_beats_what_is_claimed() {
        let mut board = Board::default();
        board.claim(
            Claim::BackingOff,
            "later".into(),
            Some(Duration::from_secs(5)),
        );
        let phase =
            |board: &mut Board, list: &[(SourceState, bool)]| board.phase(list.iter().copied()).0;
        assert_eq!(phase(&mut board, &[]), Phase::BackingOff);
        assert_eq!(board.text().as_deref(), Some("later"));
        assert_eq!(
            phase(&mut board, &[(SourceState::Dialing, false)]),
            Phase::Dialing
        );
        assert_eq!(board.text(), None, "it does more than to wait");
        assert_eq!(
            phase(&mut board, &[(SourceState::Flowing, false)]),
            Phase::Dialing,
            "not on air yet"
        );
        assert_eq!(
            phase(&mut board, &[(SourceState::Stalled, true)]),
            Phase::Stalled
        );
        assert_eq!(
            phase(
                &mut board,
                &[(SourceState::Dialing, false), (SourceState::Flowing, true)]
            ),
            Phase::Live
        );
    }

    #[test]
    fn history_is_bounded_and_the_error_goes_when_media_comes() {
        let mut board = Board::default();
        for n in 0..100 {
            board.incident(&Failure::new(Class::Refused, n));
        }
        assert_eq!(board.history.len(), HISTORY);
        assert_eq!(board.error.as_deref(), Some("refused: 99"));
        board.phase([(SourceState::Flowing, true)].into_iter());
        assert_eq!(board.error, None);
    }
}
