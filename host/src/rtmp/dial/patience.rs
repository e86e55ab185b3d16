//! Whether a silent peer is still there: when to ping it, and when to give it up.
//!
//! Silence of media says nothing, as what feeds the peer may be still; a ping is answered
//! all the same (specification 7.1.7). It is not left to the kernel: that counts what the
//! other kernel acknowledges, which a process that hangs has no part in, and looks only
//! when it sends again, less and less often. Pure. Invariant: a peer is given up only
//! after pings that had their whole time each, whatever stopped this process meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// A look that comes so late was held up here, and says nothing of the peer.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How long a peer may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Without a byte for so long it is pinged.
    quiet: Duration,
    /// An answer, or any other byte, may take so long.
    answer: Duration,
    /// After so many pings in a row without one it is given up; `None` is never.
    pings: Option<u32>,
}

impl Patience {
    /// With strangers: some do not answer pings, and the kernel finds those that are gone.
    /// A peer that takes our pings for a sign of life gets one every 10 s.
    pub const STRANGER: Self = Self {
        quiet: Duration::from_secs(10),
        answer: Duration::from_secs(10),
        pings: None,
    };

    /// With nodes of the cluster, which do answer: gone after 5 s, so that viewers are not
    /// left without a word for the 20 s and more that the kernel takes.
    pub const NODE: Self = Self {
        quiet: Duration::from_secs(2),
        answer: Duration::from_millis(1_500),
        pings: Some(2),
    };
}

impl Default for Patience {
    fn default() -> Self {
        Self::STRANGER
    }
}

/// What to do about a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask whether it is there.
    Ping,
    /// It is gone.
    GiveUp,
}

/// What was heard of one peer.
#[derive(Debug)]
pub(super) struct Pulse {
    patience: Patience,
    /// When it said something, or was pinged.
    since: Instant,
    /// Pings since it said something.
    pings: u32,
}

impl Pulse {
    /// Of a peer that is known from now on.
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Self {
            patience,
            since: now,
            pings: 0,
        }
    }

    /// It said something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.since = now;
        self.pings = 0;
    }

    /// When to ask for a [`Pulse::verdict`], if nothing is heard until then.
    pub(super) fn due(&self) -> Instant {
        self.since
            + match self.pings {
                0 => self.patience.quiet,
                _ => self.patience.answer,
            }
    }

    /// Nothing was heard until it was due. Counts the ping, if it says so.
    pub(super) fn verdict(&mut self, now: Instant) -> Verdict {
        let late = now > self.due() + STANDSTILL;
        if !late && self.patience.pings.is_some_and(|most| self.pings >= most) {
            return Verdict::GiveUp;
        }
        if !late || self.pings == 0 {
            self.pings = self.pings.saturating_add(1);
        }
        self.since = now;
        Verdict::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When what is said of a peer that falls silent, in milliseconds, up to the tenth word.
    fn silence(pulse: &mut Pulse, from: Instant) -> Vec<(u128, Verdict)> {
        let mut said = Vec::new();
        while said.len() < 10 && said.last().is_none_or(|(_, last)| *last == Verdict::Ping) {
            let now = pulse.due();
            said.push(((now - from).as_millis(), pulse.verdict(now)));
        }
        said
    }

    #[test]
    fn a_silent_node_is_pinged_twice_and_given_up_after_five_seconds() {
        use Verdict::{GiveUp, Ping};
        let now = Instant::now();
        let mut pulse = Pulse::new(Patience::NODE, now);
        let expected = [(2_000, Ping), (3_500, Ping), (5_000, GiveUp)];
        assert_eq!(silence(&mut pulse, now), expected);
    }

    #[test]
    fn one_byte_in_time_is_enough_each_time() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(Patience::NODE, now);
        for _ in 0..100 {
            assert_eq!(pulse.verdict(pulse.due()), Verdict::Ping);
            assert_eq!(pulse.verdict(pulse.due()), Verdict::Ping);
            now = pulse.due() - MS;
            pulse.heard(now);
            assert_eq!(pulse.due(), now + Patience::NODE.quiet);
        }
    }

    #[test]
    fn a_stranger_is_pinged_every_ten_seconds_and_never_given_up() {
        let now = Instant::now();
        let mut pulse = Pulse::new(Patience::STRANGER, now);
        let expected: Vec<_> = (1..=10).map(|n| (n * 10_000, Verdict::Ping)).collect();
        assert_eq!(silence(&mut pulse, now), expected);
    }

    #[test]
    fn who_stood_still_itself_asks_again_before_it_gives_up() {
        let begin = Instant::now();
        for before in 0..=2 {
            let mut pulse = Pulse::new(Patience::NODE, begin);
            for _ in 0..before {
                pulse.verdict(pulse.due());
            }
            let late = pulse.due() + Duration::from_secs(30);
            assert_eq!(pulse.verdict(late), Verdict::Ping, "after {before} pings");
            assert_eq!(pulse.due(), late + Patience::NODE.answer, "its whole time");
            let rest = silence(&mut pulse, late);
            assert_eq!(rest.last().map(|(_, last)| *last), Some(Verdict::GiveUp));
        }
    }
}
