//! What every back end must do, as one suite run against each.
//!
//! A behaviour takes an empty store and what its back end promises beyond the trait, and
//! nothing else. Waits are for a condition with a deadline; lease times are real, because a
//! back end may keep its own clock. All tests of etcd share one, as clusters may: its
//! revisions rise by themselves, and etcd is ended with the last test that uses it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    Batch, Bound, Entry, Error, Event, MAX_KEY, MAX_OPS, MAX_PAGE, MAX_VALUE, Page, Precondition,
    Revision, Store, Txn, Watch,
};

mod leases;
mod watches;

use leases::*;
use watches::*;

/// A store under test. A cheap handle.
#[derive(Clone)]
struct Tested {
    store: Arc<dyn Store>,
    promises: Promises,
    /// Kept as long as the store is.
    _server: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

impl std::ops::Deref for Tested {
    type Target = Arc<dyn Store>;

    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

/// What a back end promises beyond the trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promises {
    /// It is alone: revisions count its own transactions from 0, an import is of one
    /// revision, the history is short, and a watch tells all before it ends.
    Alone,
    /// It is elsewhere, and not alone: revisions rise.
    Shared,
}

impl Promises {
    /// Checks revisions that follow one another.
    fn follows(self, before: Revision, after: Revision) -> bool {
        match self {
            Self::Alone => after == before + 1,
            Self::Shared => after > before,
        }
    }

    /// Checks a revision that is no transaction's.
    fn stays(self, before: Revision, after: Revision) -> bool {
        match self {
            Self::Alone => after == before,
            Self::Shared => after >= before,
        }
    }
}

fn alone(store: impl Store) -> Tested {
    Tested {
        store: Arc::new(store),
        promises: Promises::Alone,
        _server: None,
    }
}

#[cfg(feature = "etcd")]
fn shared() -> Tested {
    use crate::store::etcd::tests::{open, server};
    let server = server();
    Tested {
        store: Arc::new(open(&server.url())),
        promises: Promises::Shared,
        _server: Some(server),
    }
}

/// No condition here takes longer on a machine that works.
const DEADLINE: Duration = Duration::from_secs(20);
/// Long enough not to end by itself in a test.
const LONG: Duration = Duration::from_secs(600);

/// One test per behaviour and back end.
macro_rules! suite {
    ($($behaviour:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::alone(crate::store::Memory::new())).await;
            })*
        }
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let dir = tempfile::tempdir().unwrap();
                let store = crate::store::Embedded::open(dir.path()).unwrap();
                super::$behaviour(super::alone(store)).await;
            })*
        }
        #[cfg(feature = "etcd")]
        mod etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::shared()).await;
            })*
        }
    };
}

suite! {
    empty_store_has_a_revision_to_watch_from
    put_is_read_back_with_its_revision
    each_changing_transaction_has_the_next_revision
    transaction_that_changes_nothing_takes_no_revision
    preconditions_hold_or_nothing_is_written
    first_failed_precondition_is_named
    writes_of_a_transaction_are_seen_together
    one_of_many_concurrent_creators_wins
    one_of_many_concurrent_updaters_wins
    concurrent_transactions_each_have_their_own_revision
    pages_cover_a_prefix_once
    page_limit_is_bounded
    whole_is_of_one_revision_while_others_write
    prefix_ends_where_it_ends
    bounds_are_held
    key_is_written_once_in_a_transaction
    import_is_whole_or_nothing
    page_of_another_revision_is_of_it_or_refused
    watch_tells_batches_in_order
    watch_begins_after_its_revision
    watch_tells_progress_without_matches
    quiet_watch_says_that_nothing_is_new
    watch_waits_for_what_comes
    dropped_wait_loses_nothing
    watch_of_forgotten_history_is_compacted
    watch_ends_when_the_store_is_dropped
    expired_lease_takes_its_keys
    keep_alive_keeps_the_keys
    revoked_lease_takes_its_keys_at_once
    ended_lease_takes_nothing
    key_leaves_its_lease_when_put_without
}

