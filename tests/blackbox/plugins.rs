//! Types from the plugin folder: chosen by `type`, admitted or refused with a reason.

use std::fs;
use std::process::Command;
use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::holds;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use restreamd_tests::{ffmpeg, plugins};

use crate::{SOON, node};

fn fixed(url: &str) -> Provision {
    Provision::of_type("rtmp-fixed", "fixed-pull", "live/fixed")
        .with("url", url)
        .with("everyMs", 200)
        .with("attempts", 4)
}

#[test]
fn second_type_pulls_media_by_its_own_properties() {
    let source = Source::open(&Clip::small());
    let host = node().plugin("rtmp-fixed").start();
    let api = host.client();
    let pull = fixed(&source.url("live/stream1"));
    api.start(&pull);
    let status = api.wait_for_state(pull.guid(), "LIVE", SOON);
    assert_eq!(
        (&status["type"], &status["plugin"]["name"]),
        (&"rtmp-fixed".into(), &"rtmp-fixed".into()),
        "{status}"
    );
    ffmpeg::decodes(&host.url("live/fixed"), Duration::from_secs(2));
}

#[test]
fn a_type_has_the_other_names_that_the_config_gives_it() {
    let source = Source::open(&Clip::small());
    let other = toml::toml! { camera = "rtmp-fixed" };
    let host = node()
        .plugin("rtmp-fixed")
        .set("plugins.aliases", other)
        .start();
    let api = host.client();
    let pull = |kind: &str| {
        Provision::of_type(kind, kind, &format!("live/{kind}"))
            .with("url", source.url("live/stream1"))
    };
    api.start(&pull("camera"));
    let status = api.wait_for_state("camera", "LIVE", SOON);
    assert_eq!(status["plugin"]["name"], "rtmp-fixed", "{status}");
    api.try_create(&[&pull("cameras")]).error(400);
}

#[test]
fn second_type_gives_up_after_its_attempts() {
    let mut source = Source::open(&Clip::small());
    let host = node()
        .plugin("rtmp-fixed")
        .announce("gave up")
        .announce("gave-up")
        .start();
    let api = host.client();
    let pull = fixed(&source.url("live/stream1"));
    source.go_away();
    api.start(&pull);
    let status = api.wait_for_phase(pull.guid(), "failed", SOON);
    assert_eq!(
        (&status["state"], &status["attempt"]),
        (&"WAIT".into(), &4.into()),
        "{status}"
    );
    assert!(
        status["error"].as_str().is_some_and(|e| !e.is_empty()),
        "{status}"
    );
    source.come_back();
    holds("it has given up", Duration::from_secs(2), || {
        if source.dials() == 0 {
            Ok(())
        } else {
            Err("dialled".to_owned())
        }
    });
    api.delete(pull.guid());
}

#[test]
fn a_types_own_check_names_the_field() {
    let host = node().plugin("rtmp-fixed").start();
    let api = host.client();
    let cases = [
        (
            Provision::of_type("rtmp-fixed", "fixed-pull", "live/fixed"),
            "url",
        ),
        (
            fixed("rtmp://127.0.0.1/live/s").with("everyMs", "soon"),
            "everyMs",
        ),
        (
            fixed("rtmp://127.0.0.1/live/s").with("rtmpUri", "x"),
            "rtmpUri",
        ),
    ];
    for (provision, key) in cases {
        let body = api.try_create(&[&provision]).error(400);
        assert_eq!(
            body["field"],
            format!("streams[0].camParams.properties.{key}"),
            "{body}"
        );
    }
}

#[test]
fn installed_types_are_listed_with_where_they_come_from() {
    let host = node().plugin("rtmp-fixed").start();
    let api = host.client();
    let list = api.get("/as/v1/plugins").list();
    let found: Vec<_> = list
        .iter()
        .map(|p| (p["type"].as_str(), p["origin"].as_str()))
        .collect();
    assert!(
        found.contains(&(Some("rtmp"), Some("built in"))),
        "{list:?}"
    );
    assert!(
        found.contains(&(Some("rtmp-fixed"), Some("file"))),
        "{list:?}"
    );
    for plugin in &list {
        for key in [
            "version",
            "digest",
            "state",
            "error",
            "instances",
            "capabilities",
        ] {
            assert!(plugin.get(key).is_some(), "{key} is missing in {plugin}");
        }
    }
    assert_eq!(api.plugin("rtmp-fixed")["type"], "rtmp-fixed");
    api.get("/as/v1/plugins/none-such").error(404);
}

