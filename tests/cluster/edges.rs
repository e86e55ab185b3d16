//! Any node plays any stream: edges, and what they do when the stream moves.

use std::time::Duration;

use restreamd_tests::api::{Api, GROUP};
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::{Cluster, address};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::http_flv::Recorder;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::publisher::Publisher;
use restreamd_tests::source::Source;

use crate::failover::{live, place, pull};
use crate::{SOON, nodes};

/// The lease's time, the time until it is noticed, and two dials on a busy machine.
const MOVED: Duration = Duration::from_secs(15);
/// From the end of a stream until players everywhere are told, on a busy machine.
const TOLD: Duration = Duration::from_secs(8);

/// A pull that is live, and where.
fn started(cluster: &Cluster, source: &Source, persist: bool) -> (Provision, usize) {
    let pull = pull(1, source, persist);
    let api = cluster.nodes[0].client();
    api.start(&pull);
    let at = place(&live(&api, &pull, SOON, |_| true)).expect("it is somewhere");
    (pull, at)
}

/// Plays for other nodes that a node has begun.
fn played_for_nodes(node: &TestHost) -> usize {
    let lines = node.logs();
    let begun = |line: &&String| line.contains("playing for another node");
    lines.iter().filter(begun).count()
}

fn subscribe(api: &Api, stream: &str) -> Option<usize> {
    let path = format!("/as/v1/streams/stream/{GROUP}/subscribe/{stream}");
    let answer = api.anonymous().get(&path);
    (answer.status == 200).then(|| place(&answer.list()[0]))?
}

#[test]
fn players_on_another_node_cause_one_pull_that_ends_with_the_last_of_them() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let cluster = nodes(3);
    let (pull, at) = started(&cluster, &source, false);
    let edge = &cluster.nodes[(at + 1) % 3];
    let stream = pull.stream();
    let players = [
        Player::attach(&edge.url(stream)),
        Player::attach(&edge.url(stream)),
    ];
    let mut curl = Recorder::start(&edge.http(&format!("{stream}.flv")), &[]);
    for player in &players {
        player.wait_for_more(100, SOON);
        player.assert_monotonic();
        player.assert_unbroken(&clip);
    }
    curl.wait_for_more(100_000, SOON);
    let edges = edge.client().gauge("restreamd_stream_edges_count");
    assert!((edges - 1.0).abs() < 0.1, "{edges}");
    assert_eq!(played_for_nodes(&cluster.nodes[at]), 1);
    assert_eq!(source.connections(), 1, "the source is pulled by one node");
    // A third node has a pull of its own from where the stream is.
    let third = &cluster.nodes[(at + 2) % 3];
    let player = Player::attach(&third.url(stream));
    player.wait_for_more(20, SOON);
    assert_eq!(played_for_nodes(&cluster.nodes[at]), 2);
    assert_eq!(played_for_nodes(edge), 0, "not from an edge");
    drop((players, curl));
    let ended = || {
        let lines = edge.logs();
        lines
            .iter()
            .any(|line| line.contains("edge ended") && line.contains("nobody watches"))
    };
    eventually("the pull ends", SOON, || {
        when(ended(), || edge.logs().join("\n"))
    });
    player.wait_for_more(20, SOON);
    // And again.
    Player::attach(&edge.url(stream)).wait_for_more(20, SOON);
    assert_eq!(played_for_nodes(&cluster.nodes[at]), 3);
}

#[test]
fn an_edge_keeps_the_latency_of_the_provision() {
    let source = Source::open(&Clip::small());
    let cluster = nodes(2);
    let pull = pull(1, &source, false).with("latency", "250");
    let api = cluster.nodes[0].client();
    api.start(&pull);
    let at = place(&live(&api, &pull, SOON, |_| true)).expect("it is somewhere");
    let edge = &cluster.nodes[1 - at];
    let player = Player::attach(&edge.url(pull.stream()));
    player.wait_for_more(20, SOON);
    let path = format!("/as/v1/streams/stream/{GROUP}?aggregate=false");
    let api = edge.client();
    eventually("the edge says so", SOON, || {
        let all = api.anonymous().get(&path).list();
        let mine = all.iter().find(|stream| stream["nodeRole"] == "edge");
        let right = mine.is_some_and(|stream| stream["latencyMs"] == 250);
        when(right, || format!("{all:?}"))
    });
}

#[test]
fn every_node_names_the_node_that_has_a_stream() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let cluster = nodes(3);
    let (pull, at) = started(&cluster, &source, false);
    let mut publisher = Publisher::connect(&cluster.nodes[1].url("live/published"));
    publisher.play(&clip, 0, Duration::from_millis(500));
    for node in &cluster.nodes {
        let api = node.client();
        eventually("it is named", SOON, || {
            let seen = (
                subscribe(&api, pull.stream()),
                subscribe(&api, "live/published"),
            );
            when(seen == (Some(at), Some(1)), || format!("{seen:?}"))
        });
        assert_eq!(subscribe(&api, "live/none"), None);
    }
    // Who plays it anywhere gets it there, also while it is published.
    let player = Player::attach(&cluster.nodes[2].url("live/published"));
    publisher.play(&clip, 500, Duration::from_secs(4));
    player.wait_for_more(1, SOON);
    // Its end is the end everywhere, and soon.
    drop(publisher);
    eventually("the player is told", TOLD, || {
        when(player.gone().is_some(), || {
            format!("{} frames", player.count())
        })
    });
    let gone = || subscribe(&cluster.nodes[0].client(), "live/published").is_none();
    eventually("it is named no more", SOON, || {
        when(gone(), || "still there".into())
    });
}

