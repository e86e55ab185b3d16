//! A node leaves, and its streams go on elsewhere as if nothing had been.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use restreamd_tests::appends::{judge, logged, reigns};
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::player::Player;
use restreamd_tests::source::Source;

use crate::failover::{live, pull, spread};
use crate::{BINARY, SOON};

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
    assert_eq!(judge(&reigns), []);
    for n in &moved {
        let of = &reigns[pulls[*n].stream()];
        let gap = of[1].first.saturating_sub(of[0].last);
        assert!(gap < GAP, "{}: nobody appended for {gap:?}", of[1].node);
    }
}

#[test]
fn the_first_signal_after_a_call_to_drain_leaves_the_handover_its_time() {
    let source = Source::open(&Clip::small());
    let (mut cluster, _) = nodes(2);
    let pulls: Vec<_> = (0..4).map(|n| pull(n, &source, true)).collect();
    let places = spread(&cluster, &pulls);
    let moved: Vec<usize> = (0..4).filter(|n| places[*n] == 0).collect();
    assert!(!moved.is_empty(), "{places:?}");
    let asked = cluster.nodes[0].client();
    let asked = asked.call("POST", "/as/v1/admin/drain", None);
    assert!((200..300).contains(&asked.status), "{asked:?}");
    // As a service manager does when its command to stop has returned.
    let ended = cluster.nodes[0].drain();
    assert!(ended.success(), "{ended}");
    let api = cluster.nodes[1].client();
    for n in &moved {
        let status = live(&api, &pulls[*n], SOON, |at| at == 1);
        assert_eq!(status["epoch"], 2, "it was given, not lost: {status}");
    }
}
