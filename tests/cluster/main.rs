//! The cluster suite: several real nodes on a real etcd, and what is taken from them.
//!
//! One module per promise, as in the black-box suite.

mod edges;
mod failover;
mod figures;
mod handover;
mod invariant;
mod kills;
mod leaders;
mod orphans;
mod partition;
mod placing;
#[cfg(debug_assertions)]
mod sabotage;
mod store;

use std::time::Duration;

use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::Etcd;

/// The node under test.
const BINARY: &str = env!("CARGO_BIN_EXE_restreamd");
/// A bound for what has no promised time, on a slow machine with other tests at work.
const SOON: Duration = Duration::from_secs(20);

/// So many nodes on an etcd of one member.
fn nodes(count: usize) -> Cluster {
    Cluster::start(BINARY, Etcd::start(), count, |_, builder| builder)
}