#[test]
fn a_player_on_an_edge_plays_on_when_the_streams_node_dies() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(3);
    let (pull, at) = started(&cluster, &source, true);
    let edge = (at + 1) % 3;
    let player = Player::attach(&cluster.nodes[edge].url(pull.stream()));
    let mut curl = Recorder::start(&cluster.nodes[edge].http(pull.stream()), &[]);
    player.wait_for_more(50, SOON);
    curl.wait_for_more(50_000, SOON);
    cluster.nodes[at].kill();
    let api = cluster.nodes[edge].client();
    live(&api, &pull, MOVED, |now| now != at);
    player.wait_for_more(100, MOVED);
    player.assert_attached();
    player.assert_monotonic();
    // One response goes on, on one timeline.
    curl.wait_for_more(100_000, MOVED);
    assert!(curl.is_running());
    curl.assert_monotonic();
    // It ends as a whole when the stream does.
    api.delete(pull.guid());
    let status = curl.wait(TOLD);
    assert!(status.success(), "{status}");
    curl.assert_whole();
    curl.assert_monotonic();
}

#[test]
fn players_of_a_node_that_stood_still_play_on_through_the_new_one() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(3);
    for line in [
        "lease",
        "fenced",
        "etcd cannot be watched",
        "the store cannot be followed",
    ] {
        cluster
            .nodes
            .iter_mut()
            .for_each(|node| node.announce(line));
    }
    let (pull, at) = started(&cluster, &source, true);
    let player = Player::attach(&cluster.nodes[at].url(pull.stream()));
    player.wait_for_more(50, SOON);
    cluster.nodes[at].freeze();
    let api = cluster.nodes[(at + 1) % 3].client();
    live(&api, &pull, MOVED, |now| now != at);
    cluster.nodes[at].thaw();
    player.wait_for_more(100, MOVED);
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn lists_and_counts_are_those_of_all_nodes_whomever_one_asks() {
    let source = Source::open(&Clip::small());
    let cluster = nodes(3);
    let (pull, at) = started(&cluster, &source, false);
    let (edge, third) = ((at + 1) % 3, (at + 2) % 3);
    let stream = pull.stream();
    let _here = Player::attach(&cluster.nodes[at].url(stream));
    let _there = [0; 2].map(|_| Player::attach(&cluster.nodes[edge].url(stream)));
    let api = cluster.nodes[third].client();
    // Figures of another node, as that node tells them.
    let status = api.wait_for(pull.guid(), "figures", SOON, |s| {
        s["state"] == "LIVE" && s["bytesIn"].as_u64() > Some(0) && s["subscribers"] == 1
    });
    assert_eq!(
        (status["phase"].as_str(), place(&status)),
        (Some("live"), Some(at))
    );
    assert!(status["media"]["video"]["codec"].is_string(), "{status}");
    assert!(
        status["source"].is_string() && status["plugin"]["name"] == "rtmp",
        "{status}"
    );
    assert_eq!(status["provisionGuid"], pull.guid());
    let list = |aggregate: bool| {
        let path = format!("/as/v1/streams/stream/{GROUP}?aggregate={aggregate}");
        api.anonymous().get(&path).list()
    };
    eventually("each stream once, with all its viewers", SOON, || {
        let all = list(true);
        let right = all.len() == 1 && all[0]["subscribers"] == 3 && place(&all[0]) == Some(at);
        when(right, || format!("{all:?}"))
    });
    eventually("each stream on each node that has it", SOON, || {
        let all = list(false);
        let seen = all.iter().map(|s| {
            let viewers = s["subscribers"].as_u64();
            (place(s), s["nodeRole"].as_str().map(str::to_owned), viewers)
        });
        let seen: Vec<_> = seen.collect();
        let of = |at: usize, role: &str, viewers| (Some(at), Some(role.to_owned()), Some(viewers));
        when(seen == [of(at, "origin", 1), of(edge, "edge", 2)], || {
            format!("{all:?}")
        })
    });
    // A stranger sees no secrets, whoever had them.
    assert!(list(true)[0]["source"].is_null());
    eventually("the nodes' counts", SOON, || {
        let path = format!("/as/v1/admin/nodegroup/status/{GROUP}");
        let all = api.get(&path).list();
        let mut counts: Vec<_> = all
            .iter()
            .map(|node| {
                let node = &node["nodeEvent"];
                let ip = node["publicIp"].as_str().unwrap_or_default().to_owned();
                (
                    ip,
                    node["subscriberCount"].as_u64(),
                    node["restreamerCount"].as_u64(),
                )
            })
            .collect();
        counts.sort();
        let mut expected = [
            (address(at + 1), Some(1), Some(1)),
            (address(edge + 1), Some(2), Some(0)),
            (address(third + 1), Some(0), Some(0)),
        ];
        expected.sort();
        when(counts == expected, || format!("{all:?}"))
    });
}

#[test]
fn a_stream_that_is_deleted_ends_for_players_on_every_node() {
    let source = Source::open(&Clip::small());
    let cluster = nodes(2);
    let (pull, at) = started(&cluster, &source, true);
    let players = [0, 1].map(|n| Player::attach(&cluster.nodes[n].url(pull.stream())));
    let mut curls = [0, 1].map(|n| Recorder::start(&cluster.nodes[n].http(pull.stream()), &[]));
    players
        .iter()
        .for_each(|player| player.wait_for_more(20, SOON));
    curls
        .iter_mut()
        .for_each(|curl| curl.wait_for_more(20_000, SOON));
    cluster.nodes[1 - at].client().delete(pull.guid());
    eventually("the players are told", TOLD, || {
        let left = players.iter().filter(|player| player.gone().is_none());
        let left = left.count();
        when(left == 0, || format!("{left} play on"))
    });
    for curl in &mut curls {
        let status = curl.wait(TOLD);
        assert!(status.success(), "{status}");
        curl.assert_whole();
    }
}
