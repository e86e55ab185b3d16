//! Transactions: preconditions, writes and the bounds they are held to.
//!
//! Knows nothing of what is stored; the bounds are the same on every back end.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;

use super::{Error, LeaseId, MAX_IMPORT, MAX_KEY, MAX_OPS, MAX_TXN, MAX_VALUE, Revision};

/// What must hold for a transaction to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The key does not exist.
    Absent(String),
    /// The key exists.
    Present(String),
    /// The key exists and was last written at this revision.
    RevisionIs(String, Revision),
}

impl Precondition {
    /// The key it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Present(key) | Self::RevisionIs(key, _) => key,
        }
    }

    /// Whether it holds for a key whose last write is `revision`, `None` being absent.
    pub fn holds(&self, revision: Option<Revision>) -> bool {
        match self {
            Self::Absent(_) => revision.is_none(),
            Self::Present(_) => revision.is_some(),
            Self::RevisionIs(_, wanted) => revision == Some(*wanted),
        }
    }
}

impl fmt::Display for Precondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(key) => write!(f, "{key} absent"),
            Self::Present(key) => write!(f, "{key} present"),
            Self::RevisionIs(key, revision) => write!(f, "{key} at revision {revision}"),
        }
    }
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the key's value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// The lease the key ends with; `None` also frees it from an earlier one.
        lease: Option<LeaseId>,
    },
    /// Deletes the key; nothing happens if it is absent.
    Delete {
        /// The key.
        key: String,
    },
}

impl Write {
    /// The key it writes.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn value_len(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::Delete { .. } => 0,
        }
    }
}

/// Writes that are done together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub preconditions: Vec<Precondition>,
    /// Done in order; no key twice.
    pub writes: Vec<Write>,
}

impl Txn {
    /// With no preconditions and no writes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if `key` is absent.
    #[must_use]
    pub fn absent(self, key: impl Into<String>) -> Self {
        self.when(Precondition::Absent(key.into()))
    }

    /// Only if `key` is present.
    #[must_use]
    pub fn present(self, key: impl Into<String>) -> Self {
        self.when(Precondition::Present(key.into()))
    }

    /// Only if `key` was last written at `revision`.
    #[must_use]
    pub fn revision_is(self, key: impl Into<String>, revision: Revision) -> Self {
        self.when(Precondition::RevisionIs(key.into(), revision))
    }

    /// Only if the precondition holds.
    #[must_use]
    pub fn when(mut self, precondition: Precondition) -> Self {
        self.preconditions.push(precondition);
        self
    }

    /// Puts a value that stays.
    #[must_use]
    pub fn put(self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.write(Write::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        })
    }

    /// Puts a value that ends with the lease.
    #[must_use]
    pub fn put_leased(
        self,
        key: impl Into<String>,
        value: impl Into<Bytes>,
        lease: LeaseId,
    ) -> Self {
        self.write(Write::Put {
            key: key.into(),
            value: value.into(),
            lease: Some(lease),
        })
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(self, key: impl Into<String>) -> Self {
        self.write(Write::Delete { key: key.into() })
    }

    /// Adds a write.
    #[must_use]
    pub fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Checks the bounds that hold on every back end.
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::BadKey`].
    pub fn check(&self) -> Result<(), Error> {
        let ops = self.preconditions.len().max(self.writes.len());
        within(ops, MAX_OPS, Bound::Ops)?;
        let mut bytes = 0;
        for key in self.keys() {
            check_key(key)?;
            bytes += key.len();
        }
        let mut written = HashSet::new();
        for write in &self.writes {
            within(write.value_len(), MAX_VALUE, Bound::Value)?;
            bytes += write.value_len();
            if !written.insert(write.key()) {
                return Err(bad_key(write.key(), "written twice in one transaction"));
            }
        }
        within(bytes, MAX_TXN, Bound::Txn)
    }

    /// Every key it reads or writes.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let read = self.preconditions.iter().map(Precondition::key);
        read.chain(self.writes.iter().map(Write::key))
    }
}

/// A transaction that puts entries where nothing is, held to the bounds of an import.
pub(super) fn of_import(entries: Vec<(String, Bytes)>) -> Result<Txn, Error> {
    let mut bytes = 0;
    let mut txn = Txn::new();
    let mut written = HashSet::new();
    for (key, value) in entries {
        check_key(&key)?;
        within(value.len(), MAX_VALUE, Bound::Value)?;
        bytes += key.len() + value.len();
        if !written.insert(key.clone()) {
            return Err(bad_key(&key, "written twice in one import"));
        }
        txn = txn.absent(key.clone()).put(key, value);
    }
    within(bytes, MAX_IMPORT, Bound::Import)?;
    Ok(txn)
}

/// The bound that a request is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bound {
    /// Preconditions or writes in a transaction.
    #[error("{0} operations, at most {MAX_OPS}")]
    Ops(usize),
    /// Bytes of a key.
    #[error("key of {0} bytes, at most {MAX_KEY}")]
    Key(usize),
    /// Bytes of a value.
    #[error("value of {0} bytes, at most {MAX_VALUE}")]
    Value(usize),
    /// Bytes of an import.
    #[error("import of {0} bytes, at most {MAX_IMPORT}")]
    Import(usize),
    /// Bytes of a transaction.
    #[error("transaction of {0} bytes, at most {MAX_TXN}")]
    Txn(usize),
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        return Err(bad_key(key, "empty"));
    }
    within(key.len(), MAX_KEY, Bound::Key)
}

fn bad_key(key: &str, why: &'static str) -> Error {
    Error::BadKey {
        key: key.to_owned(),
        why,
    }
}

fn within(size: usize, limit: usize, bound: fn(usize) -> Bound) -> Result<(), Error> {
    if size > limit {
        Err(Error::TooLarge(bound(size)))
    } else {
        Ok(())
    }
}
