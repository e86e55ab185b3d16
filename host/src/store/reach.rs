//! For tests: a store that can be out of reach, or slow to tell what is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::sync::{Semaphore, watch};

use super::{Entry, Error, LeaseId, Listing, Memory, Page, Revision, Store, Txn, Watch};

/// A way to a store in memory.
pub(crate) struct Reach {
    store: Arc<Memory>,
    /// Every call fails at once.
    pub(crate) cut: AtomicBool,
    /// Watches tell nothing, as those of a node that is behind.
    pub(crate) silent: watch::Sender<bool>,
    /// Imports wait for their turn.
    pub(crate) imports: Semaphore,
}

impl Reach {
    pub(crate) fn to(store: Arc<Memory>) -> Self {
        Self {
            store,
            cut: AtomicBool::new(false),
            silent: watch::Sender::new(false),
            imports: Semaphore::new(1),
        }
    }

    fn or_cut<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a Memory) -> BoxFuture<'a, Result<T, Error>>,
    ) -> BoxFuture<'a, Result<T, Error>> {
        if self.cut.load(Ordering::Relaxed) {
            let why = Arc::new(std::io::Error::other("cut"));
            return std::future::ready(Err(Error::Unavailable(why))).boxed();
        }
        call(&self.store)
    }

    fn unless_silent(&self, from: Revision, watch: Watch) -> Watch {
        let batches = stream::unfold(
            (watch, self.silent.subscribe()),
            |(mut watch, mut silent)| async {
                let batch = watch.next().await;
                // Without its sender nobody waits any more.
                let _ = silent.wait_for(|silent| !silent).await;
                Some((batch, (watch, silent)))
            },
        );
        Watch::new(from, batches)
    }
}

impl Store for Reach {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        let key = key.to_owned();
        self.or_cut(move |store| store.get(&key))
    }

    fn list(&self, prefix: &str, page: Page) -> BoxFuture<'_, Result<Listing, Error>> {
        let prefix = prefix.to_owned();
        self.or_cut(move |store| store.list(&prefix, page))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        self.or_cut(move |store| store.txn(txn))
    }

    fn import(&self, entries: Vec<(String, Bytes)>) -> BoxFuture<'_, Result<Revision, Error>> {
        async move {
            let _turn = self.imports.acquire().await;
            self.or_cut(move |store| store.import(entries)).await
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, from: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        let prefix = prefix.to_owned();
        let watch = self.or_cut(move |store| store.watch(&prefix, from));
        async move { Ok(self.unless_silent(from, watch.await?)) }.boxed()
    }

    fn lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
        self.or_cut(move |store| store.lease(ttl))
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        self.or_cut(move |store| store.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        self.or_cut(move |store| store.revoke(lease))
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        self.or_cut(move |store| store.revision())
    }
}
