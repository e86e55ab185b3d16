//! kill -9 of the node at any moment under a client that writes: what was acknowledged is
//! there.
//!
//! `RESTREAMD_KILLS` says how often in place of the few that every run can afford.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use restreamd_tests::api::{Api, GROUP};
use restreamd_tests::cluster::node;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::eventually::eventually;
use restreamd_tests::host::{ADMIN, Builder, TestHost};
use restreamd_tests::provision::Provision;

use crate::{BINARY, SOON};

/// In every run; a thousand take ten minutes a store.
const FEW: u64 = 8;

/// What a client was told, and what it does not know.
#[derive(Debug, Default)]
struct Told {
    /// Created, for certain.
    created: BTreeSet<String>,
    /// Deleted, for certain.
    deleted: BTreeSet<String>,
    /// No answer came.
    unknown: BTreeSet<String>,
}

fn kills() -> u64 {
    let said = std::env::var("RESTREAMD_KILLS").ok();
    said.map_or(FEW, |said| {
        said.parse().expect("RESTREAMD_KILLS is a number")
    })
}

/// Different from kill to kill, and the same in each run.
fn moment(kill: u64) -> Duration {
    Duration::from_micros(kill.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 200_000)
}

/// Creates, and deletes each third again, until it is stopped or the node is gone.
fn write(api: &Api, kill: u64, told: &Mutex<Told>, stop: &AtomicBool) {
    let token = Api::clone(api);
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let guid = format!("kill-{kill:04}-{n:05}");
        let stream = format!("live/kill{kill}-{n}");
        let pull = Provision::pull(&guid, &stream, "rtmp://127.0.0.1:9/live/s");
        let path = format!("/as/v1/streams/provision/{GROUP}/{guid}");
        let created = sent(|| token.try_create(&[&pull]).status);
        let gone = (created == Some(201) && n % 3 == 0)
            .then(|| sent(|| token.call("DELETE", &path, None).status));
        let mut told = told.lock().expect("nobody panics with it");
        match (created, gone) {
            (Some(201), None) => drop(told.created.insert(guid)),
            (Some(201), Some(Some(200))) => drop(told.deleted.insert(guid)),
            _ => drop(told.unknown.insert(guid)),
        }
        if created.is_none() || gone == Some(None) {
            return;
        }
    }
}

/// The status, unless the node went away meanwhile.
fn sent(call: impl FnOnce() -> u16) -> Option<u16> {
    let call = std::panic::AssertUnwindSafe(call);
    std::panic::catch_unwind(call).ok()
}

fn stored(host: &TestHost) -> BTreeSet<String> {
    let api = host.client();
    let mut found: BTreeSet<String> = BTreeSet::new();
    loop {
        let after = found.last().map(|last| format!("&after={last}"));
        let path = format!(
            "/as/v1/streams/provision/{GROUP}?limit=500{}",
            after.unwrap_or_default()
        );
        let page = api.get(&path).list();
        let guids = page.iter().filter_map(|p| p["provisionGuid"].as_str());
        let before = found.len();
        found.extend(guids.map(str::to_owned));
        if found.len() == before {
            return found;
        }
    }
}

fn check(told: &Told, stored: &BTreeSet<String>) {
    let lost: Vec<_> = told.created.difference(stored).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let back: Vec<_> = told.deleted.intersection(stored).collect();
    assert!(back.is_empty(), "deleted and back: {back:?}");
    let strange = stored
        .iter()
        .filter(|guid| !told.created.contains(*guid) && !told.unknown.contains(*guid));
    assert_eq!(strange.count(), 0, "nobody made them");
}

fn nothing_acknowledged_is_lost(builder: Builder) {
    let mut host = builder.start();
    let told = Mutex::new(Told::default());
    let begun = Instant::now();
    for kill in 0..kills() {
        let api = Api::new(host.api).login(ADMIN.0, ADMIN.1);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let count = || told.lock().expect("nobody panics with it").created.len();
            let before = count();
            scope.spawn(|| write(&api, kill, &told, &stop));
            eventually("something is written", SOON, || {
                if count() > before {
                    Ok(())
                } else {
                    Err("nothing".to_owned())
                }
            });
            let at = Instant::now() + moment(kill);
            while Instant::now() < at {
                thread::yield_now();
            }
            // In the middle of a write, as likely as not.
            host.kill();
            stop.store(true, Ordering::Relaxed);
        });
        host.restart();
        // Each time a part of it is known for certain, the whole in the end.
        if kill % 50 == 49 {
            check(&told.lock().expect("nobody panics with it"), &stored(&host));
        }
    }
    let told = told.into_inner().expect("nobody panics with it");
    check(&told, &stored(&host));
    println_figures(&told, begun.elapsed());
}

#[allow(clippy::print_stdout, reason = "the figures of a long run are noted")]
fn println_figures(told: &Told, took: Duration) {
    println!(
        "{} kills in {took:?}: {} created, {} deleted, {} unknown, 0 lost",
        kills(),
        told.created.len(),
        told.deleted.len(),
        told.unknown.len()
    );
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_on_etcd() {
    let etcd = Etcd::start();
    nothing_acknowledged_is_lost(node(BINARY, &etcd.url(), 1));
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_on_the_embedded_store() {
    nothing_acknowledged_is_lost(Builder::new(BINARY));
}
