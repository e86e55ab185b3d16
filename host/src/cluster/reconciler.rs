//! Follows the store and makes this node match it.
//!
//! One loop, one watch: every change passes here in the store's order. Of a cluster it
//! also drives this node's membership: it carries orders out, then puts the questions,
//! and never waits for one answer before the next. Decides nothing.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tracing::{info, warn};

use super::claims::Verdict;
use super::follow::{News, news};
use super::member::{Local, Member, Order};
use super::mirror::{Mirror, Touched};
use super::question::Answered;
use super::{Cluster, Sabotage, Standing};
use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};
use crate::provision::ProvisionStream;
use crate::restreamer::Assigned;
use crate::store;
use crate::stream::Streams;
use crate::stream::gate::since_boot;

/// How long what a node that leaves has to say to the store may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Without a word of the store for so long the node does not know what it is to do. A watch
/// that is not served was made anew by then.
const DEAF: Duration = store::WORD.saturating_mul(2);
/// When nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Runs until the drain starts.
pub(super) async fn run(cluster: Cluster) {
    let member = cluster.0.member.lock().take();
    let mut driver = Driver {
        cluster,
        member,
        heard: since_boot(),
        deaf: false,
        questions: FuturesUnordered::new(),
    };
    driver.run().await;
    driver.depart().await;
}

struct Driver {
    cluster: Cluster,
    /// None when the node is alone.
    member: Option<Member>,
    /// When the store last told anything, be it that nothing is new.
    heard: Duration,
    deaf: bool,
    questions: FuturesUnordered<BoxFuture<'static, Answered>>,
}

impl Local for Streams {
    fn is_live(&self, stream: &StreamGuid) -> bool {
        self.find(stream).is_some_and(|stream| stream.is_live())
    }

    fn can_begin(&self, stream: &StreamGuid) -> bool {
        self.find(stream).is_some_and(|stream| stream.can_begin())
    }
}

