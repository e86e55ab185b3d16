//! A store whose clock is an argument, for simulations: the ledger of the real ones, and
//! nothing between it and who asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::{Batch, Entry, Error, LeaseId, Page, Revision, Txn};

/// See the module. Times are since its birth.
pub(crate) struct Virtual {
    ledger: Ledger,
    born: Instant,
}

impl Virtual {
    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::new(BTreeMap::new(), 0, 1),
            born: Instant::now(),
        }
    }

    fn at(&mut self, now: Duration) -> Instant {
        let now = self.born + now;
        if let Some(commit) = self.ledger.plan_due(now) {
            self.ledger.apply(commit);
        }
        now
    }

    pub(crate) fn revision(&mut self, now: Duration) -> Revision {
        self.at(now);
        self.ledger.revision()
    }

    pub(crate) fn get(&mut self, key: &str, now: Duration) -> Option<Entry> {
        self.at(now);
        self.ledger.get(key)
    }

    pub(crate) fn all(&mut self, now: Duration) -> Vec<Entry> {
        self.at(now);
        let (mut all, mut page) = (Vec::new(), Page::first());
        loop {
            let listing = self.ledger.list("", &page);
            all.extend(listing.entries);
            match all.last() {
                Some(last) if listing.more => page = Page::after(last.key.clone()),
                _ => return all,
            }
        }
    }

    pub(crate) fn txn(&mut self, txn: &Txn, now: Duration) -> Result<Revision, Error> {
        let at = self.at(now);
        if let Some(commit) = self.ledger.plan(txn, at, 0)? {
            self.ledger.apply(commit);
        }
        Ok(self.ledger.revision())
    }

    pub(crate) fn lease(&mut self, ttl: Duration, now: Duration) -> LeaseId {
        let at = self.at(now);
        self.ledger.leases.grant(ttl, at)
    }

    pub(crate) fn keep_alive(&mut self, lease: LeaseId, now: Duration) -> Result<Duration, Error> {
        let at = self.at(now);
        self.ledger.leases.keep_alive(lease, at)
    }

    pub(crate) fn revoke(&mut self, lease: LeaseId, now: Duration) -> Result<(), Error> {
        self.at(now);
        if let Some(commit) = self.ledger.plan_revoke(lease)? {
            self.ledger.apply(commit);
        }
        Ok(())
    }

    pub(crate) fn after(&mut self, from: Revision, now: Duration) -> Result<Option<Batch>, Error> {
        self.at(now);
        self.ledger.history.after(from, "")
    }
}
