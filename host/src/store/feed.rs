//! Watches over the ledger's history.
//!
//! A feed is a cursor into the history and a wake-up; it owns no queue. It outlives the
//! store by what it has yet to tell, then says that the store is closed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::ledger::Ledger;
use super::{Batch, Error, Revision, WORD, Watch};

/// After so long without a change it says that there is none.
const QUIET: Duration = WORD.checked_div(2).expect("two is not zero");

/// What readers and watches share with the writer.
pub(super) struct Shared {
    pub(super) ledger: RwLock<Ledger>,
    /// Changes with every applied commit; its sender lives as long as the writer.
    pub(super) applied: watch::Receiver<Revision>,
}

struct Feed {
    shared: Arc<Shared>,
    applied: watch::Receiver<Revision>,
    prefix: String,
    cursor: Revision,
}

/// Begins a watch after `from`.
pub(super) fn watch(shared: Arc<Shared>, prefix: String, from: Revision) -> Result<Watch, Error> {
    shared.ledger.read().history.after(from, &prefix)?;
    let applied = shared.applied.clone();
    let feed = Feed {
        shared,
        applied,
        prefix,
        cursor: from,
    };
    let batches = stream::unfold(feed, |mut feed| async { Some((feed.next().await, feed)) });
    Ok(Watch::new(from, batches))
}

impl Feed {
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            // Before the look at the history, so that what comes after it wakes.
            self.applied.mark_unchanged();
            let found = self
                .shared
                .ledger
                .read()
                .history
                .after(self.cursor, &self.prefix)?;
            if let Some(batch) = found {
                self.cursor = batch.revision;
                return Ok(batch);
            }
            match tokio::time::timeout(QUIET, self.applied.changed()).await {
                Ok(changed) => changed.map_err(|_| Error::Closed)?,
                Err(_) => {
                    return Ok(Batch {
                        revision: self.cursor,
                        events: Vec::new(),
                    });
                }
            }
        }
    }
}