async fn done(store: &Tested, txn: Txn) -> Revision {
    store.txn(txn).await.unwrap()
}

async fn put(store: &Tested, key: &str, value: &'static str) -> Revision {
    done(store, Txn::new().put(key, value)).await
}

async fn value(store: &Tested, key: &str) -> Option<Bytes> {
    store.get(key).await.unwrap().map(|entry| entry.value)
}

async fn keys(store: &Tested, prefix: &str) -> Vec<String> {
    let listing = store.list(prefix, Page::first()).await.unwrap();
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

async fn next(watch: &mut Watch) -> Result<Batch, Error> {
    timeout(DEADLINE, watch.next())
        .await
        .expect("a batch in time")
}

/// The next batch that is not progress only.
async fn next_events(watch: &mut Watch) -> Batch {
    loop {
        let batch = next(watch).await.unwrap();
        if !batch.events.is_empty() {
            return batch;
        }
    }
}

fn event_keys(batch: &Batch) -> Vec<&str> {
    batch.events.iter().map(Event::key).collect()
}

fn failed(result: Result<Revision, Error>) -> Precondition {
    match result {
        Err(Error::Failed { precondition }) => precondition,
        other => panic!("{other:?} is no failed precondition"),
    }
}

fn too_large(result: Result<Revision, Error>) -> Bound {
    match result {
        Err(Error::TooLarge(bound)) => bound,
        other => panic!("{other:?} is not too large"),
    }
}

async fn empty_store_has_a_revision_to_watch_from(store: Tested) {
    let revision = store.revision().await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
    let listing = store.list("", Page::first()).await.unwrap();
    assert!(listing.entries.is_empty() && !listing.more);
    match store.promises {
        Promises::Alone => assert_eq!((revision, listing.revision), (0, 0)),
        Promises::Shared => assert!(listing.revision >= revision && revision > 0),
    }
}

async fn put_is_read_back_with_its_revision(store: Tested) {
    put(&store, "other", "x").await;
    let revision = put(&store, "a", "1").await;
    put(&store, "other", "y").await;
    let entry = Entry {
        key: "a".to_owned(),
        value: Bytes::from("1"),
        revision,
    };
    assert_eq!(store.get("a").await.unwrap(), Some(entry.clone()));
    assert_eq!(
        store.list("a", Page::first()).await.unwrap().entries,
        [entry]
    );
    done(&store, Txn::new().delete("a")).await;
    assert_eq!(store.get("a").await.unwrap(), None);
}

async fn each_changing_transaction_has_the_next_revision(store: Tested) {
    let follows = |before, after| store.promises.follows(before, after);
    let first = put(&store, "a", "1").await;
    assert!(store.promises == Promises::Shared || first == 1);
    let second = done(&store, Txn::new().put("b", "1").put("c", "1").delete("a")).await;
    assert!(follows(first, second), "{first} {second}");
    let third = put(&store, "b", "1").await;
    assert!(follows(second, third), "{second} {third}");
    let last = store.revision().await.unwrap();
    assert!(store.promises.stays(third, last), "{third} {last}");
}

async fn transaction_that_changes_nothing_takes_no_revision(store: Tested) {
    let first = put(&store, "a", "1").await;
    for txn in [
        Txn::new(),
        Txn::new().delete("absent"),
        Txn::new().present("a"),
    ] {
        let after = done(&store, txn).await;
        assert!(store.promises.stays(first, after), "{first} {after}");
    }
    assert_eq!(store.get("a").await.unwrap().unwrap().revision, first);
    let mut watch = store.watch("", first).await.unwrap();
    let next = put(&store, "b", "1").await;
    assert_eq!(next_events(&mut watch).await.revision, next);
}

async fn preconditions_hold_or_nothing_is_written(store: Tested) {
    let first = done(&store, Txn::new().absent("a").put("a", "1")).await;
    failed(store.txn(Txn::new().absent("a").put("b", "1")).await);
    failed(store.txn(Txn::new().present("b").put("b", "1")).await);
    failed(
        store
            .txn(Txn::new().revision_is("b", 0).put("b", "1"))
            .await,
    );
    failed(
        store
            .txn(Txn::new().revision_is("a", first + 1).delete("a"))
            .await,
    );
    assert_eq!(keys(&store, "").await, ["a"]);
    let second = done(
        &store,
        Txn::new()
            .present("a")
            .revision_is("a", first)
            .put("a", "2"),
    )
    .await;
    failed(
        store
            .txn(Txn::new().revision_is("a", first).put("a", "3"))
            .await,
    );
    assert_eq!(store.get("a").await.unwrap().unwrap().revision, second);
    done(&store, Txn::new().revision_is("a", second).delete("a")).await;
    done(&store, Txn::new().absent("a").put("a", "4")).await;
}

async fn first_failed_precondition_is_named(store: Tested) {
    put(&store, "a", "1").await;
    let txn = Txn::new()
        .present("a")
        .absent("a")
        .present("b")
        .put("c", "1");
    let error = store.txn(txn).await.unwrap_err();
    assert!(!error.retryable());
    assert_eq!(failed(Err(error)), Precondition::Absent("a".to_owned()));
}

async fn writes_of_a_transaction_are_seen_together(store: Tested) {
    let reader = store.clone();
    let reading = tokio::spawn(async move {
        loop {
            let listing = reader.list("pair/", Page::first()).await.unwrap();
            let values: Vec<_> = listing
                .entries
                .iter()
                .map(|e| (&e.value, e.revision))
                .collect();
            assert!(
                values.windows(2).all(|pair| pair[0] == pair[1]),
                "{values:?}"
            );
            if values.first().is_some_and(|(value, _)| *value == "99") {
                return;
            }
        }
    });
    for n in 0..100 {
        let value = Bytes::from(n.to_string());
        done(
            &store,
            Txn::new().put("pair/a", value.clone()).put("pair/b", value),
        )
        .await;
    }
    timeout(DEADLINE, reading).await.unwrap().unwrap();
}

async fn one_of_many_concurrent_creators_wins(store: Tested) {
    let tasks = (0..64).map(|n| {
        let store = store.clone();
        let txn = Txn::new()
            .absent("a")
            .put("a", n.to_string())
            .put(format!("mine/{n}"), "");
        tokio::spawn(async move { store.txn(txn).await.map(|revision| (n, revision)) })
    });
    let results = join_all(tasks).await.into_iter().map(Result::unwrap);
    let (won, lost): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 63));
    let (winner, revision) = won.into_iter().next().unwrap().unwrap();
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!(
        (entry.value, entry.revision),
        (Bytes::from(winner.to_string()), revision)
    );
    assert_eq!(keys(&store, "mine/").await, [format!("mine/{winner}")]);
}

