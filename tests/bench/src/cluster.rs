//! Several nodes on one etcd: how fast streams move, and what the store bears.
//!
//! Five measurements, each on nodes and an etcd of its own. Nodes are kept apart by
//! loopback addresses and share the machine. Invariant: one that fails says so in the
//! goals, and the others go on.

mod drain;
mod failover;
mod provisions;
mod rest;
mod restart;
mod spread;
mod stage;

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::goal::{self, Goal};
use crate::measure::attempt;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// kill -9 of one of three nodes.
    Failover,
    /// A node that is told to leave.
    Drain,
    /// A node with many restreamers that begins again.
    Restart,
    /// Many provisions in the store.
    Provisions,
    /// What etcd is asked for while nothing happens.
    Rest,
}

/// What to measure, and how much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Only these.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "failover,drain,restart,provisions,rest"
    )]
    what: Vec<What>,
    /// Pulls of three nodes, of which one is killed.
    #[arg(long, default_value_t = 900)]
    failover_pulls: usize,
    /// Pulls of two nodes, of which one drains.
    #[arg(long, default_value_t = 100)]
    drain_pulls: usize,
    /// Pulls of the node that begins again.
    #[arg(long, default_value_t = 1_000)]
    restart_pulls: usize,
    /// Provisions in the store.
    #[arg(long, default_value_t = 10_000)]
    provisions: usize,
    /// How long rest is looked at, for each number of nodes, in seconds.
    #[arg(long, default_value_t = 20)]
    rest_seconds: u64,
    /// Rate of a stream in kbit/s: low, for all nodes and sources share this machine.
    #[arg(long, default_value_t = 100)]
    stream_kbps: u32,
}

/// A table of Markdown, and what it says about the goals.
type Told = (String, Vec<Goal>);

/// Measures, prints the tables, and answers the goals.
pub(crate) fn run(restreamd: &Path, options: &Options) -> Vec<Goal> {
    let binary = restreamd.to_string_lossy();
    let mut goals = Vec::new();
    for what in &options.what {
        let told = attempt(|| what.measure(&binary, options));
        match told {
            Ok((table, reached)) => {
                println!("{table}");
                goals.extend(reached);
            }
            Err(why) => goals.push(goal::failed(&format!("cluster, {what:?}"), &why)),
        }
    }
    goals
}

impl What {
    fn measure(self, binary: &str, options: &Options) -> anyhow::Result<Told> {
        let kbps = options.stream_kbps;
        match self {
            Self::Failover => failover::run(binary, options.failover_pulls, kbps),
            Self::Drain => drain::run(binary, options.drain_pulls, kbps),
            Self::Restart => restart::run(binary, options.restart_pulls, kbps),
            Self::Provisions => provisions::run(binary, options.provisions),
            Self::Rest => rest::run(binary, Duration::from_secs(options.rest_seconds), kbps),
        }
    }
}

/// One line of a table.
fn row(name: &str, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}

/// Seconds, to be read.
fn seconds(time: Duration) -> String {
    crate::table::short(time.as_secs_f64())
}
