//! Every input the fuzz targets have kept, run through the same functions on
//! any toolchain: crash inputs of other implementations, openings of real peers,
//! and what fuzzing found worth keeping.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "modules of a crate of their own")]
#[allow(dead_code, reason = "the fuzz targets name the modules")]
mod fuzz;

/// What keeps the corpus reviewable and this test quick.
const MAX_FILES: usize = 200;
/// See [`MAX_FILES`]. Longer openings show nothing new.
const MAX_BYTES: usize = 8 * 1024;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// The files of a corpus in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpora().join(target);
    let entries = fs::read_dir(&folder).expect("a corpus folder for each target");
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a readable file");
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Runs a corpus; says which file it was when one panics.
fn run(target: &str) {
    let (_, entry) = fuzz::TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .expect("a target of this name");
    let files = corpus(target);
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    assert!(files.len() <= MAX_FILES, "minimise the corpus of {target}");
    for (path, bytes) in files {
        assert!(bytes.len() <= MAX_BYTES, "{} is too large", path.display());
        let done = std::panic::catch_unwind(|| entry(&bytes));
        assert!(done.is_ok(), "{} panics", path.display());
    }
    entry(&[]);
}

#[test]
fn amf0_holds_on_its_corpus() {
    run("amf0");
}

#[test]
fn chunk_reader_holds_on_its_corpus() {
    run("chunk_reader");
}

#[test]
fn client_session_holds_on_its_corpus() {
    run("client_session");
}

#[test]
fn flv_holds_on_its_corpus() {
    run("flv");
}

#[test]
fn server_session_holds_on_its_corpus() {
    run("server_session");
}

#[test]
fn url_holds_on_its_corpus() {
    run("url");
}

#[test]
fn every_corpus_has_its_target_and_every_target_is_built() {
    let folders = fs::read_dir(corpora()).expect("the corpora");
    let mut names: Vec<_> = folders
        .map(|e| e.expect("an entry").file_name().into_string())
        .map(|name| name.expect("a plain name"))
        .collect();
    names.sort();
    assert_eq!(names, fuzz::TARGETS.map(|(name, _)| name));
    for (name, _) in fuzz::TARGETS {
        let binary = corpora().join(format!("../fuzz_targets/{name}.rs"));
        let source = fs::read_to_string(binary).expect("a binary for each target");
        assert!(source.contains(&format!("{name}::run")));
    }
}
