//! What is particular to one back end or one part: opening files, bounds of memory, the
//! ledger's time. Behaviour that all back ends share is in `conformance`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::history::{MAX_BYTES, MAX_COMMITS};
use super::ledger::Ledger;
use super::{Embedded, Error, Event, MAX_TTL, Memory, OpenError, Page, Store, Txn};

const FILE: &str = "restreamd.redb";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn keys(store: &dyn Store) -> Vec<String> {
    let listing = store.list("", Page::first()).await.unwrap();
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

#[tokio::test]
async fn data_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    store
        .txn(Txn::new().put("a", "1").put("b", "2"))
        .await
        .unwrap();
    store.txn(Txn::new().delete("b")).await.unwrap();
    let before = store.get("a").await.unwrap();
    drop(store);
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(store.get("a").await.unwrap(), before);
    assert_eq!(keys(&store).await, ["a"]);
    assert_eq!(
        store
            .txn(Txn::new().revision_is("a", 1).put("a", "3"))
            .await
            .unwrap(),
        3
    );
    assert!(matches!(
        store.watch("", 1).await,
        Err(Error::Compacted { oldest: 2 })
    ));
}

#[tokio::test]
async fn leases_end_with_their_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    let lease = store.lease(MAX_TTL).await.unwrap();
    store
        .txn(Txn::new().put_leased("a", "", lease).put("b", ""))
        .await
        .unwrap();
    drop(store);
    let store = Embedded::open(dir.path()).unwrap();
    assert_eq!(
        (keys(&store).await, store.revision().await.unwrap()),
        (vec!["b".to_owned()], 2)
    );
    assert!(matches!(store.revoke(lease).await, Err(Error::NoSuchLease)));
    assert_ne!(store.lease(MAX_TTL).await.unwrap(), lease);
    let mut watch = store.watch("", 1).await.unwrap();
    let gone = Event::Delete {
        key: "a".to_owned(),
        revision: 2,
    };
    assert_eq!(watch.next().await.unwrap().events, [gone]);
}

#[test]
fn what_it_creates_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    drop(Embedded::open(&data).unwrap());
    assert_eq!((mode(&data), mode(&data.join(FILE))), (0o700, 0o600));
    fs::set_permissions(data.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
    drop(Embedded::open(&data).unwrap());
    assert_eq!(mode(&data.join(FILE)), 0o600);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[test]
fn second_opener_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Embedded::open(dir.path()).unwrap();
    let error = Embedded::open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(
        error
            .to_string()
            .contains(&dir.path().join(FILE).display().to_string())
    );
}

#[test]
fn creation_that_was_cut_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("restreamd.redb.new"), [0; 5000]).unwrap();
    drop(Embedded::open(dir.path()).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn foreign_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    for content in [
        &b""[..],
        b"x",
        b"redb\x1a\x0a\xa9\x0d\x0a",
        &[0; 100_000],
        &[0x5a; 100_000],
    ] {
        fs::write(&path, content).unwrap();
        let error = Embedded::open(dir.path()).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(FILE), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn database_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(redb::Database::create(dir.path().join(FILE)).unwrap());
    assert!(matches!(
        Embedded::open(dir.path()),
        Err(OpenError::Damaged { .. })
    ));
}

#[test]
fn later_format_is_named() {
    const META: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::open(dir.path()).unwrap());
    let db = redb::Database::open(dir.path().join(FILE)).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("format", 2).unwrap();
    txn.commit().unwrap();
    drop(db);
    assert!(matches!(
        Embedded::open(dir.path()),
        Err(OpenError::Format { found: 2, .. })
    ));
}

#[test]
fn unusable_directory_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Embedded::open(&file.join("data")).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}

/// A store of a few pages, as bytes.
fn image() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    for n in 0..40 {
        let txn = Txn::new().put(format!("{n}"), vec![n; 300]);
        runtime.block_on(store.txn(txn)).unwrap();
    }
    drop(store);
    fs::read(dir.path().join(FILE)).unwrap()
}

