//! A plugin is swapped again and again under live restreamers, and nobody notices.

use std::time::{Duration, Instant};

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::player::Player;
use restreamd_tests::plugins;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;

use crate::{SOON, node};

/// Restreamers that are live, with a player each.
const LIVE: usize = 100;
/// Other builds that take over, one after the other.
const SWAPS: u32 = 20;
/// For one of them, on a machine with other tests at work.
const SWAP: Duration = Duration::from_secs(60);

#[test]
fn twenty_swaps_under_a_hundred_live_restreamers_cost_no_frame_and_no_dial() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    // One node serves the stream to all of them: it costs less than a hundred threads.
    let origin = node().start();
    let feed = Provision::pull("feed", "live/stream1", &source.url("live/stream1"));
    // Who is late on a busy machine is not what this is about.
    origin.client().start(&feed.with("stallMs", "off"));
    origin.client().wait_for_state("feed", "LIVE", SOON);
    let upstream = || {
        let lines = origin.logs();
        let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        (count("connection opened"), count("connection closed"))
    };
    let host = node().start();
    let api = host.client();
    let dir = host.folder().join("plugins");
    let swap = |number: u32| {
        let before = api.get("/as/v1/plugins/puller");
        let before = if before.status == 200 {
            before.json()["digest"].clone()
        } else {
            "".into()
        };
        plugins::put(&dir, "puller", &plugins::build("rtmp", number));
        eventually("the next build has taken over", SWAP, || {
            let answer = api.get("/as/v1/plugins/puller");
            if answer.status != 200 {
                return Err(answer.text);
            }
            let plugin = answer.json();
            let there = plugin["state"] == "ready" && plugin["digest"] != before;
            let all = number == 0 || plugin["instances"] == LIVE;
            when(there && all && plugin["formerInstances"] == 0, || {
                plugin.to_string()
            })
        });
    };
    swap(0);
    let guid = |n: usize| format!("swapped{n}");
    for n in 0..LIVE {
        let pull = Provision::of_type("puller", &guid(n), &format!("live/{n}"));
        let pull = pull.with("rtmpUri", origin.url("live/stream1"));
        api.start(&pull.with("stallMs", "off").with("connectTimeoutMs", 60_000));
    }
    let players: Vec<Player> = (0..LIVE)
        .map(|n| Player::attach(&host.url(&format!("live/{n}"))))
        .collect();
    for player in &players {
        player.wait_for_more(30, Duration::from_secs(30));
    }
    assert_eq!(upstream(), (LIVE, 0));
    let began = Instant::now();
    (1..=SWAPS).for_each(swap);
    assert_eq!(source.dials(), 1);
    for player in &players {
        player.wait_for_more(30, SOON);
        player.assert_attached();
        player.assert_unbroken(&clip);
        player.assert_monotonic();
    }
    assert_eq!(upstream(), (LIVE, 0), "nothing is dialled again");
    for n in 0..LIVE {
        let status = api.status(&guid(n));
        assert_eq!(
            (&status["attempt"], &status["history"]),
            (&1.into(), &serde_json::json!([]))
        );
    }
    assert_eq!(
        api.counter("restreamd_plugin_upgrades_unanswered_total"),
        0.0
    );
    let handed = host
        .logs()
        .iter()
        .filter(|line| line.contains("handed over to the newest build"))
        .count();
    assert_eq!(handed, LIVE * SWAPS as usize, "in {:?}", began.elapsed());
}
