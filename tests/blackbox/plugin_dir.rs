//! The plugin directory as an operator uses it: files come, change and go while the
//! node runs, and whatever else lies there does no harm.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::guest::Guest;
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::plugins;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;

use crate::neighbour::Neighbour;
use crate::{SOON, node};

/// A second by the node's own promise, and what a machine with other tests at work adds.
const OFFERED: Duration = Duration::from_secs(30);
fn dir(host: &TestHost) -> PathBuf {
    host.folder().join("plugins")
}

fn plugin(api: &Api, kind: &str) -> Option<Value> {
    let answer = api.get(&format!("/as/v1/plugins/{kind}"));
    (answer.status == 200).then(|| answer.json())
}

fn wait_for(
    api: &Api,
    kind: &str,
    what: &str,
    is: impl Fn(Option<&Value>) -> bool,
) -> Option<Value> {
    eventually(&format!("{kind}: {what}"), OFFERED + SOON, || {
        let plugin = plugin(api, kind);
        match is(plugin.as_ref()) {
            true => Ok(plugin),
            false => Err(format!("{plugin:?}")),
        }
    })
}

fn is_ready(plugin: Option<&Value>) -> bool {
    plugin.is_some_and(|plugin| plugin["state"] == "ready")
}

#[test]
fn a_copied_file_is_offered_and_one_that_is_taken_away_is_not() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::of_type("rtmp-fixed", "fixed-pull", "live/fixed")
        .with("url", source.url("live/stream1"));
    api.try_create(&[&pull]).error(400);
    let file = dir(&host).join("rtmp-fixed.wasm");
    let begin = Instant::now();
    fs::copy(plugins::component("rtmp-fixed"), &file).expect("writable");
    wait_for(&api, "rtmp-fixed", "it is offered", is_ready);
    assert!(begin.elapsed() < OFFERED, "after {:?}", begin.elapsed());
    api.start(&pull);
    let player = Player::attach(&host.url("live/fixed"));
    player.wait_for_more(30, SOON);

    fs::remove_file(&file).expect("there");
    let removed = wait_for(&api, "rtmp-fixed", "it is not offered", |plugin| {
        plugin.is_some_and(|plugin| plugin["state"] == "removed")
    });
    let removed = removed.expect("its restreamer goes on");
    assert_eq!(
        (&removed["instances"], &removed["formerInstances"]),
        (&1.into(), &1.into())
    );
    let more = Provision::of_type("rtmp-fixed", "fixed-more", "live/more")
        .with("url", source.url("live/stream1"));
    api.try_create(&[&more]).error(400);
    player.wait_for_more(60, SOON);
    player.assert_attached();
    assert_eq!(source.dials(), 1);
    api.delete(pull.guid());
    wait_for(&api, "rtmp-fixed", "it is forgotten", |plugin| {
        plugin.is_none()
    });
}

#[test]
fn a_changed_file_takes_over_without_a_reload_and_without_a_reconnect() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let host = node().start();
    let api = host.client();
    let dir = dir(&host);
    plugins::put(&dir, "puller", &plugins::build("rtmp", 1));
    let first = wait_for(&api, "puller", "it is offered", is_ready).expect("there");
    let pull = Provision::of_type("puller", "swapped-pull", "live/swapped")
        .with("rtmpUri", source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/swapped"));
    player.wait_for_more(60, SOON);
    plugins::put(&dir, "puller", &plugins::build("rtmp", 2));
    wait_for(
        &api,
        "puller",
        "the other build is in use alone",
        |plugin| {
            plugin.is_some_and(|plugin| {
                plugin["digest"] != first["digest"]
                    && plugin["instances"] == 1
                    && plugin["formerInstances"] == 0
            })
        },
    );
    player.wait_for_more(60, SOON);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    assert_eq!(source.dials(), 1, "nothing is dialled again");
}

