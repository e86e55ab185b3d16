//! Nodes, and which of them carries out which provision.
//!
//! Writes assignments, watches the store, and makes this node's restreamers match
//! it. A node alone is a cluster of one. Knows nothing of HTTP and of media.
//! Invariant: what runs here is what the store assigns to this node.

mod claims;
mod config;
mod distribute;
mod follow;
mod holders;
mod home;
mod lease;
#[cfg(test)]
mod many;
mod member;
pub mod mirror;
mod moves;
pub mod placement;
pub mod proof;
mod question;
mod reconciler;
pub mod record;
mod roster;
mod sabotage;
#[cfg(test)]
mod simulation;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod undecided;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::warn;

pub use config::Config;
pub use distribute::{Constraints, PlaceError};
pub use home::{Home, HomeError};
pub use mirror::Assignment;
pub use proof::Proof;
pub use record::{Holder, NodeRecord};
pub use sabotage::Sabotage;
pub use snapshot::ImportError;

use crate::drain::Drain;
use crate::id::{AppName, NodeGroup, NodeId, ProvisionGuid, RestreamType, StreamGuid, SubGroup};
use crate::limits::Limits;
use crate::restreamer::Restreamers;
use crate::store::{self, Store};
use crate::stream::gate::since_boot;
use crate::stream::{Gate, Permit, Streams};
use lease::Former;
use member::Member;
use mirror::Mirror;
use record::{InstanceId, NodeState};
use roster::Placement;
use undecided::Undecided;

/// How long a caller waits for a change to be carried out before it is answered.
const APPLY_WAIT: Duration = Duration::from_secs(5);
/// What a caller is told after that.
pub const NOT_APPLIED: &str =
    "it is stored, but this node has not carried it out yet; ask again later";
/// A call that waits for claims to be gone waits so much longer than a lease lasts: etcd
/// looks twice a second which leases are over.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub id: NodeId,
    /// Its group.
    pub group: NodeGroup,
    /// Its subgroup.
    pub sub_group: SubGroup,
    /// `serverAddress`: where clients reach it.
    pub address: String,
    /// Where other nodes reach its RTMP.
    pub rtmp: SocketAddr,
    /// Where other nodes reach its REST API.
    pub api: SocketAddr,
    /// Whether the REST API speaks TLS.
    pub api_tls: bool,
    /// Restreamers it may run.
    pub capacity: u64,
    /// The same for the streams of single apps.
    pub app_capacity: BTreeMap<AppName, u64>,
}

/// A node, as the API shows it.
#[derive(Clone, Debug)]
#[allow(
    missing_docs,
    reason = "the fields are those of the API's node elements"
)]
pub struct Node {
    pub id: NodeId,
    pub group: NodeGroup,
    pub address: String,
    pub role: String,
    pub sub_group: String,
    pub state: &'static str,
    pub publishers: u64,
    pub restreamers: u64,
    pub capacity: u64,
    /// Types it offers, with the digest of the plugin of each.
    pub plugins: BTreeMap<RestreamType, String>,
}

/// A stream of a distributed provision.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are glossary words")]
pub struct AssignedStream {
    pub provision: ProvisionGuid,
    pub stream: StreamGuid,
    pub kind: RestreamType,
    pub node: NodeId,
    pub epoch: u64,
}

/// How a node is a member of a cluster of many.
#[derive(Debug)]
pub struct Membership {
    /// How long things may take.
    pub config: Config,
    /// Where the membership is written down.
    pub home: Option<Home>,
    /// Where appends are logged, for tests.
    pub proof: Option<Proof>,
    /// What is broken, for tests.
    pub sabotage: Sabotage,
}

/// Why it is not certain that nothing of a deleted provision runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StillRuns {
    /// This node has not carried the change out in time.
    #[error("{NOT_APPLIED}")]
    NotApplied,
    /// A node that is there has the claim of a stream still.
    #[error(
        "it is deleted, but another node has not let go of it in time and may serve it a while"
    )]
    Held,
}

/// Why a node did not become a member of its cluster.
#[derive(Debug, thiserror::Error)]
#[error("the node {node} is running already: {by}; give this one another node_id")]
pub struct NameTaken {
    node: NodeId,
    by: String,
}

