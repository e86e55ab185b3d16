//! Streams go from node to node, and no two nodes append to one at a time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use restreamd_tests::appends::{judge, logged, reigns};
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::player::Player;
use restreamd_tests::source::Source;

use crate::failover::{announce, live, pull, spread};
use crate::{BINARY, SOON};

/// The lease's time, the time until it is noticed, and a dial on a busy machine.
const MOVED: Duration = Duration::from_secs(12);
/// A group of pictures of the clip, and a busy machine.
const GAP: Duration = Duration::from_millis(1_500);

fn nodes(count: usize) -> (Cluster, Vec<PathBuf>) {
    let cluster = Cluster::start(BINARY, Etcd::start(), count, |_, builder| logged(builder));
    let folders = cluster.nodes.iter().map(|node| node.folder().to_owned());
    let logs = folders.map(|folder| folder.join("appends")).collect();
    (cluster, logs)
}

#[test]
fn a_node_that_drains_hands_over_with_at_most_a_group_of_pictures_of_gap() {
    let source = Source::open(&Clip::small());
    let (mut cluster, logs) = nodes(2);
    let pulls: Vec<_> = (0..4).map(|n| pull(n, &source, true)).collect();
    let places = spread(&cluster, &pulls);
    let moved: Vec<usize> = (0..4).filter(|n| places[*n] == 0).collect();
    assert!(!moved.is_empty(), "{places:?}");
    // On the node that stays: an edge before, the stream's own node after.
    let players: Vec<Player> = moved
        .iter()
        .map(|n| Player::attach(&cluster.nodes[1].url(pulls[*n].stream())))
        .collect();
    for player in &players {
        player.wait_for_more(30, SOON);
    }
    let begun = Instant::now();
    let ended = cluster.nodes[0].drain();
    assert!(ended.success(), "{ended}");
    let api = cluster.nodes[1].client();
    for n in &moved {
        let status = live(&api, &pulls[*n], SOON, |at| at == 1);
        assert_eq!(status["epoch"], 2, "{status}");
    }
    for (player, n) in players.iter().zip(&moved) {
        player.wait_for_more(30, SOON);
        player.assert_attached();
        player.assert_monotonic();
        let gap = player.longest_gap(begun);
        assert!(gap < GAP, "stream {n} stood still for {gap:?}");
    }
    let reigns = reigns(&logs);
    judge(&reigns);
    for n in &moved {
        let of = &reigns[pulls[*n].stream()];
        let gap = of[1].first.saturating_sub(of[0].last);
        assert!(gap < GAP, "{}: nobody appended for {gap:?}", of[1].node);
    }
}

#[test]
fn no_two_nodes_append_at_a_time_over_kills_and_stops() {
    let source = Source::open(&Clip::small());
    let (mut cluster, logs) = nodes(3);
    for node in &mut cluster.nodes {
        announce(node);
    }
    let pulls: Vec<_> = (0..6).map(|n| pull(n, &source, true)).collect();
    let places = spread(&cluster, &pulls);
    let api = cluster.nodes[1].client();
    cluster.nodes[0].freeze();
    for n in (0..6).filter(|n| places[*n] == 0) {
        live(&api, &pulls[n], MOVED, |at| at != 0);
    }
    cluster.nodes[0].thaw();
    eventually("it is in service again", SOON, || {
        let ready = cluster.nodes[0].client().get("/readyz");
        when(ready.status == 200, || format!("{ready:?}"))
    });
    cluster.nodes[2].kill();
    for pull in &pulls {
        live(&api, pull, MOVED, |at| at != 2);
    }
    cluster.nodes[2].restart();
    let reigns = reigns(&logs);
    judge(&reigns);
    let again = reigns.values().filter(|reigns| reigns.len() > 1).count();
    assert!(again >= 2, "streams moved: {reigns:?}");
}
