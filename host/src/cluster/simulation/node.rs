//! A process of a node: the real member, with a mirror and streams of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dice::Dice;
use super::{TTL, group};
use crate::cluster::claims::Verdict;
use crate::cluster::lease::{Former, Timing};
use crate::cluster::member::{Habits, Local, Member, Order};
use crate::cluster::mirror::Mirror;
use crate::cluster::question::{Answered, Question};
use crate::cluster::record::tests::record;
use crate::id::{NodeId, ProvisionGuid, StreamGuid};
use crate::store::{Batch, Entry, Revision};
use crate::stream::Gate;

/// A dial and a group of pictures.
const DIAL: Duration = Duration::from_millis(300);

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) process: u32,
    pub(super) up: bool,
    /// It is stopped until then, and does not know it.
    pub(super) stopped: Option<Duration>,
    /// Nothing goes to the store or comes from it.
    pub(super) cut: bool,
    /// It has left.
    pub(super) gone: bool,
    member: Member,
    pub(super) mirror: Mirror,
    pub(super) listed: bool,
    pub(super) permits: BTreeMap<StreamGuid, (u64, Gate)>,
    pub(super) appended: BTreeMap<StreamGuid, Duration>,
    running: BTreeMap<StreamGuid, (ProvisionGuid, Duration)>,
    pub(super) published: BTreeSet<StreamGuid>,
    pub(super) published_changed: bool,
    pub(super) wake_at: Option<Duration>,
    former: Option<Former>,
    questions: Vec<Question>,
    /// Its clock: when it began, and how fast it runs.
    offset: Duration,
    rate: f64,
}

struct Streams<'a> {
    appended: &'a BTreeMap<StreamGuid, Duration>,
    running: &'a BTreeMap<StreamGuid, (ProvisionGuid, Duration)>,
    now: Duration,
}

impl Local for Streams<'_> {
    fn is_live(&self, stream: &StreamGuid) -> bool {
        let last = self.appended.get(stream);
        last.is_some_and(|last| self.now < *last + Duration::from_secs(1))
    }

    fn can_begin(&self, stream: &StreamGuid) -> bool {
        let running = self.running.get(stream);
        running.is_some_and(|(_, since)| self.now >= *since + DIAL)
    }
}

fn member(id: &NodeId, former: Option<Former>, bits: u128) -> Member {
    let habits = Habits {
        timing: Timing {
            ttl: TTL,
            margin: Duration::from_millis(500),
            renew: Duration::from_millis(300),
            retry: Duration::from_millis(300),
        },
        settle: Duration::from_secs(5),
    };
    Member::new(group(), id.clone(), record(0), former, habits, bits)
}

impl Node {
    pub(super) fn new(n: usize, dice: &mut Dice) -> Self {
        let id: NodeId = format!("n{n}").parse().expect("legal");
        Self {
            member: member(&id, None, 0),
            id,
            process: 0,
            up: false,
            stopped: None,
            cut: false,
            gone: false,
            mirror: Mirror::default(),
            listed: false,
            permits: BTreeMap::new(),
            appended: BTreeMap::new(),
            running: BTreeMap::new(),
            published: BTreeSet::new(),
            published_changed: false,
            wake_at: None,
            former: None,
            questions: Vec::new(),
            offset: Duration::from_secs(dice.between(10, 100_000)),
            rate: 1.0 + (dice.below(11) as f64 - 5.0) / 1_000.0,
        }
    }

    pub(super) fn clock(&self, now: Duration) -> Duration {
        self.offset + now.mul_f64(self.rate)
    }

    /// Another process begins, with what the former one wrote down.
    pub(super) fn start(&mut self, bits: u128, forgets: bool) {
        if forgets {
            self.former = None;
        }
        *self = Self {
            member: member(&self.id, self.former.clone(), bits),
            id: self.id.clone(),
            process: self.process + 1,
            up: true,
            stopped: None,
            cut: self.cut,
            gone: false,
            mirror: Mirror::default(),
            listed: false,
            permits: BTreeMap::new(),
            appended: BTreeMap::new(),
            running: BTreeMap::new(),
            published: BTreeSet::new(),
            published_changed: false,
            wake_at: None,
            former: self.former.clone(),
            questions: Vec::new(),
            offset: self.offset,
            rate: self.rate,
        };
    }