#[test]
fn a_file_takes_the_place_of_what_is_built_in_while_it_is_there() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let host = node()
        .set("plugins.replace", vec!["rtmp".to_owned()])
        .start();
    let api = host.client();
    let built_in = api.plugin("rtmp")["digest"].clone();
    let pull = Provision::pull("replaced", "live/replaced", &source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/replaced"));
    player.wait_for_more(30, SOON);
    let on = |origin: &'static str| {
        wait_for(&api, "rtmp", origin, |plugin| {
            plugin.is_some_and(|plugin| {
                plugin["origin"] == origin
                    && plugin["instances"] == 1
                    && plugin["formerInstances"] == 0
            })
        })
    };
    plugins::put(&dir(&host), "rtmp", &plugins::build("rtmp", 7));
    assert_ne!(on("file").expect("there")["digest"], built_in);
    fs::remove_file(dir(&host).join("rtmp.wasm")).expect("there");
    assert_eq!(on("built in").expect("there")["digest"], built_in);
    player.wait_for_more(30, SOON);
    player.assert_unbroken(&clip);
    assert_eq!(source.dials(), 1);
}

#[test]
fn a_file_named_as_what_is_built_in_changes_nothing_unless_the_config_says_so() {
    let builder = node().announce("built in");
    plugins::put(
        &builder.folder().join("plugins"),
        "rtmp",
        &plugins::build("rtmp", 7),
    );
    let host = builder.start();
    let api = host.client();
    let said = |line: &String| line.contains("rtmp.wasm") && line.contains("plugins.replace");
    eventually("it is told", SOON, || {
        let logs = host.logs();
        when(logs.iter().any(said), || format!("{logs:#?}"))
    });
    let plugin = api.plugin("rtmp");
    assert_eq!(
        (&plugin["origin"], &plugin["state"]),
        (&"built in".into(), &"ready".into())
    );
}

#[test]
fn a_run_of_a_removed_type_that_traps_goes_on_on_its_build() {
    let source = Source::open(&Clip::small());
    let host = node()
        .plugin("trap-while-live")
        .announce("the plugin crashed")
        .start();
    let api = host.client();
    let pull = Provision::of_type("trap-while-live", "orphan", "live/orphan")
        .with("url", source.url("live/stream1"))
        .with("afterMs", "4000");
    api.start(&pull);
    api.wait_for_state("orphan", "LIVE", SOON);
    fs::remove_file(dir(&host).join("trap-while-live.wasm")).expect("there");
    wait_for(&api, "trap-while-live", "it is not offered", |plugin| {
        plugin.is_some_and(|plugin| plugin["state"] == "removed")
    });
    let crashes = || api.counter("restreamd_plugin_crashes_total");
    eventually("it traps", OFFERED, || {
        when(crashes() >= 1.0, || format!("{} crashes", crashes()))
    });
    let running = wait_for(&api, "trap-while-live", "it runs again", |plugin| {
        plugin.is_some_and(|plugin| plugin["instances"] == 1)
    });
    assert_eq!(running.expect("there")["state"], "removed");
    assert_eq!(api.status("orphan")["state"], "LIVE");
    assert_eq!((crashes(), source.dials()), (1.0, 1));
    api.delete("orphan");
}

#[test]
fn running_restreamers_stay_on_their_build_when_the_plugin_says_so() {
    let source = Source::open(&Clip::small());
    let own = toml::toml! { puller = { hand_over = "new-only" } };
    let host = node().set("plugins.overrides", own).start();
    let api = host.client();
    let dir = dir(&host);
    plugins::put(&dir, "puller", &plugins::build("rtmp", 1));
    wait_for(&api, "puller", "it is offered", is_ready);
    let pull = |guid: &str, stream: &str| {
        Provision::of_type("puller", guid, stream).with("rtmpUri", source.url("live/stream1"))
    };
    api.start(&pull("first", "live/first"));
    api.wait_for_state("first", "LIVE", SOON);
    let first = api.plugin("puller")["digest"].clone();
    plugins::put(&dir, "puller", &plugins::build("rtmp", 2));
    let swapped = wait_for(&api, "puller", "the other build is in use", |plugin| {
        plugin.is_some_and(|plugin| plugin["digest"] != first)
    });
    assert_eq!(swapped.expect("there")["handOver"], "new-only");
    api.start(&pull("second", "live/second"));
    api.wait_for_state("second", "LIVE", SOON);
    holds("the first one stays", Duration::from_secs(3), || {
        let plugin = api.plugin("puller");
        let counts = (&plugin["instances"], &plugin["formerInstances"]);
        when(counts == (&2.into(), &1.into()), || plugin.to_string())
    });
}

