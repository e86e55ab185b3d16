//! The store: the few facts that must outlive a process or be agreed on by many.
//!
//! Keys, bytes and revisions only; it knows nothing of provisions or nodes. Every
//! transaction that changes something has one revision, higher than the one before.
//! What a read, a listing or a watch shows is durable, and a transaction is seen whole
//! or not at all. Back ends differ only in where the facts lie; one conformance suite
//! holds them to the same behaviour.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use serde::{Deserialize, Serialize};

pub mod embedded;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod memory;

mod engine;
mod feed;
mod history;
mod journal;
mod leases;
mod ledger;
mod txn;
mod writer;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod cut;
#[cfg(test)]
pub(crate) mod reach;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod virtually;

pub use embedded::{Embedded, OpenError};
pub use memory::Memory;
pub use txn::{Bound, Precondition, Txn, Write};

/// The store's counter of changes. A transaction that changed something has one of its own,
/// higher than all before it; one that changed nothing has none. Never goes back, also not
/// over a restart. The embedded store and the one in memory begin at 0 and count by one;
/// etcd's begins where it likes and counts what others do in the same etcd too.
pub type Revision = u64;

/// Writes, and separately preconditions, in one transaction. etcd's default limit, kept
/// on every store so that what works alone works in a cluster.
pub const MAX_OPS: usize = 128;
/// Bytes of one key: room for a group (64), a stream's name (1024) and a provision's (256)
/// together, and what stands between them.
pub const MAX_KEY: usize = 2048;
/// Bytes of one value.
pub const MAX_VALUE: usize = 1024 * 1024;
/// Bytes of all keys and values of one transaction; stays under etcd's request limit of
/// 1.5 MiB with room for its framing.
pub const MAX_TXN: usize = 1280 * 1024;
/// Bytes of all keys and values of an import: what the API takes for a snapshot.
pub const MAX_IMPORT: usize = 64 * 1024 * 1024;
/// Entries in one page of a listing.
pub const MAX_PAGE: usize = 1000;
/// The longest a lease may ask for; more is cut to it.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, 1 to [`MAX_KEY`] bytes.
    pub key: String,
    /// The value, up to [`MAX_VALUE`] bytes.
    pub value: Bytes,
    /// The revision of its last write.
    pub revision: Revision,
}

/// Names a lease. Never used again by the same store, also not by a later process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(u64);

impl LeaseId {
    /// From the number that [`LeaseId::raw`] gave.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number, to be written down.
    pub fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Which part of a listing is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only keys that sort after this one; it need not exist.
    pub after: Option<String>,
    /// At most so many entries; cut to 1..=[`MAX_PAGE`].
    pub limit: usize,
    /// As of this revision, which an earlier page told, so that all are of one; else of now.
    pub at: Option<Revision>,
}

impl Page {
    /// The first page, as long as allowed.
    pub fn first() -> Self {
        Self {
            after: None,
            limit: MAX_PAGE,
            at: None,
        }
    }

    /// The page that begins after `key`, as long as allowed.
    pub fn after(key: impl Into<String>) -> Self {
        Self {
            after: Some(key.into()),
            limit: MAX_PAGE,
            at: None,
        }
    }

    /// The same as of a revision.
    #[must_use]
    pub fn at(self, revision: Revision) -> Self {
        Self {
            at: Some(revision),
            ..self
        }
    }

    /// The same with another limit.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

/// A page of entries in the order of their keys' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The store's revision when the page was read. Pages of one listing may be read at
    /// different ones, unless they are asked for [`Page::at`] one: watch from the first
    /// page's to miss nothing.
    pub revision: Revision,
    /// Whether keys with the prefix follow after the last entry.
    pub more: bool,
}

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key has this value now.
    Put(Entry),
    /// The key is gone: deleted, or its lease ended.
    Delete {
        /// The key.
        key: String,
        /// The revision of the transaction that deleted it.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// What one transaction did to the keys that a watch follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Everything up to this revision has been told by this batch and those before it.
    pub revision: Revision,
    /// The changes in the transaction's order. Empty in a batch that tells progress only:
    /// transactions went by that did not touch the prefix. At the revision of the batch
    /// before, it says that nothing is new, see [`WORD`].
    pub events: Vec<Event>,
}

/// A watch that is served tells something in so long at most, be it that nothing is new.
pub const WORD: Duration = Duration::from_secs(10);

/// Follows the changes of a prefix. Holds no queue of its own: one that falls behind the
/// store's bounded history gets [`Error::Compacted`], and its owner lists anew.
pub struct Watch {
    batches: BoxStream<'static, Result<Batch, Error>>,
    revision: Revision,
}

