//! A cluster of one over an in-memory store, with the real supervisor.

use serde_json::json;

use super::*;
use crate::limits::Limits;
use crate::plugin::{self, Plugins, Runtime};
use crate::restreamer;
use crate::rtmp::policy::Policy;
use crate::store::{Memory, Txn};

pub(super) struct Bench {
    pub(super) cluster: Cluster,
    store: Arc<Memory>,
    pub(super) streams: Streams,
}

impl Bench {
    /// With room for so many restreamers. Not running yet.
    pub(super) async fn new(capacity: u64) -> Self {
        let runtime = Runtime::start().expect("the plugin engine starts");
        let plugins = Plugins::load(runtime, plugin::Config::default());
        let plugins = plugins.await.expect("the built-in type is admitted");
        let streams = Streams::new(crate::stream::Config::default());
        let policy = Arc::new(Policy::new(Default::default(), Vec::new()));
        let limits = restreamer::Limits {
            sources: 1,
            log_lines: 1,
        };
        let drain = Drain::new();
        let restreamers = Restreamers::new(
            plugins,
            streams.clone(),
            policy,
            crate::flv::MediaDir::new(None, 0),
            limits,
            drain.clone(),
        );
        let store = Arc::new(Memory::new());
        let me = Identity {
            id: "node1".parse().expect("legal"),
            group: group(),
            sub_group: "default".parse().expect("legal"),
            address: "127.0.0.1".to_owned(),
            rtmp: ([127, 0, 0, 1], 1935).into(),
            api: ([127, 0, 0, 1], 5080).into(),
            api_tls: false,
            capacity,
            app_capacity: BTreeMap::new(),
        };
        let cluster = Cluster::new(
            me,
            store.clone(),
            restreamers,
            streams.clone(),
            Limits::default(),
            drain,
            None,
        );
        Self {
            cluster,
            store,
            streams,
        }
    }

    async fn run(&self) {
        tokio::spawn(self.cluster.clone().run());
        self.cluster.started().await;
    }

    async fn provision(&self, guid: &str, stream: &str) -> store::Revision {
        let (name, value) = (format!("names/nodegroup1/{stream}"), document(guid, stream));
        let txn = Txn::new().put(format!("provisions/nodegroup1/{guid}"), value);
        let revision = self.store.txn(txn.put(name, guid.to_owned())).await;
        let revision = revision.expect("writes");
        self.cluster.applied(revision).await;
        revision
    }

    async fn distribute(&self, guid: &str) -> Result<(), PlaceError> {
        let guid = guid.parse().expect("legal");
        let constraints = Constraints {
            endpoints: 1,
            ..Constraints::default()
        };
        let placed = self.cluster.distribute(&group(), &guid, &constraints).await;
        placed.map(drop)
    }
}

fn group() -> NodeGroup {
    "nodegroup1".parse().expect("legal")
}

/// What the store keeps of a pull of nothing.
pub(super) fn document(guid: &str, stream: &str) -> String {
    let properties = json!({"type": "rtmp", "rtmpUri": "rtmp://127.0.0.1:9/live/s"});
    let streams = json!([{"streamGuid": stream, "camParams": {"properties": properties}}]);
    json!({
        "document": {"provisionGuid": guid, "streams": streams},
        "streams": [{"kind": "rtmp", "feeds": true}],
    })
    .to_string()
}

#[tokio::test]
async fn of_many_distributes_at_once_no_more_are_placed_than_fit() {
    let bench = Bench::new(2).await;
    bench.run().await;
    for n in 0..12 {
        bench
            .provision(&format!("p-{n}"), &format!("live/{n}"))
            .await;
    }
    let guids: Vec<String> = (0..12).map(|n| format!("p-{n}")).collect();
    let placed = guids.iter().map(|guid| bench.distribute(guid));
    let placed = futures_util::future::join_all(placed).await;
    let full = |result: &&Result<(), PlaceError>| matches!(result, Err(PlaceError::AtLimit(_)));
    assert_eq!(placed.iter().filter(|result| result.is_ok()).count(), 2);
    assert_eq!(placed.iter().filter(full).count(), 10, "{placed:?}");
    assert!(bench.cluster.0.placing.lock().is_empty());
    // Twice the same takes one seat.
    let bench = Bench::new(1).await;
    bench.run().await;
    bench.provision("p-1", "live/1").await;
    let twice = tokio::join!(bench.distribute("p-1"), bench.distribute("p-1"));
    assert!(matches!(twice, (Ok(()), Ok(()))), "{twice:?}");
}

#[tokio::test]
async fn a_provision_is_not_distributed_over_a_live_publisher() {
    let bench = Bench::new(9).await;
    bench.run().await;
    let name: StreamGuid = "live/1".parse().expect("legal");
    let published = bench.streams.publish(&name).expect("free");
    // As if written by another node, which does not know of the publisher.
    bench.provision("p-1", "live/1").await;
    let refused = bench.distribute("p-1").await;
    assert!(matches!(refused, Err(PlaceError::NameLive)), "{refused:?}");
    bench.streams.end(&published);
    bench.distribute("p-1").await.expect("now it is free");
}

#[tokio::test]
async fn what_is_not_carried_out_in_time_is_not_called_applied() {
    let bench = Bench::new(9).await;
    let revision = bench.store.txn(Txn::new().put("a", "b")).await;
    tokio::time::pause();
    assert!(!bench.cluster.applied(revision.expect("writes")).await);
}
