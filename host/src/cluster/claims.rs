//! Claims: the locks of streams, made before the first append and given up after the last.
//!
//! A pure state machine for all streams of this node: wishes, what the store shows, and
//! answers in; transactions and permissions out. It is told what is wanted and shown what
//! is there again and again, and does what is missing. Invariants: a stream is permitted
//! only while a claim of the present membership is known to be there; it is barred before
//! the deletion of its claim is asked for; a claim whose deletion nobody confirmed is not
//! used again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::lease::{Term, question};
use super::mirror::Mirror;
use super::question::{Ask, Question, Said, Topic};
use super::record::{Claim, claim_key, node_key, ready_key};
use crate::id::{NodeGroup, NodeId, StreamGuid};
use crate::provision::keys;
use crate::store::{Error, Revision, Txn};
use crate::stream::Gate;

/// Before a question is asked again that failed, or whose answer nobody knows.
const RETRY: Duration = Duration::from_millis(200);
/// Claims asked for or given up at a time: a node that starts with a thousand streams
/// neither waits for each nor floods the store.
const AT_A_TIME: usize = 64;

/// Why this node wants the claim of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A publisher feeds it.
    Published,
    /// A provision does, by this assignment.
    Assigned {
        epoch: u64,
        /// Where the assignment lies, and since when.
        key: String,
        revision: Revision,
    },
}

impl Wish {
    fn epoch(&self) -> u64 {
        match self {
            Self::Published => 0,
            Self::Assigned { epoch, .. } => *epoch,
        }
    }

    fn is_published(&self) -> bool {
        matches!(self, Self::Published)
    }

    /// What appends are made under: greater for each later claim of a stream.
    fn number(&self, claimed: Revision) -> u64 {
        match self {
            Self::Published => claimed,
            Self::Assigned { epoch, .. } => *epoch,
        }
    }

    /// Whether a claim that was made for one serves the other.
    fn serves(&self, other: &Self) -> bool {
        (self.epoch(), self.is_published()) == (other.epoch(), other.is_published())
    }

    fn made(&self, claim: &Claim) -> bool {
        (self.epoch(), self.is_published()) == (claim.epoch, claim.published)
    }
}

/// What follows for a stream of this node.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It may append while the gate is open, under this number: the epoch, of a publisher
    /// the claim's revision. Later claims of the stream have greater ones.
    Admit(StreamGuid, u64, Gate),
    /// It may not.
    Bar(StreamGuid),
    /// Its publisher has to go: the name is another's.
    Refuse(StreamGuid),
}

#[derive(Clone, Debug)]
enum State {
    Free,
    Claiming(Wish),
    Held(Wish, Revision),
    /// The claim of this revision is to be deleted; whether that is being asked.
    Releasing(Revision, bool),
}

#[derive(Debug)]
struct Standing {
    wish: Option<Wish>,
    state: State,
    /// Of the question under way.
    turn: u64,
    retry_at: Option<Duration>,
    /// Claims up to this revision are known to be gone, whatever the mirror shows yet.
    gone: Revision,
}

impl Standing {
    fn new() -> Self {
        Self {
            wish: None,
            state: State::Free,
            turn: 0,
            retry_at: None,
            gone: 0,
        }
    }
}

/// What the machine is shown.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) mirror: &'a Mirror,
    pub(super) term: Option<&'a Term>,
    pub(super) now: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Claims {
    group: NodeGroup,
    node: NodeId,
    streams: BTreeMap<StreamGuid, Standing>,
    asked: usize,
    /// Streams that wait for one of those to be answered.
    queue: BTreeSet<StreamGuid>,
    turns: u64,
    verdicts: Vec<Verdict>,
}

impl Claims {
    pub(super) fn new(group: NodeGroup, node: NodeId) -> Self {
        Self {
            group,
            node,
            streams: BTreeMap::new(),
            asked: 0,
            queue: BTreeSet::new(),
            turns: 0,
            verdicts: Vec::new(),
        }
    }

