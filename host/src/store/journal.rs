//! The redb file behind the embedded store: tables, opening, appending.
//!
//! Everything redb is here. Blocks; runs at open and in the writer's thread. Invariant:
//! the entries, the revision and the format are written in one redb transaction, so a
//! file always shows the state of one revision. redb can panic on a file it should not
//! have been given; here that is an error like any other.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use super::ledger::{Commit, Ledger, Record};
use super::writer::Journal;
use super::{Entry, Error, Event, LeaseId, Revision};

/// What this version writes and reads.
pub(super) const FORMAT: u64 = 1;

/// key → (revision of its last write, lease or 0, value)
const ENTRIES: TableDefinition<'static, &str, (u64, u64, &[u8])> = TableDefinition::new("entries");
/// `format`, `revision`, `opened`
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// redb's cache. Reads are served from the ledger, so it only needs to hold the pages
/// that writes pass through; redb's default is 1 GiB.
const CACHE: usize = 16 * 1024 * 1024;
/// Lease ids of one opening: its number in the upper bits, so no two share one.
const LEASE_BITS: u32 = 32;

pub(super) enum OpenError {
    Locked,
    Damaged(String),
    Format(u64),
    Io(io::Error),
}

pub(super) struct RedbJournal {
    db: Database,
    failed: Option<Error>,
}

pub(super) type Opened = Result<(RedbJournal, Ledger), OpenError>;

/// Opens a file, checks it and reads all of it. A `fresh` one gets its tables; in any
/// other they must be there, so that nothing is ever written to someone else's file.
pub(super) fn open(
    fresh: bool,
    open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
) -> Opened {
    caught(|| {
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true);
        let db = open(&builder)?;
        if fresh {
            create_tables(&db)?;
        }
        check_format(&db)?;
        let mut ledger = read(&db, count_opening(&db)?)?;
        if let Some(orphans) = ledger.plan_orphans() {
            write(&db, std::slice::from_ref(&orphans))?;
            ledger.apply(orphans);
        }
        Ok((RedbJournal { db, failed: None }, ledger))
    })
    .unwrap_or_else(|panic| Err(OpenError::Damaged(panic)))
}

impl Journal for RedbJournal {
    fn append(&mut self, commits: &[Commit]) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let done = caught(|| write(&self.db, commits).map_err(Error::from))
            .unwrap_or_else(|panic| Err(Error::Corrupt(panic)));
        if let Err(error) = &done {
            tracing::error!(error = ?error, "store takes no more writes until it is opened again");
            self.failed = Some(error.clone());
        }
        done
    }
}

fn create_tables(db: &Database) -> Result<(), redb::Error> {
    let txn = durable(db)?;
    txn.open_table(META)?.insert("format", FORMAT)?;
    txn.open_table(ENTRIES)?;
    Ok(txn.commit()?)
}

fn check_format(db: &Database) -> Result<(), OpenError> {
    match meta(db, "format")? {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(OpenError::Format(found)),
        None => Err(OpenError::Damaged("no format in it".to_owned())),
    }
}

/// Counts this opening; the answer is not used again, whatever happens after.
fn count_opening(db: &Database) -> Result<u64, redb::Error> {
    let opened = meta(db, "opened")?.unwrap_or(0) + 1;
    let txn = durable(db)?;
    txn.open_table(META)?.insert("opened", opened)?;
    txn.commit()?;
    Ok(opened)
}

fn meta(db: &Database, key: &str) -> Result<Option<u64>, redb::Error> {
    let table = db.begin_read()?.open_table(META)?;
    Ok(table.get(key)?.map(|value| value.value()))
}

fn read(db: &Database, opened: u64) -> Result<Ledger, redb::Error> {
    let txn = db.begin_read()?;
    let revision = meta(db, "revision")?.unwrap_or(0);
    let mut records = BTreeMap::new();
    for row in txn.open_table(ENTRIES)?.iter()? {
        let (key, value) = row?;
        let (revision, lease, value) = value.value();
        let lease = (lease != 0).then_some(LeaseId(lease));
        let value = Bytes::copy_from_slice(value);
        records.insert(
            key.value().to_owned(),
            Record {
                value,
                revision,
                lease,
            },
        );
    }
    Ok(Ledger::new(records, revision, (opened << LEASE_BITS) + 1))
}

fn write(db: &Database, commits: &[Commit]) -> Result<(), redb::Error> {
    let txn = durable(db)?;
    {
        let mut entries = txn.open_table(ENTRIES)?;
        for change in commits.iter().flat_map(|commit| &commit.changes) {
            match &change.event {
                Event::Put(Entry {
                    key,
                    value,
                    revision,
                }) => {
                    let lease = change.lease.map_or(0, LeaseId::raw);
                    entries.insert(key.as_str(), (*revision, lease, &value[..]))?;
                }
                Event::Delete { key, .. } => drop(entries.remove(key.as_str())?),
            }
        }
        let revision: Option<Revision> = commits.last().map(|commit| commit.revision);
        if let Some(revision) = revision {
            txn.open_table(META)?.insert("revision", revision)?;
        }
    }
    Ok(txn.commit()?)
}

fn durable(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    Ok(txn)
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("panic without a text").to_owned()
    })
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(cause) => Self::Corrupt(cause),
            error => Self::Unavailable(Arc::new(error)),
        }
    }
}

impl From<redb::Error> for OpenError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            redb::Error::Io(error) if !is_damage(&error) => Self::Io(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<DatabaseError> for OpenError {
    fn from(error: DatabaseError) -> Self {
        redb::Error::from(error).into()
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How redb says that a file is none of its own, or ends too early.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}