/// Where this node stands with its cluster.
#[derive(Clone, Debug)]
enum Standing {
    /// Alone, or not a member yet.
    Out,
    /// Another process has its name.
    Taken(Option<Box<NodeRecord>>),
    Member,
}

struct Inner {
    me: Identity,
    store: Arc<dyn Store>,
    restreamers: Restreamers,
    streams: Streams,
    limits: Limits,
    drain: Drain,
    mirror: RwLock<Mirror>,
    /// Changes with every claim and every node.
    claims: watch::Sender<()>,
    /// Assignments under way: one for each caller who waits for one.
    placing: Mutex<Vec<Placement>>,
    undecided: Mutex<Undecided>,
    /// The revision up to which this node has carried changes out; `None` before the first listing.
    applied: watch::Sender<Option<store::Revision>>,
    /// `None` when the node is alone.
    membership: Option<Membership>,
    /// For whoever runs it.
    member: Mutex<Option<Member>>,
    standing: watch::Sender<Standing>,
    /// Until when what is here may be handed over, once the node is to leave.
    leaving: watch::Sender<Option<Duration>>,
}

impl Inner {
    fn keep(&self, former: &Former) {
        let home = self.membership.as_ref().and_then(|m| m.home.as_ref());
        let kept = home.map(|home| home.keep(&self.me.group, &self.me.id, former));
        if let Some(Err(error)) = kept {
            warn!(%error, "the membership cannot be written down: after a crash this node waits for its lease to end");
        }
    }

    fn permit(&self, stream: &StreamGuid, epoch: u64, gate: Gate) -> Permit {
        let proof = self.membership.as_ref().and_then(|m| m.proof.as_ref());
        Permit {
            gate: self.sabotage().gate(gate),
            epoch,
            appends: proof.map(|proof| proof.watch(stream, epoch)),
        }
    }

    fn sabotage(&self) -> Sabotage {
        let membership = self.membership.as_ref();
        membership.map(|m| m.sabotage).unwrap_or_default()
    }
}