    /// What has been decided since.
    pub(super) fn verdicts(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.verdicts)
    }

    /// Streams whose claim this node has, and under which number they are appended to.
    pub(super) fn held(&self) -> impl Iterator<Item = (&StreamGuid, u64)> {
        self.streams.iter().filter_map(|(stream, standing)| {
            let State::Held(wish, revision) = &standing.state else {
                return None;
            };
            Some((stream, wish.number(*revision)))
        })
    }

    /// Whether this node has the claim of a stream, or may have it.
    #[cfg(test)]
    pub(super) fn may_hold(&self, stream: &StreamGuid) -> bool {
        let standing = self.streams.get(stream);
        standing.is_some_and(|standing| !matches!(standing.state, State::Free))
    }

    /// Whether no claim is held, made or given up.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let free = |standing: &Standing| matches!(standing.state, State::Free);
        self.streams.values().all(free)
    }

    /// Streams that are wanted with this epoch, and not held.
    pub(super) fn lacking(&self) -> impl Iterator<Item = (&StreamGuid, &Wish)> {
        self.streams.iter().filter_map(|(stream, standing)| {
            let free = matches!(standing.state, State::Free);
            Some((stream, standing.wish.as_ref().filter(|_| free)?))
        })
    }

    /// The claim of a stream is wanted, or is not.
    pub(super) fn wish(
        &mut self,
        stream: &StreamGuid,
        wish: Option<Wish>,
        view: View<'_>,
        out: &mut Vec<Question>,
    ) {
        if wish.is_none() && !self.streams.contains_key(stream) {
            return;
        }
        let standing = self
            .streams
            .entry(stream.clone())
            .or_insert_with(Standing::new);
        if standing.wish != wish {
            standing.wish = wish;
            standing.retry_at = None;
        }
        self.step(stream, view, out);
    }

    /// What the mirror shows of a stream is new.
    pub(super) fn touched(&mut self, stream: &StreamGuid, view: View<'_>, out: &mut Vec<Question>) {
        let standing = self
            .streams
            .entry(stream.clone())
            .or_insert_with(Standing::new);
        standing.retry_at = None;
        self.step(stream, view, out);
    }

    /// Another membership, or none: nothing is held.
    pub(super) fn begin_anew(&mut self, view: View<'_>, out: &mut Vec<Question>) {
        self.asked = 0;
        self.queue.clear();
        for (stream, standing) in &mut self.streams {
            standing.state = State::Free;
            standing.turn = 0;
            standing.retry_at = None;
            self.verdicts.push(Verdict::Bar(stream.clone()));
        }
        self.step_all(view, out);
    }

    /// Everything is looked at again.
    pub(super) fn step_all(&mut self, view: View<'_>, out: &mut Vec<Question>) {
        let streams: Vec<StreamGuid> = self.streams.keys().cloned().collect();
        for stream in streams {
            self.step(&stream, view, out);
        }
    }

    /// When there is something to do without an answer.
    pub(super) fn alarm(&self) -> Option<Duration> {
        self.streams.values().filter_map(|s| s.retry_at).min()
    }

    /// What is due is asked.
    pub(super) fn tick(&mut self, view: View<'_>, out: &mut Vec<Question>) {
        let due = |standing: &Standing| standing.retry_at.is_some_and(|at| at <= view.now);
        let due: Vec<StreamGuid> = self
            .streams
            .iter_mut()
            .filter(|(_, standing)| due(standing))
            .map(|(stream, standing)| {
                standing.retry_at = None;
                stream.clone()
            })
            .collect();
        for stream in due {
            self.step(&stream, view, out);
        }
    }

    /// An answer to one of its questions.
    pub(super) fn hear(
        &mut self,
        topic: Topic,
        answer: Result<Said, Error>,
        view: View<'_>,
        out: &mut Vec<Question>,
    ) {
        let (stream, turn) = match topic {
            Topic::Claim(stream, turn) | Topic::Release(stream, turn) => (stream, turn),
            _ => return,
        };
        let Some(standing) = self.streams.get_mut(&stream) else {
            return;
        };
        if standing.turn != turn {
            return;
        }
        standing.turn = 0;
        self.asked = self.asked.saturating_sub(1);
        let later = Some(view.now + RETRY);
        standing.state = match (standing.state.clone(), answer) {
            (State::Claiming(wish), Ok(Said::Written(revision))) => {
                if standing.wish.as_ref().is_some_and(|now| now.serves(&wish)) {
                    self.verdicts
                        .extend(admit(&stream, &wish, revision, view.term));
                }
                State::Held(wish, revision)
            }
            // Whether it was made shows in time, unless it was not.
            (State::Claiming(_), _) => {
                standing.retry_at = later;
                State::Free
            }
            (State::Releasing(_, _), Ok(Said::Written(revision))) => {
                standing.gone = standing.gone.max(revision);
                State::Free
            }
            (State::Releasing(revision, _), Err(Error::Failed { .. })) => {
                standing.gone = standing.gone.max(revision);
                State::Free
            }
            (State::Releasing(revision, _), _) => {
                standing.retry_at = later;
                State::Releasing(revision, false)
            }
            (state, _) => state,
        };
        if standing.retry_at.is_none() {
            self.step(&stream, view, out);
        }
        while self.asked < AT_A_TIME
            && let Some(next) = self.queue.pop_first()
        {
            self.step(&next, view, out);
        }
    }

    fn step(&mut self, stream: &StreamGuid, view: View<'_>, out: &mut Vec<Question>) {
        let Some(standing) = self.streams.get_mut(stream) else {
            return;
        };
        if standing.retry_at.is_some() {
            return;
        }
        let Some(term) = view.term else {
            if standing.wish.is_none() && matches!(standing.state, State::Free) {
                self.streams.remove(stream);
            }
            return;
        };
        let shown = view.mirror.claim(&self.group, stream);
        let shown = shown.filter(|known| known.revision > standing.gone);
        match &standing.state {
            State::Claiming(_) | State::Releasing(_, true) => {}
            State::Releasing(revision, false) => {
                let revision = *revision;
                self.release(stream, revision, view.now, out);
            }
            State::Held(held, revision) => {
                if standing.wish.as_ref().is_none_or(|now| !now.serves(held)) {
                    let revision = *revision;
                    self.verdicts.push(Verdict::Bar(stream.clone()));
                    self.release(stream, revision, view.now, out);
                }
            }
            State::Free => match (shown, standing.wish.clone()) {
                (Some(known), wish)
                    if known.value.node == self.node && known.value.instance == term.instance =>
                {
                    let revision = known.revision;
                    match wish.filter(|wish| wish.made(&known.value)) {
                        Some(wish) => {
                            self.verdicts
                                .extend(admit(stream, &wish, revision, view.term));
                            standing.state = State::Held(wish, revision);
                        }
                        None => self.release(stream, revision, view.now, out),
                    }
                }
                (shown, Some(Wish::Published))
                    if shown.is_some() || view.mirror.has_name(&self.group, stream) =>
                {
                    self.verdicts.push(Verdict::Refuse(stream.clone()));
                }
                (None, Some(wish)) => self.claim(stream, wish, term, view.now, out),
                // Somebody else has it. When that changes we are told.
                (Some(_), Some(_)) => {}
                // Until the mirror is past what was given up, what it shows may be that.
                (_, None) if view.mirror.revision() >= standing.gone => {
                    drop(self.streams.remove(stream));
                }
                (_, None) => {}
            },
        }
    }

    fn claim(
        &mut self,
        stream: &StreamGuid,
        wish: Wish,
        term: &Term,
        now: Duration,
        out: &mut Vec<Question>,
    ) {
        let claim = Claim {
            node: self.node.clone(),
            instance: term.instance.clone(),
            epoch: wish.epoch(),
            published: wish.is_published(),
        };
        let value = serde_json::to_vec(&claim).expect("names and numbers are serialisable");
        let key = claim_key(&self.group, stream);
        let txn = Txn::new()
            .absent(key.clone())
            .revision_is(node_key(&self.group, &self.node), term.revision);
        let txn = match &wish {
            Wish::Published => txn.absent(keys::name(&self.group, stream)),
            Wish::Assigned { key, revision, .. } => txn
                .revision_is(key.clone(), *revision)
                .delete(ready_key(&self.group, stream)),
        };
        let txn = txn.put_leased(key, value, term.lease);
        self.ask(stream, State::Claiming(wish), txn, now, out);
    }

    fn release(
        &mut self,
        stream: &StreamGuid,
        revision: Revision,
        now: Duration,
        out: &mut Vec<Question>,
    ) {
        if let Some(standing) = self.streams.get_mut(stream) {
            standing.state = State::Releasing(revision, false);
        }
        let key = claim_key(&self.group, stream);
        let txn = Txn::new().revision_is(key.clone(), revision).delete(key);
        self.ask(stream, State::Releasing(revision, true), txn, now, out);
    }

    /// Asks, if there is room for one more question; else later.
    fn ask(
        &mut self,
        stream: &StreamGuid,
        state: State,
        txn: Txn,
        now: Duration,
        out: &mut Vec<Question>,
    ) {
        let Some(standing) = self.streams.get_mut(stream) else {
            return;
        };
        if self.asked >= AT_A_TIME {
            self.queue.insert(stream.clone());
            return;
        }
        self.asked += 1;
        self.turns += 1;
        let topic = match state {
            State::Claiming(_) => Topic::Claim(stream.clone(), self.turns),
            _ => Topic::Release(stream.clone(), self.turns),
        };
        (standing.state, standing.turn) = (state, self.turns);
        out.push(question(topic, Ask::Txn(txn), now));
    }
}

