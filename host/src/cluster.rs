//! Nodes, and which of them carries out which provision.
//!
//! Writes assignments, watches the store, and makes this node's restreamers match
//! it. A node alone is a cluster of one. Knows nothing of HTTP and of media.
//! Invariant: what runs here is what the store assigns to this node.

mod holders;
pub mod mirror;
pub mod placement;
mod reconciler;
pub mod record;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub use mirror::Assignment;
pub use record::{Holder, NodeRecord};
pub use snapshot::ImportError;

use crate::drain::Drain;
use crate::id::{AppName, NodeGroup, NodeId, ProvisionGuid, RestreamType, StreamGuid};
use crate::limits::{self, Limit, Limits};
use crate::provision::keys;
use crate::restreamer::Restreamers;
use crate::store::{self, Store, Txn};
use crate::stream::Streams;
use mirror::Mirror;
use placement::{AppShare, Candidate, NoFit, Wanted, place};

/// How long a caller waits for a change to be carried out before it is answered.
const APPLY_WAIT: Duration = Duration::from_secs(5);
/// What a caller is told after that.
pub const NOT_APPLIED: &str =
    "it is stored, but this node has not carried it out yet; ask again later";
/// How often placing is tried again because someone else placed at the same time.
const PLACE_TRIES: usize = 5;

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub id: NodeId,
    /// Its group.
    pub group: NodeGroup,
    /// Its subgroup.
    pub sub_group: String,
    /// `serverAddress`: where clients reach it.
    pub address: String,
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
    pub subscribers: u64,
    pub restreamers: u64,
    pub clients: u64,
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

/// What a caller wants of the node.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    /// A subgroup.
    pub sub_group: Option<String>,
    /// Exactly so, or not at all.
    pub strict: bool,
    /// How many nodes.
    pub endpoints: usize,
}

/// Why nothing was placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is no such provision.
    #[error("there is no such provision")]
    UnknownProvision,
    /// No node could take it.
    #[error("{0}")]
    NoNodeFits(String),
    /// Every node that could is full.
    #[error("{0}")]
    AtLimit(limits::Refused),
    /// The store cannot be written.
    #[error("{0}")]
    Unavailable(String),
    /// A publisher is live on the name.
    #[error("a publisher is live on the name")]
    NameLive,
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
    /// The revision up to which this node has carried changes out; `None` before the first listing.
    applied: watch::Sender<Option<store::Revision>>,
}

/// A provision that is being given to a node, and the restreamers that come with it.
#[derive(Clone, PartialEq)]
struct Placement {
    group: NodeGroup,
    guid: ProvisionGuid,
    node: NodeId,
    streams: Vec<StreamGuid>,
}