/// The cluster as this node sees it. A cheap handle.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("me", &self.0.me)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// This node in front of a store. Without a membership it is alone and the store its
    /// own: whoever has that needs no claims. With one it is one of many, and `streams` are
    /// [`Streams::of_a_cluster`]. [`Cluster::run`] makes it work.
    pub fn new(
        me: Identity,
        store: Arc<dyn Store>,
        restreamers: Restreamers,
        streams: Streams,
        limits: Limits,
        drain: Drain,
        membership: Option<Membership>,
    ) -> Self {
        let member = membership.as_ref().map(|membership| {
            let home = membership.home.as_ref();
            Member::new(
                me.group.clone(),
                me.id.clone(),
                me.record(restreamers.offers(), NodeState::InService),
                home.and_then(|home| home.former(&me.group, &me.id)),
                membership.config.habits(),
                rand::random(),
            )
        });
        Self(Arc::new(Inner {
            me,
            store,
            restreamers,
            streams,
            limits,
            drain,
            mirror: RwLock::default(),
            claims: watch::Sender::default(),
            placing: Mutex::default(),
            undecided: Mutex::default(),
            applied: watch::Sender::new(None),
            membership,
            member: Mutex::new(member),
            standing: watch::Sender::new(Standing::Out),
            leaving: watch::Sender::default(),
        }))
    }

    /// Follows the store until the drain starts. To be called once.
    pub async fn run(self) {
        let Some(proof) = self.0.membership.as_ref().and_then(|m| m.proof.clone()) else {
            return reconciler::run(self).await;
        };
        tokio::select! {
            () = reconciler::run(self) => {}
            () = proof.run() => {}
        }
        proof.flush();
    }

    /// Resolves when this node is a member of its cluster; at once when it is alone. While
    /// another process has its name it waits ten seconds, or for as long as that one's lease
    /// lasts: it may be a former self that died before its membership was written down.
    ///
    /// # Errors
    /// Who has the name.
    pub async fn joined(&self) -> Result<(), NameTaken> {
        let Some(membership) = &self.0.membership else {
            return Ok(());
        };
        let mut standing = self.0.standing.subscribe();
        // The sender lives as long as self.
        let _ = standing
            .wait_for(|standing| !matches!(standing, Standing::Out))
            .await;
        let member = standing.wait_for(|standing| matches!(standing, Standing::Member));
        let in_time = tokio::time::timeout(membership.config.name_wait(), member).await;
        let taken = match &*self.0.standing.borrow() {
            Standing::Taken(by) if in_time.is_err() => by.clone(),
            _ => return Ok(()),
        };
        let by = taken.map(|by| format!("at {}, instance {}", by.address, by.instance));
        Err(NameTaken {
            node: self.this_node(),
            by: by.unwrap_or_else(|| "its record cannot be read".to_owned()),
        })
    }

    /// Resolves when the store was read for the first time.
    pub async fn started(&self) {
        let mut applied = self.0.applied.subscribe();
        // The sender lives as long as self.
        let _ = applied.wait_for(Option::is_some).await;
    }

    /// Resolves when this node has carried out everything up to a revision, or after
    /// five seconds with false: what is stored is durable either way.
    pub async fn applied(&self, revision: store::Revision) -> bool {
        let mut applied = self.0.applied.subscribe();
        let reached = applied.wait_for(|at| at.is_some_and(|at| at >= revision));
        matches!(tokio::time::timeout(APPLY_WAIT, reached).await, Ok(Ok(_)))
    }

    /// This node's name.
    pub fn this_node(&self) -> NodeId {
        self.0.me.id.clone()
    }

    /// This node's group.
    pub fn this_group(&self) -> NodeGroup {
        self.0.me.group.clone()
    }

    /// Who holds the claim of a stream of this node's group, and how to reach it.
    pub fn holder(&self, stream: &StreamGuid) -> Option<Holder> {
        self.0.mirror.read().holder(&self.0.me.group, stream)
    }

    /// What the nodes of a group say of themselves.
    pub fn records(&self, group: &NodeGroup) -> Vec<(NodeId, NodeRecord)> {
        let mirror = self.0.mirror.read();
        let nodes = mirror.nodes(group);
        nodes
            .map(|(node, record)| (node.clone(), record.clone()))
            .collect()
    }

    /// Changes whenever a claim or a node's record does; which one is to be looked up.
    pub fn claims_changed(&self) -> watch::Receiver<()> {
        self.0.claims.subscribe()
    }

    /// The group of a name; `default` is the only one there is.
    pub fn resolve_group(&self, name: &str) -> Option<NodeGroup> {
        let groups = self.groups();
        if name == "default" {
            return <[NodeGroup; 1]>::try_from(groups).ok().map(|[only]| only);
        }
        groups.into_iter().find(|group| group.as_str() == name)
    }

    /// Groups that a node or a provision is in.
    pub fn groups(&self) -> Vec<NodeGroup> {
        let mut groups = self.0.mirror.read().groups();
        groups.insert(self.0.me.group.clone());
        groups.into_iter().collect()
    }

    /// The nodes of a group that are there, as the store knows them.
    pub fn nodes(&self, group: &NodeGroup) -> Vec<Node> {
        let roster = self.roster(group);
        let mirror = self.0.mirror.read();
        let mut restreamers: BTreeMap<&NodeId, u64> = BTreeMap::new();
        for (provision, assigned) in mirror.assigned(group) {
            *restreamers.entry(&assigned.node).or_default() += provision.streams.len() as u64;
        }
        let mut publishers: BTreeMap<&NodeId, u64> = BTreeMap::new();
        for (_, claim) in mirror.claims(group) {
            *publishers.entry(&claim.value.node).or_default() += u64::from(claim.value.published);
        }
        let node = |(id, record): (NodeId, NodeRecord)| Node {
            publishers: publishers.get(&id).copied().unwrap_or_default(),
            restreamers: restreamers.get(&id).copied().unwrap_or_default(),
            id,
            group: group.clone(),
            address: record.address,
            role: record.role,
            sub_group: record.sub_group,
            state: match record.state {
                NodeState::InService => "INSERVICE",
                NodeState::Draining => "SOFT_SUNSET",
            },
            capacity: record.capacity,
            plugins: record.plugins,
        };
        roster.into_iter().map(node).collect()
    }

    /// What the nodes of a group say of themselves; of this node, also what the store has
    /// not heard of yet.
    fn roster(&self, group: &NodeGroup) -> Vec<(NodeId, NodeRecord)> {
        let me = &self.0.me;
        let leaves = self.0.drain.is_started() || self.0.leaving.borrow().is_some();
        if self.0.membership.is_none() {
            let state = match leaves {
                true => NodeState::Draining,
                false => NodeState::InService,
            };
            let alone = || (me.id.clone(), me.record(self.0.restreamers.offers(), state));
            return (*group == me.group).then(alone).into_iter().collect();
        }
        let mut roster = self.records(group);
        let this = |(id, _): &&mut (NodeId, NodeRecord)| *group == me.group && *id == me.id;
        if leaves && let Some((_, record)) = roster.iter_mut().find(this) {
            record.state = NodeState::Draining;
        }
        roster
    }

    /// Whether the node takes work; else why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.0.drain.is_started() || self.0.leaving.borrow().is_some() {
            return Err("the node drains".to_owned());
        }
        if self.0.applied.borrow().is_none() {
            return Err("the node has not read the store yet".to_owned());
        }
        match self.0.streams.fenced() {
            true => Err("the node has lost touch with its cluster and appends nothing".to_owned()),
            false => Ok(()),
        }
    }

    /// Begins to leave: of a cluster, after what persists was handed over. True when it
    /// had begun before.
    pub fn drain(&self) -> bool {
        let drains = self.0.drain.is_started();
        let Some(membership) = &self.0.membership else {
            self.0.drain.start();
            return drains;
        };
        let until = since_boot() + membership.config.drain_timeout();
        let begun = self.0.leaving.send_if_modified(|leaving| match leaving {
            Some(_) => false,
            None => leaving.replace(until).is_none(),
        });
        drains || !begun
    }

    /// The streams of a provision, as far as this node knows.
    pub fn streams_of(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Vec<StreamGuid> {
        let mirror = self.0.mirror.read();
        let written = mirror.written(group, guid);
        let streams = written.into_iter().flat_map(|known| &known.value.streams);
        streams.map(|stream| stream.guid.clone()).collect()
    }

    /// Resolves when nothing of streams that a provision fed up to a revision is appended
    /// by any node: their claims are gone, by themselves or with their lease.
    ///
    /// # Errors
    /// Why that is not certain, after some seconds more than a lease lasts.
    pub async fn stopped(
        &self,
        group: &NodeGroup,
        streams: &[StreamGuid],
        revision: store::Revision,
    ) -> Result<(), StillRuns> {
        if !self.applied(revision).await {
            return Err(StillRuns::NotApplied);
        }
        let Some(membership) = &self.0.membership else {
            return Ok(());
        };
        let held = |stream: &StreamGuid| {
            let mirror = self.0.mirror.read();
            let claim = mirror.claim(group, stream);
            claim.is_some_and(|claim| claim.revision < revision && !claim.value.published)
        };
        let mut changed = self.claims_changed();
        let gone = async { while streams.iter().any(held) && changed.changed().await.is_ok() {} };
        let patience = membership.config.lease_ttl() + STOP_SLACK;
        let in_time = tokio::time::timeout(patience, gone).await;
        in_time.map_err(|_| StillRuns::Held)
    }

    /// Where a provision runs.
    pub fn assignment(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Option<Assignment> {
        self.0.mirror.read().assignment(group, guid).cloned()
    }

    /// The streams of a group's distributed provisions.
    pub fn assigned_streams(&self, group: &NodeGroup) -> Vec<AssignedStream> {
        let mirror = self.0.mirror.read();
        let streams = mirror.assigned(group).flat_map(|(provision, assignment)| {
            provision.streams.iter().map(|stream| AssignedStream {
                provision: provision.guid.clone(),
                stream: stream.guid.clone(),
                kind: stream.kind.clone(),
                node: assignment.node.clone(),
                epoch: assignment.epoch,
            })
        });
        streams.collect()
    }
}

impl Identity {
    fn record(&self, plugins: BTreeMap<RestreamType, String>, state: NodeState) -> NodeRecord {
        NodeRecord {
            // Of no membership yet.
            instance: InstanceId::from_bits(0),
            address: self.address.clone(),
            rtmp: self.rtmp,
            api: self.api,
            api_tls: self.api_tls,
            role: "origin".to_owned(),
            sub_group: self.sub_group.to_string(),
            capacity: self.capacity,
            app_capacity: self.app_capacity.clone(),
            plugins,
            state,
        }
    }
}
