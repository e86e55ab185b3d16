//! Gives provisions to nodes because somebody asks for it.
//!
//! Decides by the mirror and writes on condition that the mirror was right; who asks at
//! the same time on another node, and loses, finds what the other one did. Runs nothing.

use std::time::Duration;

use parking_lot::Mutex;

use super::mirror::{Assignment, Known};
use super::moves::read_at;
use super::placement::{NoFit, Wanted, place};
use super::record::node_key;
use super::roster::{Placement, candidates};
use super::{Cluster, NOT_APPLIED, Node};
use crate::id::{NodeGroup, NodeId, ProvisionGuid, RestreamType, StreamGuid};
use crate::limits::{self, Limit};
use crate::provision::keys;
use crate::store::{self, Txn};

/// How often placing is tried again because someone else placed at the same time.
const PLACE_TRIES: usize = 5;
/// How long a caller waits for another node to begin with what it was given.
const BEGIN_WAIT: Duration = Duration::from_secs(2);

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

/// What is asked of a node, and for whom.
struct Asked {
    types: Vec<RestreamType>,
    streams: Vec<StreamGuid>,
    /// Of them, those that are fed.
    fed: Vec<StreamGuid>,
    current: Option<Known<Assignment>>,
    /// Where the stream is that is read.
    near: Option<NodeId>,
}

impl Cluster {
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
        let asked = Asked {
            types: Vec::new(),
            streams: Vec::new(),
            fed: Vec::new(),
            current: None,
            near: None,
        };
        self.choose(group, None, &asked, constraints)
            .map(|(node, _)| vec![node])
    }

    /// Gives a provision to a node, the same one as long as it is in service. The
    /// restreamers run when this returns; another node that takes longer than two seconds
    /// to begin is not waited for.
    pub async fn distribute(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
        constraints: &Constraints,
    ) -> Result<Vec<Node>, PlaceError> {
        for _ in 0..PLACE_TRIES {
            let asked = self.asked(group, guid)?;
            if asked.fed.iter().any(|name| self.is_published(group, name)) {
                return Err(PlaceError::NameLive);
            }
            let current = asked.current.as_ref().map(|current| &current.value.node);
            if let Some(node) = current.and_then(|node| self.in_service(group, node)) {
                if node.id == self.0.me.id {
                    self.0.restreamers.again(guid);
                }
                return Ok(vec![node]);
            }
            // Until the mirror shows the assignment, or there is none.
            let (node, _seat) = self.choose(group, Some(guid), &asked, constraints)?;
            match self.assign(group, guid, asked.current, &node.id).await {
                Ok(revision) => {
                    if !self.applied(revision).await {
                        return Err(PlaceError::Unavailable(NOT_APPLIED.to_owned()));
                    }
                    if node.id != self.0.me.id {
                        self.begun(&asked.fed, &node.id).await;
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

    fn asked(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Result<Asked, PlaceError> {
        let mirror = self.0.mirror.read();
        let (provision, _) = mirror
            .provision(group, guid)
            .ok_or(PlaceError::UnknownProvision)?;
        let streams = provision.streams.iter();
        let fed = streams.clone().filter(|stream| stream.feeds);
        Ok(Asked {
            types: streams.clone().map(|stream| stream.kind.clone()).collect(),
            fed: fed.map(|stream| stream.guid.clone()).collect(),
            streams: streams.map(|stream| stream.guid.clone()).collect(),
            current: mirror.placed(group, guid).cloned(),
            near: read_at(provision, &mirror, group),
        })
    }

    async fn assign(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
        former: Option<Known<Assignment>>,
        to: &NodeId,
    ) -> Result<store::Revision, store::Error> {
        let assignment = Assignment::after(former.as_ref().map(|known| &known.value), to.clone());
        let key = keys::assignment(group, guid);
        let value = serde_json::to_vec(&assignment).expect("names and numbers are serialisable");
        let txn = Txn::new().present(keys::provision(group, guid));
        let txn = match former {
            None => txn.absent(key.clone()),
            Some(former) => {
                let there = self
                    .0
                    .mirror
                    .read()
                    .node(group, &former.value.node)
                    .is_some();
                let txn = txn.revision_is(key.clone(), former.revision);
                // A node that leaves lets go when it sees this; one that is gone must be.
                match there || self.0.membership.is_none() {
                    true => txn,
                    false => txn.absent(node_key(group, &former.value.node)),
                }
            }
        };
        self.0.store.txn(txn.put(key, value)).await
    }

    /// Waits until another node has the claims of what it was given, but not for long.
    async fn begun(&self, fed: &[StreamGuid], node: &NodeId) {
        let mut changed = self.claims_changed();
        let lacks = |stream: &StreamGuid| {
            let holder = self.holder(stream);
            holder.is_none_or(|holder| holder.node != *node)
        };
        let begun = async { while fed.iter().any(lacks) && changed.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(BEGIN_WAIT, begun).await;
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
        asked: &Asked,
        constraints: &Constraints,
    ) -> Result<(Node, Option<Seat<'_>>), PlaceError> {
        let roster = self.roster(group);
        if constraints.strict && constraints.endpoints > roster.len() {
            return Err(PlaceError::NoNodeFits(format!(
                "the group has {} nodes",
                roster.len()
            )));
        }
        // Held until the seat is taken, so that no two take the last one.
        let mut placing = self.0.placing.lock();
        let candidates = {
            let nodes = roster.iter().map(|(node, record)| (node, record));
            candidates(nodes, &self.0.mirror.read(), group, &placing, guid)
        };
        let sub_group = constraints.sub_group.as_deref();
        let chosen = place(
            &candidates,
            Wanted {
                types: &asked.types,
                streams: &asked.streams,
                sub_group,
                strict: constraints.strict,
                near: asked.near.as_ref(),
            },
        )
        .map_err(|no| match no {
            NoFit::None(text) => PlaceError::NoNodeFits(text),
            NoFit::Full(app) => PlaceError::AtLimit(self.0.limits.refused(Limit::Pulls, app)),
        })?;
        let mut nodes = self.nodes(group).into_iter();
        let node = nodes.find(|node| node.id == chosen.id);
        let node =
            node.ok_or_else(|| PlaceError::NoNodeFits("no node is in service".to_owned()))?;
        let seat = guid.map(|guid| {
            let placement = Placement {
                group: group.clone(),
                guid: guid.clone(),
                node: node.id.clone(),
                streams: asked.streams.clone(),
            };
            placing.push(placement.clone());
            Seat {
                placing: &self.0.placing,
                placement,
            }
        });
        Ok((node, seat))
    }

    /// Whether a publisher has a name, on this node or on another one.
    pub fn is_published(&self, group: &NodeGroup, stream: &StreamGuid) -> bool {
        let here = || {
            let snapshot = self.0.streams.snapshot(stream);
            snapshot.is_some_and(|stream| stream.published)
        };
        let elsewhere = || {
            let mirror = self.0.mirror.read();
            let claim = mirror.claim(group, stream);
            claim.is_some_and(|claim| claim.value.published)
        };
        (*group == self.0.me.group && here()) || elsewhere()
    }
}