async fn one_of_many_concurrent_updaters_wins(store: Tested) {
    let mut revision = put(&store, "a", "0").await;
    for _ in 0..5 {
        let txn = Txn::new().revision_is("a", revision).put("a", "1");
        let results = join_all((0..16).map(|_| store.txn(txn.clone()))).await;
        let won: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1);
        revision = won[0];
    }
}

async fn concurrent_transactions_each_have_their_own_revision(store: Tested) {
    let puts = (0..100).map(|n| store.txn(Txn::new().put(format!("k{}", n % 40), "")));
    let mut revisions: Vec<_> = join_all(puts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    revisions.sort_unstable();
    let follows = |pair: &[Revision]| store.promises.follows(pair[0], pair[1]);
    assert!(revisions.windows(2).all(follows), "{revisions:?}");
}

async fn pages_cover_a_prefix_once(store: Tested) {
    for n in 0..25 {
        put(&store, &format!("p/{n:02}"), "").await;
    }
    put(&store, "o", "").await;
    put(&store, "q", "").await;
    for limit in [1, 7, 25, 26] {
        let (mut seen, mut page) = (Vec::new(), Page::first().limit(limit));
        loop {
            let listing = store.list("p/", page).await.unwrap();
            assert!(listing.entries.len() <= limit);
            seen.extend(listing.entries.into_iter().map(|entry| entry.key));
            if !listing.more {
                break;
            }
            page = Page::after(seen.last().unwrap()).limit(limit);
        }
        assert_eq!(
            seen,
            (0..25).map(|n| format!("p/{n:02}")).collect::<Vec<_>>()
        );
    }
    let after = |key| store.list("p/", Page::after(key));
    assert_eq!(after("p/10x").await.unwrap().entries.len(), 14);
    assert_eq!(after("a").await.unwrap().entries.len(), 25);
    assert_eq!(after("z").await.unwrap().entries.len(), 0);
}

async fn page_limit_is_bounded(store: Tested) {
    for chunk in 0..=MAX_PAGE / 100 {
        let txn = (0..100).fold(Txn::new(), |txn, n| {
            txn.put(format!("{chunk:03}/{n:02}"), "")
        });
        done(&store, txn).await;
    }
    let huge = store
        .list("", Page::first().limit(usize::MAX))
        .await
        .unwrap();
    assert_eq!((huge.entries.len(), huge.more), (MAX_PAGE, true));
    let none = store.list("", Page::first().limit(0)).await.unwrap();
    assert_eq!((none.entries.len(), none.more), (1, true));
}

async fn whole_is_of_one_revision_while_others_write(store: Tested) {
    const PAGES: usize = 3;
    for chunk in 0..PAGES * MAX_PAGE / 100 {
        let txn = (0..100).fold(Txn::new(), |txn, n| {
            txn.put(format!("w/{chunk:03}/{n:02}"), "")
        });
        done(&store, txn).await;
    }
    put(&store, "x", "").await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            // The first and the last of the prefix, always alike.
            for n in 0_u64.. {
                let value = n.to_string();
                let txn = Txn::new().put("w/0", value.clone());
                done(&store, txn.put("w/9", value)).await;
                if stop.is_closed() {
                    return n;
                }
            }
            0
        }
    });
    let begun = store.revision().await.unwrap();
    let mut last = begun;
    while last < begun + 20 {
        let all = store.whole("w/").await.unwrap();
        last = store.revision().await.unwrap();
        let ends = all.iter().filter(|entry| !entry.value.is_empty());
        let ends: Vec<&Bytes> = ends.map(|entry| &entry.value).collect();
        assert!(ends.windows(2).all(|two| two[0] == two[1]), "{ends:?}");
        assert_eq!(all.len(), PAGES * MAX_PAGE + ends.len());
        assert!(all.is_sorted_by(|one, other| one.key < other.key));
    }
    drop(stopped);
    assert!(timeout(DEADLINE, writer).await.unwrap().unwrap() > 0);
}

