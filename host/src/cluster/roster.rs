//! The nodes of a group as placement sees them, out of the mirror and of what is under way.
//!
//! Pure. Counts once for all nodes, so that many provisions can be placed on one roster.

use std::collections::BTreeMap;

use super::mirror::Mirror;
use super::placement::{AppShare, Candidate};
use super::record::{NodeRecord, NodeState};
use crate::id::{NodeGroup, NodeId, ProvisionGuid, StreamGuid};

/// A provision that is being given to a node, and the restreamers that come with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    pub(super) group: NodeGroup,
    pub(super) guid: ProvisionGuid,
    pub(super) node: NodeId,
    pub(super) streams: Vec<StreamGuid>,
}

/// The candidates for a provision of a group: each with what it has and is about to have,
/// what it has of `but` left out.
pub(super) fn candidates<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeId, &'a NodeRecord)>,
    mirror: &Mirror,
    group: &NodeGroup,
    placing: &[Placement],
    but: Option<&ProvisionGuid>,
) -> Vec<Candidate> {
    let mut candidates: BTreeMap<NodeId, Candidate> = nodes
        .into_iter()
        .map(|(node, record)| (node.clone(), candidate(node, record)))
        .collect();
    for (provision, assigned) in mirror.assigned(group) {
        if Some(&provision.guid) != but
            && let Some(candidate) = candidates.get_mut(&assigned.node)
        {
            let streams = provision.streams.iter();
            streams.for_each(|stream| candidate.add(&stream.guid));
        }
    }
    for one in placing {
        // What the mirror shows has been counted already.
        let counted = mirror
            .assignment(group, &one.guid)
            .is_some_and(|assigned| assigned.node == one.node);
        if one.group == *group
            && Some(&one.guid) != but
            && !counted
            && let Some(candidate) = candidates.get_mut(&one.node)
        {
            one.streams.iter().for_each(|stream| candidate.add(stream));
        }
    }
    candidates.into_values().collect()
}

fn candidate(node: &NodeId, record: &NodeRecord) -> Candidate {
    let share = |(app, capacity): (&_, &u64)| AppShare {
        app: Clone::clone(app),
        restreamers: 0,
        capacity: *capacity,
    };
    Candidate {
        id: node.clone(),
        in_service: record.state == NodeState::InService,
        sub_group: record.sub_group.clone(),
        restreamers: 0,
        capacity: record.capacity,
        apps: record.app_capacity.iter().map(share).collect(),
        types: record.plugins.keys().cloned().collect(),
    }
}

impl Candidate {
    /// One more restreamer.
    pub(super) fn add(&mut self, stream: &StreamGuid) {
        self.restreamers += 1;
        let app = stream.app_name();
        let share = self.apps.iter_mut().find(|share| share.app.as_str() == app);
        if let Some(share) = share {
            share.restreamers += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::tests::document;
    use super::*;
    use crate::store::{Entry, Event};

    fn put(mirror: &mut Mirror, key: &str, value: impl Into<String>) {
        let value: String = value.into();
        mirror.apply(Event::Put(Entry {
            key: key.to_owned(),
            value: value.into(),
            revision: 1,
        }));
    }

    #[test]
    fn what_a_node_has_and_is_about_to_have_is_counted_once() {
        let group: NodeGroup = "g".parse().expect("legal");
        let node: NodeId = "n1".parse().expect("legal");
        let mut mirror = Mirror::default();
        for (guid, stream) in [("p-1", "live/1"), ("p-2", "other/2"), ("p-3", "live/3")] {
            put(
                &mut mirror,
                &format!("provisions/g/{guid}"),
                document(guid, stream),
            );
        }
        let to_n1 = r#"{"node":"n1","epoch":1}"#;
        put(&mut mirror, "assignments/g/p-1", to_n1);
        put(&mut mirror, "assignments/g/p-2", to_n1);
        let mut record = record(1);
        record.app_capacity = [("live".parse().expect("legal"), 5)].into();
        let placing = |guid: &str, stream: &str| Placement {
            group: group.clone(),
            guid: guid.parse().expect("legal"),
            node: node.clone(),
            streams: vec![stream.parse().expect("legal")],
        };
        let placing = [placing("p-1", "live/1"), placing("p-3", "live/3")];
        let count = |but: Option<&str>| {
            let but = but.map(|guid| guid.parse().expect("legal"));
            let nodes = [(&node, &record)];
            let candidates = candidates(nodes, &mirror, &group, &placing, but.as_ref());
            (candidates[0].restreamers, candidates[0].apps[0].restreamers)
        };
        assert_eq!(count(None), (3, 2));
        assert_eq!(count(Some("p-1")), (2, 1));
        assert_eq!(count(Some("p-3")), (2, 1));
    }
}
