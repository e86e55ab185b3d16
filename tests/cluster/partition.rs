//! Cables are cut: between a node and etcd, and between two nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::node;
use restreamd_tests::etcd::{Builder, Etcd};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::netns;
use restreamd_tests::network::Network;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;

use crate::{BINARY, SOON};

/// The whole of a test.
const WHOLE: Duration = Duration::from_secs(180);
/// The lease's time, the time until it is noticed, and a dial on a busy machine.
const MOVED: Duration = Duration::from_secs(15);
/// etcd's place; nodes are hosts 1 and 2.
const ETCD: u8 = 100;

struct Bench {
    network: Arc<Network>,
    nodes: [TestHost; 2],
    source: Source,
    _etcd: Etcd,
}

fn bench() -> Bench {
    let network = Network::new();
    let etcd = Builder::new().within(&network, ETCD, 1).start();
    let url = etcd.url();
    let start = |n: u8| {
        let builder = node(BINARY, &url, n.into()).at(&network, n);
        let lines = [
            "lease",
            "fenced",
            "etcd cannot be watched",
            "the store cannot be followed",
            "the store is unavailable",
        ];
        lines
            .iter()
            .fold(builder, |b, line| b.announce(line))
            .start()
    };
    let nodes = [start(1), start(2)];
    let source = Source::open_at(Network::own(), &Clip::small());
    Bench {
        network,
        nodes,
        source,
        _etcd: etcd,
    }
}

fn at(status: &Value) -> u8 {
    let address = status["serverAddress"].as_str().unwrap_or_default();
    let last = address.rsplit('.').next().unwrap_or_default();
    last.parse().unwrap_or(0)
}

fn pull(bench: &Bench, n: usize) -> Provision {
    let (guid, stream) = (format!("cut-{n}"), format!("live/cut{n}"));
    Provision::pull(&guid, &stream, &bench.source.url("live/stream1")).with("persist", "true")
}

#[test]
fn a_node_without_etcd_fences_itself_and_is_replaced_until_it_is_back() {
    netns::inside(
        "partition::a_node_without_etcd_fences_itself_and_is_replaced_until_it_is_back",
        WHOLE,
        || {
            let bench = bench();
            let pulls: Vec<_> = (0..4).map(|n| pull(&bench, n)).collect();
            let (own, other) = (bench.nodes[0].client(), bench.nodes[1].client());
            for (n, pull) in pulls.iter().enumerate() {
                [&own, &other][n % 2].start(pull);
                own.wait_for_state(pull.guid(), "LIVE", SOON);
            }
            let cut: Vec<_> = pulls
                .iter()
                .filter(|pull| at(&own.status(pull.guid())) == 1)
                .collect();
            assert!(!cut.is_empty(), "placement leaves a node out");
            bench.network.cut(1, ETCD);
            let begun = Instant::now();
            for pull in &cut {
                other.wait_for(pull.guid(), "it is LIVE at the other", MOVED, |s| {
                    s["state"] == "LIVE" && at(s) == 2
                });
            }
            let moved = begun.elapsed();
            assert!(moved < MOVED, "{moved:?}");
            // It says so, and its reads are answered; writes are not done.
            let ready = Api::new(bench.nodes[0].api).get("/readyz");
            assert_eq!(ready.status, 503, "{ready:?}");
            own.try_create(&[&pull(&bench, 9)]).error(503);
            own.get(&restreamd_tests::api::provision_path("/cut-0"))
                .expect(200);
            bench.network.join(1, ETCD);
            eventually("it is in service again", SOON, || {
                let ready = Api::new(bench.nodes[0].api).get("/readyz");
                when(ready.status == 200, || format!("{ready:?}"))
            });
            own.create(&pull(&bench, 9));
            for pull in &cut {
                own.wait_for(pull.guid(), "it stays at the other", SOON, |s| {
                    s["state"] == "LIVE" && at(s) == 2
                });
            }
        },
    );
}

#[test]
fn nodes_that_do_not_reach_each_other_keep_what_they_run() {
    netns::inside(
        "partition::nodes_that_do_not_reach_each_other_keep_what_they_run",
        WHOLE,
        || {
            let bench = bench();
            let pulls: Vec<_> = (0..4).map(|n| pull(&bench, n)).collect();
            let (own, other) = (bench.nodes[0].client(), bench.nodes[1].client());
            let places: Vec<u8> = pulls
                .iter()
                .map(|pull| {
                    own.start(pull);
                    at(&own.wait_for_state(pull.guid(), "LIVE", SOON))
                })
                .collect();
            bench.network.cut(1, 2);
            restreamd_tests::eventually::holds("they stay", Duration::from_secs(8), || {
                for (pull, place) in pulls.iter().zip(&places) {
                    for api in [&own, &other] {
                        let status = api.status(pull.guid());
                        let same = at(&status) == *place && status["epoch"] == 1;
                        when(same, || status.to_string())?;
                    }
                }
                Ok(())
            });
            bench.network.join(1, 2);
            for node in &bench.nodes {
                assert_eq!(Api::new(node.api).get("/readyz").status, 200);
            }
        },
    );
}
