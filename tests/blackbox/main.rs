//! The black-box suite: what a client, a publisher and a viewer see of the real binary.
//!
//! One module per promise. Nothing in here knows the host's code; the peers are
//! real tools or the scripted ones of the harness.

mod access;
mod authors;
mod config;
mod contract;
mod delete;
mod demo;
mod dial_policy;
mod drain;
mod durability;
mod enhanced;
mod errors;
mod example;
mod failover;
mod files;
mod flv;
mod grants;
mod guests;
mod hand_over;
mod hostile_peers;
mod limits;
mod logs_mask_secrets;
mod loops;
mod moved_upstream;
mod neighbour;
mod plugin_dir;
mod plugins;
mod probe;
mod push;
mod reconnect;
mod resolve;
mod scenarios;
mod snapshots;
mod stall;
mod timeline;
mod tls;
mod tokens;
mod trials;
mod update;
mod upstream_servers;
mod waiting_source;
mod walkthrough;
mod watch;

use std::time::Duration;

use restreamd_tests::host::Builder;

/// What the issue allows from a source that answers to LIVE.
const LIVE: Duration = Duration::from_secs(1);
/// The longest wait between two dials while a source has only just gone, or has
/// not come yet: the policy's own 1 s of its first 60 s.
const RETRY: Duration = Duration::from_secs(1);
/// A bound for what has no promised time, on a slow machine with other tests at work.
const SOON: Duration = Duration::from_secs(10);

/// A node on ports of its own.
fn node() -> Builder {
    Builder::new(env!("CARGO_BIN_EXE_restreamd"))
}
