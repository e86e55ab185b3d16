//! What the measurements run on: sources on ten addresses, nodes, and their pulls.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use restreamd_tests::api::{Api, GROUP};
use restreamd_tests::appends::logged;
use restreamd_tests::cluster::Cluster;
use restreamd_tests::etcd::{self, Etcd};
use restreamd_tests::host::{Builder, TestHost};
use restreamd_tests::port;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::token::{admin_claims, sign};
use rustix::time::{ClockId, clock_gettime};

use crate::measure::start_thin_origin;
use crate::origin::ACCEPTED;

/// Loopback addresses that the sources are at.
pub(super) const ADDRESSES: usize = 10;
/// The group of pictures of a source, as long as it is.
pub(super) const GOP: Duration = Duration::from_nanos(1_000_000_000 * 10 / 11);
/// The most that one request may create.
pub(super) const AT_ONCE: usize = 32;
/// How often it is asked how many are live.
const LOOK: Duration = Duration::from_millis(100);
/// All are live within this, or never.
const LIVE: Duration = Duration::from_secs(120);
/// A token outlives a measurement.
const TOKEN_SECONDS: i64 = 3_600;

/// The sources: one process, on all loopback addresses.
#[derive(Debug)]
pub(super) struct Sources {
    process: Running,
    port: u16,
}

impl Sources {
    pub(super) fn start(kbps: u32) -> anyhow::Result<Self> {
        let port = port::free().port();
        let process = start_thin_origin(SocketAddr::from(([0, 0, 0, 0], port)), kbps)?;
        Ok(Self { process, port })
    }

    /// The n-th pull, of sources on so many addresses.
    pub(super) fn pull(&self, n: usize, addresses: usize) -> Provision {
        let (host, port) = (1 + n % addresses, self.port);
        Provision::pull(
            &format!("moving{n}"),
            &format!("live/m{n}"),
            &format!("rtmp://127.0.1.{host}:{port}/live/s{n}"),
        )
        .with("persist", "true")
    }

    /// When connections came since then, in order; monotonic nanoseconds.
    pub(super) fn dials_since(&self, begin: u64) -> Vec<u64> {
        let lines = self.process.stdout.all();
        let times = lines.iter().filter_map(|line| line.strip_prefix(ACCEPTED));
        let times = times.filter_map(|time| time.parse().ok());
        times.filter(|time| *time >= begin).collect()
    }
}

/// An etcd of one member, with its data on a disk.
pub(super) fn etcd() -> Etcd {
    etcd::Builder::new().on_disk().start()
}

/// A node as the measurements want it: with a log of appends, and free to warn.
pub(super) fn measured(builder: Builder) -> Builder {
    logged(builder).announce("")
}

/// So many nodes on an etcd.
pub(super) fn nodes(binary: &str, count: usize) -> Cluster {
    Cluster::start(binary, etcd(), count, |_, builder| measured(builder))
}

/// The logs of appends of all nodes.
pub(super) fn append_logs(cluster: &Cluster) -> Vec<PathBuf> {
    let folders = cluster.nodes.iter().map(|node| node.folder());
    folders.map(|folder| folder.join("appends")).collect()
}

/// A client with a token that does not lapse meanwhile.
pub(super) fn client(node: &TestHost) -> Api {
    let secret = restreamd_tests::host::JWT_SECRET;
    Api::new(node.api).with_token(&sign(secret, &admin_claims(TOKEN_SECONDS)))
}

/// Creates provisions, as many at a time as may be.
pub(super) fn create(api: &Api, pulls: &[Provision]) {
    for some in pulls.chunks(AT_ONCE) {
        let some: Vec<&Provision> = some.iter().collect();
        api.try_create(&some).expect(201);
    }
}

/// Creates and distributes.
pub(super) fn start(api: &Api, pulls: &[Provision]) {
    create(api, pulls);
    for pull in pulls {
        api.distribute(pull);
    }
}

/// How many streams are live on a node.
pub(super) fn live(api: &Api) -> usize {
    // A count, and small.
    api.gauge("restreamd_stream_live_count") as usize
}

/// Waits until so many are live on these nodes together; answers how many on each.
pub(super) fn wait_until_live(apis: &[Api], wanted: usize) -> anyhow::Result<Vec<usize>> {
    let begin = Instant::now();
    loop {
        let counts: Vec<usize> = apis.iter().map(live).collect();
        if counts.iter().sum::<usize>() >= wanted {
            return Ok(counts);
        }
        ensure!(
            begin.elapsed() < LIVE,
            "of {wanted} are live after {LIVE:?}: {counts:?}"
        );
        std::thread::sleep(LOOK);
    }
}

/// The key of a node's record.
pub(super) fn node_key(n: usize) -> String {
    format!("/restreamd/nodes/{GROUP}/n{n}")
}

/// `CLOCK_BOOTTIME`, by which appends are noted.
pub(super) fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(now.tv_sec.cast_unsigned(), nanos)
}
