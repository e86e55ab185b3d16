//! etcd loses its leader, again and again: no node is fenced and no stream notices.

use std::net::Ipv4Addr;
use std::time::Duration;

use restreamd_tests::api::Api;
use restreamd_tests::appends::{judge, log_of, logged, reigns};
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::log::Line;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::reader::Readers;
use restreamd_tests::source::Source;

use crate::failover::{pull, spread, status};
use crate::{BINARY, SOON};

/// In every run; `RESTREAMD_LEADER_KILLS` says how many instead. More than a node may hear
/// nothing of the store for, two seconds each.
const FEW: u64 = 12;
/// Of an everyday run; those that were asked for have the default. etcd's elections take 1
/// to 2 s, and as much again when votes are split, once in twenty and as often again.
const LEASE_MS: i64 = 6_000;
/// Renewals after which each of two nodes has had some: each asks three members 3.3 times
/// a second.
const RENEWED: f64 = 30.0;
/// The longest gap between frames of a stream that nothing happened to, on a busy machine.
const GAP: Duration = Duration::from_millis(1500);

#[test]
fn deaths_of_etcd_leaders_fence_no_node_and_interrupt_no_stream() {
    let asked = std::env::var("RESTREAMD_LEADER_KILLS").ok();
    let everyday = asked.is_none();
    let kills = asked.map_or(FEW, |said| said.parse().expect("a number"));
    let source = Source::stamped(Ipv4Addr::LOCALHOST.into(), &Clip::small());
    let mut cluster = Cluster::start(BINARY, Etcd::three(), 2, |_, builder| {
        let builder = logged(builder);
        match everyday {
            true => builder.set("cluster.lease_ttl_ms", LEASE_MS),
            false => builder,
        }
    });
    let pulls: Vec<_> = (0..4).map(|n| pull(n, &source, true)).collect();
    let places = spread(&cluster, &pulls);
    let players: Vec<Player> = pulls
        .iter()
        .zip(&places)
        .map(|(pull, at)| Player::attach(&cluster.nodes[*at].url(pull.stream())))
        .collect();
    for player in &players {
        player.wait_for_more(30, SOON);
    }
    let mut readers = Readers::attach(&cluster.nodes, pulls.iter().map(Provision::stream));
    readers.wait_for_more(&cluster.nodes, 10, SOON);
    let begun = std::time::Instant::now();
    for _ in 0..kills {
        let leader = cluster.etcd.leader();
        cluster.etcd.kill(leader);
        cluster.etcd.leader();
        cluster.etcd.restart();
        for node in &cluster.nodes {
            let ready = Api::new(node.api).get("/readyz");
            assert_eq!(ready.status, 200, "{ready:?}");
        }
        // Two deaths within one lease are another matter: every node renews first.
        let before = cluster.etcd.renewals();
        eventually("leases are renewed again", SOON, || {
            let renewed = cluster.etcd.renewals() - before;
            when(renewed >= RENEWED, || format!("{renewed} times"))
        });
    }
    // Each stream was one node's all the time, and no reader at any node noticed.
    readers.wait_for_more(&cluster.nodes, 10, SOON);
    readers.assert_attached();
    let reigns = reigns(&cluster.nodes.iter().map(log_of).collect::<Vec<_>>());
    assert_eq!(judge(&reigns), []);
    assert_eq!(readers.judge(&reigns), []);
    assert!(reigns.values().all(|reigns| reigns.len() == 1));
    // Media went on meanwhile, and every node still takes writes.
    for (n, (player, pull)) in players.iter().zip(&pulls).enumerate() {
        player.wait_for_more(10, SOON);
        player.assert_attached();
        player.assert_monotonic();
        let gap = player.longest_gap(begun);
        assert!(gap < GAP, "stream {n} stood still for {gap:?}");
        let api = cluster.nodes[n % 2].client();
        assert_eq!(status(&api, pull)["epoch"], 1);
        eventually("it is deleted", SOON, || {
            let path = restreamd_tests::api::provision_path(&format!("/{}", pull.guid()));
            match api.call("DELETE", &path, None).status {
                200 | 404 => Ok(()),
                other => Err(other.to_string()),
            }
        });
    }
    for node in &cluster.nodes {
        let fenced =
            |line: &String| Line::parse(line).is_some_and(|line| line.message().contains("fenced"));
        assert!(!node.logs().iter().any(fenced), "a node was fenced");
    }
}
