//! A snapshot of a store as a file. It holds secrets: nobody else can read it.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// A snapshot is no larger: what the API takes.
const MAX_FILE: u64 = 64 << 20;

/// Reads a snapshot; `-` is the standard input.
///
/// # Errors
/// What is wrong with the file.
pub fn read(path: &Path) -> anyhow::Result<Value> {
    let mut text = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut text),
        _ => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)),
    };
    let name = || path.display().to_string();
    let bytes = read.with_context(name)?;
    anyhow::ensure!(bytes as u64 <= MAX_FILE, "{}: larger than 64 MiB", name());
    serde_json::from_slice(&text).with_context(|| format!("{}: no JSON", name()))
}

/// Writes a snapshot, whole or not at all and with mode 0600; `-` is the standard output.
///
/// # Errors
/// Why it cannot be written.
pub fn write(path: &Path, snapshot: &Value) -> anyhow::Result<()> {
    let name = || path.display().to_string();
    let mut text = serde_json::to_vec_pretty(snapshot)?;
    text.push(b'\n');
    if path.to_str() == Some("-") {
        return std::io::stdout().write_all(&text).with_context(name);
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
    Ok(())
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
            write(&path, &snapshot).expect("writes");
            assert_eq!(read(&path).expect("reads"), snapshot);
        }
        let mode = std::fs::metadata(&path).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
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
