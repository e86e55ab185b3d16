//! What the store says, as far as this node has seen it.
//!
//! Fed by one watch; read by everybody who would otherwise ask the store for each
//! request. Pure: it keeps what it is told and says what changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tracing::error;

use crate::id::{NodeGroup, NodeId, ProvisionGuid, StreamGuid};
use crate::provision::Provision;
use crate::store::{Entry, Event};

/// Which node carries a provision out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node.
    pub node: NodeId,
    /// Counts how often the provision was placed.
    pub epoch: u64,
}

type Key = (NodeGroup, ProvisionGuid);

/// What an event was about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// A provision or its assignment.
    Provision(NodeGroup, ProvisionGuid),
    /// A name that a provision feeds.
    Name(NodeGroup, StreamGuid),
}

/// The mirror.
#[derive(Debug, Default)]
pub struct Mirror {
    provisions: BTreeMap<Key, Provision>,
    assignments: BTreeMap<Key, Assignment>,
    names: BTreeSet<(NodeGroup, StreamGuid)>,
}

impl Mirror {
    /// Takes an entry of a listing in.
    pub fn load(&mut self, entry: Entry) -> Option<Touched> {
        self.apply(Event::Put(entry))
    }

    /// Takes an event in. Entries that cannot be read are reported and left out.
    pub fn apply(&mut self, event: Event) -> Option<Touched> {
        let path = event.key().to_owned();
        let mut parts = path.splitn(3, '/');
        let (kind, group, rest) = (
            parts.next()?,
            parts.next()?.parse::<NodeGroup>().ok()?,
            parts.next()?,
        );
        let value = match &event {
            Event::Put(entry) => Some(entry.value.as_ref()),
            Event::Delete { .. } => None,
        };
        match kind {
            "provisions" => {
                let key = (group, rest.parse().ok()?);
                put(
                    &mut self.provisions,
                    &key,
                    value
                        .and_then(|bytes| readable(&path, Provision::from_document(bytes)))
                        .filter(|provision| provision.guid == key.1),
                );
                Some(Touched::Provision(key.0, key.1))
            }
            "assignments" => {
                let key = (group, rest.parse().ok()?);
                put(
                    &mut self.assignments,
                    &key,
                    value.and_then(|bytes| readable(&path, serde_json::from_slice(bytes))),
                );
                Some(Touched::Provision(key.0, key.1))
            }
            "names" => {
                let key = (group, rest.parse().ok()?);
                if value.is_some() {
                    self.names.insert(key.clone());
                } else {
                    self.names.remove(&key);
                }
                Some(Touched::Name(key.0, key.1))
            }
            _ => None,
        }
    }

    /// A provision and where it runs.
    pub fn provision(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
    ) -> Option<(&Provision, Option<&Assignment>)> {
        let key = (group.clone(), guid.clone());
        Some((self.provisions.get(&key)?, self.assignments.get(&key)))
    }

    /// Where a provision runs.
    pub fn assignment(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Option<&Assignment> {
        self.assignments.get(&(group.clone(), guid.clone()))
    }

    /// All provisions of a group that run somewhere.
    pub fn assigned(&self, group: &NodeGroup) -> impl Iterator<Item = (&Provision, &Assignment)> {
        let of_group = self
            .assignments
            .iter()
            .filter(move |((of, _), _)| of == group);
        of_group.filter_map(|(key, assignment)| Some((self.provisions.get(key)?, assignment)))
    }

    /// Whether a provision feeds a stream of this name.
    pub fn has_name(&self, group: &NodeGroup, stream: &StreamGuid) -> bool {
        self.names.contains(&(group.clone(), stream.clone()))
    }

    /// Every name that provisions of a group feed.
    pub fn names(&self, group: &NodeGroup) -> impl Iterator<Item = &StreamGuid> {
        self.names
            .iter()
            .filter(move |(of, _)| of == group)
            .map(|(_, stream)| stream)
    }

    /// Groups that hold a provision.
    pub fn groups(&self) -> BTreeSet<NodeGroup> {
        self.provisions
            .keys()
            .map(|(group, _)| group.clone())
            .collect()
    }
}

fn put<V>(map: &mut BTreeMap<Key, V>, key: &Key, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
}

fn readable<V, E: std::fmt::Display>(key: &str, parsed: Result<V, E>) -> Option<V> {
    parsed
        .inspect_err(
            |why| error!(key, %why, "an entry of the store cannot be read and is left out"),
        )
        .ok()
}
