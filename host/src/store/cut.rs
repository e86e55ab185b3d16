//! The embedded store over a disk that loses power.
//!
//! At a cut any part of the unsynced writes may be on it, torn at sectors or anywhere.
//! After each cut the store must open, show every acknowledged transaction whole, and of
//! those under way each whole or not at all. `CUT_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::engine::Driven;
use super::{Embedded, Entry, Error, Page, Store, Txn, Write};

mod disk;

use disk::Disk;

/// Keys of each transaction's own range: enough for a tree of several pages.
const KEYS: u32 = 60;

type Model = BTreeMap<String, Bytes>;

/// What must be there, and what may be.
#[derive(Default)]
struct Expected {
    model: Model,
    /// Not acknowledged when the power went. They share no key.
    doubtful: Vec<Txn>,
    revision: u64,
    next: u64,
}

impl Expected {
    /// Transactions over different keys, each with a marker that only it writes.
    fn round(&mut self, rng: &mut StdRng) -> Vec<Txn> {
        let txns = (0..rng.random_range(1..4)).map(|lane| {
            self.next += 1;
            let marker = format!("{lane}/marker");
            let mut txn = Txn::new().put(marker, self.next.to_string());
            let first = rng.random_range(0..KEYS);
            for n in first..first + rng.random_range(1..6) {
                let key = format!("{lane}/{}", n % KEYS);
                let size = if rng.random_bool(0.1) {
                    9000
                } else {
                    rng.random_range(1..200)
                };
                let value = format!("{:>size$}", self.next);
                txn = if rng.random_bool(0.3) {
                    txn.delete(key)
                } else {
                    txn.put(key, value)
                };
            }
            txn
        });
        txns.collect()
    }

    /// Compares, and settles what was in doubt.
    async fn check(&mut self, store: &Embedded) -> Result<(), String> {
        let found = entries(store).await.map_err(|error| error.to_string())?;
        let revision = store.revision().await.map_err(|error| error.to_string())?;
        for txn in std::mem::take(&mut self.doubtful) {
            let marker = &txn.writes[0];
            let mut with = self.model.clone();
            done(&mut with, &txn);
            if found.get(marker.key()).map(|e| &e.value) == with.get(marker.key()) {
                self.model = with;
            }
        }
        let values: Model = found
            .iter()
            .map(|(k, e)| (k.clone(), e.value.clone()))
            .collect();
        if values != self.model {
            return Err(format!("found {values:?}, expected {:?}", self.model));
        }
        let newest = found
            .values()
            .map(|entry| entry.revision)
            .max()
            .unwrap_or(0);
        if revision < self.revision || revision < newest {
            return Err(format!(
                "revision {revision} after {} and {newest}",
                self.revision
            ));
        }
        self.revision = revision;
        Ok(())
    }
}

fn done(model: &mut Model, txn: &Txn) {
    for write in &txn.writes {
        match write {
            Write::Put { key, value, .. } => drop(model.insert(key.clone(), value.clone())),
            Write::Delete { key } => drop(model.remove(key)),
        }
    }
}

async fn entries(store: &Embedded) -> Result<BTreeMap<String, Entry>, Error> {
    let listing = store.list("", Page::first()).await?;
    Ok(listing
        .entries
        .into_iter()
        .map(|entry| (entry.key.clone(), entry))
        .collect())
}

/// Writes until the power goes.
async fn work(store: &Embedded, threaded: bool, expected: &mut Expected, rng: &mut StdRng) {
    while expected.doubtful.is_empty() {
        let txns = expected.round(rng);
        let answers = if threaded {
            join_all(txns.iter().map(|txn| store.txn(txn.clone()))).await
        } else {
            store.engine().txns(&txns)
        };
        for (txn, answer) in txns.iter().zip(answers) {
            match answer {
                Ok(revision) => {
                    done(&mut expected.model, txn);
                    expected.revision = expected.revision.max(revision);
                }
                Err(_) => expected.doubtful.push(txn.clone()),
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Run {
    seed: u64,
    cuts: u64,
    /// With the writer in its thread; such a run does not repeat exactly.
    threaded: bool,
    lies: bool,
}

impl Run {
    /// Cuts the power again and again, with a new disk now and then; answers how often a
    /// store was open when it went.
    async fn run(self) -> Result<u64, String> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let (mut disk, mut expected, mut worked) = (Disk::default(), Expected::default(), 0);
        for cut in 0..self.cuts {
            if cut % 50 == 0 {
                (disk, expected) = (new_disk()?, Expected::default());
            }
            // Some go during the open, most during the work after it.
            let most = if rng.random_bool(0.2) { 12 } else { 120 };
            disk = disk.cut(&mut rng, most);
            disk.lie(self.lies);
            worked += self
                .life(&disk, &mut expected, &mut rng)
                .await
                .map_err(|text| format!("seed {}, cut {cut}: {text}", self.seed))?;
        }
        Ok(worked)
    }

    /// Opens the store and works until the power goes.
    async fn life(
        self,
        disk: &Disk,
        expected: &mut Expected,
        rng: &mut StdRng,
    ) -> Result<u64, String> {
        let opened = match self.threaded {
            true => Embedded::with_backend(disk.clone()),
            false => Embedded::inline_with_backend(disk.clone()),
        };
        match opened {
            Ok(store) => {
                expected.check(&store).await?;
                work(&store, self.threaded, expected, rng).await;
                Ok(1)
            }
            Err(_) if disk.is_out() => Ok(0),
            Err(error) => Err(format!("does not open: {error}")),
        }
    }
}

/// One with an empty store on it. It is not cut before: a file gets its name only when it
/// has come this far.
fn new_disk() -> Result<Disk, String> {
    let disk = Disk::default();
    Embedded::inline_with_backend(disk.clone()).map_err(|error| error.to_string())?;
    Ok(disk)
}

fn seed() -> u64 {
    std::env::var("CUT_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap())
}

#[tokio::test]
async fn power_cut_loses_nothing_acknowledged_and_shows_no_half_transaction() {
    let run = Run {
        seed: seed(),
        cuts: 1000,
        threaded: false,
        lies: false,
    };
    let worked = run.run().await.unwrap();
    assert!(
        worked > 500,
        "seed {}: only {worked} cuts hit an open store",
        run.seed
    );
}

#[tokio::test]
async fn power_cut_under_the_writer_thread_loses_nothing_acknowledged() {
    let run = Run {
        seed: seed(),
        cuts: 200,
        threaded: true,
        lies: false,
    };
    run.run().await.unwrap();
}

#[tokio::test]
async fn disk_that_lies_about_sync_is_found_out() {
    let run = Run {
        seed: 1,
        cuts: 1000,
        threaded: false,
        lies: true,
    };
    run.run().await.unwrap_err();
}
