//! What is particular to etcd: losing members, connections and answers, its history, its
//! TLS and users. Behaviour that all back ends share is in `conformance`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use restreamd_tests::certificate::Certificate;
use restreamd_tests::etcd::{Builder, Etcd as Server};
use restreamd_tests::muzzle::Muzzle;
use tokio::time::timeout;

use super::Etcd;
use crate::config::{self, StoreKind};
use crate::store::{Error, MAX_VALUE, Page, Store, Txn, Watch};

/// No condition here takes longer on a machine that works.
const DEADLINE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(3);

/// The etcd that tests share while one of them runs.
static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static PREFIXES: AtomicU32 = AtomicU32::new(0);

/// One member, ended with the last test that holds it.
pub(crate) fn server() -> Arc<Server> {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = server.upgrade() {
        return running;
    }
    let started = Arc::new(Server::start());
    *server = Arc::downgrade(&started);
    started
}

/// An empty space of its own.
pub(crate) fn open(url: &str) -> Etcd {
    let prefix = format!("/test{}/", PREFIXES.fetch_add(1, Ordering::Relaxed));
    let settings = config::Etcd {
        prefix,
        ..config::Etcd::default()
    };
    with(url, &settings)
}

fn with(url: &str, settings: &config::Etcd) -> Etcd {
    let StoreKind::Etcd(members) = url.to_owned().try_into().unwrap() else {
        panic!("{url} is no etcd");
    };
    Etcd::open(&members, settings).unwrap()
}

async fn told(watch: &mut Watch, until: u64) -> Vec<String> {
    let mut keys = Vec::new();
    while watch.revision() < until {
        let batch = timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
        keys.extend(batch.events.iter().map(|event| event.key().to_owned()));
    }
    keys
}

