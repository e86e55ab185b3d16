//! What the mirror says of other nodes, for those who speak with them: who holds which
//! stream, for edges, and where their figures are followed.

use tokio::sync::watch;

use super::{Cluster, mirror::Mirror};
use crate::edge::{Holders, Origin};
use crate::figures::{Peer, Peers};
use crate::id::{NodeGroup, NodeId, StreamGuid};
use crate::provision::ProvisionStream;
use crate::stream::latency::Latency;

impl Holders for Cluster {
    fn holder(&self, stream: &StreamGuid) -> Option<Origin> {
        let holder = Cluster::holder(self, stream)?;
        (holder.node != self.0.me.id).then(|| Origin {
            node: holder.node,
            instance: holder.record.instance.to_string(),
            epoch: holder.epoch,
            rtmp: holder.record.rtmp,
        })
    }

    fn exists(&self, stream: &StreamGuid) -> bool {
        let (mirror, group) = (self.0.mirror.read(), &self.0.me.group);
        mirror.claim(group, stream).is_some() || feeding(&mirror, group, stream).is_some()
    }

    fn latency(&self, stream: &StreamGuid) -> Option<Latency> {
        let mirror = self.0.mirror.read();
        feeding(&mirror, &self.0.me.group, stream)?.latency
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.claims_changed()
    }
}

/// What a provision that was given to a node says of a stream that it feeds.
fn feeding<'a>(
    mirror: &'a Mirror,
    group: &'a NodeGroup,
    stream: &'a StreamGuid,
) -> Option<&'a ProvisionStream> {
    let given = |guid| match mirror.provision(group, guid) {
        Some((provision, Some(_))) => Some(&provision.streams),
        _ => None,
    };
    let streams = mirror.about(group, stream).filter_map(given).flatten();
    streams
        .into_iter()
        .find(|one| one.feeds && one.guid == *stream)
}

impl Peers for Cluster {
    fn peers(&self) -> Vec<Peer> {
        let records = self.records(&self.0.me.group);
        let others = records.into_iter().filter(|(id, _)| *id != self.0.me.id);
        others
            .map(|(node, record)| Peer {
                node,
                instance: record.instance.to_string(),
                api: record.api,
                tls: record.api_tls.then_some(record.address),
            })
            .collect()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.claims_changed()
    }
}

impl Cluster {
    /// The node that holds the claim of a stream.
    pub fn claimed_by(&self, group: &NodeGroup, stream: &StreamGuid) -> Option<NodeId> {
        let mirror = self.0.mirror.read();
        Some(mirror.claim(group, stream)?.value.node.clone())
    }

    /// The streams of a group that plain publishers feed, and where.
    pub fn published(&self, group: &NodeGroup) -> Vec<(StreamGuid, NodeId)> {
        let mirror = self.0.mirror.read();
        let claims = mirror
            .claims(group)
            .filter(|(_, claim)| claim.value.published);
        claims
            .map(|(stream, claim)| (stream.clone(), claim.value.node.clone()))
            .collect()
    }
}
