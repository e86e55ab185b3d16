//! A snapshot of a store as a file. It holds secrets: nobody else can read it.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// A file that is read is no larger: what the API takes for a snapshot.
const MAX_FILE: u64 = 64 << 20;

/// Reads a snapshot; `-` is the standard input.
///
/// # Errors
/// What is wrong with the file.
pub fn read(path: &Path) -> anyhow::Result<Value> {
    read_within(path, MAX_FILE)
}

fn read_within(path: &Path, max: u64) -> anyhow::Result<Value> {
    let mut text = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(max + 1).read_to_end(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut text)),
    };
    let name = || path.display().to_string();
    let bytes = read.with_context(name)?;
    anyhow::ensure!(
        bytes as u64 <= max,
        "{}: larger than {} MiB",
        name(),
        max >> 20
    );
    serde_json::from_slice(&text).with_context(|| format!("{}: no JSON", name()))
}

/// What became of a snapshot that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// It can be taken in again.
    Whole,
    /// It is whole, but of more bytes than are read again; so many are.
    TooLarge(u64),
}

/// Writes a snapshot, whole or not at all and with mode 0600; `-` is the standard output.
/// As dense as it can be: what the API gave, the API takes again.
///
/// # Errors
/// Why it cannot be written.
pub fn write(path: &Path, snapshot: &Value) -> anyhow::Result<Written> {
    write_within(path, snapshot, MAX_FILE)
}

fn write_within(path: &Path, snapshot: &Value, max: u64) -> anyhow::Result<Written> {
    let name = || path.display().to_string();
    let text = serde_json::to_vec(snapshot)?;
    let written = match text.len() as u64 <= max {
        true => Written::Whole,
        false => Written::TooLarge(max),
    };
    if path.to_str() == Some("-") {
        std::io::stdout().write_all(&text).with_context(name)?;
        return Ok(written);
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(name)?;
    file.write_all(&text).with_context(name)?;
    file.as_file().sync_all().with_context(name)?;
    file.persist(path).with_context(name)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_snapshot_is_written_whole_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("backup.json");
        for n in 0..2 {
            let snapshot = json!({ "version": n });
            let written = write(&path, &snapshot).expect("writes");
            assert_eq!(written, Written::Whole);
            assert_eq!(read(&path).expect("reads"), snapshot);
        }
        let mode = std::fs::metadata(&path).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn what_the_api_gave_is_read_again_and_what_is_larger_is_told_when_it_is_written() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("backup.json");
        let snapshot = json!({ "entries": { "a": { "b": [1, 2, 3] } } });
        let bytes = snapshot.to_string().len() as u64;
        let written = write_within(&path, &snapshot, bytes).expect("writes");
        assert_eq!(written, Written::Whole);
        assert_eq!(read_within(&path, bytes).expect("reads"), snapshot);
        let written = write_within(&path, &snapshot, bytes - 1).expect("writes");
        assert_eq!(written, Written::TooLarge(bytes - 1));
        let refused = read_within(&path, bytes - 1).expect_err("too large");
        assert!(refused.to_string().contains("larger than"), "{refused}");
    }

    #[test]
    fn what_is_no_snapshot_is_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("backup.json");
        let missing = format!("{:#}", read(&path).expect_err("not there"));
        assert!(missing.contains("backup.json"), "{missing}");
        std::fs::write(&path, "{").expect("writes");
        let cut = format!("{:#}", read(&path).expect_err("cut"));
        assert!(cut.contains("no JSON"), "{cut}");
    }
}
