//! What is stored now, as a pure state machine: no I/O, no clock, no waiting.
//!
//! A change is planned, made durable by the caller, then applied. Invariant: only one
//! caller plans and applies at a time (the writer), so what was planned still fits when
//! it is applied. Readers see applied changes only.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Instant;

use bytes::Bytes;

use super::history::History;
use super::leases::Leases;
use super::{
    Entry, Error, Event, LeaseId, Listing, MAX_PAGE, Page, Precondition, Revision, Txn, Write,
};

/// What is kept for a key.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) value: Bytes,
    pub(super) revision: Revision,
    pub(super) lease: Option<LeaseId>,
}

/// One key's change, with the lease a put is under.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) event: Event,
    pub(super) lease: Option<LeaseId>,
}

/// A planned change of one revision.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Change>,
    /// Leases that are over with it.
    ended: Vec<LeaseId>,
}

pub(super) struct Ledger {
    records: BTreeMap<String, Record>,
    revision: Revision,
    pub(super) history: History,
    pub(super) leases: Leases,
}

impl Ledger {
    /// As it was left at `revision`; leases get ids from `first_lease` on.
    pub(super) fn new(
        records: BTreeMap<String, Record>,
        revision: Revision,
        first_lease: u64,
    ) -> Self {
        let history = History::new(revision);
        Self {
            records,
            revision,
            history,
            leases: Leases::new(first_lease),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.records.get_key_value(key).map(entry)
    }

    pub(super) fn list(&self, prefix: &str, page: &Page) -> Listing {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let start = match page.after.as_deref() {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self.from(start, prefix);
        let entries = found.by_ref().take(limit).map(entry).collect();
        Listing {
            entries,
            revision: self.revision,
            more: found.next().is_some(),
        }
    }

    /// All with a prefix. Values are shared with what is kept.
    pub(super) fn whole(&self, prefix: &str) -> Vec<Entry> {
        self.from(Bound::Included(prefix), prefix)
            .map(entry)
            .collect()
    }

    fn from<'a>(
        &'a self,
        start: Bound<&str>,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Record)> {
        let range = self.records.range::<str, _>((start, Bound::Unbounded));
        range.take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Plans a transaction that comes after `ahead` others which are planned but not yet
    /// applied and write none of its keys. `None` when it changes nothing.
    pub(super) fn plan(
        &self,
        txn: &Txn,
        now: Instant,
        ahead: u64,
    ) -> Result<Option<Commit>, Error> {
        txn.check()?;
        self.plan_checked(txn, now, ahead)
    }

    /// The same for one whose bounds were checked before.
    pub(super) fn plan_checked(
        &self,
        txn: &Txn,
        now: Instant,
        ahead: u64,
    ) -> Result<Option<Commit>, Error> {
        if let Some(failed) = txn.preconditions.iter().find(|p| !self.holds(p)) {
            return Err(Error::Failed {
                precondition: failed.clone(),
            });
        }
        let revision = self.revision + ahead + 1;
        let mut changes = Vec::with_capacity(txn.writes.len());
        for write in &txn.writes {
            changes.extend(self.change(write, revision, now)?);
        }
        Ok((!changes.is_empty()).then_some(Commit {
            revision,
            changes,
            ended: Vec::new(),
        }))
    }

    /// Ends the leases that are due. A commit is due when keys go with them.
    pub(super) fn plan_due(&mut self, now: Instant) -> Option<Commit> {
        let ended = self.leases.end_due(now);
        self.plan_end(ended)
    }

    /// Ends one lease.
    pub(super) fn plan_revoke(&mut self, lease: LeaseId) -> Result<Option<Commit>, Error> {
        self.leases.end(lease)?;
        Ok(self.plan_end(vec![lease]))
    }

    /// Ends what a former process left under leases.
    pub(super) fn plan_orphans(&self) -> Option<Commit> {
        let leased = self
            .records
            .iter()
            .filter(|(_, record)| record.lease.is_some());
        self.deletes(leased.map(|(key, _)| key.clone()).collect(), Vec::new())
    }

    /// Takes over a commit that was planned on this state and is durable.
    pub(super) fn apply(&mut self, commit: Commit) {
        debug_assert_eq!(commit.revision, self.revision + 1, "revisions have no gap");
        self.revision = commit.revision;
        for change in &commit.changes {
            self.take(change);
        }
        for lease in &commit.ended {
            self.leases.forget(*lease);
        }
        self.history.push(commit);
    }

    fn holds(&self, precondition: &Precondition) -> bool {
        let record = self.records.get(precondition.key());
        precondition.holds(record.map(|record| record.revision))
    }

    fn change(
        &self,
        write: &Write,
        revision: Revision,
        now: Instant,
    ) -> Result<Option<Change>, Error> {
        match write {
            Write::Put {
                lease: Some(id), ..
            } if !self.leases.lives(*id, now) => Err(Error::NoSuchLease),
            Write::Put { key, value, lease } => {
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision,
                };
                Ok(Some(Change {
                    event: Event::Put(entry),
                    lease: *lease,
                }))
            }
            Write::Delete { key } => {
                let known = self.records.contains_key(key);
                Ok(known.then(|| delete(key.clone(), revision)))
            }
        }
    }

    fn plan_end(&mut self, ended: Vec<LeaseId>) -> Option<Commit> {
        let (held, empty): (Vec<_>, Vec<_>) = ended
            .into_iter()
            .partition(|id| self.leases.keys(*id).next().is_some());
        for lease in empty {
            self.leases.forget(lease);
        }
        let keys = held
            .iter()
            .flat_map(|id| self.leases.keys(*id))
            .cloned()
            .collect();
        self.deletes(keys, held)
    }

    fn deletes(&self, keys: Vec<String>, ended: Vec<LeaseId>) -> Option<Commit> {
        let revision = self.revision + 1;
        let changes: Vec<_> = keys.into_iter().map(|key| delete(key, revision)).collect();
        (!changes.is_empty()).then_some(Commit {
            revision,
            changes,
            ended,
        })
    }

    fn take(&mut self, change: &Change) {
        let old = match &change.event {
            Event::Put(Entry {
                key,
                value,
                revision,
            }) => {
                let record = Record {
                    value: value.clone(),
                    revision: *revision,
                    lease: change.lease,
                };
                self.records.insert(key.clone(), record)
            }
            Event::Delete { key, .. } => self.records.remove(key),
        };
        let key = change.event.key();
        if let Some(lease) = old.and_then(|record| record.lease) {
            self.leases.detach(lease, key);
        }
        if let Some(lease) = change.lease {
            self.leases.attach(lease, key);
        }
    }
}

fn delete(key: String, revision: Revision) -> Change {
    Change {
        event: Event::Delete { key, revision },
        lease: None,
    }
}

fn entry((key, record): (&String, &Record)) -> Entry {
    Entry {
        key: key.clone(),
        value: record.value.clone(),
        revision: record.revision,
    }
}
