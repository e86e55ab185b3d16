//! The node's membership: a lease, its record under it, and until when that is certain.
//!
//! A pure state machine: time and answers in, questions out. A membership begins with a
//! new lease and a new instance, and with a gate of its own that nothing opens again once
//! the lease is over. Invariant: the gate is never open later than the lease can be alive:
//! what is counted from is when an answered renewal was *sent*, and the answer's own TTL.

use std::time::Duration;

use super::question::{Answered, Ask, Question, Said, Topic};
use super::record::{InstanceId, NodeRecord};
use crate::store::{Error, LeaseId, Revision, Txn};
use crate::stream::Gate;

/// Renewals under way at a time: with the default settings more than are sent within a TTL,
/// or until the store gives one up, so that one that hangs holds up no other.
const RENEWALS: usize = 20;

/// How a lease is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// What is asked for.
    pub(super) ttl: Duration,
    /// So much earlier than it could be over it counts as over: for clocks that run
    /// differently, and for the time between a look at the gate and the append.
    pub(super) margin: Duration,
    /// From one renewal to the next.
    pub(super) renew: Duration,
    /// From a question that failed to the next.
    pub(super) retry: Duration,
}

/// The membership that a former process of this node left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Former {
    pub(super) lease: LeaseId,
    pub(super) instance: InstanceId,
}

/// What came of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// To be written down before anything else is carried out.
    Keep(Former),
    /// The node is a member.
    Entered,
    /// It was one, or was about to be.
    Lost,
    /// Another process has the node's name.
    Taken(Option<Box<NodeRecord>>),
}

/// A membership that is not over.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub(super) lease: LeaseId,
    pub(super) instance: InstanceId,
    pub(super) gate: Gate,
    /// Of the node's record.
    pub(super) revision: Revision,
}

#[derive(Debug)]
enum State {
    /// A lease is asked for at this time.
    Out {
        at: Duration,
    },
    Asking,
    /// There is a lease, and at this time it is looked who has the name.
    Waiting {
        at: Duration,
    },
    Looking,
    Entering,
    In,
    /// For good.
    Left,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lease {
    timing: Timing,
    key: String,
    record: NodeRecord,
    /// The record as it was last written, or is being written.
    written: Option<NodeRecord>,
    state: State,
    term: Option<Term>,
    former: Option<Former>,
    /// Of the next membership.
    next: u128,
    renew_at: Duration,
    renewals: usize,
    /// Nothing is heard of the store.
    deaf: bool,
    notices: Vec<Notice>,
}

impl Lease {
    /// Not a member yet. `bits` are random.
    pub(super) fn new(
        timing: Timing,
        key: String,
        record: NodeRecord,
        former: Option<Former>,
        bits: u128,
    ) -> Self {
        Self {
            timing,
            key,
            record,
            written: None,
            state: State::Out { at: Duration::ZERO },
            term: None,
            former,
            next: bits,
            renew_at: Duration::ZERO,
            renewals: 0,
            deaf: false,
            notices: Vec::new(),
        }
    }

    /// Whether the node hears of what changes in the store. One that does not carries out
    /// what was taken from it long ago: it asks for no lease, and renews none.
    pub(super) fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// The membership, as soon as the record is written.
    pub(super) fn term(&self) -> Option<&Term> {
        self.term.as_ref().filter(|term| term.revision > 0)
    }

    /// Whether it is certain that the node is a member.
    pub(super) fn is_certain(&self, now: Duration) -> bool {
        self.term().is_some_and(|term| term.gate.is_open_at(now))
    }

    /// What the node says of itself, written as soon as it can be. The instance is not
    /// for others to say.
    pub(super) fn tell(&mut self, change: impl FnOnce(&mut NodeRecord)) {
        change(&mut self.record);
    }

    /// What the node says of itself.
    pub(super) fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// What has happened since.
    pub(super) fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// When there is something to do without an answer.
    pub(super) fn alarm(&self) -> Option<Duration> {
        let state = match self.state {
            State::Out { at } | State::Waiting { at } => Some(at),
            State::Asking | State::Looking | State::Entering | State::In | State::Left => None,
        };
        let renewal = self.term.as_ref().map(|_| self.renew_at);
        state.into_iter().chain(renewal).min()
    }

    /// Gives the membership up.
    pub(super) fn leave(&mut self, now: Duration, out: &mut Vec<Question>) {
        self.state = State::Left;
        if let Some(term) = self.term.take() {
            term.gate.close();
            out.push(question(Topic::Farewell, Ask::Revoke(term.lease), now));
        }
    }