#[test]
fn broken_files_are_refused_with_a_reason_and_the_rest_runs() {
    let builder = node().plugin("rtmp-fixed").announce("broken");
    let folder = builder.folder().join("plugins");
    fs::write(folder.join("broken.wasm"), b"\0asm but not for long")
        .expect("the folder is writable");
    fs::write(folder.join("Bad_Name.wasm"), b"").expect("the folder is writable");
    let whole = fs::read(plugins::component("rtmp-fixed")).expect("it is built");
    fs::write(folder.join("broken-half.wasm"), &whole[..whole.len() / 2])
        .expect("the folder is writable");
    let host = builder.announce("Bad_Name").start();
    let api = host.client();
    for name in ["broken", "broken-half"] {
        let plugin = api.plugin(name);
        assert!(
            plugin["error"].as_str().is_some_and(|e| !e.is_empty()),
            "{plugin}"
        );
        let refused = api
            .try_create(&[&Provision::of_type(name, "broken-pull", "live/broken")])
            .error(400);
        assert_eq!(
            refused["field"], "streams[0].camParams.properties.type",
            "{refused}"
        );
    }
    assert_eq!(api.plugin("rtmp-fixed")["error"], serde_json::Value::Null);
}

#[test]
fn unknown_type_is_400_naming_the_installed_ones() {
    let host = node().plugin("rtmp-fixed").start();
    for (kind, says) in [
        ("ndi", "is no installed type"),
        ("rtmp-push", "rtmp-push.wasm belongs into plugin_dir"),
        ("ipcam", "Red5 has"),
        ("srt", "Red5 has"),
        ("srt-caller", "Red5 has"),
        ("mpegts", "Red5 has"),
        ("whip-push", "Red5 has"),
        ("zixi", "Red5 has"),
        ("zixi-push", "Red5 has"),
    ] {
        let provision = Provision::of_type(kind, "other", "live/other");
        let body = host.client().try_create(&[&provision]).error(400);
        assert_eq!(
            body["field"], "streams[0].camParams.properties.type",
            "{body}"
        );
        let text = body["error"].as_str().expect("a text");
        assert!(text.contains(says), "{kind}: {text}");
        assert!(
            text.contains("rtmp,") && text.contains("rtmp-fixed"),
            "{text}"
        );
    }
}

pub(crate) fn check(file: &std::path::Path) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    let mut running = Running::start(command.args(["plugin", "check"]).arg(file), "restreamd");
    let status = running.wait(Duration::from_secs(30));
    (
        status.success(),
        format!("{}\n{}", running.stdout.text(), running.stderr.text()),
    )
}

#[test]
fn plugin_check_says_what_admission_would_say() {
    let (good, said) = check(&plugins::component("rtmp-fixed"));
    assert!(good && said.contains("rtmp-fixed"), "{said}");
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("broken.wasm");
    fs::write(&file, b"not wasm").expect("the folder is writable");
    let (good, said) = check(&file);
    assert!(!good && said.contains("WebAssembly"), "{said}");
}

/// Runs `restreamd plugin …`: its exit code, and what it printed.
fn plugin(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command
        .arg("plugin")
        .args(arguments)
        .envs(variables.iter().copied());
    let mut running = Running::start(&mut command, "restreamd");
    let status = running.wait(Duration::from_secs(60));
    (status.code(), running.stdout.text(), running.stderr.text())
}

