//! Leases: expiry, renewal, revocation, and the keys that go with them.

use std::time::Duration;

use tokio::time::timeout;

use super::{LONG, Tested, done, event_keys, keys, next_events};
use crate::store::{Error, Event, LeaseId, Txn, Watch};

/// Short enough to wait for, long enough to put keys under on a slow disk.
const SHORT: Duration = Duration::from_secs(1);

async fn leased(store: &Tested, ttl: Duration) -> (LeaseId, Watch) {
    let lease = store.lease(ttl).await.unwrap();
    let txn = Txn::new()
        .put_leased("l/a", "", lease)
        .put_leased("l/b", "", lease);
    let revision = done(store, txn.put("l/c", "")).await;
    (lease, store.watch("l/", revision).await.unwrap())
}

pub(super) async fn expired_lease_takes_its_keys(store: Tested) {
    let (lease, mut watch) = leased(&store, SHORT).await;
    let batch = next_events(&mut watch).await;
    assert_eq!(event_keys(&batch), ["l/a", "l/b"]);
    assert!(
        batch
            .events
            .iter()
            .all(|event| matches!(event, Event::Delete { .. }))
    );
    assert_eq!(keys(&store, "").await, ["l/c"]);
    assert!(matches!(
        store.keep_alive(lease).await,
        Err(Error::NoSuchLease)
    ));
}

pub(super) async fn keep_alive_keeps_the_keys(store: Tested) {
    let ttl = Duration::from_secs(2);
    let (lease, mut watch) = leased(&store, ttl).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < ttl * 3 / 2 {
        assert!(store.keep_alive(lease).await.unwrap() >= ttl);
        assert!(timeout(ttl / 20, next_events(&mut watch)).await.is_err());
    }
    assert_eq!(keys(&store, "l/").await.len(), 3);
    let kept = std::time::Instant::now();
    assert_eq!(event_keys(&next_events(&mut watch).await).len(), 2);
    assert!(kept.elapsed() > ttl / 2);
}

pub(super) async fn revoked_lease_takes_its_keys_at_once(store: Tested) {
    let (lease, mut watch) = leased(&store, LONG).await;
    store.revoke(lease).await.unwrap();
    assert_eq!(keys(&store, "").await, ["l/c"]);
    assert_eq!(event_keys(&next_events(&mut watch).await), ["l/a", "l/b"]);
    assert!(matches!(store.revoke(lease).await, Err(Error::NoSuchLease)));
}

pub(super) async fn ended_lease_takes_nothing(store: Tested) {
    let lease = store.lease(LONG).await.unwrap();
    store.revoke(lease).await.unwrap();
    let result = store
        .txn(Txn::new().put("b", "").put_leased("a", "", lease))
        .await;
    assert!(matches!(result, Err(Error::NoSuchLease)));
    assert!(matches!(
        store.keep_alive(lease).await,
        Err(Error::NoSuchLease)
    ));
    assert_ne!(store.lease(LONG).await.unwrap(), lease);
    assert_eq!(keys(&store, "").await, [""; 0]);
}

pub(super) async fn key_leaves_its_lease_when_put_without(store: Tested) {
    let (lease, _watch) = leased(&store, LONG).await;
    let other = store.lease(LONG).await.unwrap();
    done(
        &store,
        Txn::new().put("l/a", "").put_leased("l/b", "", other),
    )
    .await;
    store.revoke(lease).await.unwrap();
    assert_eq!(keys(&store, "l/").await, ["l/a", "l/b", "l/c"]);
    store.revoke(other).await.unwrap();
    assert_eq!(keys(&store, "l/").await, ["l/a", "l/c"]);
}