impl Watch {
    /// Over a back end's batches; `from` is the revision the watch began at.
    pub(crate) fn new(
        from: Revision,
        batches: impl Stream<Item = Result<Batch, Error>> + Send + 'static,
    ) -> Self {
        Self {
            batches: batches.boxed(),
            revision: from,
        }
    }

    /// Waits for the next batch. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Compacted`] when it fell too far behind, [`Error::Closed`] when the store
    /// is gone; both are final.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        let batch = self.batches.next().await.unwrap_or(Err(Error::Closed))?;
        self.revision = batch.revision;
        Ok(batch)
    }

    /// Up to where this watch has told everything; a new watch from here misses nothing.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// Why a store did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A precondition did not hold; nothing was written. Read again before trying again.
    #[error("precondition failed: {precondition}")]
    Failed {
        /// The first that did not hold.
        precondition: Precondition,
    },
    /// The request is over a bound; it never fits.
    #[error("too large: {0}")]
    TooLarge(Bound),
    /// The key is empty, or written twice in one transaction.
    #[error("key {key:?} is {why}")]
    BadKey {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The history a watch asked for is no longer kept: list anew.
    #[error("history before revision {oldest} is gone")]
    Compacted {
        /// The lowest revision a watch can begin from now.
        oldest: Revision,
    },
    /// The store could not be reached or written. A transaction answered so may have been
    /// done all the same, whole; a later read tells, of an embedded store one after the
    /// next open.
    #[error("store unavailable")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// What is stored cannot be read.
    #[error("store corrupt: {0}")]
    Corrupt(String),
    /// The lease has ended or never was.
    #[error("no such lease")]
    NoSuchLease,
    /// The store has been closed.
    #[error("store closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A place that keeps entries. Calls must be made within a tokio runtime.
///
/// Dropping a call's future does not undo it: what was sent may still be done, whole.
pub trait Store: Send + Sync + 'static {
    /// The entry at `key`: the latest, or what was last known of a store that is elsewhere
    /// and does not answer.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Entry>, Error>>;

    /// A page of the entries whose keys begin with `prefix`; the empty one means all. As
    /// late as [`Store::get`].
    ///
    /// # Errors
    /// [`Error::Compacted`] when the page is asked for at a revision that is kept no more;
    /// only etcd keeps any but the latest.
    fn list(&self, prefix: &str, page: Page) -> BoxFuture<'_, Result<Listing, Error>>;

    /// All entries whose keys begin with `prefix`, as of one revision: for a backup, not for
    /// every day.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the store forgot that revision while it was read: read anew.
    fn whole(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        let prefix = prefix.to_owned();
        async move {
            let mut all = Vec::new();
            let mut page = Page::first();
            loop {
                let listing = self.list(&prefix, page).await?;
                all.extend(listing.entries);
                match all.last() {
                    Some(last) if listing.more => {
                        page = Page::after(last.key.clone()).at(listing.revision);
                    }
                    _ => return Ok(all),
                }
            }
        }
        .boxed()
    }

    /// Does all of the writes, if all of the preconditions hold; durable when it answers.
    ///
    /// Answers its revision. A transaction that changes nothing (no writes, or deletes of
    /// absent keys only) takes none and answers the store's.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>>;

    /// Writes all of the entries if none of their keys exists, or nothing; durable when it
    /// answers. At one revision, but in etcd, where readers see one part after the other
    /// and what was begun by a process that died goes within minutes. Not bound to a transaction's size but to [`MAX_IMPORT`]: for
    /// taking in what another store was, not for everyday writes.
    ///
    /// Answers as [`Store::txn`] does, the first key that exists as [`Precondition::Absent`].
    fn import(&self, entries: Vec<(String, Bytes)>) -> BoxFuture<'_, Result<Revision, Error>>;

    /// Follows the keys that begin with `prefix`, beginning with changes after `from`.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the changes after `from` are no longer kept. The history
    /// is short and may not outlive the process.
    fn watch(&self, prefix: &str, from: Revision) -> BoxFuture<'_, Result<Watch, Error>>;

    /// A new lease that ends after `ttl` unless kept alive. Ask [`Store::keep_alive`] for
    /// the time that was granted.
    fn lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>>;

    /// Starts the lease's time anew; answers how long it lasts, counted from when this
    /// call was made. Calls may overlap.
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>>;

    /// Ends the lease and deletes its keys, in one transaction.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>>;

    /// A revision of now or later, which every watch will reach without further changes.
    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>>;
}
