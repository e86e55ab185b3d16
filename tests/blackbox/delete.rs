//! Delete stops a pull wherever it is, at once, and leaves nothing behind.

use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::black_hole::{Mute, Unanswered};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::eventually;
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;

use crate::{SOON, node};

/// What the caller of DELETE may have to wait.
const ANSWERED: Duration = Duration::from_secs(1);

/// What is open on a node at one moment.
#[derive(Debug, PartialEq)]
struct Holdings {
    files: usize,
    sockets: usize,
    instances: f64,
    tasks: f64,
}

impl Holdings {
    fn of(host: &TestHost, api: &Api) -> Self {
        let footprint = host.footprint();
        Self {
            files: footprint.files,
            sockets: footprint.sockets,
            instances: api.gauge("restreamd_plugin_instances_count"),
            tasks: api.gauge("restreamd_runtime_tasks_count"),
        }
    }
}

impl Holdings {
    fn least(self, other: Self) -> Self {
        Self {
            files: self.files.min(other.files),
            sockets: self.sockets.min(other.sockets),
            instances: self.instances.min(other.instances),
            tasks: self.tasks.min(other.tasks),
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        self.files <= other.files
            && self.sockets <= other.sockets
            && self.instances <= other.instances
            && self.tasks <= other.tasks
    }
}

/// Runs one pull of this kind and deletes it once it is in `phase`.
fn deletes_in(phase: &str, uri: &str) {
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("deleted-pull", "live/pull1", uri);
    let round = || {
        api.start(&pull);
        api.wait_for_phase(pull.guid(), phase, SOON);
        let begin = Instant::now();
        api.delete(pull.guid());
        assert!(
            begin.elapsed() < ANSWERED,
            "answered after {:?}",
            begin.elapsed()
        );
        let gone = api.get(&restreamd_tests::api::provision_path(
            "/deleted-pull?status=true",
        ));
        gone.error(404);
        assert!(api.streams().is_empty(), "{:?}", api.streams());
    };
    // Once to warm caches and pools up, so that the baseline is that of a node at work.
    round();
    let baseline = settled(&host, &api);
    round();
    eventually("all is back to the baseline", SOON, || {
        let now = Holdings::of(&host, &api);
        if now.is_within(&baseline) {
            Ok(())
        } else {
            Err(format!("{now:?}, baseline {baseline:?}"))
        }
    });
}

/// The least of each over a second or so: the connections of the calls themselves come
/// on top for a moment, and on a busy machine for longer.
fn settled(host: &TestHost, api: &Api) -> Holdings {
    let mut least = Holdings::of(host, api);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        least = least.least(Holdings::of(host, api));
    }
    least
}

#[test]
fn delete_while_the_dial_gets_no_answer() {
    let hole = Unanswered::open();
    deletes_in("dialing", &hole.url("live/stream1"));
}

#[test]
fn delete_while_the_handshake_gets_no_answer() {
    let mute = Mute::open();
    deletes_in("dialing", &mute.url("live/stream1"));
}

#[test]
fn delete_while_the_policy_sleeps() {
    let mut source = Source::open(&Clip::small());
    source.go_away();
    deletes_in("backing-off", &source.url("live/stream1"));
}

#[test]
fn delete_while_live() {
    let source = Source::open(&Clip::small());
    deletes_in("live", &source.url("live/stream1"));
    eventually(
        "the source sees the connection closed",
        SOON,
        || match source.connections() {
            0 => Ok(()),
            n => Err(format!("{n} open")),
        },
    );
    assert_eq!(source.dials(), 2, "one dial for each of the two rounds");
}

#[test]
fn delete_ends_the_stream_of_its_players() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("watched-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(30, SOON);
    api.delete(pull.guid());
    let reason = eventually("the player is told", SOON, || {
        player.gone().ok_or_else(|| "attached".to_owned())
    });
    assert!(
        reason.contains("ended"),
        "told by the protocol, not by a closed socket alone: {reason}"
    );
    // The name is free again.
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
}