#[test]
fn a_slow_copy_is_offered_when_it_is_whole_and_never_called_bad() {
    let host = node().start();
    let api = host.client();
    let whole = fs::read(plugins::component("rtmp-fixed")).expect("built");
    let mut file = File::create(dir(&host).join("slow.wasm")).expect("writable");
    // Each part lies there long enough to be read; only the last one makes it whole.
    for part in whole.chunks(whole.len() / 3 + 1) {
        file.write_all(part).expect("writable");
        holds("nobody complains", Duration::from_millis(1_200), || {
            let error = plugin(&api, "slow").map(|plugin| plugin["error"].clone());
            when(error.is_none_or(|error| error.is_null()), || {
                "rejected".to_owned()
            })
        });
    }
    wait_for(&api, "slow", "it is offered", is_ready);
    assert_eq!(api.counter("restreamd_plugin_rejections_total"), 0.0);
}

#[test]
fn whatever_lies_in_the_directory_does_no_harm() {
    let source = Source::open(&Clip::small());
    let builder = node().announce("plugin rejected").announce("not a plugin");
    let dir = builder.folder().join("plugins");
    let litter = |dir: &std::path::Path, name: &str| {
        fs::create_dir(dir.join(format!("{name}-folder.wasm"))).expect("writable");
        let own = dir.join(format!("{name}-loop.wasm"));
        symlink(&own, &own).expect("writable");
        symlink("/dev/zero", dir.join(format!("{name}-device.wasm"))).expect("writable");
        let pipe = dir.join(format!("{name}-pipe.wasm"));
        let made = Command::new("mkfifo")
            .arg(pipe)
            .status()
            .expect("coreutils");
        assert!(made.success());
        File::create(dir.join(format!("{name}-large.wasm")))
            .and_then(|large| large.set_len(1 << 40))
            .expect("sparse");
    };
    litter(&dir, "before");
    for odd in ["Upper.wasm", "a b.wasm", "a_b.wasm"] {
        fs::write(dir.join(odd), b"no plugin").expect("writable");
    }
    for n in 0..100 {
        fs::write(dir.join(format!("n{n:03}.wasm")), b"no plugin").expect("writable");
    }
    let host = builder.start();
    let api = host.client();
    litter(&dir, "after");
    for name in ["before", "after"] {
        for (kind, why) in [
            ("folder", "not a regular file"),
            ("device", "not a regular file"),
            ("pipe", "not a regular file"),
            ("large", "at most"),
            ("loop", ""),
        ] {
            let bad = wait_for(
                &api,
                &format!("{name}-{kind}"),
                "it is rejected",
                |plugin| plugin.is_some_and(|plugin| plugin["state"] == "rejected"),
            );
            let error = bad.expect("there")["error"].clone();
            assert!(error.as_str().is_some_and(|e| e.contains(why)), "{error}");
        }
    }
    let logs = host.logs();
    for odd in ["Upper.wasm", "a b.wasm", "a_b.wasm"] {
        let said = logs
            .iter()
            .filter(|line| line.contains("not a plugin") && line.contains(odd));
        assert_eq!(said.count(), 1, "{odd}");
    }
    plugins::put(&dir, "good", &plugins::build("rtmp", 1));
    wait_for(&api, "good", "it is offered", is_ready);
    let pull = Provision::of_type("good", "good-pull", "live/good")
        .with("rtmpUri", source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let rejected = api.counter("restreamd_plugin_rejections_total");
    assert!((109.0..=110.0).contains(&rejected), "each once: {rejected}");
}

#[test]
fn a_large_guest_shows_as_compiling_and_what_is_in_use_serves_meanwhile() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let host = node().start();
    let api = host.client();
    let dir = dir(&host);
    plugins::put(&dir, "puller", &plugins::build("rtmp", 1));
    let first = wait_for(&api, "puller", "it is offered", is_ready).expect("there");
    let pull = Provision::of_type("puller", "large-pull", "live/large")
        .with("rtmpUri", source.url("live/stream1"));
    api.start(&pull);
    let player = Player::attach(&host.url("live/large"));
    player.wait_for_more(30, SOON);
    plugins::put(&dir, "puller", &as_large_as_python());
    let begin = Instant::now();
    let is_compiling = |plugin: Option<&Value>| plugin.is_some_and(|p| p["state"] == "compiling");
    let compiling = wait_for(&api, "puller", "it is compiled", is_compiling);
    assert_eq!(compiling.expect("there")["digest"], first["digest"]);
    let serves = |guid: &str, kind: &str| {
        let pull = Provision::of_type(kind, guid, &format!("live/{guid}"))
            .with("rtmpUri", source.url("live/stream1"));
        api.start(&pull);
        api.wait_for_state(guid, "LIVE", SOON);
    };
    // The build before serves, and small files do not wait for their turn.
    serves("other", "puller");
    plugins::put(&dir, "small", &plugins::build("rtmp", 2));
    wait_for(&api, "small", "it is offered", is_ready);
    serves("third", "small");
    let busy = api.plugin("puller");
    assert!(is_compiling(Some(&busy)), "{busy}");
    let mut slowest = Duration::ZERO;
    eventually("it is in use", Duration::from_secs(240), || {
        let asked = Instant::now();
        let plugin = api.plugin("puller");
        slowest = slowest.max(asked.elapsed());
        when(plugin["digest"] != first["digest"], || plugin.to_string())
    });
    let took = begin.elapsed();
    // Nobody waits for a core that the compiler has: a machine of two has other tests.
    assert!(slowest < Duration::from_secs(1), "{slowest:?} of {took:?}");
    let gap = player.longest_gap(begin);
    assert!(gap < Duration::from_secs(1), "{gap:?} of {took:?}");
    player.assert_unbroken(&clip);

    // One that is taken away while it is compiled is never offered.
    let mut next = as_large_as_python();
    next.extend(plugins::section(b"build", b"2"));
    plugins::put(&dir, "gone", &next);
    wait_for(&api, "gone", "it is compiled", is_compiling);
    fs::remove_file(dir.join("gone.wasm")).expect("there");
    wait_for(&api, "gone", "it is forgotten", |plugin| plugin.is_none());
    holds("it stays so", took + took / 2, || {
        let plugin = plugin(&api, "gone");
        when(plugin.is_none(), || format!("{plugin:?}"))
    });
    let logs = host.logs();
    let offered = |line: &&String| line.contains("plugin installed") && line.contains("\"gone\"");
    assert_eq!(logs.iter().find(offered), None);
}

