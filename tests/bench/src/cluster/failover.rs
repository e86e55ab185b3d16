//! kill -9 of one of three nodes: when what it pulled is live elsewhere.
//!
//! A stream is live with the first frame that another node appends to it, as that node
//! notes in its log of appends. The lease's part is until the dead node's key is gone.

use std::thread;
use std::time::Duration;

use anyhow::ensure;
use restreamd_tests::appends::{Reign, judge, reigns};

use super::spread::Spread;
use super::stage::{
    ADDRESSES, Sources, append_logs, boot_time, client, node_key, nodes, start, wait_until_live,
};
use super::{Told, row, seconds};
use crate::goal::Goal;
use crate::table::{markdown, short};

const NODES: usize = 3;
/// Which is killed, from 1.
const KILLED: usize = 2;
/// Seconds until live elsewhere, the 99th percentile.
const GOAL: f64 = 5.0;
/// How often etcd is asked for the key of the node that is dead.
const LOOK: Duration = Duration::from_millis(10);
/// A lease is over long before.
const LEASE: Duration = Duration::from_secs(30);
/// Streams run for so long before.
const STEADY: Duration = Duration::from_secs(3);

pub(super) fn run(binary: &str, pulls: usize, kbps: u32) -> anyhow::Result<Told> {
    let sources = Sources::start(kbps)?;
    let mut cluster = nodes(binary, NODES);
    let apis: Vec<_> = cluster.nodes.iter().map(client).collect();
    let all: Vec<_> = (0..pulls).map(|n| sources.pull(n, ADDRESSES)).collect();
    start(&apis[0], &all);
    let before = wait_until_live(&apis, pulls)?;
    thread::sleep(STEADY);

    let revision = cluster.etcd.revision();
    let killed = boot_time();
    cluster.nodes[KILLED - 1].kill();
    let lease = loop {
        let passed = boot_time().saturating_sub(killed);
        if !cluster.etcd.has(&node_key(KILLED)) {
            break passed;
        }
        ensure!(passed < LEASE, "its key is there after {passed:?}");
        thread::sleep(LOOK);
    };
    let left: Vec<_> = [0, 2].map(|n| apis[n].clone()).into();
    let after = wait_until_live(&left, pulls)?;
    let writes = cluster.etcd.revision() - revision;
    // The nodes write their logs every 20 ms.
    thread::sleep(LOOK * 20);

    let reigns = reigns(&append_logs(&cluster));
    let violations = judge(&reigns);
    ensure!(violations.is_empty(), "{violations:?}");
    let lost = format!("n{KILLED}");
    let moved: Spread = reigns
        .values()
        .filter_map(|reigns| live_again(reigns, &lost, killed))
        .collect();
    let had = before[KILLED - 1];
    let beyond = (reigns.values())
        .filter_map(|reigns| live_again(reigns, &lost, killed))
        .map(|time| time.saturating_sub(lease));
    let beyond: Spread = beyond.collect();

    let title = format!(
        "failover: kill -9 of one of {NODES} nodes, {pulls} pulls of {kbps} kbit/s (low, for two cores carry \
         all nodes and sources) from {ADDRESSES} addresses, group of pictures {} s, one etcd",
        short(super::stage::GOP.as_secs_f64())
    );
    let rows = [
        row("pulls of the killed node", [had.to_string()]),
        row("moved", [moved.len().to_string()]),
        row("lease over after, s", [seconds(lease)]),
        row(
            "live elsewhere after, p50 / p99 / longest, s",
            [moved.in_seconds()],
        ),
        row("of that behind the lease, s", [beyond.in_seconds()]),
        row("on the others afterwards", [format!("{after:?}")]),
        row(
            "etcd writes a stream that moved",
            [short(writes as f64 / moved.len().max(1) as f64)],
        ),
    ];
    let what = format!("failover of {had} of {pulls} pulls");
    let mut goals = vec![
        Goal::at_most(
            format!("{what}: live elsewhere, p99"),
            GOAL,
            moved.seconds(99),
            " s",
        ),
        Goal::told(format!("{what}: p50"), moved.seconds(50), " s"),
        Goal::told(format!("{what}: longest"), moved.seconds(100), " s"),
        Goal::told(
            format!("{what}: the lease's part"),
            Some(lease.as_secs_f64()),
            " s",
        ),
    ];
    let missing = had.saturating_sub(moved.len()) as f64;
    goals.push(Goal::at_most(
        format!("{what}: never live again"),
        0.0,
        Some(missing),
        "",
    ));
    let head = [String::new(), "measured".to_owned()];
    Ok((markdown(&title, &head, &rows), goals))
}

/// From then until another node than the one that is dead appends; nothing of streams
/// that were elsewhere.
fn live_again(reigns: &[Reign], dead: &str, killed: Duration) -> Option<Duration> {
    let at = reigns.iter().rposition(|reign| reign.node == dead)?;
    let next = reigns.get(at + 1)?;
    Some(next.first.saturating_sub(killed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign(node: &str, epoch: u64, first: u64, last: u64) -> Reign {
        Reign {
            node: node.to_owned(),
            epoch,
            first: Duration::from_secs(first),
            last: Duration::from_secs(last),
        }
    }

    #[test]
    fn a_stream_is_live_again_with_the_first_append_of_another_node() {
        let killed = Duration::from_secs(10);
        let moved = [reign("n2", 1, 1, 10), reign("n1", 2, 14, 20)];
        let again = live_again(&moved, "n2", killed);
        assert_eq!(again, Some(Duration::from_secs(4)));
        assert_eq!(live_again(&moved[..1], "n2", killed), None, "lost");
        assert_eq!(live_again(&moved[1..], "n2", killed), None, "elsewhere");
    }
}
