//! Which provisions have to go to another node, and which of the nodes says so.
//!
//! A pure state machine. A provision that asks for it is placed anew when its node is gone;
//! one that reads a stream goes where that stream is; a node that leaves hands over what it
//! has. Every node comes to the same conclusions; whose transaction is done first has
//! decided, the others' preconditions fail. To spare these, one node after the other has
//! its turn. Invariant: nothing is taken from a node that is there, but by itself, or to
//! follow a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::lease::question;
use super::mirror::{Assignment, Known, Mirror};
use super::placement::{Candidate, Wanted, place};
use super::question::{Ask, Question, Topic};
use super::record::{NodeState, node_key};
use super::roster::{Placement, candidates};
use crate::id::{NodeGroup, NodeId, ProvisionGuid, RestreamType, StreamGuid};
use crate::provision::{Provision, keys};
use crate::store::Txn;

/// Moves under way at a time.
const AT_A_TIME: usize = 64;
/// From one node's turn to the next one's.
const STAGGER: Duration = Duration::from_millis(300);
/// Before what found no node, or lost against another change, is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a provision is to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Its node is gone.
    Orphaned,
    /// It reads a stream that this node has.
    Follows,
    /// This node leaves.
    HandedOver,
}

#[derive(Debug)]
struct Move {
    reason: Reason,
    at: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Moves {
    group: NodeGroup,
    me: NodeId,
    /// How long nodes that were never seen may take to come back, when all begin at once.
    settle: Duration,
    /// Since when the mirror is there.
    since: Option<Duration>,
    /// Nodes that were seen to go, and when.
    gone: BTreeMap<NodeId, Duration>,
    due: BTreeMap<ProvisionGuid, Move>,
    /// Under way: where to.
    asked: BTreeMap<ProvisionGuid, (Reason, Placement)>,
    /// This node leaves.
    leaving: bool,
}

impl Moves {
    pub(super) fn new(group: NodeGroup, me: NodeId, settle: Duration) -> Self {
        Self {
            group,
            me,
            settle,
            since: None,
            gone: BTreeMap::new(),
            due: BTreeMap::new(),
            asked: BTreeMap::new(),
            leaving: false,
        }
    }

    /// From now on this node gives away what it has.
    pub(super) fn leave(&mut self, mirror: &Mirror, now: Duration) {
        self.leaving = true;
        self.look_at_all(mirror, now);
    }

    /// Whether nothing is left that this node could give away.
    pub(super) fn has_given_all(&self) -> bool {
        let given = |one: &Move| one.reason == Reason::HandedOver;
        self.asked.is_empty() && !self.due.values().any(given)
    }

    /// Provisions that this node is giving away just now.
    pub(super) fn giving(&self) -> impl Iterator<Item = &ProvisionGuid> {
        let given = self.asked.iter();
        let given = given.filter(|(_, (reason, _))| *reason == Reason::HandedOver);
        given.map(|(guid, _)| guid)
    }

    /// Whether there is a node that could take something.
    pub(super) fn has_others(&self, mirror: &Mirror) -> bool {
        let mut nodes = mirror.nodes(&self.group);
        nodes.any(|(node, record)| *node != self.me && record.state == NodeState::InService)
    }

    /// A node came or went, or changed.
    pub(super) fn node(&mut self, node: &NodeId, mirror: &Mirror, now: Duration) {
        match mirror.node(&self.group, node) {
            Some(_) => drop(self.gone.remove(node)),
            None => drop(self.gone.entry(node.clone()).or_insert(now)),
        }
        self.look_at_all(mirror, now);
    }

    /// Everything is new: the mirror was read whole.
    pub(super) fn look_at_all(&mut self, mirror: &Mirror, now: Duration) {
        self.since.get_or_insert(now);
        let assigned = mirror.assigned(&self.group);
        let guids: BTreeSet<ProvisionGuid> = assigned
            .map(|(provision, _)| provision.guid.clone())
            .chain(self.due.keys().cloned())
            .collect();
        for guid in guids {
            self.look_at(&guid, mirror, now);
        }
        // A node that nothing names any more is not waited for.
        let named: BTreeSet<&NodeId> = mirror
            .assigned(&self.group)
            .map(|(_, assigned)| &assigned.node)
            .collect();
        self.gone.retain(|node, _| named.contains(node));
    }

