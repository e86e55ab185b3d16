//! What nodes tell each other of how they do.

use restreamd_tests::certificate::Certificate;
use restreamd_tests::cluster::{Cluster, address};
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::TestHost;
use restreamd_tests::log::Line;
use serde_json::Value;

use crate::{BINARY, SOON};

/// What is logged of a node whose figures somebody has to do something for.
const REFUSED: &str = "the figures of a node cannot be followed";

/// What a node knows of the viewers of the first one.
fn viewers_of_the_first(node: &TestHost) -> Option<Value> {
    let all = node.client().get("/as/v1/admin/nodegroup/status/default");
    let all = all.list();
    let mut nodes = all.iter().map(|node| &node["nodeEvent"]);
    let first = nodes.find(|node| node["publicIp"] == address(1).as_str())?;
    Some(first["subscriberCount"].clone())
}

#[test]
fn figures_behind_a_certificate_that_nobody_trusts_are_not_followed_unless_it_is_said_so() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let certificate = Certificate::make(folder.path());
    let cluster = Cluster::start(BINARY, Etcd::start(), 3, |n, builder| match n {
        1 => builder
            .set("api.tls_cert", certificate.cert_path())
            .set("api.tls_key", certificate.key_path()),
        2 => builder.announce(REFUSED),
        _ => builder.set("cluster.tls_verify", false),
    });
    let (wary, trusting) = (&cluster.nodes[1], &cluster.nodes[2]);
    eventually("the one that trusts everybody follows it", SOON, || {
        let viewers = viewers_of_the_first(trusting);
        when(viewers == Some(0.into()), || format!("{viewers:?}"))
    });
    eventually("the other one says why it does not", SOON, || {
        let logs = wary.logs();
        let mut lines = logs.iter().filter_map(|line| Line::parse(line));
        let said = lines.any(|line| {
            let reason = line.field("reason").unwrap_or_default();
            line.message() == REFUSED && reason.contains("certificate")
        });
        when(said, || logs.join("\n"))
    });
    assert_eq!(viewers_of_the_first(wary), Some(Value::Null));
}