#[test]
fn an_operator_lists_reloads_and_rolls_back_plugins_of_a_running_node() {
    let host = node()
        .set("plugins.watch", false)
        .announce("plugin rejected")
        .start();
    let dir = host.folder().join("plugins");
    let config = host.folder().join("restreamd.toml");
    let config = config.to_str().expect("temporary paths are UTF-8");
    let url = format!("http://{}", host.api);
    // Its port is not in the file; its secret is.
    let reach = ["--config", config, "--api", &url];
    let run = |arguments: &[&str]| plugin(&[arguments, &reach].concat(), &[]);
    plugins::put(&dir, "cam", &plugins::build("rtmp", 1));
    let (code, out, error) = run(&["reload", "cam"]);
    assert!(code == Some(0) && out.contains("cam"), "{out}{error}");
    let (code, out, error) = run(&["list"]);
    assert_eq!(code, Some(0), "{error}");
    let row = |kind: &str, words: &[&str]| {
        let line = out
            .lines()
            .find(|line| line.split_whitespace().next() == Some(kind));
        line.is_some_and(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(
        row("cam", &["ready", "file"]) && row("rtmp", &["ready", "built in"]),
        "{out}"
    );
    let digest = || host.client().plugin("cam")["digest"].clone();
    let first = digest();
    plugins::put(&dir, "cam", &plugins::build("rtmp", 2));
    let (code, out, error) = run(&["reload", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
    assert!(code == Some(0) && list[0]["type"] == "cam", "{out}{error}");
    assert_ne!(digest(), first);
    assert_eq!(run(&["rollback", "cam"]).0, Some(0));
    assert_eq!(digest(), first);
    fs::write(dir.join("cam.wasm"), b"no plugin").expect("writable");
    for (arguments, why) in [
        (&["reload", "cam"][..], "not a WebAssembly"),
        (&["reload"], "cam: "),
        (&["rollback", "rtmp"], "no former build"),
        (&["reload", "rtmp"], "built in"),
        (&["reload", "none-such"], "no such plugin"),
        (&["reload", "../login"], "no plugin's name"),
    ] {
        let (code, _, error) = run(arguments);
        assert!(
            code == Some(1) && error.contains(why),
            "{arguments:?}: {code:?} {error}"
        );
    }
    // Would it be admitted, and by this node?
    let file = host.folder().join("pinned.wasm");
    fs::write(&file, plugins::build("rtmp", 1)).expect("writable");
    let pins = host.folder().join("pins.toml");
    let pin = format!(
        "[plugins.overrides.pinned]\nsha256 = \"{}\"\n",
        "0".repeat(64)
    );
    fs::write(&pins, pin).expect("writable");
    let (file, pins) = (file.display().to_string(), pins.display().to_string());
    assert_eq!(plugin(&["check", &file], &[]).0, Some(0));
    assert_eq!(
        plugin(&["check", &file, "--config", config], &[]).0,
        Some(0)
    );
    let (code, _, error) = plugin(&["check", &file, "--config", &pins], &[]);
    assert!(
        code == Some(1) && error.contains("overrides.pinned.sha256"),
        "{error}"
    );
    // By name and password, which flags would show to others; and without any of it.
    let (user, password) = restreamd_tests::host::ADMIN;
    let login = [
        ("RESTREAMD_API", url.as_str()),
        ("RESTREAMD_USER", user),
        ("RESTREAMD_PASSWORD", password),
    ];
    assert_eq!(plugin(&["list"], &login).0, Some(0));
    let wrong = [login[0], login[1], ("RESTREAMD_PASSWORD", "wrong")];
    let (code, _, error) = plugin(&["list"], &wrong);
    assert!(code == Some(1) && !error.contains("wrong:"), "{error}");
    let nowhere = host.folder().to_str().expect("temporary paths are UTF-8");
    let (code, _, error) = plugin(&["list", "--api", &url, "--data-dir", nowhere], &[]);
    assert!(code == Some(1) && error.contains("--token"), "{error}");
    let (code, _, error) = plugin(
        &["list", "--config", config, "--api", "http://127.0.0.1:9"],
        &[],
    );
    assert!(
        code == Some(69) && error.contains("127.0.0.1:9"),
        "{code:?} {error}"
    );
}
