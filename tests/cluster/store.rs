//! One store for many nodes: what one writes the others have, and what happens while etcd
//! is away.

use std::process::Command;
use std::time::{Duration, Instant};

use restreamd_tests::api::{Api, GROUP, provision_path};
use restreamd_tests::certificate::Certificate;
use restreamd_tests::clip::Clip;
use restreamd_tests::cluster::{Cluster, node};
use restreamd_tests::etcd::{Builder, Etcd};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;

use crate::failover::{self, announce, live, place};
use crate::{BINARY, SOON, nodes};

/// What a node answers within when etcd does not: `etcd.timeout_ms`, and time to say it.
const REFUSAL: Duration = Duration::from_secs(8);
/// A silent member is left within seconds, and a new leader found in as many; a member that
/// answers but serves no watch would be left within this, too.
const CARRIED_OUT: Duration = Duration::from_secs(15);
/// What a node says of an etcd that is gone.
const GONE: [&str; 3] = [
    "etcd cannot be watched",
    "the store cannot be followed",
    "the store is unavailable",
];

fn pull(n: usize) -> Provision {
    let (guid, stream) = (format!("stored-{n}"), format!("live/stored{n}"));
    Provision::pull(&guid, &stream, "rtmp://127.0.0.1:9/live/s")
}

fn list(api: &Api) -> Value {
    api.get(&provision_path("")).expect(200)
}

fn has(host: &TestHost, guid: &str) {
    let api = host.client();
    eventually("the other node has it", SOON, || {
        let answer = api.get(&provision_path(&format!("/{guid}")));
        when(answer.status == 200, || format!("{answer:?}"))
    });
}

#[test]
fn what_is_made_at_one_node_is_there_at_the_other_and_after_a_restart() {
    let mut cluster = nodes(2);
    let [first, second] = &mut cluster.nodes[..] else {
        panic!("two nodes were asked for");
    };
    first.client().create(&pull(1));
    has(second, "stored-1");
    second.client().create(&pull(2));
    has(first, "stored-2");
    // A name is one node's as much as the other's.
    let twin = Provision::pull("stored-3", "live/stored1", "rtmp://127.0.0.1:9/live/s");
    second.client().try_create(&[&twin]).error(409);
    let before = list(&first.client());
    first.kill();
    assert_eq!(list(&second.client()), before);
    first.restart();
    assert_eq!(list(&first.client()), before);
    second.client().delete("stored-2");
    let gone = first.client().get(&provision_path("/stored-2"));
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[test]
fn while_etcd_is_away_reads_are_answered_and_writes_refused_and_then_all_is_well() {
    let mut cluster = nodes(2);
    for node in &mut cluster.nodes {
        GONE.iter().for_each(|line| node.announce(line));
    }
    let api = cluster.nodes[0].client();
    let other = cluster.nodes[1].client();
    api.create(&pull(1));
    has(&cluster.nodes[1], "stored-1");
    let before = list(&api);
    cluster.etcd.kill_all();
    for api in [&api, &other] {
        let begun = Instant::now();
        api.try_create(&[&pull(2)]).error(503);
        assert!(begun.elapsed() < REFUSAL, "{:?}", begun.elapsed());
        assert_eq!(list(api), before);
        assert_eq!(api.status("stored-1")["state"], "WAIT");
    }
    cluster.etcd.restart();
    eventually("it takes writes again", SOON, || {
        let answer = api.try_create(&[&pull(2)]);
        when(answer.status == 201, || format!("{answer:?}"))
    });
    has(&cluster.nodes[1], "stored-2");
    other.delete("stored-1");
}

#[test]
fn a_delete_is_carried_out_while_any_one_member_of_etcd_stands_still() {
    let source = Source::open(&Clip::small());
    let mut cluster = Cluster::start(BINARY, Etcd::three(), 2, |_, builder| builder);
    cluster.nodes.iter_mut().for_each(announce);
    let apis = [0, 1].map(|n: usize| cluster.nodes[n].client());
    // One of them is the one that a node watches at; which, only the node knows.
    for member in 0..cluster.etcd.len() {
        let pull = failover::pull(member, &source, true);
        apis[0].create(&pull);
        // A member of etcd 3.4.23 that led and stood still for longer than leases last ends
        // them when it goes on, although others renewed them (etcd issue 15247): then no node
        // is in service for a moment.
        eventually("it is placed", SOON, || {
            let path = format!("/as/v1/streams/stream/{GROUP}/publish/{}", pull.stream());
            let answer = apis[0].get(&format!("{path}?restream=true"));
            when(answer.status == 200, || format!("{answer:?}"))
        });
        let at = place(&live(&apis[0], &pull, SOON, |_| true)).expect("it is somewhere");
        eventually("the source is pulled", SOON, || {
            let pulls = source.connections();
            when(pulls == 1, || format!("{pulls} pulls"))
        });
        cluster.etcd.freeze(member);
        // Answered when nothing of it runs, which may take longer than an answer may.
        let path = provision_path(&format!("/{}", pull.guid()));
        eventually("it is deleted", CARRIED_OUT, || {
            let answer = apis[1 - at].call("DELETE", &path, None);
            when([200, 404].contains(&answer.status), || {
                format!("{answer:?}")
            })
        });
        eventually("its node lets the source go", CARRIED_OUT, || {
            let pulls = source.connections();
            when(pulls == 0, || format!("{pulls} pulls"))
        });
        for api in &apis {
            eventually("it is no more at any node", CARRIED_OUT, || {
                let answer = api.get(&provision_path(&format!("/{}", pull.guid())));
                when(answer.status == 404, || format!("{answer:?}"))
            });
        }
        cluster.etcd.thaw(member);
    }
}

#[test]
fn a_node_waits_for_an_etcd_that_comes_later() {
    let mut etcd = Etcd::start();
    etcd.kill_all();
    let url = etcd.url();
    let host = std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            let builder = GONE
                .iter()
                .fold(node(BINARY, &url, 1), |b, l| b.announce(l));
            builder.start()
        });
        etcd.restart();
        started.join().expect("the node starts")
    });
    host.client().create(&pull(1));
    drop(host);
}

