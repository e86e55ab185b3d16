//! Plugins that misbehave hurt their own restreamer and nothing else.

use std::time::{Duration, Instant};

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::guest::Guest;
use restreamd_tests::host::TestHost;
use restreamd_tests::log::Line;
use restreamd_tests::player::Player;
use restreamd_tests::plugins;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use toml::{Table, Value};

use crate::neighbour::Neighbour;
use crate::{SOON, node};

fn guest(kind: &str, source: &Source) -> Provision {
    Provision::of_type(kind, "bad-guest", "live/guest").with("url", source.url("live/stream1"))
}

#[test]
fn trapping_plugin_does_not_stop_the_stream() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let host = node()
        .plugin("trap-while-live")
        .announce("the plugin crashed")
        .start();
    let api = host.client();
    // It traps once, two seconds after its source came on air.
    let pull = guest("trap-while-live", &source).with("traps", "1");
    api.start(&pull);
    let player = Player::attach(&host.url("live/guest"));
    player.wait_for_more(60, SOON);
    let traps = || api.counter("restreamd_plugin_crashes_total");
    eventually("it traps", SOON, || {
        if traps() >= 1.0 {
            Ok(())
        } else {
            Err(format!("{} traps", traps()))
        }
    });

    // Long enough for the new instance to start (0.1 s to 5 s) and to get it wrong.
    holds("the stream goes on", Duration::from_secs(8), || {
        player.assert_attached();
        let status = api.status(pull.guid());
        if status["state"] == "LIVE" {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    assert_eq!(source.dials(), 1, "a trap must not dial again");
    assert_eq!(traps(), 1.0, "the new instance runs");
}

#[test]
fn plugin_that_traps_again_and_again_fails_its_restreamer_only() {
    let source = Source::open(&Clip::small());
    let host = node()
        .plugin("trap-while-live")
        .announce("the plugin crashed")
        .announce("plugin-crashed")
        .start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let pull = guest("trap-while-live", &source)
        .with("traps", "1000")
        .with("afterMs", "0");
    api.start(&pull);
    // Five traps, each with a new start after 0.1 s to 5 s.
    let failed = api.wait_for_phase(pull.guid(), "failed", Duration::from_secs(60));
    assert!(
        failed["error"]
            .as_str()
            .is_some_and(|e| e.contains("plugin-crashed")),
        "{failed}"
    );
    assert_eq!(failed["state"], "WAIT", "{failed}");
    // Where it happened, in the author's own names.
    for part in ["wasm backtrace", "TrapWhileLive"] {
        let error = failed["error"].as_str().unwrap_or_default();
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    neighbour.is_unharmed();
}

#[test]
fn plugin_that_traps_at_its_sources_end_hears_of_it_again() {
    let mut source = Source::open(&Clip::small());
    let host = node()
        .plugin("trap-while-live")
        .announce("the plugin crashed")
        .start();
    let api = host.client();
    let pull = guest("trap-while-live", &source).with("onEnd", "true");
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    source.go_away();
    // The next instance does what the first one would have done.
    let status = api.wait_for_phase(pull.guid(), "failed", SOON);
    assert!(
        status["error"]
            .as_str()
            .is_some_and(|e| e.contains("the source ended")),
        "{status}"
    );
    assert_eq!(api.counter("restreamd_plugin_crashes_total"), 1.0);
}

#[test]
fn plugin_that_hands_over_unasked_fails_its_restreamer_only() {
    let host = node()
        .plugin("hand-over-always")
        .announce("the plugin crashed")
        .announce("plugin-crashed")
        .start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let pull = Provision::of_type("hand-over-always", "bad-guest", "live/guest");
    api.start(&pull);
    let failed = api.wait_for_phase(pull.guid(), "failed", Duration::from_secs(60));
    assert!(
        failed["error"]
            .as_str()
            .is_some_and(|e| e.contains("no upgrade was wanted")),
        "{failed}"
    );
    assert_eq!(api.counter("restreamd_plugin_crashes_total"), 5.0);
    neighbour.is_unharmed();
}

#[test]
fn looping_plugin_is_interrupted_and_its_neighbour_loses_no_frame() {
    let source = Source::open(&Clip::small());
    let host = node()
        .plugin("spin-forever")
        .announce("the plugin crashed")
        .announce("plugin-crashed")
        .start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let pull = guest("spin-forever", &source);
    api.start(&pull);
    let traps = || api.counter("restreamd_plugin_crashes_total");
    eventually("it is interrupted", SOON, || {
        if traps() >= 1.0 {
            Ok(())
        } else {
            Err(format!("{} traps", traps()))
        }
    });
    neighbour.is_unharmed();
    assert!(
        neighbour
            .player
            .longest_gap(Instant::now() - Duration::from_secs(5))
            < Duration::from_secs(1)
    );
    api.delete(pull.guid());
    eventually(
        "delete closes the source of a looping plugin",
        Duration::from_secs(1),
        || match source.connections() {
            0 => Ok(()),
            n => Err(format!("{n} open")),
        },
    );
}

#[test]
fn plugin_that_loops_in_check_is_refused_in_time() {
    let host = node().plugin("spin-forever").announce("check").start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let pull = Provision::of_type("spin-forever", "bad-guest", "live/guest")
        .with("url", "rtmp://127.0.0.1/live/s")
        .with("where", "check");
    let took = soonest::<5>(|()| {
        let begin = Instant::now();
        let why = api.try_create(&[&pull]).error(503);
        let text = why["error"].as_str().unwrap_or_default();
        assert!(text.contains("ran for 100ms without waiting"), "{why}");
        begin.elapsed()
    });
    // 100 ms of its own, 100 ms to stop it, and the request around it.
    assert!((100..250).contains(&took.as_millis()), "after {took:?}");
    neighbour.is_unharmed();
}

/// The soonest of so many times: the machine has other work.
fn soonest<const TIMES: usize>(once: impl FnMut(()) -> Duration) -> Duration {
    let times = [(); TIMES].map(once);
    times.into_iter().min().unwrap_or_default()
}

#[test]
fn plugin_that_traps_in_check_refuses_the_provision_with_the_reason() {
    // Not of the admission's own question, which has no properties.
    let traps = Guest::default().checks("(if (local.get 1) (then unreachable))");
    let builder = node().announce("check");
    plugins::put(&builder.folder().join("plugins"), "picky", &traps.module());
    let host = builder.start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let pull = Provision::of_type("picky", "bad-guest", "live/guest").with("any", "thing");
    let why = api.try_create(&[&pull]).error(503);
    assert_eq!(why["code"], "plugin", "{why}");
    let text = why["error"].as_str().unwrap_or_default();
    assert!(
        text.contains("trapped") && text.contains("unreachable"),
        "{why}"
    );
    neighbour.is_unharmed();
}

#[test]
fn memory_hog_is_stopped_at_its_limit() {
    let source = Source::open(&Clip::small());
    let host = node()
        .plugin("hog-memory")
        .announce("the plugin crashed")
        .announce("plugin-crashed")
        .start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let before = host.footprint().resident_kib;
    let pull = guest("hog-memory", &source);
    api.start(&pull);
    let traps = || api.counter("restreamd_plugin_crashes_total");
    eventually("it hits the limit", SOON, || {
        if traps() >= 1.0 {
            Ok(())
        } else {
            Err(format!("{} traps", traps()))
        }
    });
    let grown = host.footprint().resident_kib.saturating_sub(before);
    // 16 MiB of its own at a time, and room for what else the node does meanwhile.
    assert!(grown < 64 * 1024, "grew by {grown} KiB");
    neighbour.is_unharmed();
}

#[test]
fn delete_does_not_wait_for_a_plugin_that_ignores_stop() {
    let source = Source::open(&Clip::small());
    let host = node().plugin("slow-stop").announce("stop").start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let pull = guest("slow-stop", &source);
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let begin = Instant::now();
    api.delete(pull.guid());
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "answered after {:?}",
        begin.elapsed()
    );
    eventually(
        "the source is closed",
        Duration::from_secs(1),
        || match source.connections() {
            0 => Ok(()),
            n => Err(format!("{n} open")),
        },
    );
    let instances = || api.plugin("slow-stop")["instances"].clone();
    let gone = || {
        eventually("its instance is gone", SOON, || {
            when(instances() == 0, || instances().to_string())
        });
    };
    gone();
    // Two seconds of grace, then its Store is dropped.
    let took = soonest::<3>(|()| {
        api.start(&pull);
        api.wait_for_state(pull.guid(), "LIVE", SOON);
        let begin = Instant::now();
        api.delete(pull.guid());
        gone();
        begin.elapsed()
    });
    assert!((2_000..2_200).contains(&took.as_millis()), "after {took:?}");
    neighbour.is_unharmed();
}

#[test]
fn flood_of_log_lines_is_cut() {
    let source = Source::open(&Clip::small());
    let host = node()
        .plugin("log-flood")
        .announce("log line")
        .announce("flood")
        .start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let pull = guest("log-flood", &source);
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    holds("the flood goes on", Duration::from_secs(3), || Ok(()));
    let lines = host
        .logs()
        .iter()
        .filter(|line| line.contains("flood"))
        .count();
    // The guest writes without end; what comes through is bounded by lines per second.
    assert!((1..500).contains(&lines), "{lines} lines in some 3 s");
    neighbour.is_unharmed();
}

#[test]
fn a_type_may_have_its_own_number_of_log_lines() {
    let source = Source::open(&Clip::small());
    let heard = |lines: u32| {
        let of_type = Table::from_iter([("log_lines".to_owned(), Value::from(lines))]);
        let overrides = Table::from_iter([("log-flood".to_owned(), Value::from(of_type))]);
        let host = node()
            .plugin("log-flood")
            .set("plugins.overrides", overrides)
            .start();
        let api = host.client();
        api.start(&guest("log-flood", &source));
        // Told at the end of a second, as the guest goes on.
        let count = || {
            let logs = host.logs();
            let seconds = logs.iter().filter(|line| line.contains("left out"));
            let lines = logs
                .iter()
                .filter(|line| line.contains("flood") && line.contains("restreamd::guest"));
            (lines.count(), seconds.count())
        };
        eventually("three seconds of the flood", SOON, || {
            let (lines, seconds) = count();
            when(seconds >= 3, || format!("{seconds} s"))?;
            Ok((lines, seconds))
        })
    };
    let (few, seconds) = heard(3);
    assert!(few <= 3 * (seconds + 1), "{few} lines in {seconds} s");
    let (many, seconds) = heard(50);
    let expected = 50 * seconds;
    assert!(many >= expected, "{many} lines in {seconds} s");
}

#[test]
fn type_whose_restreamers_fail_one_after_the_other_is_quarantined() {
    quarantines("always");
}

#[test]
fn failed_restreamers_begin_again_on_a_reload_also_when_running_ones_stay() {
    quarantines("new-only");
}

fn quarantines(hand_over: &str) {
    let source = Source::open(&Clip::small());
    let host = node()
        .set("plugins.hand_over", hand_over)
        .plugin("trap-while-live")
        .announce("plugin rejected")
        .announce("the plugin crashed")
        .announce("plugin-crashed")
        .announce("withdrawn")
        .announce("quarantined")
        .start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let traps = |n: usize| {
        let (guid, stream) = (format!("bad-guest-{n}"), format!("live/guest{n}"));
        Provision::of_type("trap-while-live", &guid, &stream)
            .with("url", source.url("live/stream1"))
            .with("traps", "1000")
            .with("afterMs", "0")
    };
    for n in 0..3 {
        api.start(&traps(n));
    }
    let state = || api.plugin("trap-while-live");
    let quarantined = eventually("it is quarantined", Duration::from_secs(60), || {
        let plugin = state();
        match plugin["state"].as_str() {
            Some("quarantined") => Ok(plugin),
            _ => Err(plugin.to_string()),
        }
    });
    assert!(
        quarantined["error"]
            .as_str()
            .is_some_and(|why| why.contains("3 restreamers")),
        "{quarantined}"
    );
    let metrics = api.anonymous().get("/metrics").text;
    let sample = "plugin_builds_withdrawn_total{type=\"trap-while-live\",reason=\"unsound\"} 1";
    assert!(metrics.contains(sample), "{metrics}");
    let refused = api.try_create(&[&traps(3)]).error(503);
    assert_eq!(refused["code"], "plugin", "{refused}");
    // A file that is none changes nothing.
    let path = "/as/v1/plugins/trap-while-live/reload";
    let file = host.folder().join("plugins/trap-while-live.wasm");
    let good = std::fs::read(&file).expect("installed");
    std::fs::write(&file, b"no plugin").expect("writable");
    api.call("POST", path, None).error(422);
    assert_eq!(state()["state"], "quarantined", "{}", state());
    std::fs::write(&file, good).expect("writable");
    // Who asks for it gets it once more.
    let crashes = api.counter("restreamd_plugin_crashes_total");
    let again = api.call("POST", path, None).expect(200);
    assert_eq!(again["state"], "ready", "{again}");
    assert_eq!(api.try_create(&[&traps(3)]).status, 201);
    eventually("those that failed run again", SOON, || {
        let more = api.counter("restreamd_plugin_crashes_total") - crashes;
        when(more >= 1.0, || format!("{more} crashes more"))
    });
    neighbour.is_unharmed();
}

#[test]
fn new_build_that_traps_at_once_makes_room_for_the_one_before() {
    let source = Source::open(&Clip::small());
    let builder = node()
        .announce("the plugin crashed")
        .announce("plugin-crashed")
        .announce("withdrawn");
    let file = builder.folder().join("plugins/trap-while-live.wasm");
    let install = |kind| {
        std::fs::copy(restreamd_tests::plugins::component(kind), &file)
            .expect("the plugin folder is writable");
    };
    install("rtmp-fixed");
    let host = builder.clone().start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let good = api.plugin("trap-while-live")["digest"].clone();
    for n in 0..2 {
        let (guid, stream) = (format!("bad-guest-{n}"), format!("live/guest{n}"));
        let pull = Provision::of_type("trap-while-live", &guid, &stream)
            .with("url", source.url("live/stream1"));
        api.start(&pull);
        api.wait_for_state(&guid, "LIVE", SOON);
    }
    install("trap-while-live");
    let path = "/as/v1/plugins/trap-while-live/reload";
    let swapped = api.call("POST", path, None).expect(200);
    assert_ne!(swapped["digest"], good, "{swapped}");
    // Each of the two restreamers is handed over, and traps once.
    let back = eventually("the former build is back", SOON, || {
        let plugin = api.plugin("trap-while-live");
        match plugin["state"].as_str() {
            Some("rolled-back") => Ok(plugin),
            _ => Err(plugin.to_string()),
        }
    });
    assert_eq!(back["digest"], good, "{back}");
    assert!(
        back["error"]
            .as_str()
            .is_some_and(|why| why.contains("first 30 s")),
        "{back}"
    );
    let metrics = api.anonymous().get("/metrics").text;
    let sample = "plugin_builds_withdrawn_total{type=\"trap-while-live\",reason=\"stillborn\"} 1";
    assert!(metrics.contains(sample), "{metrics}");
    let said = |line: &String| {
        let parts = ["plugin build withdrawn", "rolled-back", "first 30 s"];
        parts.iter().all(|part| line.contains(part))
    };
    assert!(host.logs().iter().any(said), "{:#?}", host.logs());
    for n in 0..2 {
        api.wait_for_state(&format!("bad-guest-{n}"), "LIVE", SOON);
    }
    neighbour.is_unharmed();
}

/// A misbehaviour of a running guest: its type, what it does, and why it is stopped.
struct Misbehaviour {
    kind: &'static str,
    guest: Guest,
    why: &'static str,
}

/// A call in a loop without end.
fn again(call: &str) -> Guest {
    Guest::runs(&format!("(loop $again {call} (br $again))"))
}

/// Opens a source of what [`Guest::text`] says, of which nobody listens.
const CONNECT: &str = "(call $rtmp.connect (i32.const 8192) (i32.const 1024))";
const NOBODY: &str = "rtmp://127.0.0.1:9/live/s";

fn connecting(lines: &str) -> Guest {
    let url = format!(
        "(i32.store (i32.const 8192) (i32.const 4096)) (i32.store (i32.const 8196) (i32.const {}))",
        NOBODY.len()
    );
    Guest::runs(&format!("{url} {lines}")).text(NOBODY)
}

fn misbehaviours() -> Vec<Misbehaviour> {
    let one = |kind, guest, why| Misbehaviour { kind, guest, why };
    let overran = "ran for 100ms without waiting";
    let facts = "(loop $again (call $media.source.facts (i32.load (i32.const 1028)) (i32.const 16384)) (br $again))";
    vec![
        one("loops", again(""), overran),
        one("traps", Guest::runs("unreachable"), "unreachable"),
        one(
            "memory",
            again("(drop (memory.grow (i32.const 16)))"),
            "more than its 16 MiB of memory",
        ),
        one(
            "tables",
            again("(drop (table.grow (ref.null func) (i32.const 10000)))")
                .with("(table 1 funcref)"),
            "more than its 100000 elements of tables",
        ),
        one(
            "handles",
            connecting(&CONNECT.repeat(3)),
            "more than its 2 handles",
        ),
        one(
            "asks-the-clock",
            again("(drop (call $runtime.now-ms))"),
            overran,
        ),
        one(
            "asks-for-chance",
            again("(drop (call $runtime.random-u32))"),
            overran,
        ),
        one(
            "asks-its-source",
            connecting(&format!("{CONNECT} {facts}")),
            overran,
        ),
        one(
            "dials",
            connecting(&format!("(loop $again {CONNECT} (br $again))")),
            overran,
        ),
        one(
            "logs",
            again("(call $runtime.log (i32.const 1) (i32.const 4096) (i32.const 5))").text("flood"),
            overran,
        ),
        one(
            "long-lines",
            Guest::runs("(call $runtime.log (i32.const 1) (i32.const 4096) (i32.const 2000000))"),
            "more than its 1048576 bytes in one call",
        ),
        one(
            "large-checkpoint",
            Guest::runs("(call $runtime.checkpoint (i32.const 4096) (i32.const 65537))"),
            "64 KiB",
        ),
        // Bounds of their own, see `bounds`.
        one(
            "own-memory",
            again("(drop (memory.grow (i32.const 1)))"),
            "more than its 5 MiB of memory",
        ),
        one("own-ticks", again(""), "ran for 300ms without waiting"),
        one(
            "own-tables",
            again("(drop (table.grow (ref.null func) (i32.const 100)))").with("(table 1 funcref)"),
            "more than its 1000 elements of tables",
        ),
        one(
            "own-calls",
            Guest::runs("(call $runtime.log (i32.const 1) (i32.const 4096) (i32.const 5000))"),
            "more than its 2000 bytes in one call",
        ),
        one(
            "large",
            again("(drop (memory.grow (i32.const 16)))"),
            "more than its 64 MiB of memory",
        ),
    ]
}

/// `plugins.overrides` of those that have bounds of their own.
fn bounds() -> Table {
    toml::toml! {
        handles = { handles = 2 }
        own-memory = { memory_mib = 5 }
        own-ticks = { ticks = 30 }
        own-tables = { table_elements = 1000 }
        own-calls = { call_bytes = 2000 }
    }
}

#[test]
fn each_misbehaviour_is_stopped_and_told_and_hurts_nobody_else() {
    let all = misbehaviours();
    let builder = node()
        .set("plugins.overrides", bounds())
        .announce("the plugin crashed")
        .announce("withdrawn");
    let dir = builder.folder().join("plugins");
    for one in &all {
        let mut module = one.guest.module();
        if one.kind == "large" {
            // As one that brings a language's runtime along.
            module.extend(plugins::section(b"ballast", &[0; 600 << 10]));
        }
        plugins::put(&dir, one.kind, &module);
    }
    let host = builder.start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    for one in &all {
        let kind = one.kind;
        let pull = Provision::of_type(kind, kind, &format!("live/{kind}"));
        api.start(&pull);
        let status = api.wait_for(kind, "it is stopped", SOON, |status| {
            let history = status["history"].as_array().cloned().unwrap_or_default();
            history.iter().any(|one| one["class"] == "plugin-crashed")
        });
        let history = status["history"].to_string();
        assert!(
            history.contains(one.why),
            "{kind}: {:?} is not in {history}",
            one.why
        );
        api.delete(kind);
    }
    let floods = host
        .logs()
        .iter()
        .filter(|line| line.contains("flood"))
        .count();
    assert!((1..100).contains(&floods), "{floods} lines");
    neighbour.is_unharmed();
    for kind in ["loops", "asks-the-clock", "logs"] {
        let took = until_the_crash(&host, kind);
        // Its limit is 100 ms of its own; other tests are at work.
        assert!((0.08..1.5).contains(&took), "{kind} ran for {took} s");
    }
}

/// Seconds from the first start of a restreamer to its plugin's first crash.
fn until_the_crash(host: &TestHost, kind: &str) -> f64 {
    let lines = host.logs();
    let at = |message: &str| {
        let mut lines = lines.iter().filter_map(|line| Line::parse(line));
        let found = lines.find(|line| {
            line.message() == message && line.text().contains(&format!("\"live/{kind}\""))
        });
        let found = found.unwrap_or_else(|| panic!("{kind}: no line {message:?}"));
        found.seconds().expect("lines have a time")
    };
    // Past midnight the day begins again.
    (at("the plugin crashed") - at("restreamer started")).rem_euclid(86_400.0)
}

#[test]
fn a_storm_of_waits_is_slowed_down() {
    // It traps at its 1500th wait: after a second or two if nobody held it up.
    let storm = "(loop $again (call $wait (i32.const 0))
        (global.set $waits (i32.add (global.get $waits) (i32.const 1)))
        (if (i32.gt_u (global.get $waits) (i32.const 1500)) (then unreachable))
        (br_if $again (i32.ne (i32.load8_u (i32.const 1024)) (i32.const 8))))";
    let guest = Guest::runs(storm).with("(global $waits (mut i32) (i32.const 0))");
    let builder = node();
    plugins::put(&builder.folder().join("plugins"), "storm", &guest.module());
    let host = builder.start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    api.start(&Provision::of_type("storm", "storm", "live/storm"));
    let instances = || api.plugin("storm")["instances"].clone();
    let (before, began) = (host.cpu(), Instant::now());
    holds("it waits on", Duration::from_secs(6), || {
        let crashes = api.counter("restreamd_plugin_crashes_total");
        when(crashes == 0.0 && instances() == 1, || {
            format!("{crashes} crashes after {:?}", began.elapsed())
        })
    });
    let share = (host.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < 0.7, "{share} cores");
    neighbour.is_unharmed();
    api.delete("storm");
    eventually("it hears the stop", SOON, || {
        when(instances() == 0, || instances().to_string())
    });
}

#[test]
fn a_run_that_does_not_answer_an_upgrade_stays_on_its_build_and_is_reported() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let builder = node()
        .announce("did not answer the upgrade")
        .announce("did not stop in time");
    let dir = builder.folder().join("plugins");
    plugins::put(&dir, "deaf", &plugins::build("slow-stop", 1));
    let host = builder.start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    api.start(&guest("deaf", &source));
    let player = Player::attach(&host.url("live/guest"));
    player.wait_for_more(60, SOON);
    let first = api.plugin("deaf")["digest"].clone();
    plugins::put(&dir, "deaf", &plugins::build("slow-stop", 2));
    let unanswered = || api.counter("restreamd_plugin_upgrades_unanswered_total");
    eventually("it is reported", SOON, || {
        when(unanswered() >= 1.0, || unanswered().to_string())
    });
    let plugin = api.plugin("deaf");
    assert_ne!(plugin["digest"], first);
    assert_eq!(
        (&plugin["instances"], &plugin["formerInstances"]),
        (&1.into(), &1.into())
    );
    let said = |line: &&String| line.contains("did not answer the upgrade");
    assert_eq!(host.logs().iter().filter(said).count(), 1, "once");
    assert_eq!(unanswered(), 1.0, "once");
    player.wait_for_more(60, SOON);
    player.assert_unbroken(&clip);
    assert_eq!(source.dials(), 1, "its source goes on");
    neighbour.is_unharmed();
    api.delete("bad-guest");
}