    /// What is due is asked.
    pub(super) fn tick(&mut self, now: Duration, out: &mut Vec<Question>) {
        match self.state {
            State::Out { at } if at <= now && self.deaf => {
                self.state = State::Out {
                    at: now + self.timing.retry,
                };
            }
            State::Out { at } if at <= now => {
                self.state = State::Asking;
                out.push(question(Topic::Lease, Ask::Grant(self.timing.ttl), now));
            }
            State::Waiting { at } if at <= now => self.look(now, out),
            State::In if self.written.as_ref() != Some(&self.record) => self.write(None, now, out),
            _ => {}
        }
        if let Some(term) = &self.term
            && self.renew_at <= now
        {
            self.renew_at = now + self.timing.renew;
            if !self.deaf && self.renewals < RENEWALS {
                self.renewals += 1;
                let lease = term.lease;
                out.push(question(Topic::Renewal(lease), Ask::KeepAlive(lease), now));
            }
        }
    }

    /// An answer to one of its questions.
    pub(super) fn hear(&mut self, answered: Answered, now: Duration, out: &mut Vec<Question>) {
        match (answered.topic, answered.answer) {
            (Topic::Lease, answer) => self.on_lease(answer, now, out),
            (Topic::Renewal(lease), answer) => self.on_renewal(lease, answered.at, answer, now),
            (Topic::Look, answer) => self.on_look(answer, now, out),
            (Topic::Enter, answer) => self.on_enter(answer, now, out),
            _ => {}
        }
        self.tick(now, out);
    }

    fn on_lease(&mut self, answer: Result<Said, Error>, now: Duration, out: &mut Vec<Question>) {
        if !matches!(self.state, State::Asking) {
            if let Ok(Said::Granted(lease)) = answer {
                out.push(question(Topic::Farewell, Ask::Revoke(lease), now));
            }
            return;
        }
        let Ok(Said::Granted(lease)) = answer else {
            let at = now + self.timing.retry;
            self.state = State::Out { at };
            return;
        };
        let instance = InstanceId::from_bits(self.next);
        self.next = self.next.wrapping_add(1);
        self.notices.push(Notice::Keep(Former {
            lease,
            instance: instance.clone(),
        }));
        self.record.instance = instance.clone();
        self.written = None;
        self.term = Some(Term {
            lease,
            instance,
            gate: Gate::shut(),
            revision: 0,
        });
        self.renewals = 0;
        self.renew_at = now;
        self.look(now, out);
    }

    fn on_renewal(
        &mut self,
        lease: LeaseId,
        sent: Duration,
        answer: Result<Said, Error>,
        now: Duration,
    ) {
        let Some(term) = self.term.as_ref().filter(|term| term.lease == lease) else {
            return;
        };
        self.renewals = self.renewals.saturating_sub(1);
        match answer {
            Ok(Said::Alive(ttl)) => {
                let until = (sent + ttl).saturating_sub(self.timing.margin);
                term.gate.extend(until);
            }
            Err(Error::NoSuchLease) => self.lose(now),
            // Nobody knows; the next one is under way.
            _ => {}
        }
    }

    fn lose(&mut self, now: Duration) {
        if let Some(Term {
            lease,
            instance,
            gate,
            ..
        }) = self.term.take()
        {
            gate.close();
            self.former = Some(Former { lease, instance });
        }
        self.state = State::Out { at: now };
        self.notices.push(Notice::Lost);
    }

    fn look(&mut self, now: Duration, out: &mut Vec<Question>) {
        self.state = State::Looking;
        out.push(question(Topic::Look, Ask::Get(self.key.clone()), now));
    }

    fn on_look(&mut self, answer: Result<Said, Error>, now: Duration, out: &mut Vec<Question>) {
        if !matches!(self.state, State::Looking) {
            return;
        }
        let Some(term) = &mut self.term else {
            return;
        };
        let found = match answer {
            Ok(Said::Found(found)) => found,
            _ => return self.wait(now),
        };
        let Some(entry) = found else {
            return self.write(Some(Txn::new().absent(self.key.clone())), now, out);
        };
        let record = serde_json::from_slice::<NodeRecord>(&entry.value).ok();
        let instance = record.as_ref().map(|record| &record.instance);
        if instance == Some(&term.instance) {
            // It was written after all.
            term.revision = entry.revision;
            self.written = record;
            return self.entered(now, out);
        }
        let former = self.former.as_ref().map(|former| &former.instance);
        if former.is_some() && instance == former {
            let txn = Txn::new().revision_is(self.key.clone(), entry.revision);
            return self.write(Some(txn), now, out);
        }
        self.notices.push(Notice::Taken(record.map(Box::new)));
        self.wait(now);
    }