#[test]
fn damaged_file_never_panics() {
    let image = image();
    let dir = tempfile::tempdir().unwrap();
    let spans = (0..image.len(), 1..600_usize, any::<u8>());
    let damage = (
        proptest::collection::vec(spans, 1..4),
        0..=image.len(),
        any::<bool>(),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let result = runner.run(&damage, |(spans, end, cut)| {
        let mut damaged = image.clone();
        for (at, len, byte) in spans {
            let end = damaged.len().min(at + len);
            damaged[at..end].fill(byte);
        }
        damaged.truncate(if cut { end } else { image.len() });
        fs::write(dir.path().join(FILE), &damaged).unwrap();
        // Damage may hit pages that hold nothing; what matters is that it answers.
        if let Err(error) = Embedded::open(dir.path()) {
            prop_assert!(
                matches!(error, OpenError::Damaged { .. } | OpenError::Format { .. }),
                "{error:?}"
            );
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn damaged_value_is_found_at_open() {
    let mut image = image();
    let dir = tempfile::tempdir().unwrap();
    // Every copy of it: redb may keep older ones.
    let found: Vec<_> = (0..image.len())
        .filter(|at| image[*at..].starts_with(&[39; 300]))
        .collect();
    assert!(!found.is_empty());
    for at in found {
        image[at + 150] ^= 1;
    }
    fs::write(dir.path().join(FILE), &image).unwrap();
    assert!(matches!(
        Embedded::open(dir.path()),
        Err(OpenError::Damaged { .. })
    ));
}

#[tokio::test]
async fn history_is_bounded_in_bytes() {
    let mut ledger = Ledger::new(Default::default(), 0, 1);
    let value = Bytes::from(vec![0; 1024 * 1024]);
    for _ in 0..100 {
        let txn = Txn::new().put("a", value.clone());
        let commit = ledger.plan(&txn, Instant::now(), 0).unwrap().unwrap();
        ledger.apply(commit);
        let (commits, bytes) = ledger.history.size();
        assert!(commits <= MAX_COMMITS && bytes <= MAX_BYTES);
    }
    assert!(ledger.history.size().0 < 100);
}

#[test]
fn lease_ends_at_its_deadline_and_not_before() {
    let ttl = Duration::from_secs(3);
    let begun = Instant::now();
    let mut ledger = Ledger::new(Default::default(), 0, 1);
    let lease = ledger.leases.grant(ttl, begun);
    let commit = ledger
        .plan(&Txn::new().put_leased("a", "", lease), begun, 0)
        .unwrap()
        .unwrap();
    ledger.apply(commit);

    let almost = begun + ttl - Duration::from_millis(1);
    assert!(ledger.plan_due(almost).is_none());
    assert_eq!(ledger.leases.keep_alive(lease, almost).unwrap(), ttl);
    // An earlier renewal that arrives late shortens nothing.
    ledger.leases.keep_alive(lease, begun).unwrap();
    assert!(ledger.plan_due(begun + ttl).is_none());

    let over = almost + ttl;
    assert!(matches!(
        ledger.leases.keep_alive(lease, over),
        Err(Error::NoSuchLease)
    ));
    // Not even by a clock that reads less: it was found ended.
    assert!(matches!(
        ledger.leases.keep_alive(lease, begun),
        Err(Error::NoSuchLease)
    ));
    let commit = ledger.plan_due(begun).unwrap();
    ledger.apply(commit);
    assert!(ledger.get("a").is_none());
}

#[test]
fn longest_lease_is_bounded() {
    let mut ledger = Ledger::new(Default::default(), 0, 1);
    let now = Instant::now();
    let lease = ledger.leases.grant(Duration::MAX, now);
    assert_eq!(ledger.leases.keep_alive(lease, now).unwrap(), MAX_TTL);
}

#[tokio::test(start_paused = true)]
async fn memory_store_keeps_time_by_the_paused_clock() {
    let store = Memory::new();
    let lease = store.lease(Duration::from_secs(3600)).await.unwrap();
    store
        .txn(Txn::new().put_leased("a", "", lease))
        .await
        .unwrap();
    let mut watch = store.watch("", 1).await.unwrap();
    tokio::time::advance(Duration::from_secs(3599)).await;
    assert!(store.get("a").await.unwrap().is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(store.get("a").await.unwrap().is_none());
    assert_eq!(watch.next().await.unwrap().revision, 2);
}

#[tokio::test(start_paused = true)]
async fn dropped_store_leaves_no_task() {
    let store = Memory::new();
    store.lease(MAX_TTL).await.unwrap();
    let tasks = tokio::runtime::Handle::current().metrics();
    assert_eq!(tasks.num_alive_tasks(), 1);
    drop(store);
    tokio::time::timeout(Duration::from_secs(1), async {
        while tasks.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// A disk that fails from some point on.
#[derive(Debug)]
struct Failing(
    redb::backends::InMemoryBackend,
    Arc<std::sync::atomic::AtomicBool>,
);

impl redb::StorageBackend for Failing {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        match self.1.load(std::sync::atomic::Ordering::Relaxed) {
            true => Err(std::io::Error::other("disk failed")),
            false => self.0.sync_data(),
        }
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

#[tokio::test]
async fn failed_disk_answers_unavailable_and_shows_nothing_of_it() {
    let broken = Arc::default();
    let disk = Failing(redb::backends::InMemoryBackend::new(), Arc::clone(&broken));
    let store = Embedded::with_backend(disk).unwrap();
    store.txn(Txn::new().put("a", "1")).await.unwrap();
    broken.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..2 {
        let error = store.txn(Txn::new().put("a", "2")).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)) && error.retryable());
    }
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.revision), (Bytes::from("1"), 1));
    assert!(matches!(
        store.txn(Txn::new().absent("a")).await,
        Err(Error::Failed { .. })
    ));
}