#[test]
fn two_clusters_in_one_etcd_share_nothing() {
    let change = |n: usize, builder: restreamd_tests::host::Builder| {
        builder.set("etcd.prefix", format!("/cluster{n}/"))
    };
    let cluster = Cluster::start(BINARY, Etcd::start(), 2, change);
    cluster.nodes[0].client().create(&pull(1));
    cluster.nodes[1].client().create(&pull(1));
    cluster.nodes[0].client().delete("stored-1");
    has(&cluster.nodes[1], "stored-1");
    let keys = cluster.etcd.ctl(&["get", "", "--prefix", "--keys-only"]);
    assert!(keys.contains("/cluster2/provisions/"), "{keys}");
    assert!(!keys.contains("/restreamd/"), "{keys}");
}

#[test]
fn what_etcd_holds_goes_out_at_any_time_and_comes_in_while_no_node_runs() {
    let mut cluster = nodes(2);
    cluster.nodes[0].client().create(&pull(1));
    let folder = cluster.nodes[0].folder().to_owned();
    let file = folder.join("backup.json");
    let offline = |what: &str| {
        let mut command = Command::new(BINARY);
        command.args(["store", what, "--offline"]).arg(&file);
        command.arg("--config").arg(folder.join("restreamd.toml"));
        let mut running = Running::start(&mut command, "restreamd");
        (running.wait(SOON).success(), running.stderr.text())
    };
    let (done, said) = offline("export");
    assert!(done, "{said}");
    cluster.nodes[0].client().delete("stored-1");
    // They know who publishes.
    let (done, said) = offline("import");
    assert!(
        !done && said.contains("a node runs on this store"),
        "{said}"
    );
    cluster.nodes.iter_mut().for_each(TestHost::kill);
    eventually("their leases end", SOON, || {
        let (done, said) = offline("import");
        when(done, || said)
    });
    cluster.nodes[1].restart();
    has(&cluster.nodes[1], "stored-1");
}

#[test]
fn certificates_and_passwords_let_a_node_in() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let certificate = Certificate::make(folder.path());
    let etcd = Builder::new().tls(&certificate).start();
    for command in [
        &["user", "add", "root:top"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "hosts"],
        &[
            "role",
            "grant-permission",
            "hosts",
            "--prefix=true",
            "readwrite",
            "/restreamd/",
        ],
        &["user", "add", "host:secret"],
        &["user", "grant-role", "host", "hosts"],
        &["auth", "enable"],
    ] {
        etcd.ctl(command);
    }
    let host = node(BINARY, &etcd.url(), 1)
        .set("etcd.ca", certificate.cert_path())
        .set("etcd.cert", certificate.cert_path())
        .set("etcd.key", certificate.key_path())
        .set("etcd.user", "host")
        .env("RESTREAMD_ETCD_PASSWORD", "secret")
        .start();
    host.client().create(&pull(1));
    let logs = host.logs().join("\n");
    assert!(!logs.contains("secret"), "{logs}");
    drop(host);
}

#[test]
fn nodes_of_a_cluster_must_be_given_their_secrets() {
    for key in ["admin_password", "jwt_secret"] {
        let builder = node(BINARY, "etcd://127.0.0.1:9", 1).without(key);
        let (status, said) = builder.run_to_end();
        assert_eq!(status.code(), Some(64), "{said}");
        assert!(said.contains(key) && said.lines().count() == 1, "{said}");
    }
}
