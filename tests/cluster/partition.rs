//! Cables are cut: between a node and etcd, and between two nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::appends::{Reigns, judge, log_of, logged, reigns};
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::node;
use restreamd_tests::etcd::{Builder, Etcd};
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::host::{Builder as HostBuilder, TestHost};
use restreamd_tests::netns;
use restreamd_tests::network::Network;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::reader::Readers;
use restreamd_tests::source::{Behaviour, Source};
use serde_json::Value;

use crate::{BINARY, SOON};

/// The whole of a test.
pub(crate) const WHOLE: Duration = Duration::from_secs(180);
/// The lease's time, the time until it is noticed, and a dial on a busy machine.
pub(crate) const MOVED: Duration = Duration::from_secs(15);
/// A node that answers no ping is given up after so long (`Patience::NODE`), …
const GIVEN_UP: Duration = Duration::from_secs(5);
/// … and this much is allowed for what follows on a busy machine.
const SLACK: Duration = Duration::from_secs(3);
/// etcd's place; nodes are hosts 1 and 2.
pub(crate) const ETCD: u8 = 100;

pub(crate) struct Bench {
    pub(crate) network: Arc<Network>,
    /// Hosts 1 and 2.
    pub(crate) nodes: [TestHost; 2],
    source: Source,
    _etcd: Etcd,
}

impl Bench {
    /// What the nodes logged so far.
    pub(crate) fn reigns(&self) -> Reigns {
        reigns(&self.nodes.each_ref().map(log_of))
    }
}

/// Two nodes that log their appends; `change` has a last word on each.
pub(crate) fn bench(change: impl Fn(HostBuilder) -> HostBuilder) -> Bench {
    let network = Network::new();
    let etcd = Builder::new().within(&network, ETCD, 1).start();
    let url = etcd.url();
    let start = |n: u8| {
        let builder = logged(node(BINARY, &url, n.into()).at(&network, n));
        let lines = [
            "lease",
            "fenced",
            "etcd cannot be watched",
            "the store cannot be followed",
            "the store is unavailable",
        ];
        let builder = lines.iter().fold(builder, |b, line| b.announce(line));
        change(builder).start()
    };
    let nodes = [start(1), start(2)];
    let source = Source::stamped(Network::own(), &Clip::small());
    Bench {
        network,
        nodes,
        source,
        _etcd: etcd,
    }
}

pub(crate) fn at(status: &Value) -> u8 {
    let address = status["serverAddress"].as_str().unwrap_or_default();
    let last = address.rsplit('.').next().unwrap_or_default();
    last.parse().unwrap_or(0)
}

pub(crate) fn pull(bench: &Bench, n: usize) -> Provision {
    let (guid, stream) = (format!("cut-{n}"), format!("live/cut{n}"));
    Provision::pull(&guid, &stream, &bench.source.url("live/stream1")).with("persist", "true")
}

/// Readers of all these at both nodes, who have something.
pub(crate) fn read(bench: &Bench, pulls: &[Provision]) -> Readers {
    let mut readers = Readers::attach(&bench.nodes, pulls.iter().map(Provision::stream));
    readers.wait_for_more(&bench.nodes, 10, SOON);
    readers
}

pub(crate) fn live_at(api: &Api, pull: &Provision, node: u8) {
    api.wait_for(pull.guid(), "it is LIVE at that node", MOVED, |s| {
        s["state"] == "LIVE" && at(s) == node
    });
}

