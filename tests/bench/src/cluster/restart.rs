//! A node with many restreamers is killed and begins again: when all have dialed, and
//! when all are live.
//!
//! Dials are counted by the sources as they accept; times run from the start of the
//! process.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use restreamd_tests::cluster::node;
use restreamd_tests::host::{Builder, TestHost};

use super::stage::{ADDRESSES, Sources, client, etcd, live, measured, start, wait_until_live};
use super::{Told, row, seconds};
use crate::goal::Goal;
use crate::table::markdown;
use crate::usage::monotonic_nanos;

/// Seconds until all have dialed, from ten addresses and from one.
const GOAL: f64 = 5.0;
const GOAL_OF_ONE: f64 = 12.0;
/// How often it is asked how many are live, and have dialed.
const LOOK: Duration = Duration::from_millis(50);
/// All are live within this, or never.
const MOST: Duration = Duration::from_secs(60);

/// What was seen.
struct Seen {
    listens: Duration,
    dialed: Duration,
    live: Duration,
}

pub(super) fn run(binary: &str, pulls: usize, kbps: u32) -> anyhow::Result<Told> {
    let embedded = || measured(Builder::new(binary)).start();
    let many = of(embedded(), pulls, ADDRESSES, kbps)?;
    let one = of(embedded(), pulls, 1, kbps)?;
    let store = etcd();
    let clustered = measured(node(binary, &store.url(), 1)).start();
    let clustered = of(clustered, pulls, ADDRESSES, kbps)?;

    let all = [&many, &clustered, &one];
    let cells = |of: fn(&Seen) -> Duration| all.map(|seen| seconds(of(seen)));
    let rows = [
        row("listens after, s", cells(|seen| seen.listens)),
        row("all have dialed after, s", cells(|seen| seen.dialed)),
        row("all are live after, s", cells(|seen| seen.live)),
    ];
    let title = format!("restart: kill -9 and start of a node with {pulls} pulls of {kbps} kbit/s");
    let head = [
        String::new(),
        format!("embedded, {ADDRESSES} addresses"),
        format!("etcd, {ADDRESSES} addresses"),
        "embedded, 1 address".to_owned(),
    ];
    let goal = |name: &str, most, seen: &Seen| {
        let what = format!("restart with {pulls} pulls, {name}: all have dialed");
        Goal::at_most(what, most, Some(seen.dialed.as_secs_f64()), " s")
    };
    let goals = vec![
        goal(&head[1], GOAL, &many),
        goal(&head[2], GOAL, &clustered),
        goal(&head[3], GOAL_OF_ONE, &one),
    ];
    Ok((markdown(&title, &head, &rows), goals))
}

fn of(mut node: TestHost, pulls: usize, addresses: usize, kbps: u32) -> anyhow::Result<Seen> {
    let sources = Sources::start(kbps)?;
    let all: Vec<_> = (0..pulls).map(|n| sources.pull(n, addresses)).collect();
    let api = client(&node);
    start(&api, &all);
    wait_until_live(&[api], pulls)?;

    node.kill();
    let (begin, begin_nanos) = (Instant::now(), monotonic_nanos());
    node.restart();
    let listens = begin.elapsed();
    let api = client(&node);
    while live(&api) < pulls {
        ensure!(begin.elapsed() < MOST, "{} are live", live(&api));
        thread::sleep(LOOK);
    }
    let live = begin.elapsed();
    let dials = sources.dials_since(begin_nanos);
    ensure!(dials.len() >= pulls, "{} dials were seen", dials.len());
    let dialed = Duration::from_nanos(dials[pulls - 1] - begin_nanos);
    Ok(Seen {
        listens,
        dialed,
        live,
    })
}