impl Driver {
    async fn run(&mut self) {
        let (drain, streams) = (self.cluster.0.drain.clone(), self.cluster.0.streams.clone());
        let mut news = pin!(news(self.cluster.0.store.clone()));
        let mut changes = streams.changes();
        let mut leaving = self.cluster.0.leaving.subscribe();
        loop {
            self.tick();
            self.flush();
            let pause = self.pause();
            tokio::select! {
                () = drain.started() => return,
                Some(answered) = self.questions.next(), if !self.questions.is_empty() => {
                    self.with(|member, mirror, now| member.hear(answered, mirror, now));
                }
                Some(news) = news.next() => self.on_news(news),
                () = streams.freed() => self.cluster.0.restreamers.retry(),
                // The sender lives as long as the streams.
                Ok(()) = changes.changed() => self.on_streams(),
                Ok(()) = leaving.changed() => self.on_leave(),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Nothing of this node's own is appended any more, and the others know it.
    async fn depart(mut self) {
        self.with(|member, _, now| member.depart(now));
        self.questions.clear();
        self.flush();
        let farewell = async { while self.questions.next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            warn!("the store did not take the farewell; what was here is free when the lease ends");
        }
    }

    fn with(&mut self, act: impl FnOnce(&mut Member, &Mirror, Duration)) {
        if let Some(member) = &mut self.member {
            act(member, &self.cluster.0.mirror.read(), since_boot());
        }
    }

    fn tick(&mut self) {
        self.listen();
        let offers = || self.cluster.0.restreamers.offers();
        if let Some(member) = &mut self.member {
            let (mirror, now) = (self.cluster.0.mirror.read(), since_boot());
            member.offers(offers());
            member.tick(&mirror, &self.cluster.0.streams, now);
        }
    }

    /// A member that hears nothing lets its lease end.
    fn listen(&mut self) {
        let silent = since_boot().saturating_sub(self.heard);
        let deaf = silent > DEAF;
        if let Some(member) = self.member.as_mut().filter(|_| deaf != self.deaf) {
            match deaf {
                true => warn!(?silent, "nothing is heard of the store: the lease ends"),
                false => info!("the store is heard of again"),
            }
            member.set_deaf(deaf);
            self.deaf = deaf;
        }
    }

    fn pause(&self) -> Duration {
        let alarm = self.member.as_ref().and_then(|member| {
            let now = since_boot();
            let alarm = member.alarm(&self.cluster.0.mirror.read(), now)?;
            Some(alarm.saturating_sub(now))
        });
        alarm.unwrap_or(IDLE).min(IDLE)
    }

    /// Orders first: what they bar is barred when the questions are put.
    fn flush(&mut self) {
        loop {
            let orders = self.member.as_mut().map(Member::orders).unwrap_or_default();
            if orders.is_empty() {
                break;
            }
            orders.into_iter().for_each(|order| self.carry_out(order));
        }
        let questions = self.member.as_mut().map(Member::questions);
        for question in questions.unwrap_or_default() {
            let store = self.cluster.0.store.clone();
            self.questions.push(Box::pin(question.put(store)));
        }
        self.skip_claims();
    }

    /// For tests, see [`Sabotage::Claim`]. Before anything is dialed for a stream, so that
    /// none is seen to wait.
    fn skip_claims(&self) {
        let inner = &self.cluster.0;
        let member = self.member.as_ref();
        let member = member.filter(|_| inner.sabotage() == Sabotage::Claim);
        let Some((member, gate)) = member.and_then(|member| Some((member, member.gate()?))) else {
            return;
        };
        for (guid, epoch) in member.lacking() {
            let stream = inner.streams.find(guid);
            if let Some(stream) = stream.filter(|stream| stream.permitted() != Some(epoch)) {
                stream.admit(inner.permit(guid, epoch, gate.clone()));
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        let inner = &self.cluster.0;
        match order {
            Order::Keep(former) => inner.keep(&former),
            Order::Join(gate) => {
                info!("this node is a member of its cluster");
                inner.streams.join(gate);
                inner.standing.send_replace(Standing::Member);
            }
            Order::Taken(by) => {
                inner.standing.send_replace(Standing::Taken(by));
            }
            Order::Lost => {
                warn!("the lease is over: nothing is appended until there is a new one");
                inner.standing.send_replace(Standing::Out);
            }
            Order::Stream(Verdict::Admit(stream, epoch, gate)) => {
                if let Some(stream) = inner.streams.find(&stream) {
                    stream.admit(inner.permit(stream.guid(), epoch, gate));
                }
            }
            Order::Stream(Verdict::Bar(stream)) => {
                if let Some(stream) = inner.streams.find(&stream) {
                    stream.bar();
                }
            }
            Order::Stream(Verdict::Refuse(guid)) => {
                let stream = inner.streams.find(&guid);
                if let Some(stream) = stream.filter(|stream| stream.is_published()) {
                    info!(stream = %guid, "the name is another node's: its publisher has to go");
                    // Who watches it gets that node's.
                    inner.streams.leave(&stream);
                }
            }
            Order::Settle(guid) => {
                let group = inner.me.group.clone();
                self.settle_provision(&group, &guid);
            }
            Order::Go => {
                info!("what could be handed over is");
                inner.drain.start();
            }
        }
    }

    fn on_leave(&mut self) {
        let Some(until) = *self.cluster.0.leaving.borrow() else {
            return;
        };
        match self.member {
            Some(_) => self.with(|member, mirror, now| member.leave(until, mirror, now)),
            None => self.cluster.0.drain.start(),
        }
    }

    /// A stream began or ended here.
    fn on_streams(&mut self) {
        if self.member.is_none() {
            return;
        }
        let streams = self.cluster.0.streams.clone();
        let published: BTreeSet<StreamGuid> = streams.published().into_iter().collect();
        self.with(|member, mirror, now| member.publishes(published, mirror, now));
        // One that began after its claim was made.
        let Some((member, gate)) = self
            .member
            .as_ref()
            .and_then(|member| Some((member, member.gate()?)))
        else {
            return;
        };
        for (guid, epoch) in member.held() {
            let stream = streams.find(guid);
            if let Some(stream) = stream.filter(|stream| stream.permitted() != Some(epoch)) {
                stream.admit(self.cluster.0.permit(guid, epoch, gate.clone()));
            }
        }
    }

    fn on_news(&mut self, news: News) {
        self.heard = since_boot();
        match news {
            News::Whole(mirror, revision) => self.install(*mirror, revision),
            News::Batch(batch) => self.on_batch(batch),
        }
    }

    fn install(&mut self, mirror: Mirror, revision: store::Revision) {
        let inner = &self.cluster.0;
        let group = inner.me.group.clone();
        let former = std::mem::replace(&mut *inner.mirror.write(), mirror);
        let names: Vec<_> = {
            let mirror = inner.mirror.read();
            let names = former.names(&group).chain(mirror.names(&group));
            names.cloned().collect()
        };
        for stream in names {
            self.settle_name(&group, &stream, revision);
        }
        self.with(|member, mirror, now| member.relisted(mirror, now));
        self.flush();
        let inner = &self.cluster.0;
        let mut provisions: BTreeSet<ProvisionGuid> = inner
            .restreamers
            .assigned()
            .into_iter()
            .map(|(provision, _)| provision)
            .collect();
        {
            let mirror = inner.mirror.read();
            let assigned = mirror.assigned(&group);
            provisions.extend(assigned.map(|(provision, _)| provision.guid.clone()));
        }
        for provision in provisions {
            self.settle_provision(&group, &provision);
        }
        self.cluster.0.claims.send_replace(());
        self.cluster.0.applied.send_replace(Some(revision));
    }

    fn on_batch(&mut self, batch: store::Batch) {
        let touched: BTreeSet<Touched> = {
            let mut mirror = self.cluster.0.mirror.write();
            let events = batch.events.into_iter();
            let touched = events.filter_map(|event| mirror.apply(event)).collect();
            mirror.catch_up(batch.revision);
            touched
        };
        for one in &touched {
            self.with(|member, mirror, now| member.touched(one, mirror, now));
        }
        // What is not this node's any more is barred before it is stopped.
        self.flush();
        for one in &touched {
            self.settle(one, batch.revision);
        }
        let claims = |one: &Touched| matches!(one, Touched::Claim(..) | Touched::Node(..));
        if touched.iter().any(claims) {
            self.cluster.0.claims.send_replace(());
        }
        self.cluster.0.applied.send_replace(Some(batch.revision));
    }

    /// Makes this node match the mirror, which is at a revision, in one respect.
    fn settle(&self, touched: &Touched, revision: store::Revision) {
        let group = &self.cluster.0.me.group;
        match touched {
            Touched::Name(of, stream) if of == group => {
                self.settle_name(group, stream, revision);
            }
            Touched::Provision(of, guid) if of == group => self.settle_provision(group, guid),
            _ => {}
        }
    }

    fn settle_name(&self, group: &NodeGroup, stream: &StreamGuid, revision: store::Revision) {
        let inner = &self.cluster.0;
        if !inner.mirror.read().has_name(group, stream) {
            inner.streams.release(stream, revision);
        } else if let Err(taken) = inner.streams.hold(stream, revision) {
            warn!(%stream, %taken, "a provision's name is taken");
        }
    }

    fn settle_provision(&self, group: &NodeGroup, guid: &ProvisionGuid) {
        let inner = &self.cluster.0;
        let wanted = self.wanted(&inner.mirror.read(), group, guid);
        let Some((wanted, elsewhere)) = wanted else {
            return;
        };
        for stream in inner.restreamers.of(guid) {
            if wanted.iter().any(|assigned| assigned.stream == stream) {
                continue;
            }
            // Who watches a stream that moved stays, and gets it from its new node.
            match elsewhere.contains(&stream) {
                true => inner.restreamers.leave(guid, &stream),
                false => inner.restreamers.stop(guid, &stream),
            }
        }
        for assigned in wanted {
            inner.restreamers.ensure(assigned);
        }
    }

    /// What is to run here of a provision, and which of its streams run on another node;
    /// `None` while what runs is kept as it is, until another node can begin.
    fn wanted(
        &self,
        mirror: &Mirror,
        group: &NodeGroup,
        guid: &ProvisionGuid,
    ) -> Option<(Vec<Assigned>, BTreeSet<StreamGuid>)> {
        let me = &self.cluster.0.me.id;
        let Some((provision, Some(assignment))) = mirror.provision(group, guid) else {
            return Some((Vec::new(), BTreeSet::new()));
        };
        if assignment.node != *me {
            let member = self.member.as_ref();
            if member.is_some_and(|member| member.keeps(guid, mirror)) {
                return None;
            }
            let fed = provision.streams.iter().filter(|stream| stream.feeds);
            let elsewhere = fed.map(|stream| stream.guid.clone()).collect();
            return Some((Vec::new(), elsewhere));
        }
        let assigned = |stream: &ProvisionStream| Assigned {
            provision: guid.clone(),
            stream: stream.guid.clone(),
            kind: stream.kind.clone(),
            feeds: stream.feeds,
            properties: stream.properties.clone(),
            latency: stream.latency,
            epoch: assignment.epoch,
            asked: assignment.asked,
        };
        let wanted = provision.streams.iter().map(assigned).collect();
        Some((wanted, BTreeSet::new()))
    }
}
