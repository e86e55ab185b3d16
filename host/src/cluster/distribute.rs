//! Gives provisions to nodes because somebody asks for it.
//!
//! Decides by the mirror and writes on condition that the mirror was right; who asks at
//! the same time on another node, and loses, finds what the other one did. Runs nothing.

use std::time::Duration;

use parking_lot::Mutex;

use super::mirror::{Assignment, Known};
use super::moves::read_at;
use super::placement::{Candidate, NoFit, Wanted, rank};
use super::record::node_key;
use super::roster::{Placement, candidates};
use super::{Cluster, NOT_APPLIED, Node};
use crate::id::{NodeGroup, NodeId, ProvisionGuid, RestreamType, StreamGuid};
use crate::limits::{self, Limit};
use crate::provision::keys;
use crate::store::{self, Revision, Txn};

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
    /// How many nodes at most, or exactly. A provision is on one.
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
#[derive(Default)]
struct Asked {
    /// Of the provision's last write.
    written: Revision,
    types: Vec<RestreamType>,
    streams: Vec<StreamGuid>,
    /// Of them, those that are fed.
    fed: Vec<StreamGuid>,
    current: Option<Known<Assignment>>,
    /// Where the stream is that is read.
    near: Option<NodeId>,
}

impl Cluster {
    /// Nodes for a publisher of a stream, the best first.
    pub fn for_publisher(
        &self,
        group: &NodeGroup,
        stream: &StreamGuid,
        constraints: &Constraints,
    ) -> Result<Vec<Node>, PlaceError> {
        if self.is_published(group, stream) {
            return Err(PlaceError::NameLive);
        }
        let placing = self.0.placing.lock();
        let mut nodes = self.ranked(group, None, &Asked::default(), constraints, &placing)?;
        nodes.truncate(constraints.endpoints.max(1));
        match constraints.strict && nodes.len() < constraints.endpoints {
            true => Err(PlaceError::NoNodeFits(format!(
                "only {} nodes fit",
                nodes.len()
            ))),
            false => Ok(nodes),
        }
    }

    /// Gives a provision to a node, the same one as long as it is in service. The
    /// restreamers run when this returns; another node that takes longer than two seconds
    /// to begin is not waited for. A provision that this node has not heard of yet is
    /// waited for, not longer than for any change.
    pub async fn distribute(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
        constraints: &Constraints,
    ) -> Result<Vec<Node>, PlaceError> {
        if constraints.strict && constraints.endpoints > 1 {
            let text = "a provision is on one node at a time";
            return Err(PlaceError::NoNodeFits(text.to_owned()));
        }
        if self.0.mirror.read().written(group, guid).is_none() {
            self.catch_up().await;
        }
        for _ in 0..PLACE_TRIES {
            let asked = self.asked(group, guid)?;
            if asked.fed.iter().any(|name| self.is_published(group, name)) {
                return Err(PlaceError::NameLive);
            }
            if let Some(node) = self.kept_by(group, &asked) {
                let elsewhere = constraints.sub_group.as_ref();
                if constraints.strict && elsewhere.is_some_and(|wish| *wish != node.sub_group) {
                    return Err(PlaceError::NoNodeFits(format!(
                        "it is on {}, in the subgroup {}",
                        node.id, node.sub_group
                    )));
                }
                if node.id == self.0.me.id {
                    self.0.restreamers.again(guid);
                }
                return Ok(vec![node]);
            }
            // Until the mirror shows the assignment, or there is none.
            let (node, _seat) = self.choose(group, guid, &asked, constraints)?;
            match self.assign(group, guid, &asked, &node.id).await {
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
        let Known {
            value: provision,
            revision,
        } = mirror
            .written(group, guid)
            .ok_or(PlaceError::UnknownProvision)?;
        let streams = provision.streams.iter();
        let fed = streams.clone().filter(|stream| stream.feeds);
        Ok(Asked {
            written: *revision,
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
        asked: &Asked,
        to: &NodeId,
    ) -> Result<Revision, store::Error> {
        let former = asked.current.as_ref();
        let assignment = Assignment::after(former.map(|known| &known.value), to.clone());
        let key = keys::assignment(group, guid);
        let value = serde_json::to_vec(&assignment).expect("names and numbers are serialisable");
        // The node was chosen for the types of this very document.
        let txn = Txn::new().revision_is(keys::provision(group, guid), asked.written);
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

    /// Asks the node that has a provision to begin anew with what gave up. It may have
    /// been moved meanwhile: then it begins anyhow.
    pub async fn ask_anew(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
    ) -> Result<(), PlaceError> {
        let Some(current) = self.0.mirror.read().placed(group, guid).cloned() else {
            return Ok(());
        };
        let assignment = Assignment {
            asked: current.value.asked.saturating_add(1),
            ..current.value
        };
        let key = keys::assignment(group, guid);
        let value = serde_json::to_vec(&assignment).expect("names and numbers are serialisable");
        let txn = Txn::new().revision_is(key.clone(), current.revision);
        match self.0.store.txn(txn.put(key, value)).await {
            Ok(_) | Err(store::Error::Failed { .. }) => Ok(()),
            Err(error) => Err(PlaceError::Unavailable(error.to_string())),
        }
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

    /// The node that has it already, is in service and can carry it out still: an update
    /// may have changed the type.
    fn kept_by(&self, group: &NodeGroup, asked: &Asked) -> Option<Node> {
        let id = &asked.current.as_ref()?.value.node;
        let mut nodes = self.nodes(group).into_iter();
        let node = nodes.find(|node| node.id == *id && node.state == "INSERVICE")?;
        let offers = |kind| node.plugins.contains_key(kind);
        asked.types.iter().all(offers).then_some(node)
    }

    fn choose(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
        asked: &Asked,
        constraints: &Constraints,
    ) -> Result<(Node, Seat<'_>), PlaceError> {
        // Held until the seat is taken, so that no two take the last one.
        let mut placing = self.0.placing.lock();
        let ranked = self.ranked(group, Some(guid), asked, constraints, &placing)?;
        let node = ranked.into_iter().next();
        let node =
            node.ok_or_else(|| PlaceError::NoNodeFits("no node is in service".to_owned()))?;
        let placement = Placement {
            group: group.clone(),
            guid: guid.clone(),
            node: node.id.clone(),
            streams: asked.streams.clone(),
        };
        placing.push(placement.clone());
        let seat = Seat {
            placing: &self.0.placing,
            placement,
        };
        Ok((node, seat))
    }

    /// The nodes that fit, the best first.
    fn ranked(
        &self,
        group: &NodeGroup,
        guid: Option<&ProvisionGuid>,
        asked: &Asked,
        constraints: &Constraints,
        placing: &[Placement],
    ) -> Result<Vec<Node>, PlaceError> {
        let roster = self.roster(group);
        let candidates = {
            let nodes = roster.iter().map(|(node, record)| (node, record));
            candidates(nodes, &self.0.mirror.read(), group, placing, guid)
        };
        let sub_group = constraints.sub_group.as_deref();
        let ranked = rank(
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
        let mut nodes = self.nodes(group);
        let mut node = |of: &Candidate| {
            let at = nodes.iter().position(|node| node.id == of.id)?;
            Some(nodes.swap_remove(at))
        };
        Ok(ranked.into_iter().filter_map(&mut node).collect())
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