#[test]
fn a_node_without_etcd_fences_itself_and_is_replaced_until_it_is_back() {
    netns::inside(
        "partition::a_node_without_etcd_fences_itself_and_is_replaced_until_it_is_back",
        WHOLE,
        || {
            let bench = bench(|builder| builder);
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
            let mut readers = read(&bench, &pulls);
            bench.network.cut(1, ETCD);
            let begun = Instant::now();
            for pull in &cut {
                live_at(&other, pull, 2);
            }
            let moved = begun.elapsed();
            assert!(moved < MOVED, "{moved:?}");
            // It says so, and its reads are answered; writes are refused.
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
            // Another one: what was refused may have been on its way, and is done now.
            own.create(&pull(&bench, 10));
            for pull in &cut {
                live_at(&own, pull, 2);
            }
            readers.wait_for_more(&bench.nodes, 10, SOON);
            assert_eq!(judge(&bench.reigns()), []);
            assert_eq!(readers.judge(&bench.reigns()), []);
            for pull in &cut {
                assert_eq!(bench.reigns()[pull.stream()].len(), 2, "it moved once");
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
            let bench = bench(|builder| builder);
            let pulls: Vec<_> = (0..4).map(|n| pull(&bench, n)).collect();
            let (own, other) = (bench.nodes[0].client(), bench.nodes[1].client());
            let places: Vec<u8> = pulls
                .iter()
                .map(|pull| {
                    own.start(pull);
                    at(&own.wait_for_state(pull.guid(), "LIVE", SOON))
                })
                .collect();
            let mut readers = read(&bench, &pulls);
            bench.network.cut(1, 2);
            holds("they stay", Duration::from_secs(8), || {
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
            readers.wait_for_more(&bench.nodes, 10, SOON);
            assert_eq!(judge(&bench.reigns()), []);
            assert_eq!(readers.judge(&bench.reigns()), []);
            for (stream, reigns) in bench.reigns() {
                assert_eq!(reigns.len(), 1, "{stream}: {reigns:?}");
            }
        },
    );
}

/// A pull that is live at one node, with a player at the other.
fn watched(bench: &Bench, pull: &Provision) -> Player {
    let api = bench.nodes[0].client();
    api.start(pull);
    let holder = at(&api.wait_for_state(pull.guid(), "LIVE", SOON));
    let edge = &bench.nodes[usize::from(2 - holder)];
    let player = Player::attach(&edge.url(pull.stream()));
    player.wait_for_more(50, SOON);
    player
}

#[test]
fn players_of_an_edge_that_is_cut_off_from_the_holder_are_told_the_end_in_time() {
    netns::inside(
        "partition::players_of_an_edge_that_is_cut_off_from_the_holder_are_told_the_end_in_time",
        WHOLE,
        || {
            const WAIT: Duration = Duration::from_secs(2);
            let wait = i64::try_from(WAIT.as_millis()).expect("seconds");
            let bench = bench(|builder| builder.set("cluster.orphan_wait_ms", wait));
            let player = watched(&bench, &pull(&bench, 0));
            bench.network.cut(1, 2);
            let begun = Instant::now();
            let told = eventually("the player is told", GIVEN_UP + WAIT + SLACK, || {
                player.gone().ok_or("it waits".to_owned())
            });
            let after = begun.elapsed();
            assert!(told.contains("the stream ended"), "{told}");
            // Not before the patience and the wait are over.
            assert!(after > Duration::from_secs(4) + WAIT, "{after:?}");
            // The stream itself goes on, and is there again when the cut has healed.
            bench.network.join(1, 2);
            watched(&bench, &pull(&bench, 1));
        },
    );
}

#[test]
fn players_of_an_edge_play_on_when_a_cut_heals_within_the_orphan_wait() {
    netns::inside(
        "partition::players_of_an_edge_play_on_when_a_cut_heals_within_the_orphan_wait",
        WHOLE,
        || {
            let bench = bench(|builder| builder);
            let player = watched(&bench, &pull(&bench, 0));
            bench.network.cut(1, 2);
            // Longer than the kernel would need to get over it by itself with the same
            // connection, so that it is a new one that brings media again.
            holds("it waits", GIVEN_UP + SLACK, || {
                when(player.gone().is_none(), || format!("{:?}", player.gone()))
            });
            let silent = player.last_frame_age();
            assert!(silent > GIVEN_UP, "the cut is none: {silent:?}");
            bench.network.join(1, 2);
            player.wait_for_more(100, SOON);
            player.assert_attached();
            player.assert_monotonic();
            let lines = [0, 1].map(|n: usize| bench.nodes[n].logs()).concat();
            let given_up = lines.iter().any(|line| line.contains("answers no ping"));
            assert!(given_up, "the old connection lasted:\n{}", lines.join("\n"));
        },
    );
}

#[test]
fn a_source_that_stalls_does_not_end_the_edge() {
    netns::inside(
        "partition::a_source_that_stalls_does_not_end_the_edge",
        WHOLE,
        || {
            const STALLED: Duration = Duration::from_secs(10);
            let wait = 1_000;
            let bench = bench(|builder| builder.set("cluster.orphan_wait_ms", wait));
            let player = watched(&bench, &pull(&bench, 0).with("stallMs", "off"));
            bench.source.set(Behaviour::Silent);
            holds("the player waits", STALLED, || {
                when(player.gone().is_none(), || format!("{:?}", player.gone()))
            });
            let silent = player.last_frame_age();
            assert!(silent > GIVEN_UP + SLACK, "no stall: {silent:?}");
            bench.source.set(Behaviour::Play);
            player.wait_for_more(50, SOON);
            player.assert_monotonic();
            let lines = [0, 1].map(|n: usize| bench.nodes[n].logs()).concat();
            let pulls = lines.iter().filter(|l| l.contains("pulling from the node"));
            assert_eq!(pulls.count(), 1, "{}", lines.join("\n"));
            assert_eq!(bench.source.dials(), 1);
        },
    );
}
