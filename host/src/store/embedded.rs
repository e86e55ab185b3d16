//! The store of a host that runs alone: one redb file in its data directory.
//!
//! Everything stored is also held in memory, where reads are served; the file is
//! written before a transaction answers and read at open only. Unix file modes apply
//! to what it creates.
//! After a failed write it takes no more until it is opened again: what an operating
//! system does with data whose fsync failed is not knowable from here.

use std::fs::{self, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use super::engine::{Driven, Engine};
use super::journal::{self, Opened};

/// The file's name in the data directory.
const FILE: &str = "restreamd.redb";
/// Its name until it is whole; one left behind is from a process that did not get there.
const NEW_FILE: &str = "restreamd.redb.new";

/// A durable [`Store`](super::Store) in one file.
pub struct Embedded {
    engine: Engine,
}

impl Embedded {
    /// Opens the store in `dir`, which is created (mode 0700) if missing, as is its file
    /// (0600). Locks the file, checks it whole, and ends the leases of the process that
    /// had it before. Blocks while it does. While it creates the file it also holds a lock
    /// on `dir`.
    ///
    /// # Errors
    /// See [`OpenError`]; each names the file.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let io = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        create_dir(dir).map_err(io)?;
        if !path.try_exists().map_err(io)? {
            create(dir, &path)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io)?;
        Self::start(&path, journal::open(false, |builder| builder.open(&path)))
    }

    /// Whether a store was ever made in `dir`. Opens nothing.
    ///
    /// # Errors
    /// `dir` cannot be looked into.
    pub fn is_in(dir: &Path) -> io::Result<bool> {
        dir.join(FILE).try_exists()
    }

    /// Opens a store over another layer of storage; an empty one becomes a new store. A
    /// power cut while it does leaves one that does not open, unlike [`Embedded::open`].
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn with_backend(backend: impl StorageBackend) -> Result<Self, OpenError> {
        Self::start(Path::new("(backend)"), over(backend))
    }

    /// The same with a writer that runs where it is called, so that a run can be repeated.
    #[cfg(test)]
    pub(super) fn inline_with_backend(backend: impl StorageBackend) -> Result<Self, OpenError> {
        let (journal, ledger) = over(backend)
            .map_err(|error| OpenError::from_journal(Path::new("(backend)"), error))?;
        Ok(Self {
            engine: Engine::inline(ledger, Box::new(journal)),
        })
    }

    fn start(path: &Path, opened: Opened) -> Result<Self, OpenError> {
        let (journal, ledger) = opened.map_err(|error| OpenError::from_journal(path, error))?;
        let engine =
            Engine::threaded(ledger, Box::new(journal)).map_err(|source| OpenError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { engine })
    }
}

impl Driven for Embedded {
    fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Why an embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has it open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged or is no store; it was left as it is.
    #[error("{} is damaged or not a store: {cause}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// The file was written by a later version.
    #[error("{} has format {found}, this version reads {}", path.display(), journal::FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The directory or the file could not be created, read or written.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    fn from_journal(path: &Path, error: journal::OpenError) -> Self {
        let path = path.to_owned();
        match error {
            journal::OpenError::Locked => Self::Locked { path },
            journal::OpenError::Damaged(cause) => Self::Damaged { path, cause },
            journal::OpenError::Format(found) => Self::Format { path, found },
            journal::OpenError::Io(source) => Self::Io { path, source },
        }
    }
}

/// Creates the directory so that it is still there after a power cut.
fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    match dir.parent() {
        Some(parent) if parent != Path::new("") => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Creates the file under another name first: redb never opens again what a power cut
/// left of a file that it was creating.
fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let lock = fs::File::open(dir).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::Locked {
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    let new = dir.join(NEW_FILE);
    create_empty(&new).map_err(io)?;
    let opened = journal::open(true, |builder| builder.create(&new));
    drop(opened.map_err(|error| OpenError::from_journal(&new, error))?);
    if !path.try_exists().map_err(io)? {
        fs::rename(&new, path).map_err(io)?;
    }
    sync_dir(dir).map_err(io)
}

fn create_empty(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn over(backend: impl StorageBackend) -> Opened {
    let fresh = backend.len()? == 0;
    journal::open(fresh, |builder| builder.create_with_backend(backend))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
