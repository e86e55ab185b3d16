//! Leases: how long each lasts and which keys end with it.
//!
//! Time is an argument. Knows no values and writes nothing: it says which leases are
//! due, and the ledger ends them. Invariant: a lease that was once found ended never
//! takes a key or a renewal again, even if the deletes of its keys have yet to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{Error, LeaseId, MAX_TTL};

struct Lease {
    ttl: Duration,
    deadline: Instant,
    ended: bool,
    keys: BTreeSet<String>,
}

impl Lease {
    fn due(&self, now: Instant) -> bool {
        self.ended || self.deadline <= now
    }
}

pub(super) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    next: u64,
}

impl Leases {
    /// Grants ids from `first` on.
    pub(super) fn new(first: u64) -> Self {
        Self {
            leases: BTreeMap::new(),
            next: first,
        }
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        let id = LeaseId(self.next);
        self.next += 1;
        let ttl = ttl.min(MAX_TTL);
        let lease = Lease {
            ttl,
            deadline: now + ttl,
            ended: false,
            keys: BTreeSet::new(),
        };
        self.leases.insert(id, lease);
        id
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<Duration, Error> {
        let lease = self.leases.get_mut(&id).ok_or(Error::NoSuchLease)?;
        if lease.due(now) {
            lease.ended = true;
            return Err(Error::NoSuchLease);
        }
        lease.deadline = lease.deadline.max(now + lease.ttl);
        Ok(lease.ttl)
    }

    /// Whether the lease can take a key.
    pub(super) fn lives(&self, id: LeaseId, now: Instant) -> bool {
        self.leases.get(&id).is_some_and(|lease| !lease.due(now))
    }

    pub(super) fn any_due(&self, now: Instant) -> bool {
        self.leases.values().any(|lease| lease.due(now))
    }

    /// Marks the leases that are due as ended and names them.
    pub(super) fn end_due(&mut self, now: Instant) -> Vec<LeaseId> {
        let due = self.leases.iter_mut().filter(|(_, lease)| lease.due(now));
        due.map(|(id, lease)| {
            lease.ended = true;
            *id
        })
        .collect()
    }

    /// Marks one lease as ended.
    pub(super) fn end(&mut self, id: LeaseId) -> Result<(), Error> {
        let lease = self.leases.get_mut(&id).ok_or(Error::NoSuchLease)?;
        lease.ended = true;
        Ok(())
    }

    pub(super) fn keys(&self, id: LeaseId) -> impl Iterator<Item = &String> {
        self.leases
            .get(&id)
            .into_iter()
            .flat_map(|lease| &lease.keys)
    }

    pub(super) fn attach(&mut self, id: LeaseId, key: &str) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.to_owned());
        }
    }

    pub(super) fn detach(&mut self, id: LeaseId, key: &str) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    pub(super) fn forget(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }
}