#[test]
fn what_a_guest_prints_is_logged_and_of_the_machine_it_sees_nothing() {
    // By WASI's own rules: 8 is a descriptor that is not open.
    let lines = "(i32.store (i32.const 8192) (i32.const 4096))
        (i32.store (i32.const 8196) (i32.const 12))
        (if (call $fd_write (i32.const 1) (i32.const 8192) (i32.const 1) (i32.const 8200)) (then unreachable))
        (if (call $environ_sizes_get (i32.const 8204) (i32.const 8208)) (then unreachable))
        (if (i32.load (i32.const 8204)) (then unreachable))
        (if (call $args_sizes_get (i32.const 8204) (i32.const 8208)) (then unreachable))
        (if (i32.load (i32.const 8204)) (then unreachable))
        (if (i32.ne (call $fd_prestat_get (i32.const 3) (i32.const 8204)) (i32.const 8)) (then unreachable))";
    let guest = Guest::runs(lines)
        .text("hello, node\\n")
        .wasi("fd_write", "(param i32 i32 i32 i32) (result i32)")
        .wasi("environ_sizes_get", "(param i32 i32) (result i32)")
        .wasi("args_sizes_get", "(param i32 i32) (result i32)")
        .wasi("fd_prestat_get", "(param i32 i32) (result i32)");
    let builder = node();
    plugins::put(&builder.folder().join("plugins"), "prints", &guest.module());
    let host = builder.start();
    let api = host.client();
    api.start(&Provision::of_type("prints", "bad-guest", "live/guest"));
    eventually("what it prints is in the log", SOON, || {
        let logs = host.logs();
        let said = logs.iter().any(|line| line.contains("hello, node"));
        when(said, || format!("{logs:#?}"))
    });
    let plugin = api.plugin("prints");
    assert_eq!(plugin["instances"], 1, "{plugin}");
    assert_eq!(api.counter("restreamd_plugin_crashes_total"), 0.0);
}