    /// A provision, its assignment or the claim of its stream is new.
    pub(super) fn look_at(&mut self, guid: &ProvisionGuid, mirror: &Mirror, now: Duration) {
        let Some(reason) = self.reason(guid, mirror) else {
            self.due.remove(guid);
            return;
        };
        let at = match reason {
            Reason::Orphaned => self.turn(guid, mirror, now),
            Reason::Follows | Reason::HandedOver => now,
        };
        let same = self.due.get(guid).is_some_and(|due| due.reason == reason);
        if !same {
            self.due.insert(guid.clone(), Move { reason, at });
        }
    }

    fn reason(&self, guid: &ProvisionGuid, mirror: &Mirror) -> Option<Reason> {
        let (provision, assigned) = mirror.provision(&self.group, guid)?;
        let assigned = assigned?;
        let there = mirror.node(&self.group, &assigned.node);
        if assigned.node == self.me {
            return (self.leaving && provision.persist()).then_some(Reason::HandedOver);
        }
        if there.is_none() && provision.persist() {
            return Some(Reason::Orphaned);
        }
        let follows = there.is_some() && !self.leaving && self.has_what_it_reads(provision, mirror);
        follows.then_some(Reason::Follows)
    }

    /// Whether a provision reads only, and this node has what it reads.
    fn has_what_it_reads(&self, provision: &Provision, mirror: &Mirror) -> bool {
        let Some(holder) = read_at(provision, mirror, &self.group) else {
            return false;
        };
        let record = mirror.node(&self.group, &self.me).map(|node| &node.value);
        let offers = |kind| record.is_some_and(|record| record.plugins.contains_key(kind));
        holder == self.me && provision.streams.iter().all(|stream| offers(&stream.kind))
    }

    /// When it is this node's turn to place what a node left behind.
    fn turn(&self, guid: &ProvisionGuid, mirror: &Mirror, now: Duration) -> Duration {
        let left = mirror
            .assignment(&self.group, guid)
            .and_then(|assigned| self.gone.get(&assigned.node));
        // A node that was not there when this one began may be about to come back.
        let begin = match left {
            Some(left) => *left,
            None => self.since.unwrap_or(now) + self.settle,
        };
        let nodes = mirror.nodes(&self.group);
        let mut others: Vec<(u64, &NodeId)> = nodes
            .filter(|(_, record)| record.state == NodeState::InService)
            .map(|(node, _)| (draw(guid, node), node))
            .collect();
        others.sort_unstable();
        let before = others.iter().position(|(_, node)| **node == self.me);
        let before = u32::try_from(before.unwrap_or(others.len())).unwrap_or(u32::MAX);
        begin + STAGGER.saturating_mul(before)
    }

    /// When there is something to do without an answer.
    pub(super) fn alarm(&self) -> Option<Duration> {
        if self.asked.len() >= AT_A_TIME {
            return None;
        }
        let waits = self
            .due
            .iter()
            .filter(|(guid, _)| !self.asked.contains_key(*guid));
        waits.map(|(_, due)| due.at).min()
    }

    /// What is due is asked for.
    pub(super) fn tick(&mut self, mirror: &Mirror, now: Duration, out: &mut Vec<Question>) {
        if self.alarm().is_none_or(|at| at > now) {
            return;
        }
        let nodes = mirror.nodes(&self.group);
        let under_way = self.asked.values();
        let under_way: Vec<Placement> = under_way.map(|(_, to)| to.clone()).collect();
        let mut roster = candidates(nodes, mirror, &self.group, &under_way, None);
        if self.leaving {
            // The mirror may not show it yet.
            roster.retain(|candidate| candidate.id != self.me);
        }
        let due: Vec<ProvisionGuid> = self
            .due
            .iter()
            .filter(|(guid, due)| due.at <= now && !self.asked.contains_key(*guid))
            .map(|(guid, _)| guid.clone())
            .collect();
        for guid in due {
            if self.asked.len() >= AT_A_TIME {
                return;
            }
            let Some((txn, reason, placement)) = self.plan(&guid, mirror, &mut roster) else {
                if let Some(due) = self.due.get_mut(&guid) {
                    due.at = now + RETRY;
                }
                continue;
            };
            self.asked.insert(guid.clone(), (reason, placement));
            out.push(question(Topic::Move(guid), Ask::Txn(txn), now));
        }
    }