    fn wait(&mut self, now: Duration) {
        let at = now + self.timing.retry;
        self.state = State::Waiting { at };
    }

    /// Writes the record, over the one it wrote before when there is nothing to go by.
    fn write(&mut self, when: Option<Txn>, now: Duration, out: &mut Vec<Question>) {
        let Some(term) = &self.term else {
            return;
        };
        let when = when.unwrap_or_else(|| Txn::new().revision_is(self.key.clone(), term.revision));
        let value = serde_json::to_vec(&self.record).expect("names and numbers are serialisable");
        let txn = when.put_leased(self.key.clone(), value, term.lease);
        self.written = Some(self.record.clone());
        self.state = State::Entering;
        out.push(question(Topic::Enter, Ask::Txn(txn), now));
    }

    fn on_enter(&mut self, answer: Result<Said, Error>, now: Duration, out: &mut Vec<Question>) {
        if !matches!(self.state, State::Entering) {
            return;
        }
        let Some(term) = &mut self.term else {
            return;
        };
        match answer {
            Ok(Said::Written(revision)) => {
                term.revision = revision;
                self.entered(now, out);
            }
            Err(Error::NoSuchLease) => self.lose(now),
            // Somebody was faster, or nobody knows.
            Err(Error::Failed { .. }) => self.look(now, out),
            _ => self.wait(now),
        }
    }

    fn entered(&mut self, now: Duration, out: &mut Vec<Question>) {
        self.state = State::In;
        self.notices.push(Notice::Entered);
        if let Some(former) = self.former.take() {
            // What it held is free then. When nobody hears of it, its time ends it.
            out.push(question(Topic::Farewell, Ask::Revoke(former.lease), now));
        }
    }
}

pub(super) fn question(topic: Topic, ask: Ask, at: Duration) -> Question {
    Question { topic, ask, at }
}

#[cfg(test)]
mod tests {
    use super::super::record::NodeState;
    use super::super::record::tests::record;
    use super::*;
    use crate::store::Entry;

