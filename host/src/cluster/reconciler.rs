//! Follows the store and makes this node match it.
//!
//! One loop, one watch: every change passes here in the store's order, so a late
//! event can bring nothing back that a newer one removed.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use super::Cluster;
use super::mirror::{Mirror, Touched};
use crate::id::{NodeGroup, ProvisionGuid};
use crate::restreamer::Assigned;
use crate::store::{self, Page, Watch};

/// Before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);

/// Runs until the drain starts.
pub(super) async fn run(cluster: Cluster) {
    let drain = cluster.0.drain.clone();
    tokio::select! {
        () = follow(&cluster) => {}
        () = drain.started() => {}
    }
}

async fn follow(cluster: &Cluster) {
    loop {
        let failed = match list(cluster).await {
            Ok(watch) => drive(cluster, watch).await,
            Err(error) => error,
        };
        match failed {
            store::Error::Compacted { .. } => {
                info!("the watch fell behind; reading the store anew")
            }
            error => warn!(%error, "the store cannot be followed"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reads everything, makes this node match it, and watches from there.
async fn list(cluster: &Cluster) -> Result<Watch, store::Error> {
    let mut mirror = Mirror::default();
    let mut page = Page::first();
    let mut from = None;
    loop {
        let listing = cluster.0.store.list("", page).await?;
        let revision = *from.get_or_insert(listing.revision);
        let last = listing.entries.last().map(|entry| entry.key.clone());
        for entry in listing.entries {
            mirror.load(entry);
        }
        match last {
            Some(last) if listing.more => page = Page::after(last),
            _ => {
                let watch = cluster.0.store.watch("", revision).await?;
                install(cluster, mirror, revision);
                return Ok(watch);
            }
        }
    }
}

fn install(cluster: &Cluster, mirror: Mirror, revision: store::Revision) {
    let group = cluster.0.me.group.clone();
    let former = std::mem::replace(&mut *cluster.0.mirror.write(), mirror);
    let names: Vec<_> = {
        let mirror = cluster.0.mirror.read();
        former
            .names(&group)
            .chain(mirror.names(&group))
            .cloned()
            .collect()
    };
    for stream in names {
        settle(cluster, &Touched::Name(group.clone(), stream), revision);
    }
    let mut provisions: BTreeSet<ProvisionGuid> = cluster
        .0
        .restreamers
        .assigned()
        .into_iter()
        .map(|(provision, _)| provision)
        .collect();
    provisions.extend(
        cluster
            .0
            .mirror
            .read()
            .assigned(&group)
            .map(|(provision, _)| provision.guid.clone()),
    );
    for provision in provisions {
        settle(
            cluster,
            &Touched::Provision(group.clone(), provision),
            revision,
        );
    }
    cluster.0.claims.send_replace(());
    cluster.0.applied.send_replace(Some(revision));
}

async fn drive(cluster: &Cluster, mut watch: Watch) -> store::Error {
    loop {
        let batch = tokio::select! {
            batch = watch.next() => match batch {
                Ok(batch) => batch,
                Err(error) => return error,
            },
            () = cluster.0.streams.freed() => {
                cluster.0.restreamers.retry();
                continue;
            }
        };
        let touched: BTreeSet<Touched> = {
            let mut mirror = cluster.0.mirror.write();
            batch
                .events
                .into_iter()
                .filter_map(|event| mirror.apply(event))
                .collect()
        };
        for one in &touched {
            settle(cluster, one, batch.revision);
        }
        let claims = |one: &Touched| matches!(one, Touched::Claim(..) | Touched::Node(..));
        if touched.iter().any(claims) {
            cluster.0.claims.send_replace(());
        }
        cluster.0.applied.send_replace(Some(batch.revision));
    }
}

/// Makes this node match the mirror, which is at a revision, in one respect.
fn settle(cluster: &Cluster, touched: &Touched, revision: store::Revision) {
    match touched {
        Touched::Name(group, stream) if *group == cluster.0.me.group => {
            if !cluster.0.mirror.read().has_name(group, stream) {
                cluster.0.streams.release(stream, revision);
            } else if let Err(taken) = cluster.0.streams.hold(stream, revision) {
                warn!(%stream, %taken, "a provision's name is taken");
            }
        }
        Touched::Provision(group, guid) if *group == cluster.0.me.group => {
            settle_provision(cluster, group, guid)
        }
        _ => {}
    }
}

fn settle_provision(cluster: &Cluster, group: &NodeGroup, guid: &ProvisionGuid) {
    let wanted: Vec<Assigned> = {
        let mirror = cluster.0.mirror.read();
        match mirror.provision(group, guid) {
            Some((provision, Some(assignment))) if assignment.node == cluster.0.me.id => provision
                .streams
                .iter()
                .map(|stream| Assigned {
                    provision: guid.clone(),
                    stream: stream.guid.clone(),
                    kind: stream.kind.clone(),
                    feeds: stream.feeds,
                    properties: stream.properties.clone(),
                    latency: stream.latency,
                    epoch: assignment.epoch,
                })
                .collect(),
            _ => Vec::new(),
        }
    };
    for stream in cluster.0.restreamers.of(guid) {
        if !wanted.iter().any(|assigned| assigned.stream == stream) {
            cluster.0.restreamers.stop(guid, &stream);
        }
    }
    for assigned in wanted {
        cluster.0.restreamers.ensure(assigned);
    }
}