    fn plan(
        &self,
        guid: &ProvisionGuid,
        mirror: &Mirror,
        roster: &mut [Candidate],
    ) -> Option<(Txn, Reason, Placement)> {
        let reason = self.due.get(guid)?.reason;
        let Known {
            value: provision,
            revision: written,
        } = mirror.written(&self.group, guid)?;
        let Known {
            value: former,
            revision,
        } = mirror.placed(&self.group, guid)?;
        let streams: Vec<StreamGuid> = provision.streams.iter().map(|s| s.guid.clone()).collect();
        let to = match reason {
            Reason::Follows => {
                // Whoever had no room for it was passed over when it was placed.
                let mut mine = roster.iter().filter(|candidate| candidate.id == self.me);
                mine.find(|me| me.has_room(&streams))?.id.clone()
            }
            Reason::Orphaned | Reason::HandedOver => {
                let at = read_at(provision, mirror, &self.group).filter(|at| *at != former.node);
                choose(provision, &streams, at.as_ref(), roster)?
            }
        };
        if to == former.node {
            return None;
        }
        if let Some(chosen) = roster.iter_mut().find(|candidate| candidate.id == to) {
            streams.iter().for_each(|stream| chosen.add(stream));
        }
        let assignment = Assignment::after(Some(former), to.clone());
        let value = serde_json::to_vec(&assignment).expect("names and numbers are serialisable");
        let key = keys::assignment(&self.group, guid);
        let txn = Txn::new()
            .revision_is(keys::provision(&self.group, guid), *written)
            .revision_is(key.clone(), *revision);
        let txn = match reason {
            Reason::Orphaned => txn.absent(node_key(&self.group, &former.node)),
            Reason::Follows | Reason::HandedOver => txn,
        };
        let placement = Placement {
            group: self.group.clone(),
            guid: guid.clone(),
            node: to,
            streams,
        };
        Some((txn.put(key, value), reason, placement))
    }

