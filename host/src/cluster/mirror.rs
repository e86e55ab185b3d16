//! What the store says, as far as this node has seen it.
//!
//! Fed by one watch; read by everybody who would otherwise ask the store for each
//! request. Pure: it keeps what it is told and says what changed.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::record::{Claim, Holder, NodeRecord, Ready};
use crate::id::{NodeGroup, NodeId, ProvisionGuid, StreamGuid};
use crate::provision::Provision;
use crate::store::{Entry, Event, Revision};

/// The largest epoch that is taken in: as far as every reader of JSON counts exactly. A
/// provision that is placed each millisecond gets there in 285 000 years.
pub(super) const MAX_EPOCH: u64 = 1 << 53;

/// Which node carries a provision out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node.
    pub node: NodeId,
    /// Counts how often the provision was placed.
    pub epoch: u64,
    /// Counts how often somebody asked its node to begin anew with what had given up.
    #[serde(default)]
    pub asked: u64,
}

impl Assignment {
    /// To a node, after the one before. An epoch that somebody wrote into the store may be
    /// the last one there is, and stays: the claim is the lock, not the epoch.
    pub(super) fn after(former: Option<&Self>, node: NodeId) -> Self {
        let epoch = former.map_or(0, |former| former.epoch).saturating_add(1);
        Self {
            node,
            epoch,
            asked: 0,
        }
    }
}

type Key = (NodeGroup, ProvisionGuid);

/// What the store says under a key, and since which revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known<V> {
    /// It.
    pub value: V,
    /// Of its last write.
    pub revision: Revision,
}

/// What an event was about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// A provision or its assignment.
    Provision(NodeGroup, ProvisionGuid),
    /// A name that a provision feeds.
    Name(NodeGroup, StreamGuid),
    /// A node's record.
    Node(NodeGroup, NodeId),
    /// The claim of a stream.
    Claim(NodeGroup, StreamGuid),
    /// Somebody can begin with a stream as soon as its claim is free.
    Ready(NodeGroup, StreamGuid),
}

/// The mirror.
#[derive(Debug, Default)]
pub struct Mirror {
    provisions: BTreeMap<Key, Known<Provision>>,
    assignments: BTreeMap<Key, Known<Assignment>>,
    names: BTreeSet<(NodeGroup, StreamGuid)>,
    /// Which provisions are about a stream, those that read it too.
    about: BTreeMap<(NodeGroup, StreamGuid), BTreeSet<ProvisionGuid>>,
    nodes: BTreeMap<(NodeGroup, NodeId), Known<NodeRecord>>,
    claims: BTreeMap<(NodeGroup, StreamGuid), Known<Claim>>,
    ready: BTreeMap<(NodeGroup, StreamGuid), Known<Ready>>,
    revision: Revision,
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
        let (value, revision) = match &event {
            Event::Put(entry) => (Some(entry.value.as_ref()), entry.revision),
            Event::Delete { revision, .. } => (None, *revision),
        };
        match kind {
            "provisions" => {
                let key = (group, rest.parse().ok()?);
                let read = value
                    .and_then(|bytes| readable(&path, Provision::from_document(bytes)))
                    .filter(|provision| provision.guid == key.1);
                self.index(&key, read.as_ref());
                let read = read.map(|value| Known { value, revision });
                put(&mut self.provisions, &key, read);
                Some(Touched::Provision(key.0, key.1))
            }
            "assignments" => {
                let key = (group, rest.parse().ok()?);
                put(&mut self.assignments, &key, known(&path, value, revision));
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
            "nodes" => {
                let key = (group, rest.parse().ok()?);
                put(&mut self.nodes, &key, known(&path, value, revision));
                Some(Touched::Node(key.0, key.1))
            }
            "claims" => {
                let key = (group, rest.parse().ok()?);
                put(&mut self.claims, &key, known(&path, value, revision));
                Some(Touched::Claim(key.0, key.1))
            }
            "ready" => {
                let key = (group, rest.parse().ok()?);
                put(&mut self.ready, &key, known(&path, value, revision));
                Some(Touched::Ready(key.0, key.1))
            }
            _ => None,
        }
    }

