//! What was acknowledged survives kill -9, and what ran runs again by itself.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use restreamd_tests::api::{GROUP, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::eventually;
use restreamd_tests::ffmpeg;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;

use crate::{SOON, node};

fn guids(list: &[Value]) -> BTreeSet<String> {
    list.iter()
        .filter_map(|p| p["provisionGuid"].as_str())
        .map(str::to_owned)
        .collect()
}

#[test]
fn provisions_and_pulls_return_after_kill_9() {
    let source = Source::open(&Clip::small());
    let mut host = node().start();
    let api = host.client();
    let running = Provision::pull("running-pull", "live/pull1", &source.url("live/stream1"));
    let resting = Provision::pull("resting-pull", "live/pull2", &source.url("live/stream2"));
    let deleted = Provision::pull("deleted-pull", "live/pull3", &source.url("live/stream3"));
    api.start(&running);
    api.create(&resting);
    api.start(&deleted);
    api.wait_for_state(running.guid(), "LIVE", SOON);
    api.wait_for_state(deleted.guid(), "LIVE", SOON);
    api.delete(deleted.guid());
    let before = api.get(&provision_path("")).expect(200);

    host.kill();
    let dials = source.dials();
    host.restart();
    // Nobody has called the node yet.
    eventually("the pull is dialled again", SOON, || {
        if source.dials() > dials {
            Ok(())
        } else {
            Err("no dial".to_owned())
        }
    });
    let api = host.client();
    api.wait_for_state(running.guid(), "LIVE", SOON);
    ffmpeg::decodes(&host.url("live/pull1"), Duration::from_secs(2));
    assert_eq!(api.get(&provision_path("")).expect(200), before);
    assert_eq!(api.status(resting.guid())["state"], "WAIT");
    assert_eq!(
        source.dials(),
        dials + 1,
        "only what was distributed is dialled"
    );
}

#[test]
fn token_and_streams_are_good_after_a_restart() {
    let source = Source::open(&Clip::small());
    let mut host = node().without("jwt_secret").start();
    let api = host.client();
    let pull = Provision::pull("token-survives", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let token = api.token(
        restreamd_tests::host::ADMIN.0,
        restreamd_tests::host::ADMIN.1,
    );
    assert!(host.drain().success());
    host.restart();
    let api = restreamd_tests::api::Api::new(host.api).with_token(&token);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
}

#[test]
fn every_acknowledged_provision_survives_a_kill_in_the_middle_of_writing() {
    let mut host = node().start();
    let api = host.client();
    let stop = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut acknowledged = BTreeSet::new();
            for n in 0.. {
                let pull = Provision::pull(
                    &format!("written-{n:05}"),
                    &format!("live/pull{n}"),
                    "rtmp://127.0.0.1:9/live/s",
                );
                let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    api.try_create(&[&pull]).status
                }));
                match sent {
                    Ok(201) => drop(acknowledged.insert(pull.guid().to_owned())),
                    _ if stop.load(Ordering::Relaxed) => break,
                    other => panic!("{other:?} before the kill"),
                }
            }
            acknowledged
        });
        eventually("some are written", SOON, || {
            let count = api
                .get(&format!("{}?limit=100", provision_path("")))
                .list()
                .len();
            if count >= 30 {
                Ok(())
            } else {
                Err(format!("{count}"))
            }
        });
        stop.store(true, Ordering::Relaxed);
        host.kill();
        writer.join().expect("the writer counts")
    });
    host.restart();
    let api = host.client();
    let mut found = BTreeSet::new();
    loop {
        let after = found
            .last()
            .map(|last| format!("&after={last}"))
            .unwrap_or_default();
        let page = guids(
            &api.get(&format!(
                "/as/v1/streams/provision/{GROUP}?limit=100{after}"
            ))
            .list(),
        );
        let len = page.len();
        found.extend(page);
        if len < 100 {
            break;
        }
    }
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(
        found.len() <= acknowledged.len() + 1,
        "at most the one in flight is more than acknowledged"
    );
}
