//! The plugin directory: what lies there, told by metadata alone, and reading one file.
//!
//! Nothing in it is trusted: a pipe, a device or a directory named like a plugin is
//! never opened for reading, a link that leads nowhere is a reason like any other, and
//! every read and list is bounded.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Origin;
use super::admission::{Candidate, MAX_FILE, Rejected};
use super::watch::{Mark, Stamp};
use crate::id::RestreamType;

/// Plugins that one directory can hold: the first ones by name.
pub(super) const PLUGINS: usize = 1_000;
/// Names looked at, so that a huge directory costs no more than this.
const NAMES: usize = 10_000;
/// A signature is 64 bytes, or twice that in hex and a line's end.
const SIGNATURE: u64 = 1_024;

/// What lies in the directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files whose names are those of plugins.
    pub(super) files: BTreeMap<RestreamType, Stamp>,
    /// Files that end in `.wasm` and cannot be plugins, with the reason.
    pub(super) odd: Vec<(String, &'static str)>,
}

/// Looks at the directory. Opens nothing in it.
pub(super) fn list(dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut names: Vec<String> = fs::read_dir(dir)?
        .take(NAMES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".wasm"))
        .collect();
    names.sort_unstable();
    for name in names {
        let stem = name.strip_suffix(".wasm").unwrap_or_default();
        match stem.parse::<RestreamType>() {
            Err(_) => {
                let why = "its stem must be 1 to 32 of a-z 0-9 -";
                listing.odd.push((name, why));
            }
            Ok(_) if listing.files.len() == PLUGINS => {
                listing.odd.push((name, "there are 1000 plugins before it"));
            }
            // What vanished meanwhile is not there.
            Ok(kind) => listing
                .files
                .extend(stamp(dir, &kind).map(|stamp| (kind, stamp))),
        }
    }
    listing.odd.truncate(PLUGINS);
    Ok(listing)
}

/// Where a type's file is.
pub(super) fn path(dir: &Path, kind: &RestreamType) -> PathBuf {
    dir.join(format!("{kind}.wasm"))
}

fn signature_path(dir: &Path, kind: &RestreamType) -> PathBuf {
    dir.join(format!("{kind}.wasm.sig"))
}

/// How a type's file looks from outside; none when it is not there.
pub(super) fn stamp(dir: &Path, kind: &RestreamType) -> Option<Stamp> {
    let signature = fs::metadata(signature_path(dir, kind)).ok();
    let file = fs::metadata(path(dir, kind));
    let file = file.as_ref().map(mark).map_err(io::Error::kind);
    (file != Err(io::ErrorKind::NotFound)).then_some(Stamp {
        file,
        signature: signature.as_ref().map(mark),
    })
}

fn mark(found: &Metadata) -> Mark {
    Mark {
        size: found.len(),
        inode: found.ino(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    }
}

/// Reads a type's file and what lies beside it. Read whole, never mapped: a file that is
/// overwritten while it runs must not matter.
pub(super) fn read(dir: &Path, kind: &RestreamType) -> Result<Candidate, Rejected> {
    let signature = match read_file(&signature_path(dir, kind), SIGNATURE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    };
    let signature =
        signature.map_err(|error| Rejected::File(format!("{kind}.wasm.sig: {error}")))?;
    let path = path(dir, kind);
    let bytes = read_whole(&path).map_err(|error| Rejected::File(error.to_string()))?;
    Ok(Candidate {
        kind: kind.clone(),
        bytes,
        signature,
        origin: Origin::File(path),
    })
}

/// A plugin's file.
pub(super) fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    read_file(path, MAX_FILE)
}

fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Without that, a pipe nobody writes to would be opened for ever.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let size = found.len();
    if size > most {
        return Err(io::Error::other(format!(
            "{size} bytes; at most {most} are read"
        )));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it grew beyond {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn kind(name: &str) -> RestreamType {
        name.parse().expect("legal")
    }

    #[test]
    fn odd_things_are_listed_and_none_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("good.wasm"), b"bytes").expect("writable");
        fs::write(at("good.wasm.sig"), b"sig").expect("writable");
        fs::write(at("Bad_Name.wasm"), b"").expect("writable");
        fs::write(at("good.txt"), b"").expect("writable");
        fs::create_dir(at("folder.wasm")).expect("writable");
        symlink(at("loop.wasm"), at("loop.wasm")).expect("writable");
        symlink(at("nothing"), at("dangling.wasm")).expect("writable");
        symlink(at("good.wasm"), at("link.wasm")).expect("writable");
        symlink("/dev/zero", at("device.wasm")).expect("writable");
        let pipe = at("pipe.wasm");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("writable");
        let listing = list(dir.path()).expect("readable");
        let found: Vec<&str> = listing.files.keys().map(RestreamType::as_str).collect();
        assert_eq!(found, ["device", "folder", "good", "link", "loop", "pipe"]);
        assert_eq!(listing.odd.len(), 1, "{:?}", listing.odd);
        let why = |name: &str| read(dir.path(), &kind(name)).err().map(|e| e.to_string());
        for name in ["device", "folder", "pipe"] {
            let why = why(name).unwrap_or_default();
            assert!(why.contains("not a regular file"), "{name}: {why}");
        }
        assert!(why("loop").is_some());
        let read_good = read(dir.path(), &kind("link")).expect("a link to a file");
        assert_eq!(read_good.bytes, b"bytes");
        let read_good = read(dir.path(), &kind("good")).expect("a file");
        assert_eq!(read_good.signature.as_deref(), Some(&b"sig"[..]));
    }

    #[test]
    fn files_and_directories_are_read_up_to_a_bound() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let large = File::create(at("large.wasm")).expect("writable");
        large.set_len(MAX_FILE + 1).expect("sparse");
        let why = read(dir.path(), &kind("large"))
            .err()
            .map(|e| e.to_string());
        assert!(why.is_some_and(|why| why.contains("at most")));
        fs::write(at("a.wasm"), b"").expect("writable");
        fs::write(at("a.wasm.sig"), vec![b'0'; 4096]).expect("writable");
        let why = read(dir.path(), &kind("a")).err().map(|e| e.to_string());
        assert!(why.is_some_and(|why| why.contains("a.wasm.sig")));
        for n in 0..PLUGINS {
            File::create(at(&format!("n{n}.wasm"))).expect("writable");
        }
        let listing = list(dir.path()).expect("readable");
        assert_eq!((listing.files.len(), listing.odd.len()), (PLUGINS, 2));
    }

    #[test]
    fn a_stamp_tells_every_change_of_file_and_signature() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let kind = kind("a");
        assert_eq!(stamp(dir.path(), &kind), None);
        fs::write(at("a.wasm"), b"one").expect("writable");
        let first = stamp(dir.path(), &kind);
        assert_eq!(first, stamp(dir.path(), &kind));
        fs::write(at("a.wasm.sig"), b"one").expect("writable");
        let signed = stamp(dir.path(), &kind);
        assert_ne!(first, signed);
        fs::write(at("b"), b"two").expect("writable");
        fs::rename(at("b"), at("a.wasm")).expect("writable");
        assert_ne!(
            signed,
            stamp(dir.path(), &kind),
            "as large, and perhaps as old"
        );
    }
}
