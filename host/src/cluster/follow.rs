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

/// Reads everything, and watches from there.
async fn read(store: &dyn Store) -> Result<(Mirror, Watch, Revision), store::Error> {
    let mut mirror = Mirror::default();
    let mut page = Page::first();
    let mut from = None;
    loop {
        let listing = store.list("", page).await?;
        let revision = *from.get_or_insert(listing.revision);
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
