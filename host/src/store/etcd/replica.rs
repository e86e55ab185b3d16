//! What etcd was last known to hold, for reads while no member answers.
//!
//! A copy of the whole space that follows it by a watch. It may be behind, so it is asked
//! only when etcd cannot be; what it shows is durable and of one revision.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use parking_lot::RwLock;

use super::Remote;
use super::feed::{self, Source};
use crate::store::{Batch, Entry, Error, Event, Listing, MAX_PAGE, Page, Revision};

/// Before etcd is listed again after it could not be.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Known {
    entries: BTreeMap<String, Entry>,
    revision: Revision,
}

/// The copy. Empty-handed until etcd was read once.
#[derive(Debug, Default)]
pub(super) struct Replica(RwLock<Option<Known>>);

impl Replica {
    /// The entry as last known; `None` when nothing is known at all.
    pub(super) fn get(&self, key: &str) -> Option<Option<Entry>> {
        let known = self.0.read();
        Some(known.as_ref()?.entries.get(key).cloned())
    }

    /// A page as last known.
    pub(super) fn list(&self, prefix: &str, page: &Page) -> Option<Listing> {
        let known = self.0.read();
        let known = known.as_ref()?;
        let start = match page.after.as_deref() {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = known.entries.range::<str, _>((start, Bound::Unbounded));
        let mut found = range.take_while(|(key, _)| key.starts_with(prefix));
        let limit = page.limit.clamp(1, MAX_PAGE);
        let entries = found.by_ref().take(limit);
        let entries = entries.map(|(_, entry)| entry.clone()).collect();
        Some(Listing {
            entries,
            revision: known.revision,
            more: found.next().is_some(),
        })
    }

    fn install(&self, entries: BTreeMap<String, Entry>, revision: Revision) {
        *self.0.write() = Some(Known { entries, revision });
    }

    fn apply(&self, batch: Batch) {
        let mut known = self.0.write();
        let Some(known) = known.as_mut() else { return };
        known.revision = batch.revision;
        for event in batch.events {
            match event {
                Event::Put(entry) => drop(known.entries.insert(entry.key.clone(), entry)),
                Event::Delete { key, .. } => drop(known.entries.remove(&key)),
            }
        }
    }

    /// Follows etcd until the store is dropped.
    pub(super) async fn follow(&self, remote: &Remote, source: &Source) {
        loop {
            match self.follow_once(remote, source).await {
                Error::Closed => return,
                error => tracing::debug!(%error, "reading etcd anew"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_once(&self, remote: &Remote, source: &Source) -> Error {
        let revision = match self.read(remote).await {
            Ok(revision) => revision,
            Err(error) => return error,
        };
        let mut watch = feed::watch(source.clone(), "", revision);
        loop {
            match watch.next().await {
                Ok(batch) => self.apply(batch),
                Err(error) => return error,
            }
        }
    }

    async fn read(&self, remote: &Remote) -> Result<Revision, Error> {
        let mut entries = BTreeMap::new();
        let mut page = Page::first();
        loop {
            let listing = remote.list("", &page).await?;
            // Of one revision: that of the first page.
            let at = *page.at.get_or_insert(listing.revision);
            page.after = listing.entries.last().map(|entry| entry.key.clone());
            entries.extend(listing.entries.into_iter().map(|e| (e.key.clone(), e)));
            if !listing.more {
                self.install(entries, at);
                return Ok(at);
            }
        }
    }
}
