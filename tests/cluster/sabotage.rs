//! Nodes that are broken on purpose: whoever judges appends must notice.
//!
//! The same misfortunes happen to nodes that are whole, and must pass before the same
//! judges. Builds without debug assertions have nothing to break.

use std::net::Ipv4Addr;
use std::time::Duration;

use restreamd_tests::appends::{Reigns, Violation, judge, log_of, logged, reigns};
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::host::Builder;
use restreamd_tests::netns;
use restreamd_tests::provision::Provision;
use restreamd_tests::reader::Readers;
use restreamd_tests::sightings::{Fault, plays_of};
use restreamd_tests::source::Source;

use crate::failover::{announce, spread};
use crate::partition::{self, ETCD, WHOLE, live_at};
use crate::{BINARY, SOON};

/// Long against the time in which a node that goes on would append what lies in its socket.
const A_WHILE: Duration = Duration::from_secs(2);

/// Breaks a part of a node: `gate` or `claim`.
fn broken(builder: Builder, part: &str) -> Builder {
    let builder = builder.env("RESTREAMD_BREAK", part);
    builder.announce("broken on purpose")
}

/// Whether both judges see that two nodes append to a stream at a time.
fn is_noticed(readers: &Readers, reigns: &Reigns) -> Result<(), String> {
    let (logged, seen) = (judge(reigns), readers.judge(reigns));
    let goes_on = |v: &Violation| matches!(v, Violation::GoesOn { .. });
    let at_once = |f: &Fault| matches!(f, Fault::AtOnce { .. });
    let noticed = logged.iter().any(goes_on) && seen.iter().any(at_once);
    when(noticed, || format!("{logged:?} {seen:?}"))
}

/// A node stands still for longer than its lease, and goes on without a way to etcd: only
/// its own clock can tell it that it has lost its streams.
fn stands_still_and_goes_on_cut_off(part: Option<&str>) {
    let mut bench = partition::bench(|builder| match part {
        Some(part) => broken(builder, part),
        None => builder,
    });
    let pulls: Vec<_> = (0..2).map(|n| partition::pull(&bench, n)).collect();
    let (own, other) = (bench.nodes[0].client(), bench.nodes[1].client());
    for pull in &pulls {
        own.start(pull);
        own.wait_for_state(pull.guid(), "LIVE", SOON);
    }
    let cut: Vec<&Provision> = pulls
        .iter()
        .filter(|pull| partition::at(&own.status(pull.guid())) == 1)
        .collect();
    assert!(!cut.is_empty(), "placement leaves a node out");
    let readers = partition::read(&bench, &pulls);
    bench.nodes[0].freeze();
    // While its lease is alive, so that no word of what follows waits in its sockets.
    bench.network.cut(1, ETCD);
    for pull in &cut {
        live_at(&other, pull, 2);
    }
    bench.nodes[0].thaw();
    if part.is_some() {
        return eventually("both judges notice", SOON, || {
            is_noticed(&readers, &bench.reigns())
        });
    }
    holds("it goes on", A_WHILE, || Ok(()));
    let reigns = bench.reigns();
    assert_eq!(judge(&reigns), []);
    assert_eq!(readers.judge(&reigns), []);
    let sittings = readers.sittings();
    for stream in cut.iter().map(|pull| pull.stream()) {
        assert_eq!(reigns[stream].len(), 2, "it moved");
        assert_eq!(plays_of(stream, &sittings), 2, "and was seen to");
    }
}

#[test]
fn a_node_that_goes_on_after_its_lease_appends_nothing_whoever_tells_it() {
    netns::inside(
        "sabotage::a_node_that_goes_on_after_its_lease_appends_nothing_whoever_tells_it",
        WHOLE,
        || stands_still_and_goes_on_cut_off(None),
    );
}

#[test]
fn without_the_gate_both_judges_notice() {
    netns::inside(
        "sabotage::without_the_gate_both_judges_notice",
        WHOLE,
        || stands_still_and_goes_on_cut_off(Some("gate")),
    );
}

/// A node leaves, while another one that is to have its streams has media at hand.
fn leaves(part: Option<&str>) {
    let source = Source::stamped(Ipv4Addr::LOCALHOST.into(), &Clip::small());
    let change = |_: usize, builder: Builder| match part {
        Some(part) => logged(broken(builder, part)),
        None => logged(builder),
    };
    let mut cluster = Cluster::start(BINARY, Etcd::start(), 2, change);
    cluster.nodes.iter_mut().for_each(announce);
    let pulls: Vec<_> = (0..2)
        .map(|n| crate::failover::pull(n, &source, true))
        .collect();
    let places = spread(&cluster, &pulls);
    assert!(places.contains(&0), "placement leaves a node out");
    let mut readers = Readers::attach(&cluster.nodes, pulls.iter().map(Provision::stream));
    readers.wait_for_more(&cluster.nodes, 10, SOON);
    let ended = cluster.nodes[0].drain();
    assert!(ended.success(), "{ended}");
    let logs: Vec<_> = cluster.nodes.iter().map(log_of).collect();
    let left = places.iter().filter(|at| **at == 0).count();
    let reigns = eventually("what moved is appended to", SOON, || {
        let reigns = reigns(&logs);
        let moved = reigns.values().filter(|reigns| reigns.len() == 2).count();
        when(moved == left, || format!("{reigns:?}")).map(|()| reigns)
    });
    if part.is_some() {
        return is_noticed(&readers, &reigns).expect("both judges notice");
    }
    assert_eq!(judge(&reigns), []);
    assert_eq!(readers.judge(&reigns), []);
}

#[test]
fn a_node_that_leaves_appends_nothing_after_the_one_that_follows_begins() {
    leaves(None);
}

#[test]
fn without_the_claim_both_judges_notice() {
    leaves(Some("claim"));
}