    pub(super) fn hear(&mut self, answered: Answered, now: Duration) {
        self.member.hear(answered, &self.mirror, now);
    }

    pub(super) fn relist(&mut self, entries: Vec<Entry>, revision: Revision, now: Duration) {
        self.mirror = Mirror::default();
        for entry in entries {
            self.mirror.load(entry);
        }
        self.mirror.catch_up(revision);
        self.listed = true;
        self.member.relisted(&self.mirror, now);
        self.settle(now);
    }

    pub(super) fn batch(&mut self, batch: Batch, now: Duration) {
        let events = batch.events.into_iter();
        let touched: BTreeSet<_> = events
            .filter_map(|event| self.mirror.apply(event))
            .collect();
        self.mirror.catch_up(batch.revision);
        for one in &touched {
            self.member.touched(one, &self.mirror, now);
        }
        self.orders(now);
        self.settle(now);
    }

    pub(super) fn leave(&mut self, now: Duration) {
        let until = now + Duration::from_secs(15);
        self.member.leave(until, &self.mirror, now);
    }

    pub(super) fn turn(&mut self, now: Duration) {
        if std::mem::take(&mut self.published_changed) {
            let published = self.published.clone();
            self.member.publishes(published, &self.mirror, now);
        }
        let streams = Streams {
            appended: &self.appended,
            running: &self.running,
            now,
        };
        self.member.tick(&self.mirror, &streams, now);
        self.orders(now);
    }

    pub(super) fn questions(&mut self) -> Vec<Question> {
        self.questions.extend(self.member.questions());
        std::mem::take(&mut self.questions)
    }

    pub(super) fn alarm(&self, now: Duration) -> Option<Duration> {
        let alarm = self.member.alarm(&self.mirror, now)?;
        Some(alarm.saturating_sub(now))
    }

    /// Streams with a frame at hand.
    pub(super) fn media(&self, now: Duration) -> Vec<(StreamGuid, Option<ProvisionGuid>)> {
        let flows = |since: &Duration| now >= *since + DIAL;
        let pulled = self.running.iter();
        let pulled = pulled.filter(|(_, (_, since))| flows(since));
        let pulled = pulled.map(|(stream, (guid, _))| (stream.clone(), Some(guid.clone())));
        let published = self.published.iter().map(|stream| (stream.clone(), None));
        pulled.chain(published).collect()
    }

    pub(super) fn epoch_of(&self, guid: Option<&ProvisionGuid>) -> u64 {
        let assigned = guid.and_then(|guid| self.mirror.assignment(&group(), guid));
        assigned.map_or(0, |assigned| assigned.epoch)
    }

    fn orders(&mut self, now: Duration) {
        loop {
            let orders = self.member.orders();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                match order {
                    Order::Keep(former) => self.former = Some(former),
                    Order::Stream(Verdict::Admit(stream, number, gate)) => {
                        self.permits.insert(stream, (number, gate));
                    }
                    Order::Stream(Verdict::Bar(stream)) => drop(self.permits.remove(&stream)),
                    Order::Stream(Verdict::Refuse(stream)) => {
                        self.published.remove(&stream);
                        self.published_changed = true;
                    }
                    Order::Settle(_) => self.settle(now),
                    Order::Go => {
                        self.member.depart(now);
                        self.gone = true;
                    }
                    Order::Join(_) | Order::Taken(_) | Order::Lost => {}
                }
            }
        }
    }

    fn settle(&mut self, now: Duration) {
        let mut wanted = BTreeMap::new();
        for (provision, _) in self.mirror.assigned(&group()) {
            if self.member.keeps(&provision.guid, &self.mirror) {
                for stream in &provision.streams {
                    wanted.insert(stream.guid.clone(), provision.guid.clone());
                }
            }
        }
        self.running
            .retain(|stream, (guid, _)| wanted.get(stream) == Some(guid));
        for (stream, guid) in wanted {
            self.running.entry(stream).or_insert((guid, now));
        }
    }
}
