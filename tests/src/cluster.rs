//! Nodes that share one etcd, each on a loopback address of its own.

use std::thread;

use crate::etcd::Etcd;
use crate::host::{Builder, TestHost};

/// Where node `n` (from 1) listens and is reached: 127.0.0.2 for the first.
pub fn address(n: usize) -> String {
    format!("127.0.0.{}", n + 1)
}

/// Node `n` (from 1) of the cluster in this etcd, called `n1` and so on; ports are free ones.
pub fn node(binary: &str, store: &str, n: usize) -> Builder {
    let listen = format!("{}:0", address(n));
    Builder::new(binary)
        .set("store", store)
        .set("node_id", format!("n{n}"))
        .set("rtmp_listen", listen.as_str())
        .set("api_listen", listen)
        // It warns that no other machine can go there.
        .announce("sent to a loopback address")
}

/// Nodes `n1`… of one cluster, and its etcd. Nodes end before it does.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, the first is `n1`.
    pub nodes: Vec<TestHost>,
    /// The etcd.
    pub etcd: Etcd,
}

impl Cluster {
    /// Starts so many nodes on an etcd, all at once; `change` has a last word on each.
    ///
    /// # Panics
    /// When one does not start.
    pub fn start(
        binary: &str,
        etcd: Etcd,
        nodes: usize,
        change: impl Fn(usize, Builder) -> Builder + Sync,
    ) -> Self {
        let url = etcd.url();
        let start = |n| change(n, node(binary, &url, n)).start();
        let nodes = thread::scope(|scope| {
            let starting: Vec<_> = (1..=nodes).map(|n| scope.spawn(move || start(n))).collect();
            let started = starting.into_iter().map(|one| one.join());
            started.map(|node| node.expect("the node starts")).collect()
        });
        Self { nodes, etcd }
    }
}
