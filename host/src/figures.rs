//! Figures: how the streams of all nodes are doing, from node to node.
//!
//! Every node tells what it knows of its own streams, once a second what changed, and
//! follows every other node of its group over one connection; so a list over all nodes
//! asks nobody, and no figure is written to the store. What the fields of a figure mean
//! is for who fills them in and who shows them. Invariants: what was not heard of for
//! [`FRESH`] is not known; a node that says more than it may is not heard; who does not
//! keep up begins anew.

pub mod delta;
mod follow;
mod lines;
mod teller;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

pub use delta::{Counts, Picture, Subject};
pub use follow::{Trust, run};
pub use teller::{Listening, Teller};

use crate::id::{NodeId, StreamGuid};
use delta::{Line, Refused, Table};

/// Where a node's figures are, on its REST listener.
pub const PATH: &str = "/as/v1/cluster/figures";
/// What was said longer ago is not known: four ticks were missed.
pub const FRESH: Duration = Duration::from_secs(5);

/// Another node of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeId,
    /// Which of its memberships.
    pub instance: String,
    /// Its REST listener.
    pub api: SocketAddr,
    /// The name its certificate is for, when it speaks TLS; a port behind it means nothing.
    pub tls: Option<String>,
}

/// Who the other nodes are.
pub trait Peers: Send + Sync {
    /// All of them.
    fn peers(&self) -> Vec<Peer>;

    /// Changes with them.
    fn changes(&self) -> watch::Receiver<()>;
}

/// What one node said.
#[derive(Debug)]
struct Heard {
    /// Whom it is heard from: what a former self of it says is not taken in.
    by: Peer,
    table: Table,
    /// When it said something last; nothing before it said all.
    at: Option<Instant>,
}

impl Heard {
    fn fresh(&self) -> Option<&Table> {
        let fresh = self.at.is_some_and(|at| at.elapsed() < FRESH);
        fresh.then_some(&self.table)
    }
}

/// What all other nodes said. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Figures(Arc<RwLock<BTreeMap<NodeId, Heard>>>);

impl Figures {
    /// Counts of a node, if it was heard of lately.
    pub fn counts(&self, node: &NodeId) -> Option<Counts> {
        self.0.read().get(node)?.fresh().map(Table::counts)
    }

    /// What a node says of a stream, if it was heard of lately and says something that
    /// can be read.
    pub fn stream<T: DeserializeOwned>(&self, node: &NodeId, subject: &Subject) -> Option<T> {
        let heard = self.0.read();
        let fields = heard.get(node)?.fresh()?.get(subject)?;
        read(fields)
    }

    /// What nodes say of streams that no provision of theirs feeds: those of publishers,
    /// and those they have from other nodes.
    pub fn unprovisioned<T: DeserializeOwned>(&self) -> Vec<(NodeId, StreamGuid, T)> {
        let heard = self.0.read();
        let fresh = heard
            .iter()
            .filter_map(|(node, heard)| Some((node, heard.fresh()?)));
        let all = fresh.flat_map(|(node, table)| table.iter().map(move |(of, f)| (node, of, f)));
        all.filter(|(_, of, _)| of.provision.is_none())
            .filter_map(|(node, of, fields)| Some((node.clone(), of.stream.clone(), read(fields)?)))
            .collect()
    }

    /// From now on this one is heard under its name, and no other.
    fn listen_to(&self, by: Peer) {
        let heard = Heard {
            by: by.clone(),
            table: Table::default(),
            at: None,
        };
        let former = self.0.write().insert(by.node, heard);
        drop(former);
    }

    /// A node said this. Nothing comes of it when it is not expected any more: whoever
    /// follows it may be in the middle of a line when it is forgotten.
    fn hear(&self, by: &Peer, line: &[u8]) -> Result<(), Refused> {
        // What takes long is done while everybody may read.
        let heard = delta::read(line).and_then(|line| self.take(by, line));
        if heard.is_err() {
            self.take_back(by);
        }
        heard
    }

    fn take(&self, by: &Peer, line: Line) -> Result<(), Refused> {
        let mut all = self.0.write();
        let Some(heard) = all.get_mut(&by.node).filter(|heard| heard.by == *by) else {
            return Ok(());
        };
        if heard.table.apply(line)? == delta::Part::Whole {
            heard.at = Some(Instant::now());
        }
        Ok(())
    }

    /// What it said is void.
    fn take_back(&self, by: &Peer) {
        let mut all = self.0.write();
        if let Some(heard) = all.get_mut(&by.node).filter(|heard| heard.by == *by) {
            (heard.table, heard.at) = (Table::default(), None);
        }
    }

    /// The node is gone.
    fn forget(&self, node: &NodeId) {
        let gone = self.0.write().remove(node);
        drop(gone);
    }
}

fn read<T: DeserializeOwned>(fields: &Value) -> Option<T> {
    T::deserialize(fields).ok()
}