    /// A move was done, or was not.
    pub(super) fn hear(&mut self, guid: &ProvisionGuid, now: Duration) {
        // When it was done the mirror will say so, and nothing is due then.
        if let Some(due) = self.due.get_mut(guid) {
            due.at = now + RETRY;
        }
        self.asked.remove(guid);
    }
}

/// Where the stream is that a provision reads, if it only reads.
pub(super) fn read_at(provision: &Provision, mirror: &Mirror, group: &NodeGroup) -> Option<NodeId> {
    let first = provision.streams.first()?;
    if provision.streams.iter().any(|stream| stream.feeds) {
        return None;
    }
    let holder = mirror.holder(group, &first.guid).map(|holder| holder.node);
    // What feeds it may not have begun yet.
    holder.or_else(|| {
        let about = mirror.about(group, &first.guid);
        let feeds = |provision: &Provision| {
            let mut streams = provision.streams.iter();
            streams.any(|stream| stream.feeds && stream.guid == first.guid)
        };
        let mut feeders = about.filter_map(|guid| mirror.provision(group, guid));
        let (_, assigned) = feeders.find(|(provision, _)| feeds(provision))?;
        assigned.map(|assigned| assigned.node.clone())
    })
}

fn choose(
    provision: &Provision,
    streams: &[StreamGuid],
    near: Option<&NodeId>,
    roster: &[Candidate],
) -> Option<NodeId> {
    let types: Vec<RestreamType> = provision.streams.iter().map(|s| s.kind.clone()).collect();
    let wanted = Wanted {
        types: &types,
        streams,
        sub_group: None,
        strict: false,
        near,
    };
    place(roster, wanted).ok().map(|chosen| chosen.id.clone())
}

/// A number that every node draws alike, and that spreads turns over the nodes (FNV-1a).
fn draw(guid: &ProvisionGuid, node: &NodeId) -> u64 {
    let bytes = guid
        .as_str()
        .bytes()
        .chain([0])
        .chain(node.as_str().bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::tests::record;
    use super::*;
    use crate::store::{Entry, Event, Revision};

    const SETTLE: Duration = Duration::from_secs(5);

    struct Desk {
        moves: Moves,
        mirror: Mirror,
        revision: Revision,
        now: Duration,
    }

    impl Desk {
        /// Of n1, beside n2 and n3.
        fn new() -> Self {
            let moves = Moves::new(group(), node("n1"), SETTLE);
            let mut desk = Self {
                moves,
                mirror: Mirror::default(),
                revision: 0,
                now: Duration::from_secs(100),
            };
            for (n, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
                let record = serde_json::to_value(record(n as u128)).expect("JSON");
                desk.put(&format!("nodes/g/{name}"), record);
            }
            desk.moves.look_at_all(&desk.mirror, desk.now);
            desk
        }

        fn put(&mut self, key: &str, value: serde_json::Value) {
            self.revision += 1;
            self.mirror.apply(Event::Put(Entry {
                key: key.to_owned(),
                value: value.to_string().into(),
                revision: self.revision,
            }));
        }

        fn provision(&mut self, guid: &str, stream: &str, kind: &str, persist: bool, on: &str) {
            let feeds = kind == "rtmp";
            let properties =
                json!({"type": kind, "rtmpUri": "rtmp://127.0.0.1:9/live/s", "persist": persist});
            let streams = json!([{"streamGuid": stream, "camParams": {"properties": properties}}]);
            let document = json!({
                "document": {"provisionGuid": guid, "streams": streams},
                "streams": [{"kind": kind, "feeds": feeds}],
            });
            self.put(&format!("provisions/g/{guid}"), document);
            self.put(
                &format!("assignments/g/{guid}"),
                json!({"node": on, "epoch": 1}),
            );
            let guid = guid.parse().expect("legal");
            self.moves.look_at(&guid, &self.mirror, self.now);
        }

        fn goes(&mut self, name: &str) {
            self.revision += 1;
            let revision = self.revision;
            let key = format!("nodes/g/{name}");
            self.mirror.apply(Event::Delete { key, revision });
            self.moves.node(&node(name), &self.mirror, self.now);
        }

        fn after(&mut self, wait: Duration) -> Vec<(Txn, Assignment)> {
            self.now += wait;
            let mut out = Vec::new();
            self.moves.tick(&self.mirror, self.now, &mut out);
            let planned = |question: Question| match question.ask {
                Ask::Txn(txn) => {
                    let crate::store::Write::Put { value, .. } = &txn.writes[0] else {
                        panic!("{txn:?}");
                    };
                    let to = serde_json::from_slice(value).expect("an assignment");
                    (txn, to)
                }
                other => panic!("{other:?}"),
            };
            out.into_iter().map(planned).collect()
        }
    }

    fn group() -> NodeGroup {
        "g".parse().expect("legal")
    }

    fn node(name: &str) -> NodeId {
        name.parse().expect("legal")
    }

    #[test]
    fn what_persists_is_placed_anew_when_its_node_is_gone_and_what_does_not_waits() {
        let mut desk = Desk::new();
        desk.provision("p-1", "live/1", "rtmp", true, "n2");
        desk.provision("p-2", "live/2", "rtmp", false, "n2");
        assert!(desk.after(SETTLE).is_empty(), "its node is there");
        desk.goes("n2");
        let moves = desk.after(2 * STAGGER);
        assert_eq!(moves.len(), 1);
        let (txn, to) = &moves[0];
        assert_eq!(to.epoch, 2);
        assert_ne!(to.node.as_str(), "n2");
        let keys: Vec<&str> = txn.preconditions.iter().map(|p| p.key()).collect();
        let expected = ["provisions/g/p-1", "assignments/g/p-1", "nodes/g/n2"];
        assert_eq!(keys, expected);
        assert!(desk.after(SETTLE).is_empty(), "asked once");
        desk.moves.hear(&"p-1".parse().expect("legal"), desk.now);
        assert_eq!(desk.after(RETRY).len(), 1, "nobody did it");
    }

    #[test]
    fn a_node_that_was_never_there_is_given_time_to_come() {
        let mut desk = Desk::new();
        desk.provision("p-1", "live/1", "rtmp", true, "n9");
        assert!(desk.after(SETTLE - STAGGER).is_empty());
        assert_eq!(desk.after(4 * STAGGER).len(), 1);
    }

    #[test]
    fn a_node_that_is_back_in_time_keeps_what_it_has() {
        let mut desk = Desk::new();
        for n in 0..20 {
            desk.provision(&format!("p-{n}"), &format!("live/{n}"), "rtmp", true, "n2");
        }
        desk.goes("n2");
        let first = desk.after(Duration::ZERO).len();
        assert!(
            (1..20).contains(&first),
            "the others have their turn: {first}"
        );
        let back = serde_json::to_value(record(9)).expect("JSON");
        desk.put("nodes/g/n2", back);
        desk.moves.node(&node("n2"), &desk.mirror, desk.now);
        assert!(desk.after(SETTLE).is_empty());
    }

    #[test]
    fn what_was_deleted_is_not_placed() {
        let mut desk = Desk::new();
        desk.provision("p-1", "live/1", "rtmp", true, "n2");
        desk.goes("n2");
        let key = "provisions/g/p-1".to_owned();
        desk.mirror.apply(Event::Delete { key, revision: 99 });
        desk.moves
            .look_at(&"p-1".parse().expect("legal"), &desk.mirror, desk.now);
        assert!(desk.after(SETTLE).is_empty());
    }

    #[test]
    fn what_reads_a_stream_goes_to_the_node_that_has_it() {
        let mut desk = Desk::new();
        let mut mine = serde_json::to_value(record(0)).expect("JSON");
        mine["plugins"]["rtmp-push"] = "x".into();
        desk.put("nodes/g/n1", mine);
        desk.provision("push", "live/1", "rtmp-push", false, "n2");
        assert!(desk.after(SETTLE).is_empty());
        let instance = record(0).instance;
        let claim = json!({"node": "n1", "instance": instance.as_str(), "epoch": 1});
        desk.put("claims/g/live/1", claim);
        desk.moves
            .look_at(&"push".parse().expect("legal"), &desk.mirror, desk.now);
        let moves = desk.after(Duration::ZERO);
        assert_eq!(moves.len(), 1);
        assert_eq!(moves[0].1.node.as_str(), "n1");
    }

    #[test]
    fn what_reads_a_stream_stays_where_it_is_while_the_node_that_has_it_is_full() {
        let mut desk = Desk::new();
        let mut mine = serde_json::to_value(record(0)).expect("JSON");
        mine["plugins"]["rtmp-push"] = "x".into();
        mine["capacity"] = 1.into();
        desk.put("nodes/g/n1", mine);
        desk.provision("pull", "live/1", "rtmp", false, "n1");
        let instance = record(0).instance;
        let claim = json!({"node": "n1", "instance": instance.as_str(), "epoch": 1});
        desk.put("claims/g/live/1", claim);
        desk.provision("push", "live/1", "rtmp-push", false, "n2");
        assert!(desk.after(Duration::ZERO).is_empty());
        assert!(desk.after(SETTLE).is_empty());
        // A publisher has the stream then.
        desk.put("assignments/g/pull", json!({"node": "n3", "epoch": 2}));
        let moves = desk.after(RETRY);
        assert_eq!(moves.len(), 1, "there is room");
        assert_eq!(moves[0].1.node.as_str(), "n1");
    }

    #[test]
    fn a_node_that_leaves_gives_away_what_persists() {
        let mut desk = Desk::new();
        desk.provision("p-1", "live/1", "rtmp", true, "n1");
        desk.provision("p-2", "live/2", "rtmp", false, "n1");
        assert!(desk.after(SETTLE).is_empty());
        let mut mine = serde_json::to_value(record(0)).expect("JSON");
        mine["state"] = "Draining".into();
        desk.put("nodes/g/n1", mine);
        desk.moves.leave(&desk.mirror, desk.now);
        assert!(!desk.moves.has_given_all());
        let moves = desk.after(Duration::ZERO);
        assert_eq!(moves.len(), 1);
        assert_ne!(moves[0].1.node.as_str(), "n1");
        desk.moves.hear(&"p-1".parse().expect("legal"), desk.now);
        desk.put("assignments/g/p-1", json!({"node": "n2", "epoch": 2}));
        desk.moves
            .look_at(&"p-1".parse().expect("legal"), &desk.mirror, desk.now);
        assert!(desk.moves.has_given_all());
    }

    #[test]
    fn moves_under_way_are_bounded() {
        let mut desk = Desk::new();
        for n in 0..(3 * AT_A_TIME) {
            desk.provision(&format!("p-{n}"), &format!("live/{n}"), "rtmp", true, "n2");
        }
        for name in ["n1", "n3"] {
            let mut roomy = record(0);
            roomy.capacity = 1_000;
            desk.put(
                &format!("nodes/g/{name}"),
                serde_json::to_value(roomy).expect("JSON"),
            );
        }
        desk.goes("n2");
        let moves = desk.after(2 * STAGGER);
        assert_eq!(moves.len(), AT_A_TIME);
        assert!(desk.moves.alarm().is_none(), "answers come first");
        let there = moves
            .iter()
            .filter(|(_, to)| to.node.as_str() == "n3")
            .count();
        assert_eq!(there, AT_A_TIME / 2, "spread over the nodes");
    }
}