/// 20 MB of a module whose code takes a while to compile.
fn as_large_as_python() -> Vec<u8> {
    let mut module = Guest::default().with_ballast(30_000).module();
    let rest = (20 << 20) - module.len();
    module.extend(plugins::section(b"ballast", &vec![0; rest]));
    module
}

#[test]
fn compiled_code_is_kept_and_made_again_when_it_is_damaged() {
    let mut host = node()
        .plugin("rtmp-fixed")
        .announce("compiled code")
        .start();
    let folder = host.folder().join("data/compiled");
    let files = || {
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .expect("it is kept there")
            .map(|entry| entry.expect("readable").path())
            .collect();
        files.sort();
        files
    };
    let kept = files();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let read = |file: &PathBuf| fs::read(file).expect("ours");
    let before: Vec<Vec<u8>> = kept.iter().map(read).collect();
    let made = |file: &PathBuf| {
        let found = fs::metadata(file).expect("there");
        std::os::unix::fs::MetadataExt::ino(&found)
    };
    let inodes: Vec<u64> = kept.iter().map(made).collect();
    host.restart();
    let again: Vec<u64> = kept.iter().map(made).collect();
    assert_eq!(
        (files(), &again),
        (kept.clone(), &inodes),
        "nothing is compiled"
    );
    for (file, bytes) in kept.iter().zip(&before) {
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(file, damaged).expect("ours");
    }
    host.restart();
    assert_eq!(
        kept.iter().map(read).collect::<Vec<_>>(),
        before,
        "made again"
    );
    let api = host.client();
    assert!(is_ready(plugin(&api, "rtmp-fixed").as_ref()));
}

