//! Watches: order, beginnings, progress, bounded history, the end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{DEADLINE, LONG, Promises, Tested, done, event_keys, next, next_events, put};
use crate::store::{Batch, Entry, Error, Event, Revision, Txn, WORD};

/// Where a watch of an empty store begins.
async fn begin(store: &Tested) -> Revision {
    store.revision().await.unwrap()
}

pub(super) async fn watch_tells_batches_in_order(store: Tested) {
    let mut watch = store.watch("a/", begin(&store).await).await.unwrap();
    let first = done(
        &store,
        Txn::new().put("a/2", "x").put("b/1", "x").put("a/1", "y"),
    )
    .await;
    let second = done(&store, Txn::new().delete("a/2").put("a/3", "z")).await;
    let batch = next(&mut watch).await.unwrap();
    assert_eq!(
        (batch.revision, event_keys(&batch)),
        (first, vec!["a/2", "a/1"])
    );
    let batch = next(&mut watch).await.unwrap();
    let put = Entry {
        key: "a/3".to_owned(),
        value: Bytes::from("z"),
        revision: second,
    };
    let delete = Event::Delete {
        key: "a/2".to_owned(),
        revision: second,
    };
    assert_eq!(
        batch,
        Batch {
            revision: second,
            events: vec![delete, Event::Put(put)]
        }
    );
    assert_eq!(watch.revision(), second);
}

pub(super) async fn watch_begins_after_its_revision(store: Tested) {
    put(&store, "a", "").await;
    let second = put(&store, "b", "").await;
    put(&store, "c", "").await;
    let mut watch = store.watch("", second).await.unwrap();
    assert_eq!(watch.revision(), second);
    assert_eq!(event_keys(&next_events(&mut watch).await), ["c"]);
    // One from the future tells nothing that it was asked to leave out.
    let future = begin(&store).await + 10_000;
    let mut watch = store.watch("", future).await.unwrap();
    for _ in 0..10 {
        put(&store, "d", "").await;
    }
    if store.promises == Promises::Alone {
        while put(&store, "d", "").await < future {}
        put(&store, "e", "").await;
        assert_eq!(event_keys(&next(&mut watch).await.unwrap()), ["e"]);
    } else {
        assert!(
            timeout(Duration::from_millis(200), next_events(&mut watch))
                .await
                .is_err()
        );
    }
}

pub(super) async fn watch_tells_progress_without_matches(store: Tested) {
    let mut watch = store.watch("a", begin(&store).await).await.unwrap();
    let mut last = 0;
    for key in ["b", "c", "d"] {
        last = put(&store, key, "").await;
    }
    while watch.revision() < last {
        assert_eq!(next(&mut watch).await.unwrap().events, []);
    }
    assert_eq!(watch.revision(), last);
    // Whatever else happens in the store, or does not, a revision that it told is reached.
    let told = store.revision().await.unwrap();
    while watch.revision() < told {
        assert_eq!(next(&mut watch).await.unwrap().events, []);
    }
}

pub(super) async fn quiet_watch_says_that_nothing_is_new(store: Tested) {
    let mut watch = store.watch("a", begin(&store).await).await.unwrap();
    let mut told = None;
    while told != Some(watch.revision()) {
        told = Some(watch.revision());
        // Time enough for a busy machine beyond what is promised.
        let batch = timeout(WORD + DEADLINE, watch.next()).await.unwrap();
        assert_eq!(batch.unwrap().events, []);
    }
    let revision = put(&store, "a", "").await;
    assert_eq!(next_events(&mut watch).await.revision, revision);
}

pub(super) async fn watch_waits_for_what_comes(store: Tested) {
    let mut watch = store.watch("a", begin(&store).await).await.unwrap();
    let waiting = tokio::spawn(async move { next_events(&mut watch).await });
    tokio::task::yield_now().await;
    put(&store, "a", "1").await;
    let batch = timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!(event_keys(&batch), ["a"]);
}

pub(super) async fn dropped_wait_loses_nothing(store: Tested) {
    let mut watch = store.watch("", begin(&store).await).await.unwrap();
    for _ in 1..=20 {
        assert!(timeout(Duration::ZERO, watch.next()).await.is_err());
        let revision = put(&store, "a", "").await;
        assert_eq!(next(&mut watch).await.unwrap().revision, revision);
    }
}

pub(super) async fn watch_of_forgotten_history_is_compacted(store: Tested) {
    if store.promises == Promises::Shared {
        // Others use it: etcd forgets in a test of its own.
        return;
    }
    let mut slow = store.watch("", 0).await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..70 {
                put(&store, &format!("{task}"), "").await;
            }
        }));
    }
    assert!(join_all(tasks).await.iter().all(Result::is_ok));
    let Err(Error::Compacted { oldest }) = next(&mut slow).await else {
        panic!("history is not bounded");
    };
    let early = store.watch("", oldest - 1).await.unwrap_err();
    assert!(matches!(early, Error::Compacted { .. }) && !early.retryable());
    let mut watch = store.watch("", oldest).await.unwrap();
    for revision in oldest + 1..=64 * 70 {
        assert_eq!(next(&mut watch).await.unwrap().revision, revision);
    }
}

pub(super) async fn watch_ends_when_the_store_is_dropped(store: Tested) {
    let mut watch = store.watch("", begin(&store).await).await.unwrap();
    store.lease(LONG).await.unwrap();
    let last = put(&store, "a", "").await;
    let promises = store.promises;
    drop(store);
    if promises == Promises::Alone {
        assert_eq!(next(&mut watch).await.unwrap().revision, last);
    }
    loop {
        match next(&mut watch).await {
            Ok(batch) => assert_eq!((promises, batch.revision), (Promises::Shared, last)),
            Err(error) => return assert!(matches!(error, Error::Closed)),
        }
    }
}