/// Room on a node, kept while an assignment is written.
struct Seat<'a> {
    placing: &'a Mutex<Vec<Placement>>,
    placement: Placement,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut placing = self.placing.lock();
        if let Some(at) = placing.iter().position(|one| *one == self.placement) {
            placing.swap_remove(at);
        }
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
    /// This node, in front of a store. [`Cluster::run`] makes it work.
    pub fn new(
        me: Identity,
        store: Arc<dyn Store>,
        restreamers: Restreamers,
        streams: Streams,
        limits: Limits,
        drain: Drain,
    ) -> Self {
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
            applied: watch::Sender::new(None),
        }))
    }

    /// Follows the store until the drain starts.
    pub async fn run(self) {
        reconciler::run(self).await;
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

    /// The nodes of a group.
    pub fn nodes(&self, group: &NodeGroup) -> Vec<Node> {
        if *group != self.0.me.group {
            return Vec::new();
        }
        let streams = self.0.streams.snapshots();
        let publishers = streams.iter().filter(|stream| stream.published).count() as u64;
        let subscribers = streams.iter().map(|stream| stream.subscribers).sum();
        let me = &self.0.me;
        vec![Node {
            id: me.id.clone(),
            group: me.group.clone(),
            address: me.address.clone(),
            role: "origin".to_owned(),
            sub_group: me.sub_group.clone(),
            state: if self.0.drain.is_started() {
                "SOFT_SUNSET"
            } else {
                "INSERVICE"
            },
            publishers,
            subscribers,
            restreamers: self.0.restreamers.count() as u64,
            clients: publishers + subscribers,
        }]
    }

    /// Whether the node takes work; else why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.0.drain.is_started() {
            return Err("the node drains".to_owned());
        }
        match *self.0.applied.borrow() {
            Some(_) => Ok(()),
            None => Err("the node has not read the store yet".to_owned()),
        }
    }

    /// Begins to leave.
    pub fn drain(&self) {
        self.0.drain.start();
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

    /// A node for a publisher of a stream.
    pub fn for_publisher(
        &self,
        group: &NodeGroup,
        stream: &StreamGuid,
        constraints: &Constraints,
    ) -> Result<Vec<Node>, PlaceError> {
        if self.is_published(group, stream) {
            return Err(PlaceError::NameLive);
        }
        self.choose(group, None, &[], &[], constraints)
            .map(|(node, _)| vec![node])
    }

    /// Gives a provision to a node, the same one as long as it is in service. The
    /// restreamers run when this returns.
    pub async fn distribute(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
        constraints: &Constraints,
    ) -> Result<Vec<Node>, PlaceError> {
        for _ in 0..PLACE_TRIES {
            let (types, streams, fed, current) = {
                let mirror = self.0.mirror.read();
                let (provision, current) = mirror
                    .provision(group, guid)
                    .ok_or(PlaceError::UnknownProvision)?;
                let types: Vec<RestreamType> = provision
                    .streams
                    .iter()
                    .map(|stream| stream.kind.clone())
                    .collect();
                let streams = provision.streams.iter();
                let streams: Vec<StreamGuid> = streams.map(|stream| stream.guid.clone()).collect();
                let fed = provision.streams.iter().filter(|stream| stream.feeds);
                let fed: Vec<StreamGuid> = fed.map(|stream| stream.guid.clone()).collect();
                (types, streams, fed, current.cloned())
            };
            if fed.iter().any(|stream| self.is_published(group, stream)) {
                return Err(PlaceError::NameLive);
            }
            if let Some(node) = current
                .as_ref()
                .and_then(|current| self.in_service(group, &current.node))
            {
                if node.id == self.0.me.id {
                    self.0.restreamers.again(guid);
                }
                return Ok(vec![node]);
            }
            // Until the mirror shows the assignment, or there is none.
            let (node, _seat) = self.choose(group, Some(guid), &types, &streams, constraints)?;
            let epoch = current.as_ref().map_or(1, |current| current.epoch + 1);
            match self
                .assign(
                    group,
                    guid,
                    current.is_some(),
                    &Assignment {
                        node: node.id.clone(),
                        epoch,
                    },
                )
                .await
            {
                Ok(revision) => {
                    if !self.applied(revision).await {
                        return Err(PlaceError::Unavailable(NOT_APPLIED.to_owned()));
                    }
                    return Ok(vec![node]);
                }
                Err(store::Error::Failed { .. }) => self.catch_up().await,
                Err(error) => return Err(PlaceError::Unavailable(error.to_string())),
            }
        }
        Err(PlaceError::Unavailable(
            "the provision is being changed by others".to_owned(),
        ))
    }

    async fn assign(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
        moves: bool,
        assignment: &Assignment,
    ) -> Result<store::Revision, store::Error> {
        let key = keys::assignment(group, guid);
        let value = serde_json::to_vec(assignment).expect("names and numbers are serialisable");
        let txn = Txn::new().present(keys::provision(group, guid));
        let txn = if moves {
            match self.0.store.get(&key).await? {
                Some(entry) => txn.revision_is(key.clone(), entry.revision),
                None => txn.absent(key.clone()),
            }
        } else {
            txn.absent(key.clone())
        };
        self.0.store.txn(txn.put(key, value)).await
    }

    /// Waits until the mirror is as new as the store.
    async fn catch_up(&self) {
        if let Ok(revision) = self.0.store.revision().await {
            self.applied(revision).await;
        }
    }

    fn in_service(&self, group: &NodeGroup, id: &NodeId) -> Option<Node> {
        self.nodes(group)
            .into_iter()
            .find(|node| node.id == *id && node.state == "INSERVICE")
    }

    fn choose(
        &self,
        group: &NodeGroup,
        guid: Option<&ProvisionGuid>,
        types: &[RestreamType],
        streams: &[StreamGuid],
        constraints: &Constraints,
    ) -> Result<(Node, Option<Seat<'_>>), PlaceError> {
        let nodes = self.nodes(group);
        if constraints.strict && constraints.endpoints > nodes.len() {
            return Err(PlaceError::NoNodeFits(format!(
                "the group has {} nodes",
                nodes.len()
            )));
        }
        // Held until the seat is taken, so that no two take the last one.
        let mut placing = self.0.placing.lock();
        let candidates: Vec<Candidate> = nodes
            .iter()
            .map(|node| {
                let (restreamers, apps) = self.load(&placing, group, &node.id, guid);
                Candidate {
                    id: node.id.clone(),
                    in_service: node.state == "INSERVICE",
                    sub_group: node.sub_group.clone(),
                    restreamers,
                    capacity: self.0.me.capacity,
                    apps,
                    types: self.0.restreamers.types(),
                }
            })
            .collect();
        let sub_group = constraints.sub_group.as_deref();
        let chosen = place(
            &candidates,
            Wanted {
                types,
                streams,
                sub_group,
                strict: constraints.strict,
            },
        )
        .map_err(|no| match no {
            NoFit::None(text) => PlaceError::NoNodeFits(text),
            NoFit::Full(app) => PlaceError::AtLimit(self.0.limits.refused(Limit::Pulls, app)),
        })?;
        let node = nodes.into_iter().find(|node| node.id == chosen.id);
        let node =
            node.ok_or_else(|| PlaceError::NoNodeFits("no node is in service".to_owned()))?;
        let seat = guid.map(|guid| {
            let placement = Placement {
                group: group.clone(),
                guid: guid.clone(),
                node: node.id.clone(),
                streams: streams.to_vec(),
            };
            placing.push(placement.clone());
            Seat {
                placing: &self.0.placing,
                placement,
            }
        });
        Ok((node, seat))
    }

    /// The restreamers a node has and is about to have, those of `but` left out, and
    /// how many of them are of which app.
    fn load(
        &self,
        placing: &[Placement],
        group: &NodeGroup,
        node: &NodeId,
        but: Option<&ProvisionGuid>,
    ) -> (u64, Vec<AppShare>) {
        let mirror = self.0.mirror.read();
        let has = mirror
            .assigned(group)
            .filter(|(provision, assigned)| assigned.node == *node && Some(&provision.guid) != but)
            .flat_map(|(provision, _)| provision.streams.iter().map(|stream| &stream.guid));
        let will_have = placing
            .iter()
            .filter(|one| one.group == *group && one.node == *node && Some(&one.guid) != but)
            .filter(|one| mirror.assignment(group, &one.guid).is_none())
            .flat_map(|one| &one.streams);
        let running: Vec<&StreamGuid> = has.chain(will_have).collect();
        let shares = placement::shares(&self.0.me.app_capacity, &running);
        (running.len() as u64, shares)
    }

    /// Whether a publisher of this node has a name of its group.
    fn is_published(&self, group: &NodeGroup, stream: &StreamGuid) -> bool {
        let snapshot = || self.0.streams.snapshot(stream);
        *group == self.0.me.group && snapshot().is_some_and(|stream| stream.published)
    }
}