#[test]
fn each_refusal_is_one_line_with_advice_and_the_old_build_stays() {
    let pinned = plugins::build("rtmp", 1);
    let digest = sha256(&pinned);
    let own = format!("[pinned]\nsha256 = \"{digest}\"\n[slim]\ncore_instances = 1");
    let own: toml::Table = own.parse().expect("TOML");
    let host = node()
        .set("plugins.overrides", own)
        .announce("plugin rejected")
        .start();
    let api = host.client();
    let neighbour = Neighbour::start(&host, &api);
    let dir = dir(&host);
    plugins::put(&dir, "pinned", &pinned);
    wait_for(&api, "pinned", "it is offered", is_ready);
    plugins::put(&dir, "kept", &plugins::build("rtmp", 1));
    let kept = wait_for(&api, "kept", "it is offered", is_ready).expect("there");
    let another = plugins::build("rtmp", 2);
    let whole = Guest::default().module();
    let cases: [(&str, Vec<u8>, &[&str], &str); 14] = [
        (
            "not-wasm",
            b"MZ".to_vec(),
            &["not a WebAssembly", "build it for wasm32-wasip1"],
            "wasm",
        ),
        (
            "half",
            another[..another.len() / 2].to_vec(),
            &["not a WebAssembly", "copy it again"],
            "wasm",
        ),
        (
            "newer",
            Guest::default().version("9.1.0").module(),
            &["9.1.0", "this host speaks", "wit/world.wit"],
            "contract",
        ),
        (
            "bare",
            Guest::default().without_section().module(),
            &["component-type section", "wit-bindgen"],
            "contract",
        ),
        (
            "missing",
            Guest::default().importing("teleport").module(),
            &["teleport", "wit/world.wit"],
            "invalid",
        ),
        (
            "describe-loop",
            Guest::default().describes("(loop $l (br $l))").module(),
            &[
                "describe ran for 100ms without waiting",
                "plugins.overrides.describe-loop.ticks",
            ],
            "misbehaved",
        ),
        (
            "describe-trap",
            Guest::default().describes("unreachable").module(),
            &["describe trapped", "unreachable", "restreamd plugin check"],
            "misbehaved",
        ),
        (
            "describe-huge",
            Guest::default().doc(100_000).module(),
            &["describe", "2000 bytes", "say less"],
            "misbehaved",
        ),
        (
            "describe-more",
            Guest::default().doc(1_500_000).module(),
            &["describe moved more than its 1048576 bytes", "call_bytes"],
            "misbehaved",
        ),
        (
            "check-trap",
            Guest::default().checks("unreachable").module(),
            &["check trapped", "unreachable", "restreamd plugin check"],
            "misbehaved",
        ),
        (
            "check-waits",
            Guest::default()
                .checks("(call $wait (i32.const 60000))")
                .module(),
            &["check took longer than 2s", "neither waits nor asks"],
            "misbehaved",
        ),
        (
            "slim",
            Guest::default().module(),
            &["instance"],
            "misbehaved",
        ),
        (
            "pinned",
            another.clone(),
            &["overrides.pinned.sha256", &digest],
            "pin",
        ),
        (
            "kept",
            whole[..whole.len() / 2].to_vec(),
            &["not all of one", "copy it again"],
            "wasm",
        ),
    ];
    for (kind, bytes, ..) in &cases {
        plugins::put(&dir, kind, bytes);
    }
    for (kind, _, parts, label) in &cases {
        let bad = eventually(
            &format!("{kind} is rejected"),
            Duration::from_secs(60),
            || {
                let plugin = plugin(&api, kind);
                let error = plugin
                    .as_ref()
                    .and_then(|p| p["error"].as_str().map(str::to_owned));
                error.ok_or_else(|| format!("{plugin:?}"))
            },
        );
        assert!(!bad.contains('\n'), "{kind}: {bad}");
        for part in *parts {
            assert!(bad.contains(part), "{kind}: {part:?} is not in {bad:?}");
        }
        let line = host
            .logs()
            .into_iter()
            .find(|line| line.contains("plugin rejected") && line.contains(&format!("\"{kind}\"")));
        assert!(line.is_some(), "{kind} is not in the log");
        let metrics = api.anonymous().get("/metrics").text;
        let sample =
            format!("restreamd_plugin_rejections_total{{type=\"{kind}\",reason=\"{label}\"}} 1");
        assert!(metrics.contains(&sample), "{sample}\n{bad}\n{metrics}");
    }
    neighbour.is_unharmed();
    let now = api.plugin("kept");
    assert_eq!(
        (&now["digest"], &now["state"]),
        (&kept["digest"], &"rejected".into())
    );
    api.create(
        &Provision::of_type("kept", "on-the-old", "live/old").with("rtmpUri", "rtmp://a/b/c"),
    );
}

/// As `sha256sum` shows it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