async fn prefix_ends_where_it_ends(store: Tested) {
    for key in [
        "a",
        "a/",
        "a/1",
        "a0",
        "b",
        "aa/1",
        "a/\u{10ffff}",
        "\u{10ffff}",
        "A/1",
    ] {
        put(&store, key, "").await;
    }
    assert_eq!(keys(&store, "a/").await, ["a/", "a/1", "a/\u{10ffff}"]);
    assert_eq!(keys(&store, "a/1").await, ["a/1"]);
    assert_eq!(keys(&store, "\u{10ffff}").await, ["\u{10ffff}"]);
    assert_eq!(keys(&store, "c").await, [""; 0]);
    assert_eq!(keys(&store, "").await.len(), 9);
}

async fn bounds_are_held(store: Tested) {
    let puts = |n| (0..n).fold(Txn::new(), |txn, n| txn.put(format!("{n}"), "v"));
    let asks = |n| (0..n).fold(Txn::new(), |txn, n| txn.absent(format!("x{n}")));
    assert_eq!(
        too_large(store.txn(puts(MAX_OPS + 1)).await),
        Bound::Ops(129)
    );
    assert_eq!(
        too_large(store.txn(asks(MAX_OPS + 1)).await),
        Bound::Ops(129)
    );
    let both = Txn {
        writes: puts(MAX_OPS).writes,
        ..asks(MAX_OPS)
    };
    done(&store, both).await;

    let key = |len| "k".repeat(len);
    assert_eq!(
        too_large(store.txn(Txn::new().put(key(MAX_KEY + 1), "")).await),
        Bound::Key(MAX_KEY + 1)
    );
    assert_eq!(
        too_large(store.txn(Txn::new().absent(key(MAX_KEY + 1))).await),
        Bound::Key(MAX_KEY + 1)
    );
    done(&store, Txn::new().put(key(MAX_KEY), "")).await;

    let big = |len| Bytes::from(vec![7; len]);
    let bound = too_large(store.txn(Txn::new().put("v", big(MAX_VALUE + 1))).await);
    assert_eq!(bound, Bound::Value(MAX_VALUE + 1));
    done(&store, Txn::new().put("v", big(MAX_VALUE))).await;
    assert_eq!(value(&store, "v").await, Some(big(MAX_VALUE)));
    let two = Txn::new().put("v", big(MAX_VALUE)).put("w", big(MAX_VALUE));
    assert!(matches!(too_large(store.txn(two).await), Bound::Txn(_)));
    assert_eq!(value(&store, "w").await, None);
}

