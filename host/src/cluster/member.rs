//! One node of a cluster: its lease, its claims, and what it moves, put together.
//!
//! Pure: time, answers, and what the store and this node's streams show come in; orders
//! and questions go out. The same code is driven by a task in front of a store, and by the
//! simulation on a virtual clock. Orders are to be carried out before questions are put:
//! a stream is barred before the store hears that its claim is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::claims::{Claims, Verdict, View, Wish};
use super::lease::{Former, Lease, Notice, Timing, question};
use super::mirror::{Known, Mirror, Touched};
use super::moves::Moves;
use super::question::{Answered, Ask, Question, Said, Topic};
use super::record::{InstanceId, NodeRecord, NodeState, Ready, node_key, ready_key};
use crate::id::{NodeGroup, NodeId, ProvisionGuid, StreamGuid};
use crate::provision::{Provision, keys};
use crate::store::Txn;
use crate::stream::Gate;

/// How long a stream that is handed over is kept for a node that has nothing to go on
/// with yet: a dial and a group of pictures.
const HAND_OVER: Duration = Duration::from_secs(8);
/// How often it is looked whether a stream can be begun with, while another node keeps it
/// for that.
const LOOK: Duration = Duration::from_millis(50);

/// How this node keeps its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) timing: Timing,
    /// How long a node that was not there when this one began may take to come.
    pub(super) settle: Duration,
}

/// What this node's streams are like.
pub(super) trait Local {
    /// Whether media moves.
    fn is_live(&self, stream: &StreamGuid) -> bool;
    /// Whether there is media that waits for the claim alone.
    fn can_begin(&self, stream: &StreamGuid) -> bool;
}

/// What this node is to do at once.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Write down which membership is this node's.
    Keep(Former),
    /// The membership's gate is this node's.
    Join(Gate),
    /// Another process has this node's name.
    Taken(Option<Box<NodeRecord>>),
    /// The membership is over, and a new one is asked for.
    Lost,
    /// About a stream.
    Stream(Verdict),
    /// What runs here of this provision is to be looked at.
    Settle(ProvisionGuid),
    /// Everything that could be handed over is.
    Go,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Member {
    group: NodeGroup,
    me: NodeId,
    lease: Lease,
    claims: Claims,
    moves: Moves,
    /// The membership that the claims belong to.
    instance: Option<InstanceId>,
    /// Streams that provisions want here.
    wished: BTreeMap<ProvisionGuid, BTreeSet<StreamGuid>>,
    /// Which of them, and why.
    wishes: BTreeMap<StreamGuid, (ProvisionGuid, Wish)>,
    published: BTreeSet<StreamGuid>,
    /// Provisions of other nodes that this one keeps until they can begin, but not longer.
    kept: BTreeMap<ProvisionGuid, Duration>,
    /// What was said to be ready, by epoch.
    ready: BTreeMap<StreamGuid, u64>,
    /// Until when what is left may be handed over.
    leaving: Option<Duration>,
    questions: Vec<Question>,
    orders: Vec<Order>,
}