    /// Everything up to this revision was taken in.
    pub fn catch_up(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Up to where everything was taken in.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Keeps `about` as the provisions are.
    fn index(&mut self, key: &Key, now: Option<&Provision>) {
        let of = |stream: &StreamGuid| (key.0.clone(), stream.clone());
        let former = self.provisions.get(key).map(|known| &known.value);
        for stream in former.iter().flat_map(|provision| &provision.streams) {
            let name = of(&stream.guid);
            if let Some(about) = self.about.get_mut(&name) {
                about.remove(&key.1);
                if about.is_empty() {
                    self.about.remove(&name);
                }
            }
        }
        for stream in now.iter().flat_map(|provision| &provision.streams) {
            let about = self.about.entry(of(&stream.guid)).or_default();
            about.insert(key.1.clone());
        }
    }

    /// A provision and where it runs.
    pub fn provision(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
    ) -> Option<(&Provision, Option<&Assignment>)> {
        let key = (group.clone(), guid.clone());
        let assignment = self.assignments.get(&key).map(|known| &known.value);
        Some((&self.provisions.get(&key)?.value, assignment))
    }

    /// A provision as it was written, and since when.
    pub fn written(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Option<&Known<Provision>> {
        self.provisions.get(&(group.clone(), guid.clone()))
    }

    /// Where a provision runs.
    pub fn assignment(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Option<&Assignment> {
        self.placed(group, guid).map(|known| &known.value)
    }

    /// The same, and since when.
    pub fn placed(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Option<&Known<Assignment>> {
        self.assignments.get(&(group.clone(), guid.clone()))
    }

    /// The provisions about a stream: what feeds it and what reads it.
    pub fn about(
        &self,
        group: &NodeGroup,
        stream: &StreamGuid,
    ) -> impl Iterator<Item = &ProvisionGuid> {
        let about = self.about.get(&(group.clone(), stream.clone()));
        about.into_iter().flatten()
    }

    /// A node that is there.
    pub fn node(&self, group: &NodeGroup, node: &NodeId) -> Option<&Known<NodeRecord>> {
        self.nodes.get(&(group.clone(), node.clone()))
    }

    /// The nodes of a group that are there.
    pub fn nodes(&self, group: &NodeGroup) -> impl Iterator<Item = (&NodeId, &NodeRecord)> {
        let of_group = self.nodes.iter().filter(move |((of, _), _)| of == group);
        of_group.map(|((_, node), known)| (node, &known.value))
    }

    /// Who may append to a stream.
    pub fn claim(&self, group: &NodeGroup, stream: &StreamGuid) -> Option<&Known<Claim>> {
        self.claims.get(&(group.clone(), stream.clone()))
    }

    /// All claims of a group.
    pub fn claims(&self, group: &NodeGroup) -> impl Iterator<Item = (&StreamGuid, &Known<Claim>)> {
        let of_group = self.claims.iter().filter(move |((of, _), _)| of == group);
        of_group.map(|((_, stream), known)| (stream, known))
    }

    /// Who can begin with a stream as soon as its claim is free.
    pub fn ready(&self, group: &NodeGroup, stream: &StreamGuid) -> Option<&Known<Ready>> {
        self.ready.get(&(group.clone(), stream.clone()))
    }

    /// Who has the claim of a stream, when its node is there.
    pub fn holder(&self, group: &NodeGroup, stream: &StreamGuid) -> Option<Holder> {
        let Claim {
            node,
            instance,
            epoch,
            ..
        } = &self.claim(group, stream)?.value;
        let record = &self.node(group, node)?.value;
        (record.instance == *instance).then(|| Holder {
            node: node.clone(),
            epoch: *epoch,
            record: record.clone(),
        })
    }

    /// All provisions of a group that run somewhere.
    pub fn assigned(&self, group: &NodeGroup) -> impl Iterator<Item = (&Provision, &Assignment)> {
        let of_group = self
            .assignments
            .iter()
            .filter(move |((of, _), _)| of == group);
        of_group.filter_map(|(key, known)| Some((&self.provisions.get(key)?.value, &known.value)))
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

    /// Groups that hold a provision or a node.
    pub fn groups(&self) -> BTreeSet<NodeGroup> {
        let of_provisions = self.provisions.keys().map(|(group, _)| group);
        let of_nodes = self.nodes.keys().map(|(group, _)| group);
        of_provisions.chain(of_nodes).cloned().collect()
    }
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
}

fn known<V: DeserializeOwned>(
    key: &str,
    value: Option<&[u8]>,
    revision: Revision,
) -> Option<Known<V>> {
    let value = readable(key, serde_json::from_slice(value?))?;
    Some(Known { value, revision })
}

fn readable<V, E: std::fmt::Display>(key: &str, parsed: Result<V, E>) -> Option<V> {
    parsed
        .inspect_err(
            |why| error!(key, %why, "an entry of the store cannot be read and is left out"),
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use super::super::record::InstanceId;
    use super::super::record::tests::record;
    use super::*;

    fn put(key: &str, value: impl Serialize, revision: Revision) -> Event {
        Event::Put(Entry {
            key: key.to_owned(),
            value: serde_json::to_vec(&value).expect("JSON").into(),
            revision,
        })
    }

    fn claim(instance: u128) -> Claim {
        Claim {
            node: "n1".parse().expect("legal"),
            instance: InstanceId::from_bits(instance),
            epoch: 3,
            published: false,
        }
    }

    #[test]
    fn the_holder_of_a_stream_is_a_node_that_is_there_and_no_former_self_of_it() {
        let group: NodeGroup = "g".parse().expect("legal");
        let stream: StreamGuid = "live/a".parse().expect("legal");
        let mut mirror = Mirror::default();
        let touched = mirror.apply(put("claims/g/live/a", claim(1), 5));
        assert_eq!(touched, Some(Touched::Claim(group.clone(), stream.clone())));
        assert_eq!(mirror.holder(&group, &stream), None, "its node is gone");
        mirror.apply(put("nodes/g/n1", record(1), 6));
        let holder = mirror.holder(&group, &stream).expect("held");
        assert_eq!((holder.node.as_str(), holder.epoch), ("n1", 3));
        mirror.apply(put("nodes/g/n1", record(2), 7));
        assert_eq!(mirror.holder(&group, &stream), None, "of a former self");
        assert_eq!(
            mirror.node(&group, &holder.node).map(|n| n.revision),
            Some(7)
        );
        let key = "nodes/g/n1".to_owned();
        mirror.apply(Event::Delete { key, revision: 8 });
        assert_eq!(mirror.nodes(&group).count(), 0);
        assert_eq!(mirror.groups().len(), 0);
    }

    #[test]
    fn epochs_count_from_one_to_the_last() {
        let after = |epoch: Option<u64>| {
            let node: NodeId = "n1".parse().expect("legal");
            let former = epoch.map(|epoch| Assignment {
                node: node.clone(),
                epoch,
                asked: 0,
            });
            Assignment::after(former.as_ref(), node).epoch
        };
        assert_eq!((after(None), after(Some(1))), (1, 2));
        assert_eq!(after(Some(u64::MAX)), u64::MAX);
    }

    #[test]
    fn what_is_about_a_stream_follows_the_provisions() {
        let group: NodeGroup = "g".parse().expect("legal");
        let stream = |name: &str| -> StreamGuid { name.parse().expect("legal") };
        let mut mirror = Mirror::default();
        let document = |name: &str| super::super::tests::document("p-1", name);
        let write = |mirror: &mut Mirror, name: &str| {
            let value: serde_json::Value = serde_json::from_str(&document(name)).expect("JSON");
            mirror.apply(put("provisions/g/p-1", value, 1));
        };
        write(&mut mirror, "live/a");
        assert_eq!(mirror.about(&group, &stream("live/a")).count(), 1);
        write(&mut mirror, "live/b");
        assert_eq!(mirror.about(&group, &stream("live/a")).count(), 0);
        assert_eq!(mirror.about(&group, &stream("live/b")).count(), 1);
        let key = "provisions/g/p-1".to_owned();
        mirror.apply(Event::Delete { key, revision: 2 });
        assert!(mirror.about.is_empty());
    }
}
