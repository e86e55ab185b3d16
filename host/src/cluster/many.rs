//! Several nodes in front of one store, in one process, with real supervisors and clocks.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinHandle;

use super::record::claim_key;
use super::*;
use crate::plugin::{self, Plugins, Runtime};
use crate::restreamer;
use crate::rtmp::policy::Policy;
use crate::store::reach::Reach;
use crate::store::{Memory, Page, Revision, Txn};
use crate::stream::timeline::Lane;
use crate::stream::unit::Content;
use crate::stream::{Feed, Unit};

/// Waits at most so long for anything: a lease, and what follows.
const PATIENCE: Duration = Duration::from_secs(12);

/// The store and what every node has alike.
struct Site {
    store: Arc<Memory>,
    plugins: Plugins,
}

/// A node, or a process of it.
struct Node {
    cluster: Cluster,
    streams: Streams,
    reach: Arc<Reach>,
    drain: Drain,
    task: JoinHandle<()>,
}

impl Site {
    async fn new() -> Self {
        let runtime = Runtime::start().expect("the plugin engine starts");
        let plugins = Plugins::load(runtime, plugin::Config::default());
        Self {
            store: Arc::new(Memory::new()),
            plugins: plugins.await.expect("the built-in type is admitted"),
        }
    }

    async fn node(&self, name: &str) -> Node {
        self.process(name, None).await
    }

    async fn process(&self, name: &str, home: Option<Home>) -> Node {
        let streams = Streams::of_a_cluster(crate::stream::Config::default());
        let drain = Drain::new();
        let restreamers = Restreamers::new(
            self.plugins.clone(),
            streams.clone(),
            Arc::new(Policy::new(Default::default(), Vec::new())),
            crate::flv::MediaDir::new(None, 0),
            restreamer::Limits {
                sources: 1,
                log_lines: 1,
            },
            drain.clone(),
        );
        let reach = Arc::new(Reach::to(self.store.clone()));
        let me = Identity {
            id: name.parse().expect("legal"),
            group: group(),
            sub_group: "default".parse().expect("legal"),
            address: format!("{name}.example"),
            rtmp: ([127, 0, 0, 1], 1935).into(),
            api: ([127, 0, 0, 1], 5080).into(),
            api_tls: false,
            capacity: 10,
            app_capacity: BTreeMap::new(),
        };
        let config = Config {
            return_wait_ms: 500,
            drain_timeout_ms: 10_000,
            ..Config::default()
        };
        let cluster = Cluster::new(
            me,
            reach.clone(),
            restreamers,
            streams.clone(),
            Limits::default(),
            drain.clone(),
            Some(Membership {
                config,
                home,
                proof: None,
                sabotage: Sabotage::None,
            }),
        );
        let task = tokio::spawn(cluster.clone().run());
        cluster.started().await;
        cluster.joined().await.expect("its name is free");
        let node = Node {
            cluster,
            streams,
            reach,
            drain,
            task,
        };
        node.until("certain", |node| !node.streams.fenced()).await;
        node
    }

    async fn provision(&self, guid: &str, stream: &str, persist: bool) -> Revision {
        let properties =
            json!({"type": "rtmp", "rtmpUri": "rtmp://127.0.0.1:9/live/s", "persist": persist});
        let streams = json!([{"streamGuid": stream, "camParams": {"properties": properties}}]);
        let document = json!({
            "document": {"provisionGuid": guid, "streams": streams},
            "streams": [{"kind": "rtmp", "feeds": true}],
        });
        let txn = Txn::new()
            .put(format!("provisions/g/{guid}"), document.to_string())
            .put(format!("names/g/{stream}"), guid.to_owned());
        self.store.txn(txn).await.expect("writes")
    }

    /// Its type becomes one that no node here offers.
    async fn retype(&self, guid: &str, stream: &str) -> Revision {
        let properties = json!({"type": "srt"});
        let streams = json!([{"streamGuid": stream, "camParams": {"properties": properties}}]);
        let document = json!({
            "document": {"provisionGuid": guid, "streams": streams},
            "streams": [{"kind": "srt", "feeds": true}],
        });
        let txn = Txn::new().put(format!("provisions/g/{guid}"), document.to_string());
        self.store.txn(txn).await.expect("writes")
    }

    async fn delete(&self, guid: &str, stream: &str) -> Revision {
        let txn = Txn::new()
            .delete(format!("provisions/g/{guid}"))
            .delete(format!("assignments/g/{guid}"))
            .delete(format!("names/g/{stream}"));
        self.store.txn(txn).await.expect("writes")
    }
}

