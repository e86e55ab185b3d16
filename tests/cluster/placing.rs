//! Where a provision goes, whichever node is asked; and who wins when several want
//! something at once.

use std::thread;

use restreamd_tests::api::provision_path;
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::{Cluster, node};
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::{Value, json};

use crate::failover::{announce, live, place, pull, spread, status};
use crate::{BINARY, SOON, nodes};

/// Known to every node, so that each can be asked for it.
fn known(cluster: &Cluster, provision: &Provision) {
    for node in &cluster.nodes {
        let api = node.client();
        eventually("every node knows it", SOON, || {
            let answer = api.get(&provision_path(&format!("/{}", provision.guid())));
            when(answer.status == 200, || format!("{answer:?}"))
        });
    }
}

fn distribute(guid: &str, query: &str) -> String {
    provision_path(&format!("/distribute/{guid}{query}"))
}

#[test]
fn a_provision_that_all_nodes_place_at_once_is_placed_once() {
    let source = Source::open(&Clip::small());
    let cluster = nodes(3);
    let apis: Vec<_> = cluster.nodes.iter().map(|node| node.client()).collect();
    for n in 0..8 {
        let pull = pull(n, &source, true);
        apis[0].create(&pull);
        known(&cluster, &pull);
        let said: Vec<Value> = thread::scope(|scope| {
            let asking: Vec<_> = apis
                .iter()
                .map(|api| scope.spawn(|| api.distribute(&pull)["serverAddress"].clone()))
                .collect();
            let answers = asking.into_iter().map(|one| one.join());
            answers.map(|at| at.expect("it is answered")).collect()
        });
        assert!(said.iter().all(|at| *at == said[0]), "{said:?}");
        // Whoever is asked later says the same, and nothing moves.
        for api in &apis {
            assert_eq!(api.distribute(&pull)["serverAddress"], said[0]);
        }
        let status = live(&apis[1], &pull, SOON, |_| true);
        assert_eq!(status["epoch"], 1, "{status}");
    }
}

