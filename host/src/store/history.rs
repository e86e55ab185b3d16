//! The last changes, kept for watches.
//!
//! Bounded in transactions and in bytes; it is the only queue that watches have, so a
//! slow one costs nothing. Invariant: revisions in it have no gap, and the first is one
//! after `oldest`.

use std::collections::VecDeque;

use super::ledger::Commit;
use super::{Batch, Error, Event, Revision};

/// Transactions kept: more than any watch that lives lags, as they are all of this process.
pub(super) const MAX_COMMITS: usize = 512;
/// Bytes kept. Current values are shared with the ledger, so this bounds what rewriting
/// large values can hold on to; room for a few dozen of the largest transactions.
pub(super) const MAX_BYTES: usize = 32 * 1024 * 1024;
/// What an event costs beside its key and value, about.
const EVENT_BYTES: usize = 128;

pub(super) struct History {
    oldest: Revision,
    commits: VecDeque<Commit>,
    bytes: usize,
}

impl History {
    /// Empty; a watch can begin from `oldest` on.
    pub(super) fn new(oldest: Revision) -> Self {
        Self {
            oldest,
            commits: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, commit: Commit) {
        self.bytes += cost(&commit);
        self.commits.push_back(commit);
        while self.commits.len() > MAX_COMMITS || self.bytes > MAX_BYTES {
            let Some(forgotten) = self.commits.pop_front() else {
                break;
            };
            self.bytes -= cost(&forgotten);
            self.oldest = forgotten.revision;
        }
    }

    /// The next batch after a revision, if anything happened since.
    ///
    /// # Errors
    /// [`Error::Compacted`] when what happened since is no longer known.
    pub(super) fn after(&self, from: Revision, prefix: &str) -> Result<Option<Batch>, Error> {
        let Some(skip) = from.checked_sub(self.oldest) else {
            return Err(Error::Compacted {
                oldest: self.oldest,
            });
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut progress = None;
        for commit in self.commits.iter().skip(skip) {
            let events = matching(commit, prefix);
            if !events.is_empty() {
                return Ok(Some(Batch {
                    revision: commit.revision,
                    events,
                }));
            }
            progress = Some(Batch {
                revision: commit.revision,
                events,
            });
        }
        Ok(progress)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.commits.len(), self.bytes)
    }
}

fn matching(commit: &Commit, prefix: &str) -> Vec<Event> {
    let events = commit.changes.iter().map(|change| &change.event);
    events
        .filter(|event| event.key().starts_with(prefix))
        .cloned()
        .collect()
}

fn cost(commit: &Commit) -> usize {
    let event = |event: &Event| match event {
        Event::Put(entry) => entry.key.len() + entry.value.len(),
        Event::Delete { key, .. } => key.len(),
    };
    commit
        .changes
        .iter()
        .map(|change| EVENT_BYTES + event(&change.event))
        .sum()
}