async fn key_is_written_once_in_a_transaction(store: Tested) {
    for txn in [
        Txn::new().put("a", "1").delete("a"),
        Txn::new().put("", "1"),
        Txn::new().absent(""),
    ] {
        assert!(matches!(store.txn(txn).await, Err(Error::BadKey { .. })));
    }
    assert_eq!(keys(&store, "").await, [""; 0]);
}

async fn import_is_whole_or_nothing(store: Tested) {
    let entries = |from: usize| -> Vec<(String, Bytes)> {
        let entry = |n| (format!("k/{n:05}"), Bytes::from_static(b"x"));
        (from..from + 20_000).map(entry).collect()
    };
    let first = put(&store, "k/19999", "there").await;
    let refused = store.import(entries(0)).await;
    assert!(
        matches!(refused, Err(Error::Failed { ref precondition }) if precondition.key() == "k/19999"),
        "{refused:?}"
    );
    assert_eq!(keys(&store, "").await, ["k/19999"]);
    let from = store.list("", Page::first()).await.unwrap().revision;
    let mut watch = store.watch("", from).await.unwrap();
    let imported = store.import(entries(20_000)).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 20_000 {
        let batch = next_events(&mut watch).await;
        assert!(batch.revision <= imported);
        seen.extend(batch.events.iter().map(|event| event.key().to_owned()));
    }
    if store.promises == Promises::Alone {
        assert!((first, imported) == (1, 2) && watch.revision() == 2);
        assert_eq!(store.get("k/20000").await.unwrap().unwrap().revision, 2);
        assert_eq!(store.import(Vec::new()).await.unwrap(), 2);
    }
    let twice = vec![("a".into(), Bytes::new()), ("a".into(), Bytes::new())];
    assert!(matches!(
        store.import(twice).await,
        Err(Error::BadKey { .. })
    ));
    let value = Bytes::from(vec![0; MAX_VALUE]);
    let large = (0..65).map(|n| (format!("l/{n}"), value.clone())).collect();
    assert!(matches!(
        too_large(store.import(large).await),
        Bound::Import(_)
    ));
    assert_eq!(keys(&store, "l/").await, [""; 0]);
}

async fn page_of_another_revision_is_of_it_or_refused(store: Tested) {
    for key in ["a", "b", "c"] {
        put(&store, key, "").await;
    }
    let first = store.list("", Page::first().limit(2)).await.unwrap();
    let rest = || store.list("", Page::after("b").at(first.revision));
    assert_eq!(rest().await.unwrap().entries.len(), 1);
    put(&store, "d", "").await;
    match (rest().await, store.promises) {
        (Err(Error::Compacted { .. }), Promises::Alone) => {}
        (Ok(listing), Promises::Shared) => {
            assert_eq!(listing.entries.len(), 1);
            assert_eq!(listing.revision, first.revision);
        }
        (other, _) => panic!("{other:?}"),
    }
}