#[test]
fn an_update_while_it_moves_wins() {
    let (before, after) = (Source::open(&Clip::small()), Source::open(&Clip::small()));
    let mut cluster = nodes(3);
    let pulls: Vec<_> = (0..6).map(|n| pull(n, &before, true)).collect();
    let places = spread(&cluster, &pulls);
    let lost: Vec<usize> = (0..6).filter(|n| places[*n] == 2).collect();
    assert!(!lost.is_empty(), "placement leaves a node out: {places:?}");
    let api = cluster.nodes[0].client();
    cluster.nodes[2].kill();
    for n in &lost {
        let changed = pull(*n, &after, true).json();
        let answer = api.call("PUT", &provision_path(""), Some(&json!([changed])));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let shown = after.url("live/stream1");
    for n in &lost {
        api.wait_for(pulls[*n].guid(), "LIVE from the new source", SOON, |s| {
            s["state"] == "LIVE"
                && place(s).is_some_and(|at| at != 2)
                && s["source"] == shown.as_str()
        });
    }
    assert!(after.dials() >= lost.len());
}

#[test]
fn only_nodes_that_offer_the_type_are_chosen_and_the_answer_says_why_none_is() {
    let source = Source::open(&Clip::small());
    let change = |n: usize, builder: restreamd_tests::host::Builder| match n {
        1 => builder,
        _ => builder.plugin("rtmp-fixed"),
    };
    let cluster = Cluster::start(BINARY, Etcd::start(), 2, change);
    let api = cluster.nodes[1].client();
    let of_type = |n: usize| {
        let (guid, stream) = (format!("fixed-{n}"), format!("live/fixed{n}"));
        Provision::of_type("rtmp-fixed", &guid, &stream).with("url", source.url("live/stream1"))
    };
    for n in 0..4 {
        let provision = of_type(n);
        api.start(&provision);
        live(&api, &provision, SOON, |at| at == 1);
    }
    // The node that offers it is full of nothing, but in no subgroup of that name.
    let provision = of_type(4);
    api.create(&provision);
    let path = distribute(provision.guid(), "?strict=true&subgroup=nowhere");
    let refused = api.call("POST", &path, None).error(422);
    assert!(refused.to_string().contains("nowhere"), "{refused}");
    drop(api);
    let mut cluster = cluster;
    announce(&mut cluster.nodes[0]);
    let api = cluster.nodes[0].client();
    known(&cluster, &provision);
    cluster.nodes[1].kill();
    eventually("no node offers it any more", SOON, || {
        let answer = api.call("POST", &distribute(provision.guid(), ""), None);
        let why = answer.json().to_string();
        when(answer.status == 422 && why.contains("rtmp-fixed"), || why)
    });
}

#[test]
fn a_subgroup_is_preferred_and_demanded_when_it_has_to_be() {
    let source = Source::open(&Clip::small());
    let change = |n: usize, builder: restreamd_tests::host::Builder| {
        builder.set("sub_group", if n == 1 { "east" } else { "west" })
    };
    let mut cluster = Cluster::start(BINARY, Etcd::start(), 2, change);
    let api = cluster.nodes[0].client();
    let ask = |n: usize, query: &str| {
        let pull = pull(n, &source, false);
        api.create(&pull);
        api.call("POST", &distribute(pull.guid(), query), None)
    };
    for n in 0..3 {
        let placed = ask(n, "?subgroup=west").expect(200);
        assert_eq!(placed[0]["serverAddress"], "127.0.0.3", "{placed}");
        assert_eq!(placed[0]["subGroup"], "west", "{placed}");
    }
    let placed = ask(3, "?subgroup=east&strict=true").expect(200);
    assert_eq!(placed[0]["serverAddress"], "127.0.0.2", "{placed}");
    let refused = ask(4, "?subgroup=north&strict=true").error(422);
    assert!(refused.to_string().contains("north"), "{refused}");
    announce(&mut cluster.nodes[0]);
    cluster.nodes[1].kill();
    eventually("nobody is left in the west", SOON, || {
        let path = distribute(pull(4, &source, false).guid(), "?subgroup=west&strict=true");
        let answer = api.call("POST", &path, None);
        when(answer.status == 422, || format!("{answer:?}"))
    });
    let placed = ask(5, "?subgroup=west").expect(200);
    assert_eq!(placed[0]["subGroup"], "east", "preferred: {placed}");
}

#[test]
fn a_push_goes_where_its_stream_is_and_follows_it() {
    let source = Source::open(&Clip::small());
    let change = |_: usize, builder: restreamd_tests::host::Builder| builder.plugin("rtmp-push");
    let mut cluster = Cluster::start(BINARY, Etcd::start(), 3, change);
    let stream = pull(0, &source, true);
    let at = spread(&cluster, std::slice::from_ref(&stream))[0];
    let push = Provision::of_type("rtmp-push", "push", stream.stream())
        .with("rtmpUri", "rtmp://127.0.0.1:9/live/elsewhere")
        .with("persist", "true");
    let other = (at + 1) % 3;
    let api = cluster.nodes[other].client();
    api.create(&push);
    let placed = api.call("POST", &distribute(push.guid(), ""), None);
    assert_eq!(placed.status, 200, "{placed:?}");
    let together = |it: &Value, of: &Value| it["serverAddress"] == of["serverAddress"];
    api.wait_for(push.guid(), "it is with its stream", SOON, |it| {
        together(it, &status(&api, &stream))
    });
    for node in &mut cluster.nodes {
        announce(node);
    }
    cluster.nodes[at].kill();
    let moved = live(&api, &stream, SOON, |now| now != at);
    api.wait_for(push.guid(), "it followed its stream", SOON, |it| {
        together(it, &moved)
    });
}

#[test]
fn a_policy_that_gave_up_begins_anew_whichever_node_is_asked() {
    let mut source = Source::open(&Clip::small());
    let url = source.url("live/stream1");
    source.go_away();
    let change = |_: usize, builder: restreamd_tests::host::Builder| {
        let builder = builder.plugin("rtmp-fixed");
        builder.announce("gave up").announce("gave-up")
    };
    let cluster = Cluster::start(BINARY, Etcd::start(), 2, change);
    let pull = Provision::of_type("rtmp-fixed", "tried-once", "live/tried")
        .with("url", url)
        .with("everyMs", "100")
        .with("attempts", "1");
    let first = cluster.nodes[0].client();
    first.create(&pull);
    known(&cluster, &pull);
    first.distribute(&pull);
    let shown = first.wait_for_phase(pull.guid(), "failed", SOON);
    let at = place(&shown).expect("it is on a node");
    let other = cluster.nodes[1 - at].client();
    let told = other.wait_for(pull.guid(), "the other node was told", SOON, |s| {
        s["phase"] == "failed" && s["history"].as_array().is_some_and(|h| !h.is_empty())
    });
    let before = told["attempt"].as_u64();
    let revision = cluster.etcd.revision();
    let answer = other.distribute(&pull);
    assert_eq!(answer["serverAddress"], shown["serverAddress"], "it stays");
    assert!(cluster.etcd.revision() > revision, "its node is asked");
    let begun = other.wait_for(pull.guid(), "it tried again", SOON, |s| {
        s["attempt"].as_u64() > before
    });
    assert_eq!(begun["epoch"], 1, "nothing was moved: {begun}");
}

#[test]
fn a_process_that_finds_its_name_taken_ends_and_says_by_whom() {
    let cluster = nodes(1);
    let twin = node(BINARY, &cluster.etcd.url(), 1);
    let (ended, said) = twin.run_to_end();
    assert!(!ended.success(), "{ended}");
    assert!(said.contains("n1") && said.contains("127.0.0.2"), "{said}");
    assert_eq!(cluster.nodes[0].client().get("/readyz").status, 200);
}
