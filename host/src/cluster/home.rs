//! What a node of a cluster keeps in its data directory: which membership was its last.
//!
//! A process that finds it, and has the directory's lock, knows that the process which
//! wrote it is no more: it ends that one's lease and begins at once. Invariant: one
//! process at a time has the directory.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lease::Former;
use super::record::InstanceId;
use crate::id::{NodeGroup, NodeId};
use crate::store::LeaseId;

/// Who has it locked has the directory.
const LOCK: &str = "node.lock";
/// The last membership.
const FILE: &str = "node.json";

/// Why a data directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process has it.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be created or opened.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A data directory that this process has.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    /// Unlocked when it is closed.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    group: NodeGroup,
    node: NodeId,
    lease: LeaseId,
    instance: InstanceId,
}

impl Home {
    /// Takes a directory, which is created (mode 0700) when it is missing.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let path = dir.join(LOCK);
        let failed = |source| HomeError::Io {
            path: path.clone(),
            source,
        };
        if !dir.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(dir).map_err(failed)?;
        }
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(HomeError::Locked {
                path: dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The membership that a former process of this node wrote down. What cannot be read,
    /// or is another node's, is none.
    pub(super) fn former(&self, group: &NodeGroup, node: &NodeId) -> Option<Former> {
        let text = fs::read(self.dir.join(FILE)).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        (kept.group == *group && kept.node == *node).then_some(Former {
            lease: kept.lease,
            instance: kept.instance,
        })
    }

    /// Writes a membership down, whole or not at all. A power cut may undo it: it takes
    /// longer than a lease.
    pub(super) fn keep(&self, group: &NodeGroup, node: &NodeId, former: &Former) -> io::Result<()> {
        let kept = Kept {
            group: group.clone(),
            node: node.clone(),
            lease: former.lease,
            instance: former.instance.clone(),
        };
        let new = self.dir.join(format!("{FILE}.new"));
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        drop(file);
        fs::rename(new, self.dir.join(FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_process_and_tells_the_next_one_of_its_membership() {
        let dir = tempfile::tempdir().expect("a folder");
        let (group, node) = ("g".parse().expect("legal"), "n1".parse().expect("legal"));
        let other: NodeId = "n2".parse().expect("legal");
        let home = Home::open(&dir.path().join("data")).expect("free");
        assert_eq!(home.former(&group, &node), None);
        let former = Former {
            lease: LeaseId::from_raw(7),
            instance: InstanceId::from_bits(70),
        };
        home.keep(&group, &node, &former).expect("writable");
        let second = Home::open(&dir.path().join("data"));
        assert!(
            matches!(second, Err(HomeError::Locked { .. })),
            "{second:?}"
        );
        drop(home);
        let home = Home::open(&dir.path().join("data")).expect("free again");
        assert_eq!(home.former(&group, &node), Some(former));
        assert_eq!(home.former(&group, &other), None, "another node's");
        fs::write(dir.path().join("data").join(FILE), "{").expect("writable");
        assert_eq!(home.former(&group, &node), None, "damaged");
    }
}