impl Node {
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        self.until_within(PATIENCE, what, holds).await;
    }

    async fn until_within(&self, patience: Duration, what: &str, holds: impl Fn(&Self) -> bool) {
        let waits = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(patience, waits).await;
        assert!(
            in_time.is_ok(),
            "{}: never {what}",
            self.cluster.this_node()
        );
    }

    async fn sees(&self, revision: Revision) {
        assert!(self.cluster.applied(revision).await);
    }

    async fn distribute(&self, guid: &str) -> Result<String, PlaceError> {
        self.distribute_as(guid, &wishes(None, false, 1)).await
    }

    async fn distribute_as(&self, guid: &str, wishes: &Constraints) -> Result<String, PlaceError> {
        let guid = guid.parse().expect("legal");
        let placed = self.cluster.distribute(&group(), &guid, wishes).await;
        placed.map(|nodes| nodes[0].id.to_string())
    }

    /// It hears nothing new from the store until the call that is made meanwhile waits.
    async fn behind<T>(&self, call: impl Future<Output = T>) -> T {
        let catches_up = async { self.reach.silent.send_replace(false) };
        // In this order: the call begins first.
        tokio::join!(biased; call, catches_up).0
    }

    fn holder(&self, name: &str) -> Option<(String, u64)> {
        let holder = self.cluster.holder(&stream(name))?;
        Some((holder.node.to_string(), holder.epoch))
    }

    fn assigned(&self, guid: &str) -> Option<(String, u64)> {
        let guid = guid.parse().expect("legal");
        let assigned = self.cluster.assignment(&group(), &guid)?;
        Some((assigned.node.to_string(), assigned.epoch))
    }

    /// The process ends without a word.
    async fn die(self) -> Option<Home> {
        self.task.abort();
        let _ = self.task.await;
        None
    }

    /// Media for a stream that runs here.
    fn feed(&self, name: &str) -> Feed {
        let feed = self.streams.find(&stream(name)).expect("runs").feed(None);
        feed.attach();
        feed
    }

    fn permitted(&self, name: &str) -> Option<u64> {
        self.streams.find(&stream(name))?.permitted()
    }
}

fn group() -> NodeGroup {
    "g".parse().expect("legal")
}

fn stream(name: &str) -> StreamGuid {
    name.parse().expect("legal")
}

fn wishes(sub_group: Option<&str>, strict: bool, endpoints: usize) -> Constraints {
    Constraints {
        sub_group: sub_group.map(str::to_owned),
        strict,
        endpoints,
    }
}

fn keyframe(timestamp: u32) -> Unit {
    Unit {
        timestamp,
        lane: Lane::Video,
        content: Content::Keyframe,
        codec: None,
        payload: Bytes::from_static(b"frame"),
    }
}

#[tokio::test]
async fn a_provision_runs_on_one_node_and_every_node_says_which() {
    let site = Site::new().await;
    let (a, b) = (site.node("a").await, site.node("b").await);
    let revision = site.provision("p-1", "live/1", false).await;
    a.sees(revision).await;
    b.sees(revision).await;
    let both = tokio::join!(a.distribute("p-1"), b.distribute("p-1"));
    let (Ok(first), Ok(second)) = both else {
        panic!("{both:?}");
    };
    assert_eq!(first, second, "two that place at once agree");
    assert_eq!(a.distribute("p-1").await.expect("again"), first);
    for node in [&a, &b] {
        node.until("held", |node| node.holder("live/1").is_some())
            .await;
        assert_eq!(node.holder("live/1"), Some((first.clone(), 1)));
    }
    let runs = |node: &Node| node.permitted("live/1").is_some();
    assert_eq!((runs(&a), runs(&b)), (first == "a", first == "b"));
    // The next one goes to the other node.
    let revision = site.provision("p-2", "live/2", false).await;
    a.sees(revision).await;
    assert_ne!(a.distribute("p-2").await.expect("placed"), first);
    let nodes = a.cluster.nodes(&group());
    let counts: Vec<u64> = nodes.iter().map(|node| node.restreamers).collect();
    assert_eq!(counts, [1, 1]);
}

