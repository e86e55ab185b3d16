//! Compiled code on disk, by the digest of what it was compiled from.
//!
//! Code that is read back is run without another look, so this folder is the node's
//! own (mode 0700) and every file begins with the digest of its rest: what was damaged
//! is compiled again. Nothing is mapped, since a mapped file that changes takes the
//! process with it. Bounded in files and bytes; the longest unused go first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tracing::{debug, warn};

/// All files together: a dozen Python guests, whose code has 35 MB.
const BYTES: u64 = 512 << 20;
/// And so many of them.
const FILES: usize = 256;
/// One file: the code of the largest plugin that is read.
const FILE: u64 = 256 << 20;
/// Bytes of the digest in front.
const DIGEST: usize = 32;
/// Names of finished files end so.
const SUFFIX: &str = "code";

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    bytes: u64,
    files: usize,
}

impl Cache {
    /// Makes the folder, or takes the one there is when nobody else can write in it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let found = fs::symlink_metadata(dir)?;
        if !found.is_dir() || found.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::other(
                "is not a folder that this user alone can write in",
            ));
        }
        // Only its owner can do that.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        let cache = Self {
            dir: dir.to_owned(),
            bytes: BYTES,
            files: FILES,
        };
        cache.sweep();
        Ok(cache)
    }

    /// The name of what is made from these bytes by such a compiler.
    pub(super) fn key(bytes: &[u8], compiler: u64) -> String {
        let mut digest = Sha256::new();
        digest.update(compiler.to_le_bytes());
        digest.update(bytes);
        let digest = digest.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The code of this name, if it is there and whole.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.read(&self.path(key)) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(key, %error, "compiled code is damaged and will be made again");
                None
            }
        }
    }

    /// Whether there seems to be code of this name.
    pub(super) fn has(&self, key: &str) -> bool {
        fs::symlink_metadata(self.path(key)).is_ok_and(|found| found.is_file())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(path)?;
        let mut front = [0; DIGEST];
        let mut whole = (&file).take(FILE + 1);
        whole.read_exact(&mut front)?;
        let mut code = Vec::new();
        whole.read_to_end(&mut code)?;
        if whole.limit() == 0 || Sha256::digest(&code)[..] != front {
            return Err(io::Error::other("its digest is another"));
        }
        // When it was used last; eviction goes by it.
        let _ = file.set_modified(SystemTime::now());
        Ok(code)
    }

    /// Keeps code. A cache that cannot be written costs time and nothing else.
    pub(super) fn put(&self, key: &str, code: &[u8]) {
        if code.len() as u64 + DIGEST as u64 > FILE {
            return;
        }
        if let Err(error) = self.write(key, code) {
            debug!(key, %error, "compiled code is not kept");
        }
        self.sweep();
    }

    fn write(&self, key: &str, code: &[u8]) -> io::Result<()> {
        let new = self.dir.join(format!("{key}.new"));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let written = file
            .write_all(&Sha256::digest(code))
            .and_then(|()| file.write_all(code))
            .and_then(|()| fs::rename(&new, self.path(key)));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Removes what a former process began, and what is too much.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        let mut kept = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.metadata() {
                Ok(found) if path.extension().is_some_and(|kind| kind == SUFFIX) => {
                    kept.push((found.modified().ok(), found.len(), path));
                }
                _ => drop(fs::remove_file(path)),
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, size, _)| size).sum();
        let mut files = kept.len();
        for (_, size, path) in kept {
            if bytes <= self.bytes && files <= self.files {
                break;
            }
            let _ = fs::remove_file(path);
            (bytes, files) = (bytes - size, files - 1);
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.{SUFFIX}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(&dir.path().join("a/code")).expect("made");
        (dir, cache)
    }

    #[test]
    fn what_was_kept_comes_back_and_what_was_damaged_does_not() {
        let (_dir, cache) = cache();
        let key = Cache::key(b"wasm", 1);
        assert_ne!(key, Cache::key(b"wasm", 2), "another compiler");
        assert_eq!(cache.get(&key), None);
        cache.put(&key, b"code");
        assert_eq!(cache.get(&key).as_deref(), Some(&b"code"[..]));
        let path = cache.path(&key);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let whole = fs::read(&path).expect("readable");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).expect("writable");
            assert_eq!(cache.get(&key), None, "byte {at}");
            fs::write(&path, &whole[..at]).expect("writable");
            assert_eq!(cache.get(&key), None, "cut at {at}");
        }
        cache.put(&key, b"code");
        assert!(cache.get(&key).is_some());
    }

    #[test]
    fn the_longest_unused_make_room() {
        let (_dir, cache) = cache();
        let small = Cache {
            files: 3,
            bytes: 1_000,
            ..cache
        };
        let keys: Vec<String> = (0..5).map(|n| Cache::key(b"", n)).collect();
        for (age, key) in keys.iter().enumerate().take(4) {
            small.put(key, b"code");
            let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            let file = File::options().write(true).open(small.path(key));
            file.and_then(|file| file.set_modified(used))
                .expect("there");
        }
        assert!(!small.has(&keys[0]) && small.has(&keys[1]));
        // Used, so the next one goes.
        assert!(small.get(&keys[1]).is_some());
        small.put(&keys[4], b"code");
        let left: Vec<bool> = keys.iter().map(|key| small.has(key)).collect();
        assert_eq!(left, [false, true, false, true, true]);
        small.put(&keys[0], &[0; 950]);
        let left = keys.iter().filter(|key| small.has(key)).count();
        assert_eq!(left, 1, "bytes are bounded too");
    }

    #[test]
    fn a_folder_that_others_can_write_in_is_not_used() {
        let dir = tempfile::tempdir().expect("a folder");
        let mode = |mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("ours");
        };
        mode(0o777);
        assert!(Cache::open(dir.path()).is_err());
        mode(0o700);
        fs::write(dir.path().join("x.new"), b"begun").expect("writable");
        Cache::open(dir.path()).expect("ours alone");
        assert!(!dir.path().join("x.new").exists(), "swept");
    }
}
