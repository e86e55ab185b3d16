//! SIGTERM: players are told, sources closed, and the process ends well.

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::eventually;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;

use crate::{SOON, node};

#[test]
fn sigterm_tells_the_players_closes_the_sources_and_exits_0() {
    let source = Source::open(&Clip::small());
    let mut host = node().start();
    let api = host.client();
    let pull = Provision::pull("drained-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(30, SOON);
    let status = host.drain();
    assert!(status.success(), "{status}");
    let reason = eventually("the player is told", SOON, || {
        player.gone().ok_or_else(|| "attached".to_owned())
    });
    assert!(reason.contains("ended"), "{reason}");
    eventually("the source is closed", SOON, || {
        if source.connections() == 0 {
            Ok(())
        } else {
            Err("open".to_owned())
        }
    });
}

#[test]
fn every_connection_and_restreamer_has_one_opening_and_one_closing_line() {
    let source = Source::open(&Clip::small());
    let mut host = node().start();
    let api = host.client();
    let pull = Provision::pull("logged-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(30, SOON);
    drop(player);
    api.wait_for(pull.guid(), "the player is gone", SOON, |s| {
        s["subscribers"] == 0
    });
    api.delete(pull.guid());
    assert!(host.drain().success());
    let logs = host.logs();
    let count = |message: &str| {
        logs.iter()
            .filter_map(|l| restreamd_tests::log::Line::parse(l))
            .filter(|l| l.message() == message)
            .count()
    };
    for message in [
        "connection opened",
        "connection closed",
        "restreamer started",
        "restreamer stopped",
    ] {
        assert_eq!(count(message), 1, "{message}:\n{}", logs.join("\n"));
    }
}

#[test]
fn readiness_and_health_are_open() {
    let host = node().start();
    let api = restreamd_tests::api::Api::new(host.api);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
    let metrics = api.get("/metrics").text;
    assert!(metrics.contains("\nrestreamd_"), "{metrics}");
    assert!(
        !metrics.contains("restreamd_restreamd_"),
        "the prefix is there twice: {metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}