fn admit(
    stream: &StreamGuid,
    wish: &Wish,
    claimed: Revision,
    term: Option<&Term>,
) -> Option<Verdict> {
    let gate = term?.gate.clone();
    Some(Verdict::Admit(stream.clone(), wish.number(claimed), gate))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::record::InstanceId;
    use super::*;
    use crate::store::{Entry, Event, LeaseId};

    struct Desk {
        claims: Claims,
        mirror: Mirror,
        term: Option<Term>,
        out: Vec<Question>,
        now: Duration,
    }

    impl Desk {
        fn new() -> Self {
            Self {
                claims: Claims::new(group(), "n1".parse().expect("legal")),
                mirror: Mirror::default(),
                term: Some(term(1)),
                out: Vec::new(),
                now: Duration::ZERO,
            }
        }

        fn with(&mut self, act: impl FnOnce(&mut Claims, View<'_>, &mut Vec<Question>)) {
            let view = View {
                mirror: &self.mirror,
                term: self.term.as_ref(),
                now: self.now,
            };
            act(&mut self.claims, view, &mut self.out);
        }

        fn wish(&mut self, wish: Option<Wish>) -> Vec<Question> {
            self.with(|claims, view, out| claims.wish(&stream(), wish, view, out));
            std::mem::take(&mut self.out)
        }

        /// Answers a question.
        fn answer(&mut self, question: &Question, answer: Result<Said, Error>) -> Vec<Question> {
            let topic = question.topic.clone();
            self.with(|claims, view, out| claims.hear(topic, answer, view, out));
            std::mem::take(&mut self.out)
        }

        fn show(&mut self, claim: Option<Claim>, revision: Revision) -> Vec<Question> {
            let key = claim_key(&group(), &stream());
            self.mirror.apply(match claim {
                Some(claim) => Event::Put(Entry {
                    key,
                    value: serde_json::to_vec(&claim).expect("JSON").into(),
                    revision,
                }),
                None => Event::Delete { key, revision },
            });
            self.with(|claims, view, out| claims.touched(&stream(), view, out));
            std::mem::take(&mut self.out)
        }

        fn catch_up(&mut self, revision: Revision) {
            self.mirror.catch_up(revision);
            self.with(|claims, view, out| claims.step_all(view, out));
        }

        fn later(&mut self) -> Vec<Question> {
            self.now += RETRY;
            self.with(|claims, view, out| claims.tick(view, out));
            std::mem::take(&mut self.out)
        }

        fn verdicts(&mut self) -> Vec<&'static str> {
            let word = |verdict| match verdict {
                Verdict::Admit(..) => "admit",
                Verdict::Bar(_) => "bar",
                Verdict::Refuse(_) => "refuse",
            };
            self.claims.verdicts().into_iter().map(word).collect()
        }

        /// A stream that is held since revision 10.
        fn holding() -> Self {
            let mut desk = Self::new();
            let asked = desk.wish(assigned(1));
            desk.answer(&asked[0], Ok(Said::Written(10)));
            assert_eq!(desk.verdicts(), ["admit"]);
            desk
        }
    }

    fn group() -> NodeGroup {
        "g".parse().expect("legal")
    }

    fn stream() -> StreamGuid {
        "live/a".parse().expect("legal")
    }

    fn term(instance: u128) -> Term {
        Term {
            lease: LeaseId::from_raw(1),
            instance: InstanceId::from_bits(instance),
            gate: Gate::always(),
            revision: 3,
        }
    }

    fn assigned(epoch: u64) -> Option<Wish> {
        Some(Wish::Assigned {
            epoch,
            key: "assignments/g/p-1".to_owned(),
            revision: 4 + epoch,
        })
    }

    fn claim(node: &str, instance: u128, epoch: u64) -> Claim {
        Claim {
            node: node.parse().expect("legal"),
            instance: InstanceId::from_bits(instance),
            epoch,
            published: epoch == 0,
        }
    }

    fn unknown() -> Result<Said, Error> {
        Err(Error::Unavailable(Arc::new(std::fmt::Error)))
    }

    fn failed() -> Result<Said, Error> {
        let precondition = crate::store::Precondition::Absent("x".to_owned());
        Err(Error::Failed { precondition })
    }

    fn txn(question: &Question) -> &Txn {
        match &question.ask {
            Ask::Txn(txn) => txn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_claim_is_made_only_by_a_member_of_what_it_was_assigned_and_when_it_is_free() {
        let mut desk = Desk::new();
        let asked = desk.wish(assigned(1));
        let expected = Txn::new()
            .absent("claims/g/live/a")
            .revision_is("nodes/g/n1", 3)
            .revision_is("assignments/g/p-1", 5);
        assert_eq!(txn(&asked[0]).preconditions, expected.preconditions);
        assert_eq!(desk.verdicts(), [""; 0], "not before the answer");
        let mut desk = Desk::new();
        let asked = desk.wish(Some(Wish::Published));
        let keys: Vec<&str> = txn(&asked[0])
            .preconditions
            .iter()
            .map(|p| p.key())
            .collect();
        assert_eq!(keys, ["claims/g/live/a", "nodes/g/n1", "names/g/live/a"]);
        let mut desk = Desk::new();
        desk.term = None;
        assert!(desk.wish(assigned(1)).is_empty(), "no member");
    }

    #[test]
    fn a_move_waits_until_the_claim_of_the_former_owner_is_gone() {
        let mut desk = Desk::new();
        desk.show(Some(claim("n2", 9, 1)), 7);
        assert!(desk.wish(assigned(2)).is_empty());
        assert!(desk.later().is_empty());
        assert_eq!(desk.show(None, 8).len(), 1);
    }

    #[test]
    fn a_stream_is_barred_before_its_claim_is_given_up() {
        let mut desk = Desk::holding();
        let asked = desk.wish(None);
        assert_eq!(desk.verdicts(), ["bar"]);
        assert!(desk.claims.may_hold(&stream()));
        let deletes = Txn::new().revision_is("claims/g/live/a", 10);
        assert_eq!(txn(&asked[0]).preconditions, deletes.preconditions);
        assert!(desk.answer(&asked[0], Ok(Said::Written(11))).is_empty());
        assert!(desk.claims.is_idle());
        desk.catch_up(11);
        assert!(desk.claims.streams.is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_claim_whose_deletion_nobody_confirmed_is_not_used_again() {
        let mut desk = Desk::holding();
        desk.show(Some(claim("n1", 1, 1)), 10);
        let asked = desk.wish(None);
        desk.verdicts();
        assert!(desk.answer(&asked[0], unknown()).is_empty());
        // Wanted again, and the mirror still shows it as ours.
        assert!(desk.wish(assigned(1)).len() == 1, "deleted first");
        assert_eq!(desk.verdicts(), [""; 0]);
    }

    #[test]
    fn what_the_mirror_shows_late_is_not_taken_for_a_claim() {
        let mut desk = Desk::holding();
        let asked = desk.wish(None);
        desk.verdicts();
        desk.answer(&asked[0], Ok(Said::Written(11)));
        let asked = desk.wish(assigned(1));
        desk.answer(&asked[0], failed());
        desk.show(Some(claim("n1", 1, 1)), 10);
        assert_eq!(desk.verdicts(), [""; 0]);
        assert_eq!(desk.claims.held().count(), 0);
    }

    #[test]
    fn a_claim_that_was_made_although_nobody_said_so_is_found() {
        let mut desk = Desk::new();
        let asked = desk.wish(assigned(1));
        desk.answer(&asked[0], unknown());
        assert_eq!(desk.verdicts(), [""; 0]);
        desk.show(Some(claim("n1", 1, 1)), 6);
        assert_eq!(desk.verdicts(), ["admit"]);
        // Also when it is not wanted any more.
        let mut desk = Desk::new();
        let asked = desk.wish(assigned(1));
        desk.answer(&asked[0], unknown());
        desk.wish(None);
        let asked = desk.show(Some(claim("n1", 1, 1)), 6);
        assert_eq!(txn(&asked[0]).writes.len(), 1, "it is deleted");
        assert_eq!(desk.verdicts(), [""; 0]);
    }

    #[test]
    fn a_claim_for_what_is_not_wanted_any_more_admits_nothing() {
        let mut desk = Desk::new();
        let asked = desk.wish(assigned(1));
        desk.wish(assigned(2));
        let released = desk.answer(&asked[0], Ok(Said::Written(6)));
        assert!(!desk.verdicts().contains(&"admit"));
        assert!(matches!(released[0].topic, Topic::Release(..)));
        let claimed = desk.answer(&released[0], Ok(Said::Written(7)));
        assert!(matches!(claimed[0].topic, Topic::Claim(..)), "the next one");
    }

    #[test]
    fn another_membership_holds_nothing_of_the_former_one() {
        let mut desk = Desk::holding();
        desk.show(Some(claim("n1", 1, 1)), 10);
        desk.term = None;
        desk.with(|claims, view, out| claims.begin_anew(view, out));
        assert_eq!(desk.verdicts(), ["bar"]);
        desk.term = Some(term(2));
        desk.with(|claims, view, out| claims.begin_anew(view, out));
        desk.verdicts();
        assert!(desk.out.is_empty(), "the former claim is still shown");
        assert_eq!(desk.show(None, 12).len(), 1);
        assert_eq!(desk.verdicts(), [""; 0]);
    }

    #[test]
    fn a_publisher_goes_when_the_name_is_anothers() {
        let mut desk = Desk::new();
        desk.wish(Some(Wish::Published));
        desk.show(Some(claim("n2", 9, 0)), 7);
        assert_eq!(desk.verdicts(), [""; 0], "the answer is still to come");
        let mut desk = Desk::new();
        desk.show(Some(claim("n2", 9, 0)), 7);
        desk.wish(Some(Wish::Published));
        assert_eq!(desk.verdicts(), ["refuse"]);
    }

    #[test]
    fn claims_asked_for_at_a_time_are_bounded_and_none_is_forgotten() {
        let mut desk = Desk::new();
        let all = 5 * AT_A_TIME;
        for n in 0..all {
            let stream: StreamGuid = format!("live/{n}").parse().expect("legal");
            desk.with(|claims, view, out| claims.wish(&stream, assigned(1), view, out));
        }
        let mut asked = std::mem::take(&mut desk.out);
        assert_eq!(asked.len(), AT_A_TIME);
        let mut revision = 10;
        while let Some(question) = asked.pop() {
            revision += 1;
            asked.extend(desk.answer(&question, Ok(Said::Written(revision))));
            assert!(asked.len() <= AT_A_TIME);
        }
        assert_eq!(desk.claims.held().count(), all);
    }
}