#[tokio::test]
async fn what_persists_goes_to_another_node_when_its_node_is_gone_and_what_does_not_waits() {
    let site = Site::new().await;
    let a = site.node("a").await;
    for (guid, name, persist) in [("p-1", "live/1", true), ("p-2", "live/2", false)] {
        a.sees(site.provision(guid, name, persist).await).await;
        assert_eq!(a.distribute(guid).await.expect("placed"), "a");
    }
    let b = site.node("b").await;
    a.until("held", |a| a.permitted("live/1") == Some(1)).await;
    let mut feed = a.feed("live/1");
    feed.push(&keyframe(0));
    let former = a.streams.find(&stream("live/1")).expect("runs");
    assert_eq!(former.on_air(), Some(feed.id()));
    a.die().await;
    b.until("taken over", |b| b.permitted("live/1") == Some(2))
        .await;
    assert_eq!(b.holder("live/1"), Some(("b".to_owned(), 2)));
    feed.push(&keyframe(40));
    assert_eq!(former.on_air(), None, "the former owner was fenced before");
    assert_eq!(b.assigned("p-2"), Some(("a".to_owned(), 1)), "it waits");
    assert_eq!(b.distribute("p-2").await.expect("asked for"), "b");
    b.until("held", |b| b.permitted("live/2") == Some(2)).await;
    // What was placed anew stays there.
    let a = site.node("a").await;
    assert_eq!(a.assigned("p-1"), Some(("b".to_owned(), 2)));
}

#[tokio::test]
async fn a_process_that_is_back_within_the_lease_keeps_what_it_has() {
    let site = Site::new().await;
    let dir = tempfile::tempdir().expect("a folder");
    let home = || Some(Home::open(dir.path()).expect("free"));
    let a = site.process("a", home()).await;
    let b = site.node("b").await;
    a.sees(site.provision("p-1", "live/1", true).await).await;
    let on = a.distribute("p-1").await.expect("placed");
    assert_eq!(on, "a");
    let former = a.cluster.holder(&stream("live/1")).expect("held");
    let begin = std::time::Instant::now();
    a.die().await;
    let a = site.process("a", home()).await;
    a.until("held", |a| a.permitted("live/1") == Some(1)).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "nobody waited");
    assert_eq!(b.assigned("p-1"), Some(("a".to_owned(), 1)), "no move");
    let now = a.cluster.holder(&stream("live/1")).expect("held");
    assert_ne!(former.record.instance, now.record.instance);
}

#[tokio::test]
async fn a_deleted_provision_is_stopped_everywhere_when_the_call_returns() {
    let site = Site::new().await;
    let (a, b) = (site.node("a").await, site.node("b").await);
    let revision = site.provision("p-1", "live/1", true).await;
    b.sees(revision).await;
    a.sees(revision).await;
    assert_eq!(b.distribute("p-1").await.expect("placed"), "a");
    a.until("held", |a| a.permitted("live/1") == Some(1)).await;
    let held = a.streams.find(&stream("live/1")).expect("runs");
    let revision = site.delete("p-1", "live/1").await;
    let fed = [stream("live/1")];
    let stopped = b.cluster.stopped(&group(), &fed, revision).await;
    assert_eq!(stopped, Ok(()));
    assert!(held.is_ended());
    let claim = site
        .store
        .get(&claim_key(&group(), &stream("live/1")))
        .await;
    assert_eq!(claim.expect("readable"), None);
}

#[tokio::test]
async fn a_deleted_provision_is_not_called_stopped_while_a_node_has_the_claim() {
    let site = Site::new().await;
    let a = site.node("a").await;
    // Of a node that keeps its lease, and does not hear of it.
    let claim = json!({"node": "b", "instance": "0".repeat(32), "epoch": 1});
    let key = claim_key(&group(), &stream("live/1"));
    let put = Txn::new().put(key.clone(), claim.to_string());
    site.store.txn(put).await.expect("writes");
    site.provision("p-1", "live/1", true).await;
    let deleted = site.delete("p-1", "live/1").await;
    a.sees(deleted).await;
    tokio::time::pause();
    let (group, feeds) = (group(), [stream("live/1")]);
    let stopped = || a.cluster.stopped(&group, &feeds, deleted);
    assert_eq!(stopped().await, Err(StillRuns::Held));
    tokio::time::resume();
    let gone = site.store.txn(Txn::new().delete(key)).await;
    a.sees(gone.expect("writes")).await;
    assert_eq!(stopped().await, Ok(()));
}