/// Until etcd takes writes again.
async fn write(store: &Etcd, key: &str) -> u64 {
    let begun = Instant::now();
    loop {
        match store.txn(Txn::new().put(key, "")).await {
            Ok(revision) => return revision,
            Err(error) => assert!(error.retryable() && begun.elapsed() < DEADLINE, "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_in_one_etcd_do_not_see_each_other() {
    let server = server();
    let (one, other) = (open(&server.url()), open(&server.url()));
    one.txn(Txn::new().put("a", "1")).await.unwrap();
    other.txn(Txn::new().put("a", "2")).await.unwrap();
    let entry = one.get("a").await.unwrap().unwrap();
    assert_eq!(entry.value, "1");
    let listing = other.list("", Page::first()).await.unwrap();
    assert_eq!(listing.entries.len(), 1);
    assert!(
        server
            .ctl(&["get", "", "--prefix", "--keys-only"])
            .contains("/a")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compacted_history_is_told_and_later_is_not() {
    let server = Server::start();
    let store = open(&server.url());
    let first = store.txn(Txn::new().put("a", "1")).await.unwrap();
    let mut last = first;
    for n in 0..20 {
        last = store.txn(Txn::new().put("a", n.to_string())).await.unwrap();
    }
    server.compact(last - 2);
    let Err(Error::Compacted { oldest }) = store.watch("", first).await else {
        panic!("not compacted");
    };
    assert_eq!(oldest, last - 3);
    assert!(matches!(
        store.list("", Page::first().at(first)).await,
        Err(Error::Compacted { .. })
    ));
    let mut watch = store.watch("", oldest).await.unwrap();
    assert_eq!(told(&mut watch, last).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_brings_a_watch_forward_in_time() {
    let server = Builder::new()
        .arg("--experimental-watch-progress-notify-interval=200ms")
        .start();
    let (store, other) = (open(&server.url()), open(&server.url()));
    let mut watch = store
        .watch("", store.revision().await.unwrap())
        .await
        .unwrap();
    let last = other.txn(Txn::new().put("a", "1")).await.unwrap();
    assert_eq!(told(&mut watch, last).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_reads_go_on_and_writes_are_refused_in_time() {
    let mut server = Server::start();
    let store = open(&server.url());
    let first = store.txn(Txn::new().put("a", "1")).await.unwrap();
    let mut watch = store.watch("", first).await.unwrap();
    // The copy has it when a watch has.
    let second = store.txn(Txn::new().put("b", "1")).await.unwrap();
    told(&mut watch, second).await;
    let lease = store.lease(TTL).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    server.kill(0);
    let begun = Instant::now();
    let txn = Txn::new().absent("c").put("c", "1");
    let error = store.txn(txn.clone()).await.unwrap_err();
    assert!(error.retryable(), "{error:?}");
    assert!(store.keep_alive(lease).await.unwrap_err().retryable());
    // Two calls of `timeout_ms` each.
    assert!(begun.elapsed() < Duration::from_secs(14), "{begun:?}");
    // Nobody waits to find out again.
    let begun = Instant::now();
    assert_eq!(store.get("a").await.unwrap().unwrap().value, "1");
    assert_eq!(store.get("c").await.unwrap(), None);
    let listing = store.list("", Page::first()).await.unwrap();
    assert_eq!(listing.entries.len(), 2);
    let asked = Duration::from_millis(config::Etcd::default().timeout_ms);
    assert!(begun.elapsed() < asked, "{begun:?}");
    server.restart();
    let third = write(&store, "d").await;
    assert!(told(&mut watch, third).await.contains(&"d".to_owned()));
    assert!(store.get("d").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_or_refused_when_members_die_one_by_one() {
    let mut server = Server::three();
    // A member of a busy machine may be elected late.
    let settings = config::Etcd {
        timeout_ms: 15_000,
        ..config::Etcd::default()
    };
    let store = Arc::new(with(&server.url(), &settings));
    let mut watch = store
        .watch("", store.revision().await.unwrap())
        .await
        .unwrap();
    let lease = store.lease(DEADLINE).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let writing = tokio::spawn({
        let (store, stop) = (Arc::clone(&store), stop.clone());
        async move {
            let mut written = 0;
            while !stop.is_cancelled() {
                let txn = Txn::new().absent(written.to_string());
                let txn = txn.put(written.to_string(), "");
                store.txn(txn).await.unwrap();
                written += 1;
            }
            written
        }
    });
    let renewing = tokio::spawn({
        let (store, stop) = (Arc::clone(&store), stop.clone());
        async move {
            let mut longest = Duration::ZERO;
            while !stop.is_cancelled() {
                let begun = Instant::now();
                store.keep_alive(lease).await.unwrap();
                longest = longest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            longest
        }
    });
    for _ in 0..3 {
        let leader = server.leader();
        server.kill(leader);
        server.restart();
    }
    stop.cancel();
    let written: usize = timeout(DEADLINE, writing).await.unwrap().unwrap();
    let longest = timeout(DEADLINE, renewing).await.unwrap().unwrap();
    // On a quiet machine they take 2 s at most; what is proved is that none is refused.
    assert!(longest < DEADLINE, "a renewal took {longest:?}");
    let last = store.revision().await.unwrap();
    let told = told(&mut watch, last).await;
    assert_eq!(told.len(), written, "each write is told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_outlasts_a_silence_in_which_it_is_given_up_at_every_member() {
    let mut server = Server::start();
    let settings = config::Etcd {
        timeout_ms: 30_000,
        ..config::Etcd::default()
    };
    let store = with(&server.url(), &settings);
    let lease = store.lease(DEADLINE * 2).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    server.freeze(0);
    let mut renewal = store.keep_alive(lease);
    // The connection is given up, and one that opens in vain.
    let silence = timeout(Duration::from_secs(7), &mut renewal).await;
    assert!(silence.is_err(), "{silence:?}");
    server.thaw(0);
    renewal.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_member_is_left_for_another() {
    let mut server = Server::three();
    let store = open(&server.url());
    let mut watch = store
        .watch("", store.revision().await.unwrap())
        .await
        .unwrap();
    let lease = store.lease(TTL).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    for member in 0..server.len() {
        server.freeze(member);
        let begun = Instant::now();
        let key = format!("frozen/{member}");
        let renewals = async {
            loop {
                // As a node does; a member that answers is known by it.
                let _ = store.keep_alive(lease).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let follow = async {
            let revision = write(&store, &key).await;
            told(&mut watch, revision).await
        };
        let told = tokio::select! {
            () = renewals => unreachable!("it renews for ever"),
            told = timeout(DEADLINE, follow) => told.unwrap(),
        };
        assert!(told.contains(&key), "{told:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{begun:?}");
        server.thaw(member);
    }
}

/// Renews without an end, as a node does, and each time in time.
async fn renew(store: &Etcd) {
    let lease = store.lease(TTL).await.unwrap();
    loop {
        let renewed = timeout(Duration::from_secs(2), store.keep_alive(lease)).await;
        renewed.expect("in time").unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An empty space, seen through a muzzle on its watches, and a watch of it.
async fn muzzled() -> (Arc<Server>, Muzzle, Etcd, Watch) {
    let server = server();
    let prefix = format!("/test{}/", PREFIXES.fetch_add(1, Ordering::Relaxed));
    let muzzle = Muzzle::before(server.endpoints().parse().unwrap(), &prefix);
    let settings = config::Etcd {
        prefix,
        ..config::Etcd::default()
    };
    let store = with(&format!("etcd://{}", muzzle.addr()), &settings);
    let mut watch = store
        .watch("", store.revision().await.unwrap())
        .await
        .unwrap();
    let first = write(&store, "first").await;
    told(&mut watch, first).await;
    (server, muzzle, store, watch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_not_served_is_left_although_its_member_renews() {
    let (_server, muzzle, store, mut watch) = muzzled().await;
    muzzle.silence();
    let begun = Instant::now();
    let follow = async {
        let revision = write(&store, "unheard").await;
        told(&mut watch, revision).await
    };
    let told = tokio::select! {
        () = renew(&store) => unreachable!("it renews for ever"),
        told = timeout(DEADLINE, follow) => told.unwrap(),
    };
    assert_eq!(told, ["unheard"]);
    let after = begun.elapsed();
    assert!(after > Duration::from_secs(5), "it was heard: {after:?}");
    assert!(after < Duration::from_secs(15), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_was_just_opened_has_a_word_although_nothing_is_new() {
    let server = server();
    let store = open(&server.url());
    let from = store.revision().await.unwrap();
    let mut watch = store.watch("", from).await.unwrap();
    // Members may die more often than an old watch is asked how it fares.
    let told = timeout(Duration::from_secs(4), watch.next()).await;
    assert!(told.expect("in time").unwrap().events.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_has_nothing_to_tell_is_kept() {
    let (_server, muzzle, store, mut watch) = muzzled().await;
    let before = muzzle.marked();
    let from = watch.revision();
    let follow = async {
        loop {
            let told = watch.next().await.unwrap();
            assert_eq!((told.revision, told.events.len()), (from, 0));
        }
    };
    tokio::select! {
        () = renew(&store) => unreachable!("it renews for ever"),
        () = follow => unreachable!("it is followed for ever"),
        // Longer than a watch that is not served is kept.
        () = tokio::time::sleep(Duration::from_secs(13)) => {}
    }
    assert_eq!(muzzle.marked(), before, "it was watched anew");
    let revision = write(&store, "next").await;
    assert_eq!(told(&mut watch, revision).await, ["next"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_that_was_cut_is_finished_or_gone() {
    let server = server();
    let store = open(&server.url());
    let entries = |name: &str| -> Vec<_> {
        let entry = |n| (format!("{name}/{n:03}"), "x".into());
        (0..300).map(entry).collect()
    };
    // Cut before it was done: only its lease holds it.
    let lease = super::import::begin(&store.remote, entries("cut"))
        .await
        .unwrap();
    assert_eq!(
        store
            .list("cut/", Page::first())
            .await
            .unwrap()
            .entries
            .len(),
        300
    );
    store.revoke(lease).await.unwrap();
    assert_eq!(
        store.list("", Page::first()).await.unwrap().entries.len(),
        0
    );
    // Cut when it was done: another node finishes it.
    let lease = super::import::begin(&store.remote, entries("done"))
        .await
        .unwrap();
    super::import::commit(&store.remote, lease).await.unwrap();
    store
        .txn(Txn::new().put("done/007", "changed"))
        .await
        .unwrap();
    assert_eq!(
        super::import::unfinished(&store.remote).await.unwrap(),
        [lease]
    );
    super::import::finish(&store.remote, lease).await.unwrap();
    assert!(matches!(store.revoke(lease).await, Err(Error::NoSuchLease)));
    assert_eq!(
        store
            .list("done/", Page::first())
            .await
            .unwrap()
            .entries
            .len(),
        300
    );
    let changed = store.get("done/007").await.unwrap().unwrap();
    assert_eq!(changed.value, "changed");
    assert_eq!(super::import::unfinished(&store.remote).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_of_the_largest_entries_is_taken_in_whole() {
    let server = Server::start();
    let store = open(&server.url());
    let value = bytes::Bytes::from(vec![b'x'; MAX_VALUE]);
    // More than one answer of etcd may hold.
    let entries: Vec<_> = (0..40)
        .map(|n| (format!("large/{n}"), value.clone()))
        .collect();
    store.import(entries).await.unwrap();
    let left = super::import::unfinished(&store.remote).await.unwrap();
    assert_eq!(left, [], "it is finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_whose_lease_ended_is_not_said_to_be_done() {
    let server = server();
    let store = open(&server.url());
    let entries = |name: &str| -> Vec<_> {
        let entry = |n| (format!("{name}/{n:03}"), "x".into());
        (0..300).map(entry).collect()
    };
    let remote = &store.remote;
    // Before it was done.
    let lease = super::import::begin(remote, entries("a")).await.unwrap();
    store.revoke(lease).await.unwrap();
    let late = super::import::commit(remote, lease).await;
    assert!(matches!(late, Err(Error::NoSuchLease)), "{late:?}");
    // And after: nobody finished it.
    let lease = super::import::begin(remote, entries("b")).await.unwrap();
    super::import::commit(remote, lease).await.unwrap();
    store.revoke(lease).await.unwrap();
    let late = super::import::finish(remote, lease).await;
    assert!(late.is_err_and(|error| error.retryable()));
    assert_eq!(super::import::unfinished(remote).await.unwrap(), []);
    // Another node that was faster took nothing away.
    let lease = super::import::begin(remote, entries("c")).await.unwrap();
    super::import::commit(remote, lease).await.unwrap();
    super::import::finish(remote, lease).await.unwrap();
    super::import::finish(remote, lease).await.unwrap();
    let listing = store.list("", Page::first()).await.unwrap();
    assert_eq!(listing.entries.len(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_shown_and_demanded() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(dir.path());
    let server = Builder::new().tls(&certificate).start();
    let settings = config::Etcd {
        ca: Some(certificate.cert_path().into()),
        cert: Some(certificate.cert_path().into()),
        key: Some(certificate.key_path().into()),
        ..config::Etcd::default()
    };
    let store = with(&server.url(), &settings);
    store.txn(Txn::new().put("a", "1")).await.unwrap();
    for settings in [
        config::Etcd {
            cert: None,
            key: None,
            ..settings.clone()
        },
        config::Etcd {
            ca: None,
            ..settings.clone()
        },
        config::Etcd::default(),
    ] {
        let stranger = with(&server.url(), &settings);
        let refused = stranger.get("a").await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    let missing = config::Etcd {
        ca: Some(dir.path().join("none.pem")),
        ..settings
    };
    let StoreKind::Etcd(members) = server.url().try_into().unwrap() else {
        panic!("no etcd");
    };
    let error = Etcd::open(&members, &missing).err().unwrap().to_string();
    assert!(
        error.contains("etcd.ca") && error.contains("none.pem"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_let_in_by_their_password_also_after_etcd_restarts() {
    let mut server = Server::start();
    demand_users(&server);
    let read = |text: &str| -> config::Etcd { toml::from_str(text).unwrap() };
    let settings = read("user = \"host\"\npassword = \"secret\"");
    let store = with(&server.url(), &settings);
    let first = store.txn(Txn::new().put("a", "1")).await.unwrap();
    let mut watch = store.watch("", first).await.unwrap();
    let lease = store.lease(TTL).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    for wrong in [
        read(
            "user = \"host\"
password = \"guessed\"",
        ),
        config::Etcd {
            prefix: "/other/".to_owned(),
            ..settings.clone()
        },
        config::Etcd::default(),
    ] {
        let refused = with(&server.url(), &wrong).get("a").await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    // Its logins do not outlive etcd.
    server.kill(0);
    server.restart();
    let second = write(&store, "b").await;
    assert_eq!(told(&mut watch, second).await, ["b"]);
}

/// Lets in nobody but `host`, with the password `secret`, below `/restreamd/`.
fn demand_users(server: &Server) {
    for command in [
        &["user", "add", "root:top"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "restreamd"],
        &[
            "role",
            "grant-permission",
            "restreamd",
            "--prefix=true",
            "readwrite",
            "/restreamd/",
        ],
        &["user", "add", "host:secret"],
        &["user", "grant-role", "host", "restreamd"],
        &["auth", "enable"],
    ] {
        server.ctl(command);
    }
}

/// Until a login of now is void.
async fn outlive_a_login(server: &Server) {
    let options = etcd_client::ConnectOptions::new().with_user("host", "secret");
    let client = etcd_client::Client::connect([server.endpoints()], Some(options));
    let mut client = client.await.unwrap();
    let begun = Instant::now();
    while client.get("/restreamd/a", None).await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "logins last");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_login_is_void_by_the_time_it_is_opened_again_logs_in_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "a key that only this test knows, and long enough").unwrap();
    let token = "--auth-token=jwt,sign-method=HS256,ttl=2s,priv-key=";
    let mut server = Builder::new()
        .arg(&format!("{token}{}", key.display()))
        .start();
    demand_users(&server);
    let settings: config::Etcd = toml::from_str("user = \"host\"\npassword = \"secret\"").unwrap();
    let store = with(&server.url(), &settings);
    let first = store.txn(Txn::new().put("a", "1")).await.unwrap();
    let mut watch = store.watch("", first).await.unwrap();
    let second = store.txn(Txn::new().put("b", "1")).await.unwrap();
    told(&mut watch, second).await;
    outlive_a_login(&server).await;
    // The watch is opened again by nothing but itself.
    server.kill(0);
    server.restart();
    let other = with(&server.url(), &settings);
    let third = write(&other, "c").await;
    let begun = Instant::now();
    let told = told(&mut watch, third).await;
    assert!(told.contains(&"c".to_owned()), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
    let begins = "grpc_server_started_total{grpc_method=\"Watch\"";
    // Both of this store, one of the other, and what was tried in vain.
    let opened = server.metric(begins);
    assert!((1.0..=20.0).contains(&opened), "{opened}");
}
