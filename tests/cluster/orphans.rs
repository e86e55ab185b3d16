//! Players whose stream nobody has, and those of a node that nobody hears: they wait as long
//! as was said, and no longer.

use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::host::Builder;
use restreamd_tests::http_flv::Recorder;
use restreamd_tests::player::Player;
use restreamd_tests::source::Source;

use crate::failover::{announce, live, place, pull};
use crate::{BINARY, SOON};

/// `cluster.orphan_wait_ms` of these tests.
const WAIT: Duration = Duration::from_secs(5);
/// A node that died is noticed so late at most by its players elsewhere, which lose their
/// connection to it; and the end is told so late on a busy machine.
const LATE: Duration = Duration::from_secs(4);

fn nodes(count: usize) -> Cluster {
    let wait = i64::try_from(WAIT.as_millis()).expect("seconds");
    let change = |_, builder: Builder| builder.set("cluster.orphan_wait_ms", wait);
    Cluster::start(BINARY, Etcd::start(), count, change)
}

#[test]
fn players_of_a_stream_whose_node_died_wait_for_it_and_are_then_told_the_end() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(2);
    let pull = pull(1, &source, false);
    let api = cluster.nodes[0].client();
    api.start(&pull);
    let at = place(&live(&api, &pull, SOON, |_| true)).expect("it is somewhere");
    let edge = &cluster.nodes[1 - at];
    let (rtmp, http) = (edge.url(pull.stream()), edge.http(pull.stream()));
    let player = Player::attach_to_the_last(&rtmp);
    let mut curl = Recorder::start(&http, &[]);
    player.wait_for_more(20, SOON);
    curl.wait_for_more(20_000, SOON);
    cluster.nodes[at].kill();
    let begun = Instant::now();
    holds("they wait", WAIT - Duration::from_millis(500), || {
        when(player.gone().is_none() && curl.is_running(), || {
            format!("{:?}", player.gone())
        })
    });
    let status = curl.wait(LATE);
    let after = begun.elapsed();
    assert!(status.success() && after >= WAIT, "{status}, {after:?}");
    curl.assert_whole();
    let told = eventually("the player is closed", LATE, || {
        player.gone().ok_or("it waits".to_owned())
    });
    let whole = "the stream ended: StreamEof, UnpublishNotify, Stop, closed";
    assert_eq!(told, whole);
    // The pull waits for its node, and so do players of it, when it is back.
    cluster.nodes[at].restart();
    let api = cluster.nodes[1 - at].client();
    live(&api, &pull, SOON, |now| now == at);
    Player::attach(&rtmp).wait_for_more(20, SOON);
}

#[test]
fn a_fenced_node_says_so_and_takes_no_new_players_until_it_is_back() {
    let source = Source::open(&Clip::small());
    let mut cluster = nodes(1);
    cluster.nodes.iter_mut().for_each(announce);
    let pull = pull(1, &source, true);
    let api = cluster.nodes[0].client();
    api.start(&pull);
    live(&api, &pull, SOON, |_| true);
    let (rtmp, http) = {
        let node = &cluster.nodes[0];
        (node.url(pull.stream()), node.http(pull.stream()))
    };
    let player = Player::attach(&rtmp);
    player.wait_for_more(20, SOON);
    let ready = Api::new(cluster.nodes[0].api);
    let ready = || ready.get("/readyz");
    cluster.etcd.kill_all();
    eventually("it says so", SOON, || {
        let ready = ready();
        when(ready.status == 503, || format!("{ready:?}"))
    });
    let refused = Player::attach(&rtmp);
    let why = eventually("it is refused", LATE, || {
        refused.gone().ok_or("it waits".to_owned())
    });
    assert!(why.contains("lost touch with its cluster"), "{why}");
    let answer = api.anonymous().get(&format!("/flv/{}", pull.stream()));
    assert_eq!(answer.status, 503, "{http}: {answer:?}");
    player.assert_attached();
    cluster.etcd.restart();
    eventually("it is back", SOON, || {
        let ready = ready();
        when(ready.status == 200, || format!("{ready:?}"))
    });
    player.wait_for_more(20, SOON);
    player.assert_monotonic();
    Player::attach(&rtmp).wait_for_more(20, SOON);
}