#[tokio::test]
async fn a_node_that_cannot_reach_the_store_fences_itself_and_goes_on_when_it_can() {
    let site = Site::new().await;
    let a = site.node("a").await;
    a.sees(site.provision("p-1", "live/1", true).await).await;
    a.distribute("p-1").await.expect("placed");
    a.until("held", |a| a.permitted("live/1") == Some(1)).await;
    let mut feed = a.feed("live/1");
    feed.push(&keyframe(0));
    let held = a.streams.find(&stream("live/1")).expect("runs");
    a.reach.cut.store(true, Ordering::Relaxed);
    assert!(a.cluster.ready().is_ok(), "the lease is alive");
    feed.push(&keyframe(40));
    assert_eq!(held.on_air(), Some(feed.id()));
    a.until("fenced", |a| a.streams.fenced()).await;
    assert!(a.cluster.ready().is_err_and(|why| why.contains("cluster")));
    feed.push(&keyframe(80));
    assert_eq!(held.on_air(), None);
    a.reach.cut.store(false, Ordering::Relaxed);
    let begin = std::time::Instant::now();
    a.until("back", |a| {
        a.cluster.ready().is_ok() && a.permitted("live/1").is_some()
    })
    .await;
    assert!(begin.elapsed() < Duration::from_secs(1), "{begin:?}");
    feed.push(&keyframe(120));
    assert_eq!(held.on_air(), Some(feed.id()), "nobody had to restart it");
}