    const TIMING: Timing = Timing {
        ttl: Duration::from_secs(3),
        margin: Duration::from_millis(500),
        renew: Duration::from_millis(300),
        retry: Duration::from_millis(300),
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn lease(former: Option<Former>) -> Lease {
        Lease::new(TIMING, "nodes/g/n1".to_owned(), record(0), former, 100)
    }

    fn id(raw: u64) -> LeaseId {
        LeaseId::from_raw(raw)
    }

    fn hear(
        lease: &mut Lease,
        topic: Topic,
        at: Duration,
        answer: Result<Said, Error>,
        now: Duration,
    ) -> Vec<Question> {
        let mut out = Vec::new();
        lease.hear(Answered { topic, at, answer }, now, &mut out);
        out
    }

    fn tick(lease: &mut Lease, now: Duration) -> Vec<Question> {
        let mut out = Vec::new();
        lease.tick(now, &mut out);
        out
    }

    fn txns(questions: &[Question]) -> Vec<&Txn> {
        fn txn(question: &Question) -> Option<&Txn> {
            match &question.ask {
                Ask::Txn(txn) => Some(txn),
                _ => None,
            }
        }
        questions.iter().filter_map(txn).collect()
    }

    /// A member since 10 ms, by the renewal that was sent at 0.
    fn entered() -> Lease {
        let mut lease = lease(None);
        assert_eq!(tick(&mut lease, ms(0)).len(), 1);
        let asked = hear(
            &mut lease,
            Topic::Lease,
            ms(0),
            Ok(Said::Granted(id(1))),
            ms(0),
        );
        assert_eq!(asked.len(), 2, "who has the name, and a renewal: {asked:?}");
        let asked = hear(&mut lease, Topic::Look, ms(0), Ok(Said::Found(None)), ms(5));
        assert_eq!(txns(&asked).len(), 1);
        hear(&mut lease, Topic::Enter, ms(5), Ok(Said::Written(9)), ms(8));
        let renewal = Topic::Renewal(id(1));
        hear(
            &mut lease,
            renewal,
            ms(0),
            Ok(Said::Alive(TIMING.ttl)),
            ms(10),
        );
        assert!(lease.notices().contains(&Notice::Entered));
        lease
    }

    #[test]
    fn a_node_that_hears_nothing_renews_nothing_and_asks_for_no_lease_until_it_does() {
        let mut lease = entered();
        let gate = lease.term().expect("a member").gate.clone();
        lease.set_deaf(true);
        for at in (0..60_000).step_by(50) {
            assert_eq!(tick(&mut lease, ms(at)), [], "at {at} ms");
            assert!(lease.alarm() > Some(ms(at)), "it spins");
        }
        assert!(!gate.is_open_at(ms(3_000)));
        lease.set_deaf(false);
        let renewals = tick(&mut lease, ms(60_300));
        assert!(
            matches!(renewals[..], [Question { ask: Ask::KeepAlive(old), .. }] if {
                let gone = hear(&mut lease, Topic::Renewal(old), ms(60_300), Err(Error::NoSuchLease), ms(60_310));
                matches!(gone[..], [Question { ask: Ask::Grant(_), .. }])
            })
        );
        // Without a lease it waits for news, too.
        let mut lease = self::lease(None);
        lease.set_deaf(true);
        assert_eq!(tick(&mut lease, ms(0)), []);
        assert_eq!(lease.alarm(), Some(ms(300)));
        lease.set_deaf(false);
        assert_eq!(tick(&mut lease, ms(300)).len(), 1);
    }

    #[test]
    fn the_gate_is_open_for_the_ttl_from_when_an_answered_renewal_was_sent() {
        let lease = entered();
        assert!(lease.is_certain(ms(2_499)));
        assert!(!lease.is_certain(ms(2_500)));
    }

    #[test]
    fn an_answer_that_is_read_late_extends_nothing() {
        let mut lease = entered();
        let renewal = Topic::Renewal(id(1));
        hear(
            &mut lease,
            renewal,
            ms(300),
            Ok(Said::Alive(TIMING.ttl)),
            ms(9_000),
        );
        assert!(!lease.is_certain(ms(9_000)), "sent at 300, over at 2800");
        assert!(lease.is_certain(ms(2_799)));
    }

    #[test]
    fn an_outage_fences_the_node_and_its_end_opens_the_gate_of_the_same_membership() {
        let mut lease = entered();
        let before = lease.term().expect("a member").clone();
        let failed = || Err(Error::Unavailable(std::sync::Arc::new(std::fmt::Error)));
        for at in (300..=4_000).step_by(300) {
            tick(&mut lease, ms(at));
            hear(
                &mut lease,
                Topic::Renewal(id(1)),
                ms(at),
                failed(),
                ms(at + 100),
            );
        }
        assert!(!lease.is_certain(ms(4_000)));
        let alive = Ok(Said::Alive(TIMING.ttl));
        hear(
            &mut lease,
            Topic::Renewal(id(1)),
            ms(4_200),
            alive,
            ms(4_210),
        );
        assert!(lease.is_certain(ms(4_210)));
        let after = lease.term().expect("a member");
        assert_eq!(before.instance, after.instance, "the lease never ended");
        assert!(before.gate.is_open_at(ms(4_210)), "and so its claims hold");
    }

    #[test]
    fn a_lost_lease_closes_its_gate_for_good_and_the_next_one_is_another_membership() {
        let mut lease = entered();
        let before = lease.term().expect("a member").clone();
        let asked = hear(
            &mut lease,
            Topic::Renewal(id(1)),
            ms(300),
            Err(Error::NoSuchLease),
            ms(350),
        );
        assert_eq!(lease.notices(), [Notice::Lost]);
        assert!(!before.gate.is_open_at(ms(350)));
        assert!(lease.term().is_none());
        assert!(matches!(asked[0].ask, Ask::Grant(_)), "at once: {asked:?}");
        hear(
            &mut lease,
            Topic::Lease,
            ms(350),
            Ok(Said::Granted(id(2))),
            ms(360),
        );
        hear(
            &mut lease,
            Topic::Look,
            ms(360),
            Ok(Said::Found(None)),
            ms(370),
        );
        hear(
            &mut lease,
            Topic::Enter,
            ms(370),
            Ok(Said::Written(12)),
            ms(380),
        );
        // An answer about the lease that is over.
        let late = Ok(Said::Alive(TIMING.ttl));
        hear(&mut lease, Topic::Renewal(id(1)), ms(370), late, ms(390));
        assert!(!lease.is_certain(ms(390)));
        let alive = Ok(Said::Alive(TIMING.ttl));
        hear(&mut lease, Topic::Renewal(id(2)), ms(360), alive, ms(391));
        assert!(lease.is_certain(ms(391)));
        let after = lease.term().expect("a member");
        assert_ne!(before.instance, after.instance);
        assert!(!before.gate.is_open_at(ms(391)), "its claims are gone");
    }

    fn entry(instance: u128, revision: Revision) -> Said {
        let value = serde_json::to_vec(&record(instance)).expect("JSON");
        Said::Found(Some(Entry {
            key: "nodes/g/n1".to_owned(),
            value: value.into(),
            revision,
        }))
    }

    #[test]
    fn a_process_takes_over_from_its_own_former_one_without_the_name_being_free_between() {
        let former = Former {
            lease: id(7),
            instance: InstanceId::from_bits(70),
        };
        let mut lease = lease(Some(former));
        tick(&mut lease, ms(0));
        hear(
            &mut lease,
            Topic::Lease,
            ms(0),
            Ok(Said::Granted(id(8))),
            ms(0),
        );
        let asked = hear(&mut lease, Topic::Look, ms(0), Ok(entry(70, 4)), ms(1));
        let txn = txns(&asked)[0];
        assert_eq!(
            *txn.preconditions,
            *Txn::new().revision_is("nodes/g/n1", 4).preconditions
        );
        let asked = hear(&mut lease, Topic::Enter, ms(1), Ok(Said::Written(5)), ms(2));
        let revoked = asked.iter().any(|q| q.ask == Ask::Revoke(id(7)));
        assert!(revoked, "what it held is free: {asked:?}");
    }

    #[test]
    fn a_name_that_another_process_has_is_waited_for() {
        let mut lease = lease(None);
        tick(&mut lease, ms(0));
        hear(
            &mut lease,
            Topic::Lease,
            ms(0),
            Ok(Said::Granted(id(8))),
            ms(0),
        );
        lease.notices();
        let asked = hear(&mut lease, Topic::Look, ms(0), Ok(entry(70, 4)), ms(1));
        assert!(txns(&asked).is_empty());
        assert!(matches!(&lease.notices()[..], [Notice::Taken(Some(_))]));
        assert!(lease.term().is_none());
        let asked = tick(&mut lease, ms(301));
        assert!(asked.iter().any(|q| q.topic == Topic::Look), "{asked:?}");
        let asked = hear(
            &mut lease,
            Topic::Look,
            ms(301),
            Ok(Said::Found(None)),
            ms(302),
        );
        assert_eq!(txns(&asked).len(), 1);
    }

    #[test]
    fn a_record_whose_writing_nobody_confirmed_is_looked_for() {
        let mut lease = lease(None);
        tick(&mut lease, ms(0));
        hear(
            &mut lease,
            Topic::Lease,
            ms(0),
            Ok(Said::Granted(id(8))),
            ms(0),
        );
        hear(&mut lease, Topic::Look, ms(0), Ok(Said::Found(None)), ms(1));
        let failed = Err(Error::Unavailable(std::sync::Arc::new(std::fmt::Error)));
        hear(&mut lease, Topic::Enter, ms(1), failed, ms(2));
        assert!(lease.term().is_none());
        tick(&mut lease, ms(302));
        let asked = hear(&mut lease, Topic::Look, ms(302), Ok(entry(100, 6)), ms(303));
        assert!(txns(&asked).is_empty(), "it is ours: {asked:?}");
        assert_eq!(lease.term().map(|term| term.revision), Some(6));
    }

    #[test]
    fn renewals_under_way_are_bounded() {
        let mut lease = entered();
        let ticks = (1..100).map(|n| tick(&mut lease, ms(10 + n * 300)).len());
        assert_eq!(ticks.sum::<usize>(), RENEWALS);
    }

    #[test]
    fn what_the_node_says_of_itself_is_written_over_what_it_said() {
        let mut lease = entered();
        lease.tell(|record| record.state = NodeState::Draining);
        let asked = tick(&mut lease, ms(20));
        let txn = txns(&asked)[0];
        assert_eq!(txn.preconditions[0].key(), "nodes/g/n1");
        assert!(lease.term().is_some(), "it stays a member meanwhile");
        hear(
            &mut lease,
            Topic::Enter,
            ms(20),
            Ok(Said::Written(11)),
            ms(21),
        );
        assert_eq!(lease.term().map(|term| term.revision), Some(11));
        assert!(txns(&tick(&mut lease, ms(22))).is_empty());
        let mut out = Vec::new();
        lease.leave(ms(30), &mut out);
        assert_eq!(out[0].ask, Ask::Revoke(id(1)));
        assert!(!lease.is_certain(ms(30)) && tick(&mut lease, ms(9_000)).is_empty());
    }
}