impl Member {
    /// Not a member yet. `bits` are random.
    pub(super) fn new(
        group: NodeGroup,
        me: NodeId,
        record: NodeRecord,
        former: Option<Former>,
        habits: Habits,
        bits: u128,
    ) -> Self {
        let key = node_key(&group, &me);
        Self {
            lease: Lease::new(habits.timing, key, record, former, bits),
            claims: Claims::new(group.clone(), me.clone()),
            moves: Moves::new(group.clone(), me.clone(), habits.settle),
            group,
            me,
            instance: None,
            wished: BTreeMap::new(),
            wishes: BTreeMap::new(),
            published: BTreeSet::new(),
            kept: BTreeMap::new(),
            ready: BTreeMap::new(),
            leaving: None,
            questions: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// What is to be done first.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        let verdicts = self.claims.verdicts();
        self.orders.extend(verdicts.into_iter().map(Order::Stream));
        std::mem::take(&mut self.orders)
    }

    /// What is to be asked then.
    pub(super) fn questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// Whether it is certain that this node is a member.
    pub(super) fn is_certain(&self, now: Duration) -> bool {
        self.lease.is_certain(now)
    }

    /// Whether the node carries a provision out: it is assigned to it, or was, and is kept
    /// until its new node can begin.
    pub(super) fn keeps(&self, guid: &ProvisionGuid, mirror: &Mirror) -> bool {
        let Some((_, Some(assigned))) = mirror.provision(&self.group, guid) else {
            return false;
        };
        assigned.node == self.me || self.kept.contains_key(guid)
    }

    /// Streams whose claim this node has.
    pub(super) fn held(&self) -> impl Iterator<Item = (&StreamGuid, u64)> {
        self.claims.held()
    }

    /// Streams that provisions want here and whose claim this node lacks, with the epoch.
    pub(super) fn lacking(&self) -> impl Iterator<Item = (&StreamGuid, u64)> {
        let lacking = self.claims.lacking();
        lacking.filter_map(|(stream, wish)| match wish {
            Wish::Assigned { epoch, .. } => Some((stream, *epoch)),
            Wish::Published => None,
        })
    }

    /// The gate of the membership, if there is one.
    pub(super) fn gate(&self) -> Option<Gate> {
        self.lease.term().map(|term| term.gate.clone())
    }

    /// What the node offers.
    pub(super) fn offers(&mut self, plugins: BTreeMap<crate::id::RestreamType, String>) {
        if self.lease.record().plugins != plugins {
            self.lease.tell(|record| record.plugins = plugins);
        }
    }

    /// Whether the node hears of what changes in the store; see [`Lease::set_deaf`].
    pub(super) fn set_deaf(&mut self, deaf: bool) {
        self.lease.set_deaf(deaf);
    }

    /// The mirror was read whole.
    pub(super) fn relisted(&mut self, mirror: &Mirror, now: Duration) {
        let mine = mirror.assigned(&self.group);
        let guids: BTreeSet<ProvisionGuid> = mine
            .filter(|(_, assigned)| assigned.node == self.me)
            .map(|(provision, _)| provision.guid.clone())
            .chain(self.wished.keys().cloned())
            .collect();
        for guid in guids {
            self.reconsider(&guid, mirror, now);
        }
        self.with_claims(mirror, now, Claims::step_all);
        self.moves.look_at_all(mirror, now);
    }

    /// Something in the mirror is new.
    pub(super) fn touched(&mut self, touched: &Touched, mirror: &Mirror, now: Duration) {
        match touched {
            Touched::Node(group, node) if *group == self.group => {
                self.moves.node(node, mirror, now);
            }
            Touched::Claim(group, stream) if *group == self.group => {
                self.with_claims(mirror, now, |claims, view, out| {
                    claims.touched(stream, view, out);
                });
                for guid in mirror.about(&self.group, stream) {
                    self.moves.look_at(guid, mirror, now);
                }
            }
            Touched::Provision(group, guid) if *group == self.group => {
                self.reconsider(guid, mirror, now);
                self.moves.look_at(guid, mirror, now);
            }
            // What waits for a claim to be free looks by itself.
            Touched::Name(group, stream) if *group == self.group => {
                self.with_claims(mirror, now, |claims, view, out| {
                    claims.touched(stream, view, out);
                });
            }
            _ => {}
        }
    }

    /// Which streams publishers feed here.
    pub(super) fn publishes(
        &mut self,
        published: BTreeSet<StreamGuid>,
        mirror: &Mirror,
        now: Duration,
    ) {
        let former = std::mem::replace(&mut self.published, published);
        let changed: Vec<StreamGuid> = former
            .symmetric_difference(&self.published)
            .cloned()
            .collect();
        for stream in changed {
            self.wish(&stream, mirror, now);
        }
    }

    /// The node is to leave, and to hand over until then.
    pub(super) fn leave(&mut self, until: Duration, mirror: &Mirror, now: Duration) {
        if self.leaving.is_none() {
            self.leaving = Some(until);
            self.lease.tell(|record| record.state = NodeState::Draining);
            self.moves.leave(mirror, now);
        }
    }

    /// The node leaves: nothing is appended any more, and what it has is free.
    pub(super) fn depart(&mut self, now: Duration) {
        let held: Vec<StreamGuid> = self.held().map(|(stream, _)| stream.clone()).collect();
        let bars = held.into_iter().map(Verdict::Bar).map(Order::Stream);
        self.orders.extend(bars);
        self.lease.leave(now, &mut self.questions);
    }

    /// When there is something to do without an answer.
    pub(super) fn alarm(&self, mirror: &Mirror, now: Duration) -> Option<Duration> {
        let look = !self.kept.is_empty() || self.waits_for_leavers(mirror);
        let moves = self.is_certain(now).then(|| self.moves.alarm()).flatten();
        [
            self.lease.alarm(),
            self.claims.alarm(),
            moves,
            self.leaving,
            look.then_some(now + LOOK),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is due is done.
    pub(super) fn tick(&mut self, mirror: &Mirror, local: &dyn Local, now: Duration) {
        self.lease.tick(now, &mut self.questions);
        self.after_lease(mirror, now);
        self.with_claims(mirror, now, Claims::tick);
        if self.is_certain(now) {
            self.moves.tick(mirror, now, &mut self.questions);
            let giving: Vec<ProvisionGuid> = self.moves.giving().cloned().collect();
            for guid in giving {
                self.kept.entry(guid).or_insert(now + HAND_OVER);
            }
        }
        self.say_what_is_ready(mirror, local, now);
        self.let_go(mirror, local, now);
        self.go(mirror, now);
    }

    /// An answer.
    pub(super) fn hear(&mut self, answered: Answered, mirror: &Mirror, now: Duration) {
        match answered.topic.clone() {
            Topic::Claim(..) | Topic::Release(..) => {
                let Answered { topic, answer, .. } = answered;
                self.with_claims(mirror, now, |claims, view, out| {
                    claims.hear(topic, answer, view, out);
                });
            }
            Topic::Move(guid) => {
                self.moves.hear(&guid, now);
                if !matches!(answered.answer, Ok(Said::Written(_))) {
                    self.moves.look_at(&guid, mirror, now);
                }
            }
            Topic::Ready(stream) => {
                if !matches!(answered.answer, Ok(Said::Written(_))) {
                    self.ready.remove(&stream);
                }
            }
            _ => {
                self.lease.hear(answered, now, &mut self.questions);
                self.after_lease(mirror, now);
            }
        }
    }

    fn with_claims(
        &mut self,
        mirror: &Mirror,
        now: Duration,
        act: impl FnOnce(&mut Claims, View<'_>, &mut Vec<Question>),
    ) {
        let view = View {
            mirror,
            term: self.lease.term(),
            now,
        };
        act(&mut self.claims, view, &mut self.questions);
    }

    fn after_lease(&mut self, mirror: &Mirror, now: Duration) {
        for notice in self.lease.notices() {
            match notice {
                Notice::Keep(former) => self.orders.push(Order::Keep(former)),
                Notice::Taken(record) => self.orders.push(Order::Taken(record)),
                Notice::Lost => self.orders.push(Order::Lost),
                Notice::Entered => {}
            }
        }
        let term = self.lease.term();
        let instance = term.map(|term| term.instance.clone());
        if instance == self.instance {
            return;
        }
        self.orders
            .extend(term.map(|term| Order::Join(term.gate.clone())));
        self.instance = instance;
        self.ready.clear();
        self.with_claims(mirror, now, Claims::begin_anew);
    }

    /// What a provision wants of this node's streams.
    fn reconsider(&mut self, guid: &ProvisionGuid, mirror: &Mirror, now: Duration) {
        let placed = mirror.placed(&self.group, guid);
        let kept = self.kept.contains_key(guid);
        let provision = mirror.provision(&self.group, guid);
        let wanted = match (provision, placed) {
            (Some((provision, _)), Some(placed)) if placed.value.node == self.me => {
                self.wanted(provision, placed)
            }
            // As they are: it appends under its own epoch until the other one can begin.
            (Some(_), Some(_)) if kept => return,
            _ => BTreeMap::new(),
        };
        let streams: BTreeSet<StreamGuid> = wanted.keys().cloned().collect();
        let former = match streams.is_empty() {
            true => self.wished.remove(guid),
            false => self.wished.insert(guid.clone(), streams.clone()),
        };
        let former = former.unwrap_or_default();
        for stream in former.difference(&streams) {
            // Another provision may want it by now.
            let of_it = self.wishes.get(stream).is_some_and(|(of, _)| of == guid);
            if of_it {
                self.wishes.remove(stream);
            }
        }
        for (stream, wish) in wanted {
            self.wishes.insert(stream, (guid.clone(), wish));
        }
        for stream in former.union(&streams) {
            self.wish(stream, mirror, now);
        }
    }

    fn wanted(
        &self,
        provision: &Provision,
        placed: &Known<super::Assignment>,
    ) -> BTreeMap<StreamGuid, Wish> {
        let wish = Wish::Assigned {
            epoch: placed.value.epoch,
            key: keys::assignment(&self.group, &provision.guid),
            revision: placed.revision,
        };
        let fed = provision.streams.iter().filter(|stream| stream.feeds);
        fed.map(|stream| (stream.guid.clone(), wish.clone()))
            .collect()
    }

    fn wish(&mut self, stream: &StreamGuid, mirror: &Mirror, now: Duration) {
        // A publisher that is there keeps its name until it leaves.
        let wish = match self.published.contains(stream) {
            true => Some(Wish::Published),
            false => self.wishes.get(stream).map(|(_, wish)| wish.clone()),
        };
        self.with_claims(mirror, now, |claims, view, out| {
            claims.wish(stream, wish, view, out);
        });
    }

    /// Whether a node that leaves may keep a stream until this one can begin with it.
    fn waits_for_leavers(&self, mirror: &Mirror) -> bool {
        let mut nodes = mirror.nodes(&self.group);
        nodes.any(|(node, record)| *node != self.me && record.state == NodeState::Draining)
            && self.claims.lacking().next().is_some()
    }

    /// A node that leaves hears what this one could begin with.
    fn say_what_is_ready(&mut self, mirror: &Mirror, local: &dyn Local, now: Duration) {
        let Some(term) = self.lease.term() else {
            return;
        };
        if !self.waits_for_leavers(mirror) {
            return;
        }
        for (stream, wish) in self.claims.lacking() {
            let Wish::Assigned {
                epoch,
                key,
                revision,
            } = wish
            else {
                continue;
            };
            if self.ready.get(stream) == Some(epoch)
                || mirror.claim(&self.group, stream).is_none()
                || !local.can_begin(stream)
            {
                continue;
            }
            let ready = Ready {
                node: self.me.clone(),
                epoch: *epoch,
            };
            let value = serde_json::to_vec(&ready).expect("names and numbers are serialisable");
            let txn = Txn::new().revision_is(key.clone(), *revision);
            let txn = txn.put_leased(ready_key(&self.group, stream), value, term.lease);
            let topic = Topic::Ready(stream.clone());
            self.questions.push(question(topic, Ask::Txn(txn), now));
            self.ready.insert(stream.clone(), *epoch);
        }
    }

    /// Lets go what was kept until its new node could begin.
    fn let_go(&mut self, mirror: &Mirror, local: &dyn Local, now: Duration) {
        let giving: BTreeSet<&ProvisionGuid> = self.moves.giving().collect();
        let over: Vec<ProvisionGuid> = self
            .kept
            .iter()
            .filter(|(guid, until)| {
                !giving.contains(guid) && self.is_over(guid, **until, mirror, local, now)
            })
            .map(|(guid, _)| guid.clone())
            .collect();
        for guid in over {
            self.kept.remove(&guid);
            self.reconsider(&guid, mirror, now);
            self.orders.push(Order::Settle(guid));
        }
    }

    fn is_over(
        &self,
        guid: &ProvisionGuid,
        until: Duration,
        mirror: &Mirror,
        local: &dyn Local,
        now: Duration,
    ) -> bool {
        let Some((provision, Some(assigned))) = mirror.provision(&self.group, guid) else {
            return true;
        };
        if now >= until {
            return true;
        }
        if assigned.node == self.me {
            // The move was answered and the mirror is behind, or nothing came of it.
            return false;
        }
        let can_go = |stream: &StreamGuid| {
            let ready = mirror.ready(&self.group, stream).map(|ready| &ready.value);
            let waits = ready.is_some_and(|ready| ready.epoch >= assigned.epoch);
            waits || !local.is_live(stream)
        };
        let mut fed = provision.streams.iter().filter(|stream| stream.feeds);
        fed.all(|stream| can_go(&stream.guid))
    }

    /// Says that the node may go, when nothing is left to hand over.
    fn go(&mut self, mirror: &Mirror, now: Duration) {
        let Some(until) = self.leaving else {
            return;
        };
        let given = self.moves.has_given_all() && self.kept.is_empty();
        if given || now >= until || !self.moves.has_others(mirror) {
            self.leaving = None;
            self.orders.push(Order::Go);
        }
    }
}