#[tokio::test]
async fn a_node_that_hears_nothing_of_the_store_fences_itself_though_its_lease_is_renewed() {
    let site = Site::new().await;
    let a = site.node("a").await;
    a.sees(site.provision("p-1", "live/1", true).await).await;
    a.distribute("p-1").await.expect("placed");
    a.until("held", |a| a.permitted("live/1") == Some(1)).await;
    // Its own writes are done, so only its ears fail.
    a.reach.silent.send_replace(true);
    let begin = std::time::Instant::now();
    let fenced = |a: &Node| a.streams.fenced();
    a.until_within(3 * store::WORD, "fenced", fenced).await;
    assert!(begin.elapsed() > store::WORD, "{begin:?}");
    assert!(a.cluster.ready().is_err_and(|why| why.contains("cluster")));
    a.reach.silent.send_replace(false);
    a.until("back", |a| {
        a.cluster.ready().is_ok() && a.permitted("live/1").is_some()
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_only_quiet_is_not_fenced() {
    let site = Site::new().await;
    let a = site.node("a").await;
    // The revisions of a store that nobody changes stand still.
    let quiet = tokio::time::sleep(3 * store::WORD);
    let fenced = async {
        while !a.streams.fenced() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = quiet => {}
        () = fenced => panic!("it was fenced"),
    }
}

#[tokio::test]
async fn a_name_is_published_on_one_node_at_a_time() {
    let site = Site::new().await;
    let (a, b) = (site.node("a").await, site.node("b").await);
    let first = a.streams.publish(&stream("live/1")).expect("free here");
    a.until("claimed", |a| a.permitted("live/1").is_some())
        .await;
    b.until("told", |b| b.holder("live/1").is_some()).await;
    let second = b.streams.publish(&stream("live/1")).expect("free here");
    b.until("refused", |_| second.is_ended()).await;
    assert!(!first.is_ended());
    assert!(b.cluster.is_published(&group(), &stream("live/1")));
    a.streams.end(&first);
    b.until("free", |b| b.holder("live/1").is_none()).await;
    let _second = b.streams.publish(&stream("live/1")).expect("free here");
    b.until("claimed", |b| b.permitted("live/1").is_some())
        .await;
}

/// Of a provision `p-1` that feeds `live/1`.
fn snapshot() -> serde_json::Value {
    let properties = json!({"type": "rtmp", "rtmpUri": "rtmp://127.0.0.1:9/live/s"});
    let streams = json!([{"streamGuid": "live/1", "camParams": {"properties": properties}}]);
    json!({"version": 1, "entries": {
        "provisions/g/p-1": {
            "document": {"provisionGuid": "p-1", "streams": streams},
            "streams": [{"kind": "rtmp", "feeds": true}],
        },
        "names/g/live/1": "p-1",
    }})
}

#[tokio::test]
async fn an_import_goes_on_without_who_asked_for_it_and_leaves_no_name_behind() {
    let site = Site::new().await;
    let a = site.node("a").await;
    let turn = a.reach.imports.acquire().await.expect("open");
    let asked = a.cluster.import(snapshot());
    let cut = tokio::time::timeout(Duration::from_millis(50), asked).await;
    assert!(cut.is_err(), "it waits for its turn");
    drop(turn);
    let there = |a: &Node| {
        let guid = "p-1".parse().expect("legal");
        a.cluster
            .0
            .mirror
            .read()
            .provision(&group(), &guid)
            .is_some()
    };
    a.until("taken in", there).await;
    a.sees(site.delete("p-1", "live/1").await).await;
    a.until("free", |a| a.streams.publish(&stream("live/1")).is_ok())
        .await;
}

#[tokio::test]
async fn an_import_is_refused_while_a_name_of_it_is_published_on_another_node() {
    let site = Site::new().await;
    let (a, b) = (site.node("a").await, site.node("b").await);
    let published = a.streams.publish(&stream("live/1")).expect("free here");
    b.until("told", |b| b.holder("live/1").is_some()).await;
    let snapshot = snapshot();
    let refused = b.cluster.import(snapshot.clone()).await;
    assert!(
        matches!(refused, Err(ImportError::NameLive(_))),
        "{refused:?}"
    );
    a.streams.end(&published);
    b.until("free", |b| b.holder("live/1").is_none()).await;
    let done = b.cluster.import(snapshot).await;
    a.sees(done.expect("now it is free")).await;
}

#[tokio::test]
async fn a_node_that_drains_hands_over_what_persists_without_a_gap_and_leaves() {
    let site = Site::new().await;
    let a = site.node("a").await;
    a.sees(site.provision("p-1", "live/1", true).await).await;
    a.distribute("p-1").await.expect("placed");
    a.until("held", |a| a.permitted("live/1") == Some(1)).await;
    let b = site.node("b").await;
    let mut former = a.feed("live/1");
    former.push(&keyframe(0));
    assert!(!a.cluster.drain(), "it had not been told before");
    assert!(a.cluster.drain(), "it had");
    b.until("given", |b| b.assigned("p-1") == Some(("b".to_owned(), 2)))
        .await;
    b.until("dialing", |b| b.streams.find(&stream("live/1")).is_some())
        .await;
    assert_eq!(
        a.holder("live/1"),
        Some(("a".to_owned(), 1)),
        "b cannot begin"
    );
    former.push(&keyframe(40));
    let on_a = a.streams.find(&stream("live/1")).expect("kept");
    assert_eq!(on_a.on_air(), Some(former.id()));
    let mut next = b.feed("live/1");
    next.push(&keyframe(0));
    let begin = std::time::Instant::now();
    b.until("taken over", |b| b.permitted("live/1") == Some(2))
        .await;
    assert!(begin.elapsed() < Duration::from_secs(1), "at once");
    b.until("gone", |b| b.cluster.nodes(&group()).len() == 1)
        .await;
    assert!(a.drain.is_started());
    let on_b = b.streams.find(&stream("live/1")).expect("runs");
    next.push(&keyframe(40));
    assert_eq!(on_b.on_air(), Some(next.id()));
}

#[tokio::test]
async fn a_node_alone_leaves_at_once() {
    let site = Site::new().await;
    let a = site.node("a").await;
    a.sees(site.provision("p-1", "live/1", true).await).await;
    a.distribute("p-1").await.expect("placed");
    a.cluster.drain();
    let begin = std::time::Instant::now();
    a.drain.started().await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    a.until("free", |a| a.task.is_finished()).await;
    let left = site.store.list("", Page::first()).await.expect("readable");
    let keys: Vec<&str> = left
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    let stays = ["assignments/g/p-1", "names/g/live/1", "provisions/g/p-1"];
    assert_eq!(keys, stays, "no node, no claim");
}

#[tokio::test]
async fn a_name_is_a_publishers_again_when_the_store_says_that_no_provision_has_it() {
    let site = Site::new().await;
    let a = site.node("a").await;
    let cut = |cut| a.reach.cut.store(cut, Ordering::Relaxed);
    let snapshot = json!({"version": 1, "entries": {
        "provisions/g/p-1": {
            "document": {"provisionGuid": "p-1", "streams": [{"streamGuid": "live/1",
                "camParams": {"properties": {"type": "rtmp", "rtmpUri": "rtmp://127.0.0.1:9/live/s"}}}]},
            "streams": [{"kind": "rtmp", "feeds": true}],
        },
        "names/g/live/1": "p-1",
    }});
    cut(true);
    let refused = a.cluster.import(snapshot).await;
    assert!(
        matches!(refused, Err(ImportError::Unavailable(_))),
        "{refused:?}"
    );
    // A write that was done, though nobody heard of it.
    a.streams.reserve(&stream("live/2")).expect("free");
    a.cluster.undecided(vec![stream("live/2")]);
    site.provision("p-2", "live/2", false).await;
    let kept = |name: &str| a.streams.publish(&stream(name)).is_err();
    assert!(kept("live/1"), "it may be a provision's");
    cut(false);
    a.until("free", |_| !kept("live/1")).await;
    assert!(kept("live/2"), "it is a provision's");
    a.until("decided", |a| a.cluster.0.undecided.lock().is_empty())
        .await;
}

#[tokio::test]
async fn a_node_that_is_behind_catches_up_before_it_says_that_there_is_no_such_provision() {
    let site = Site::new().await;
    let (a, b) = (site.node("a").await, site.node("b").await);
    b.reach.silent.send_replace(true);
    a.sees(site.provision("p-1", "live/1", false).await).await;
    let placed = b.behind(b.distribute("p-1")).await;
    assert!(placed.is_ok(), "{placed:?}");
    let unknown = b.distribute("p-2").await;
    assert!(
        matches!(unknown, Err(PlaceError::UnknownProvision)),
        "{unknown:?}"
    );
}

fn none_offers(placed: &Result<String, PlaceError>) {
    match placed {
        Err(PlaceError::NoNodeFits(why)) => assert!(why.contains("srt"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_is_given_the_document_that_it_was_chosen_for() {
    let site = Site::new().await;
    let a = site.node("a").await;
    a.sees(site.provision("p-1", "live/1", false).await).await;
    // The update is not heard of yet when the node is chosen.
    a.reach.silent.send_replace(true);
    let changed = site.retype("p-1", "live/1").await;
    none_offers(&a.behind(a.distribute("p-1")).await);
    a.sees(changed).await;
    assert_eq!(a.assigned("p-1"), None);
}

#[tokio::test]
async fn a_node_that_lacks_the_type_by_now_does_not_keep_a_provision() {
    let site = Site::new().await;
    let a = site.node("a").await;
    a.sees(site.provision("p-1", "live/1", false).await).await;
    a.distribute("p-1").await.expect("placed");
    a.sees(site.retype("p-1", "live/1").await).await;
    none_offers(&a.distribute("p-1").await);
    let mut able = record::tests::record(7);
    able.plugins = [("srt".parse().expect("legal"), "sha256:0".to_owned())].into();
    let able = serde_json::to_vec(&able).expect("JSON");
    let written = site.store.txn(Txn::new().put("nodes/g/b", able)).await;
    a.sees(written.expect("writes")).await;
    assert_eq!(a.distribute("p-1").await.expect("placed"), "b");
    assert_eq!(a.assigned("p-1"), Some(("b".to_owned(), 2)));
}

#[tokio::test]
async fn what_is_demanded_of_the_nodes_is_met_or_refused() {
    let site = Site::new().await;
    let (a, b) = (site.node("a").await, site.node("b").await);
    a.until("both", |a| a.cluster.nodes(&group()).len() == 2)
        .await;
    let name = stream("live/p");
    let publish = |strict, endpoints| {
        let wishes = wishes(None, strict, endpoints);
        let nodes = a.cluster.for_publisher(&group(), &name, &wishes);
        nodes.map(|nodes| nodes.len()).ok()
    };
    assert_eq!([publish(false, 1), publish(true, 1)], [Some(1), Some(1)]);
    assert_eq!([publish(false, 2), publish(true, 2)], [Some(2), Some(2)]);
    assert_eq!([publish(false, 3), publish(true, 3)], [Some(2), None]);
    a.sees(site.provision("p-1", "live/1", false).await).await;
    let refused = |placed: &Result<String, PlaceError>| {
        assert!(
            matches!(placed, Err(PlaceError::NoNodeFits(_))),
            "{placed:?}"
        );
    };
    refused(&a.distribute_as("p-1", &wishes(None, true, 2)).await);
    assert_eq!(a.assigned("p-1"), None, "it would be on one");
    let on = a
        .distribute_as("p-1", &wishes(Some("west"), false, 2))
        .await;
    let on = on.expect("preferred, and at most");
    refused(&a.distribute_as("p-1", &wishes(Some("west"), true, 1)).await);
    let there = wishes(Some("default"), true, 1);
    assert_eq!(a.distribute_as("p-1", &there).await.expect("is there"), on);
    // Who leaves takes nobody.
    b.cluster.drain();
    a.until("one", |a| {
        a.cluster
            .for_publisher(&group(), &name, &wishes(None, true, 2))
            .is_err()
    })
    .await;
}
