//! A node dies, stands still or is cut off: what it ran runs elsewhere, or waits for it, as
//! each provision says.

use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::{Cluster, address};
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;

use crate::{SOON, nodes};

/// The lease's time, the time until it is noticed, and a dial on a busy machine.
const MOVED: Duration = Duration::from_secs(12);

/// A pull that stays where it is put, or moves.
pub(crate) fn pull(n: usize, source: &Source, persist: bool) -> Provision {
    let (guid, stream) = (format!("moving-{n}"), format!("live/moving{n}"));
    Provision::pull(&guid, &stream, &source.url("live/stream1"))
        .with("persist", if persist { "true" } else { "false" })
}

/// Which node (from 0) a stream is at, by its address.
pub(crate) fn place(status: &Value) -> Option<usize> {
    let at = status["serverAddress"].as_str()?;
    (0..8).find(|n| address(n + 1) == at)
}

pub(crate) fn status(api: &Api, pull: &Provision) -> Value {
    api.status(pull.guid())
}

/// Waits until a pull is LIVE at a node for which `at` holds; answers the status.
pub(crate) fn live(
    api: &Api,
    pull: &Provision,
    within: Duration,
    at: impl Fn(usize) -> bool,
) -> Value {
    api.wait_for(pull.guid(), "LIVE where it should be", within, |s| {
        s["state"] == "LIVE" && place(s).is_some_and(&at)
    })
}

/// Distributes by one node after the other, and answers where each is.
pub(crate) fn spread(cluster: &Cluster, pulls: &[Provision]) -> Vec<usize> {
    for (n, pull) in pulls.iter().enumerate() {
        let api = cluster.nodes[n % cluster.nodes.len()].client();
        api.start(pull);
    }
    let api = cluster.nodes[0].client();
    let live = |pull| place(&live(&api, pull, SOON, |_| true));
    pulls.iter().filter_map(live).collect()
}

pub(crate) fn announce(node: &mut TestHost) {
    for line in [
        "lease",
        "fenced",
        "etcd cannot be watched",
        "the store cannot be followed",
        "the store is unavailable",
    ] {
        node.announce(line);
    }
}

#[test]
fn what_persists_moves_from_a_node_that_dies_and_the_rest_waits_for_it() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(3);
    let pulls: Vec<_> = (0..12).map(|n| pull(n, &source, n % 2 == 0)).collect();
    let places = spread(&cluster, &pulls);
    let lost: Vec<usize> = (0..12).filter(|n| places[*n] == 1).collect();
    assert!(lost.len() >= 2, "placement leaves a node out: {places:?}");
    let epochs: Vec<u64> = {
        let api = cluster.nodes[0].client();
        let epoch = |pull: &Provision| status(&api, pull)["epoch"].as_u64();
        pulls.iter().filter_map(epoch).collect()
    };
    cluster.nodes[1].kill();
    let api = cluster.nodes[2].client();
    for n in &lost {
        if n % 2 == 0 {
            let moved = live(&api, &pulls[*n], MOVED, |at| at != 1);
            assert!(moved["epoch"].as_u64() > Some(epochs[*n]), "{moved}");
        } else {
            api.wait_for(pulls[*n].guid(), "it waits", MOVED, |s| {
                s["state"] == "WAIT" && s["nodeState"] == "FAULT" && place(s).is_none()
            });
        }
    }
    // What ran elsewhere was not touched.
    for n in (0..12).filter(|n| !lost.contains(n)) {
        assert_eq!(status(&api, &pulls[n])["epoch"].as_u64(), Some(epochs[n]));
    }
    // Who waits may be asked for; whom nobody asked for is taken up by the node that comes back.
    let waits: Vec<usize> = lost.iter().copied().filter(|n| n % 2 == 1).collect();
    if let Some(asked) = waits.first() {
        api.distribute(&pulls[*asked]);
        live(&api, &pulls[*asked], SOON, |at| at != 1);
    }
    cluster.nodes[1].restart();
    for n in waits.iter().skip(1) {
        live(&api, &pulls[*n], SOON, |at| at == 1);
    }
    // What was placed anew stays there.
    for n in lost.iter().filter(|n| *n % 2 == 0) {
        assert!(place(&status(&api, &pulls[*n])) != Some(1));
    }
}

#[test]
fn a_node_that_is_back_in_time_keeps_what_it_had() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(2);
    let pulls: Vec<_> = (0..4).map(|n| pull(n, &source, true)).collect();
    let places = spread(&cluster, &pulls);
    let api = cluster.nodes[1].client();
    cluster.nodes[0].kill();
    cluster.nodes[0].restart();
    for (pull, at) in pulls.iter().zip(&places) {
        let status = live(&api, pull, SOON, |_| true);
        assert_eq!(place(&status), Some(*at), "{status}");
        assert_eq!(status["epoch"], 1, "{status}");
    }
}

#[test]
fn all_nodes_down_and_up_again_and_everything_resumes() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(2);
    let pulls: Vec<_> = (0..4).map(|n| pull(n, &source, n % 2 == 0)).collect();
    spread(&cluster, &pulls);
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.restart();
    }
    let api = cluster.nodes[1].client();
    for pull in &pulls {
        live(&api, pull, SOON, |_| true);
    }
}

#[test]
fn a_node_that_stands_still_is_replaced_and_gives_way_when_it_goes_on() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(3);
    announce(&mut cluster.nodes[0]);
    let pulls: Vec<_> = (0..6).map(|n| pull(n, &source, true)).collect();
    let places = spread(&cluster, &pulls);
    let stopped: Vec<usize> = (0..6).filter(|n| places[*n] == 0).collect();
    assert!(!stopped.is_empty(), "{places:?}");
    cluster.nodes[0].freeze();
    let frozen = Instant::now();
    let api = cluster.nodes[1].client();
    for n in &stopped {
        live(&api, &pulls[*n], MOVED, |at| at != 0);
    }
    let left = Duration::from_secs(10).saturating_sub(frozen.elapsed());
    holds("they stay where they are", left, || {
        let elsewhere = |n: &usize| place(&status(&api, &pulls[*n])) != Some(0);
        when(stopped.iter().all(elsewhere), || "one is back".to_owned())
    });
    cluster.nodes[0].thaw();
    // It comes back as a new instance, and takes nothing that is not its own any more.
    eventually("it is in service again", SOON, || {
        let ready = Api::new(cluster.nodes[0].api).get("/readyz");
        when(ready.status == 200, || format!("{ready:?}"))
    });
    let own = cluster.nodes[0].client();
    for n in &stopped {
        let status = live(&own, &pulls[*n], SOON, |at| at != 0);
        assert_ne!(place(&status), Some(0), "{status}");
    }
}

#[test]
fn a_delete_while_it_moves_wins() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(2);
    let pulls: Vec<_> = (0..4).map(|n| pull(n, &source, true)).collect();
    let places = spread(&cluster, &pulls);
    let at = places[0];
    cluster.nodes[at].kill();
    let api = cluster.nodes[1 - at].client();
    api.delete(pulls[0].guid());
    let others: Vec<_> = pulls.iter().skip(1).collect();
    for pull in others {
        live(&api, pull, MOVED, |to| to != at);
    }
    api.get(&restreamd_tests::api::provision_path("/moving-0"))
        .error(404);
    let listed = api.streams();
    let deleted = |s: &Value| s["streamGuid"] == "live/moving0";
    assert!(!listed.iter().any(deleted), "{listed:?}");
}
