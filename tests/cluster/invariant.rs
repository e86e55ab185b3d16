//! Whatever happens to nodes, no two of them append to a stream at a time.
//!
//! Told by the nodes' own logs of appends, and by readers at every node. What happens to
//! cables is in `partition`, to etcd in `leaders`; that both would notice in `sabotage`.
//! `RESTREAMD_ROUNDS` says how many misfortunes in place of the few of every run.

use std::net::Ipv4Addr;
use std::time::Duration;

use restreamd_tests::appends::{judge, log_of, logged, reigns};
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::reader::Readers;
use restreamd_tests::sightings::plays_of;
use restreamd_tests::source::Source;

use crate::failover::{announce, live, place, pull, spread, status};
use crate::{BINARY, SOON};

const NODES: usize = 3;
const FEW: usize = 4;
/// Streams with a reader at every node: one of each node's, to begin with.
const READ: usize = 3;
/// The lease's time, the time until it is noticed, and a dial on a busy machine.
const MOVED: Duration = Duration::from_secs(15);
/// A good deal longer than the lease.
const STILL: Duration = Duration::from_secs(5);

#[test]
fn no_two_nodes_append_to_a_stream_at_a_time() {
    let rounds = std::env::var("RESTREAMD_ROUNDS").ok();
    let rounds = rounds.map_or(FEW, |said| said.parse().expect("a number"));
    let source = Source::stamped(Ipv4Addr::LOCALHOST.into(), &Clip::small());
    let mut cluster = Cluster::start(BINARY, Etcd::start(), NODES, |_, builder| logged(builder));
    cluster.nodes.iter_mut().for_each(announce);
    let mut pulls: Vec<_> = (0..6).map(|n| pull(n, &source, true)).collect();
    spread(&cluster, &pulls);
    let read: Vec<String> = pulls[..READ].iter().map(|p| p.stream().into()).collect();
    let mut readers = Readers::attach(&cluster.nodes, read.iter().map(String::as_str));
    readers.wait_for_more(&cluster.nodes, 10, SOON);
    for round in 0..rounds {
        let victim = round % NODES;
        let other = (victim + 1) % NODES;
        let api = cluster.nodes[other].client();
        let had: Vec<_> = pulls
            .iter()
            .filter(|pull| place(&status(&api, pull)) == Some(victim))
            .collect();
        if round % 2 == 0 {
            cluster.nodes[victim].freeze();
            for pull in &had {
                live(&api, pull, MOVED, |at| at != victim);
            }
            holds("it stands still", STILL, || Ok(()));
            cluster.nodes[victim].thaw();
        } else {
            cluster.nodes[victim].kill();
            for pull in &had {
                live(&api, pull, MOVED, |at| at != victim);
            }
            cluster.nodes[victim].restart();
        }
        let own = &cluster.nodes[victim];
        eventually("it is in service again", SOON, || {
            let ready = restreamd_tests::api::Api::new(own.api).get("/readyz");
            when(ready.status == 200, || format!("{ready:?}"))
        });
        // Who reads there goes on through the new owner, or was sent away and comes again.
        readers.wait_for_more(&cluster.nodes, 10, SOON);
        // It has the fewest now, and so gets these: something to lose in its next turn.
        for n in 0..2 {
            let new = pull(100 + 2 * round + n, &source, true);
            api.start(&new);
            live(&api, &new, SOON, |_| true);
            pulls.push(new);
        }
    }
    let reigns = reigns(&cluster.nodes.iter().map(log_of).collect::<Vec<_>>());
    assert_eq!(judge(&reigns), []);
    assert_eq!(readers.judge(&reigns), []);
    let moved = reigns.values().filter(|reigns| reigns.len() > 1);
    assert!(moved.count() > 0, "nothing moved, so nothing is proved");
    let sittings = readers.sittings();
    let seen = read.iter().filter(|read| plays_of(read, &sittings) > 1);
    assert!(seen.count() > 0, "no reader saw a move");
}
