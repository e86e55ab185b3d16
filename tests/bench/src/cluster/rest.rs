//! What etcd is asked for while nothing happens, with one node, two and three.
//!
//! By etcd's own count: its revision grows by one with each transaction that writes, and
//! its metrics tell renewals, what it makes durable, watchers and its own CPU time.

use std::thread;
use std::time::{Duration, Instant};

use restreamd_tests::cluster::node;
use restreamd_tests::etcd::Etcd;

use super::stage::{ADDRESSES, Sources, client, etcd, measured, start, wait_until_live};
use super::{Told, row};
use crate::goal::Goal;
use crate::table::{markdown, short};

const NODES: usize = 3;
/// Streams that run meanwhile.
const PULLS: usize = 60;
/// What a start still writes is written by then.
const SETTLE: Duration = Duration::from_secs(8);

/// etcd's counters, each a second.
#[derive(Clone, Copy, Debug)]
struct Counters {
    writes: f64,
    renewals: f64,
    synced: f64,
    cpu: f64,
}

impl Counters {
    fn of(etcd: &Etcd) -> Self {
        Self {
            writes: etcd.revision() as f64,
            renewals: etcd.metric("grpc_server_msg_received_total{grpc_method=\"LeaseKeepAlive\""),
            synced: etcd.metric("etcd_disk_wal_fsync_duration_seconds_count"),
            cpu: etcd.metric("process_cpu_seconds_total"),
        }
    }

    /// A second, since `before`.
    fn rate(self, before: Self, seconds: f64) -> Self {
        Self {
            writes: (self.writes - before.writes) / seconds,
            renewals: (self.renewals - before.renewals) / seconds,
            synced: (self.synced - before.synced) / seconds,
            cpu: (self.cpu - before.cpu) / seconds,
        }
    }
}

pub(super) fn run(binary: &str, how_long: Duration, kbps: u32) -> anyhow::Result<Told> {
    let sources = Sources::start(kbps)?;
    let etcd = etcd();
    let url = etcd.url();
    let mut hosts = Vec::new();
    let mut seen = Vec::new();
    for n in 1..=NODES {
        hosts.push(measured(node(binary, &url, n)).start());
        if n == 1 {
            let all: Vec<_> = (0..PULLS).map(|n| sources.pull(n, ADDRESSES)).collect();
            start(&client(&hosts[0]), &all);
        }
        let apis: Vec<_> = hosts.iter().map(client).collect();
        wait_until_live(&apis, PULLS)?;
        thread::sleep(SETTLE);
        let (begin, before) = (Instant::now(), Counters::of(&etcd));
        thread::sleep(how_long);
        let rate = Counters::of(&etcd).rate(before, begin.elapsed().as_secs_f64());
        // The watchers that etcd's own gateway keeps are none.
        seen.push((rate, etcd.metric("etcd_debugging_mvcc_watcher_total")));
    }

    let each = |of: fn(&Counters) -> f64| seen.iter().map(move |(rate, _)| short(of(rate)));
    let per_node = |of: fn(&Counters) -> f64| {
        let nodes = seen.iter().zip(1_u32..);
        nodes.map(move |((rate, _), nodes)| short(of(rate) / f64::from(nodes)))
    };
    let rows = [
        row("writes a second (revisions)", each(|rate| rate.writes)),
        row("lease renewals a second", each(|rate| rate.renewals)),
        row("of that for each node", per_node(|rate| rate.renewals)),
        row("made durable a second (fsync)", each(|rate| rate.synced)),
        row(
            "watchers",
            seen.iter().map(|(_, watchers)| short(*watchers)),
        ),
        row("CPU of etcd, % of a core", each(|rate| rate.cpu * 100.0)),
    ];
    let title = format!(
        "rest: {PULLS} pulls run and nothing happens for {} s; an etcd of one member",
        how_long.as_secs()
    );
    let head = ["", "1 node", "2 nodes", "3 nodes"].map(str::to_owned);
    let last = seen.last().map(|(rate, _)| *rate);
    let goals = vec![
        Goal::told(
            format!("rest with {NODES} nodes: etcd writes a second"),
            last.map(|rate| rate.writes),
            "",
        ),
        Goal::told(
            format!("rest with {NODES} nodes: lease renewals a second and node"),
            last.map(|rate| rate.renewals / NODES as f64),
            "",
        ),
    ];
    Ok((markdown(&title, &head, &rows), goals))
}
