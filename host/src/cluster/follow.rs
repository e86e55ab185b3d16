//! Follows the store: read whole, then watched, then read whole again when that breaks.
//!
//! One watch and its order, so that a late event can bring nothing back that a newer one
//! removed. Holds one batch at a time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use tracing::{info, warn};

use super::mirror::Mirror;
use crate::store::{self, Batch, Page, Revision, Store, Watch};

/// Before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);

/// What is new.
pub(super) enum News {
    /// Everything, as of a revision.
    Whole(Box<Mirror>, Revision),
    /// What one transaction did.
    Batch(Batch),
}

enum Place {
    Reading,
    Watching(Box<Mirror>, Watch, Revision),
    Watched(Watch),
}

/// The news of a store, without an end.
pub(super) fn news(store: Arc<dyn Store>) -> impl Stream<Item = News> {
    stream::unfold(Place::Reading, move |mut place| {
        let store = store.clone();
        async move {
            loop {
                place = match place {
                    Place::Reading => match read(&*store).await {
                        Ok((mirror, watch, at)) => Place::Watching(Box::new(mirror), watch, at),
                        Err(error) => {
                            failed(&error).await;
                            Place::Reading
                        }
                    },
                    Place::Watching(mirror, watch, at) => {
                        return Some((News::Whole(mirror, at), Place::Watched(watch)));
                    }
                    Place::Watched(mut watch) => match watch.next().await {
                        Ok(batch) => return Some((News::Batch(batch), Place::Watched(watch))),
                        Err(error) => {
                            failed(&error).await;
                            Place::Reading
                        }
                    },
                };
            }
        }
    })
}

async fn failed(error: &store::Error) {
    match error {
        store::Error::Compacted { .. } => {
            info!("the watch fell behind; reading the store anew")
        }
        error => warn!(%error, "the store cannot be followed"),
    }
    tokio::time::sleep(RETRY).await;
}

/// Reads everything, and watches from the oldest that was read: a page that comes when the
/// store is out of reach may be older than those before.
async fn read(store: &dyn Store) -> Result<(Mirror, Watch, Revision), store::Error> {
    let mut mirror = Mirror::default();
    let mut page = Page::first();
    let mut revision = Revision::MAX;
    loop {
        let listing = store.list("", page).await?;
        revision = revision.min(listing.revision);
        let last = listing.entries.last().map(|entry| entry.key.clone());
        for entry in listing.entries {
            mirror.load(entry);
        }
        match last {
            Some(last) if listing.more => page = Page::after(last),
            _ => {
                let watch = store.watch("", revision).await?;
                mirror.catch_up(revision);
                return Ok((mirror, watch, revision));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::store::{Entry, Error, Event, LeaseId, Listing, Memory, Txn};

    /// Pages of one entry, each from another store: as they come from a copy that is behind
    /// when etcd stops answering between two.
    struct Torn {
        first: Memory,
        /// Behind.
        then: Memory,
    }

    impl Store for Torn {
        fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
            self.first.get(key)
        }

        fn list(&self, prefix: &str, page: Page) -> BoxFuture<'_, Result<Listing, Error>> {
            match page.after {
                None => self.first.list(prefix, page.limit(1)),
                Some(_) => self.then.list(prefix, page),
            }
        }

        fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
            self.first.txn(txn)
        }

        fn import(&self, entries: Vec<(String, Bytes)>) -> BoxFuture<'_, Result<Revision, Error>> {
            self.first.import(entries)
        }

        fn watch(&self, prefix: &str, from: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
            self.first.watch(prefix, from)
        }

        fn lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
            self.first.lease(ttl)
        }

        fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
            self.first.keep_alive(lease)
        }

        fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
            self.first.revoke(lease)
        }

        fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
            self.first.revision()
        }
    }

    #[tokio::test]
    async fn what_a_page_was_too_old_to_show_is_told_by_the_watch() {
        let store = Torn {
            first: Memory::new(),
            then: Memory::new(),
        };
        for store in [&store.first, &store.then] {
            let done = store.txn(Txn::new().put("a", "")).await;
            done.expect("writes");
        }
        let missed = store.txn(Txn::new().put("b", "")).await.expect("writes");
        let mut news = Box::pin(news(Arc::new(store)));
        let Some(News::Whole(_, at)) = news.next().await else {
            panic!("nothing is read");
        };
        assert!(at < missed);
        let told = tokio::time::timeout(RETRY, news.next()).await;
        let Ok(Some(News::Batch(batch))) = told else {
            panic!("it was missed");
        };
        assert_eq!(batch.events.first().map(Event::key), Some("b"));
    }
}
