//! What an operator grants a plugin, and asks of its file.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::guest::Guest;
use restreamd_tests::plugins;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Gate, Script, Source};

use crate::plugin_dir::sha256;
use crate::{SOON, node};

/// `[plugins.overrides]` as it is written.
fn overrides(text: &str) -> toml::Table {
    text.parse().expect("TOML")
}

/// The error of a pull that is refused before anything is dialled.
fn blocked(api: &Api, pull: &Provision) -> String {
    api.start(pull);
    let status = api.wait_for(pull.guid(), "it is blocked", SOON, |status| {
        status["history"][0]["class"] == "blocked"
    });
    api.delete(pull.guid());
    status["history"][0]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_plugin_dials_what_it_is_granted_of_what_the_node_may() {
    let source = Source::open(&Clip::small());
    let port = source.addr().port();
    let own = overrides(&format!(
        "by-host.grants.hosts = [\"LOCALHOST\"]\n\
         by-net.grants.networks = [\"127.0.0.1/32\", \"10.0.0.0/8\"]\n\
         by-port.grants.ports = [{port}]\n\
         nothing.grants.hosts = []"
    ));
    let host = node().set("plugins.overrides", own);
    let dir = host.folder().join("plugins");
    for kind in ["by-host", "by-net", "by-port", "nothing"] {
        plugins::put(&dir, kind, &plugins::build("rtmp", 1));
    }
    let host = host.start();
    let api = host.client();
    let pull =
        |kind: &str, url: String| Provision::of_type(kind, kind, "live/a").with("rtmpUri", url);
    let url = |name: &str| format!("rtmp://{name}:{port}/live/stream1");
    for (kind, good) in [
        ("by-host", "localhost"),
        ("by-net", "localhost"),
        ("by-net", "127.0.0.1"),
        ("by-port", "127.0.0.1"),
    ] {
        let pull = pull(kind, url(good));
        api.start(&pull);
        api.wait_for_state(kind, "LIVE", SOON);
        api.delete(kind);
    }
    let dials = source.dials();
    for (kind, bad, grant) in [
        ("by-host", url("127.0.0.1"), "hosts"),
        // Not even its name is asked for.
        ("by-host", url("nowhere.invalid"), "hosts"),
        ("by-net", url("127.0.0.2"), "networks"),
        // Granted, and the node's own policy is the narrower one.
        ("by-net", url("10.0.0.1"), "the dial policy"),
        (
            "by-port",
            format!("rtmp://127.0.0.1:{}/live/s", port ^ 1),
            "ports",
        ),
        ("nothing", url("127.0.0.1"), "hosts"),
    ] {
        let text = blocked(&api, &pull(kind, bad.clone()));
        let named = match grant {
            "the dial policy" => text.contains(grant),
            _ => text.contains(&format!("plugins.overrides.{kind}.grants: {grant}")),
        };
        assert!(named, "{kind} {bad}: {text}");
    }
    assert_eq!(source.dials(), dials);
}

#[test]
fn a_redirect_leads_nowhere_that_is_not_granted() {
    let target = Source::open(&Clip::small());
    let to = format!("rtmp://127.0.0.1:{}/live", target.addr().port());
    let script = Script {
        gate: Gate::Redirect(to),
        ..Script::default()
    };
    let source = Source::scripted(&Clip::small(), script);
    let own = overrides(&format!("sent.grants.ports = [{}]", source.addr().port()));
    let host = node().set("plugins.overrides", own);
    plugins::put(
        &host.folder().join("plugins"),
        "sent",
        &plugins::build("rtmp", 1),
    );
    let host = host.start();
    let pull = Provision::of_type("sent", "sent", "live/a").with("rtmpUri", source.url("live/s"));
    let text = blocked(&host.client(), &pull);
    assert!(
        text.contains("plugins.overrides.sent.grants: ports"),
        "{text}"
    );
    assert!(source.dials() > 0);
    assert_eq!(target.dials(), 0);
}

#[test]
fn a_plugin_opens_no_more_sources_than_it_is_granted() {
    let source = Source::open(&Clip::small());
    let url = source.url("live/stream1");
    // The second one must be refused: it traps when it is not.
    let lines = format!(
        "(i32.store (i32.const 8192) (i32.const 4096)) (i32.store (i32.const 8196) (i32.const {}))
         (call $rtmp.connect (i32.const 8192) (i32.const 1024))
         (if (i32.load8_u (i32.const 1024)) (then unreachable))
         (call $rtmp.connect (i32.const 8192) (i32.const 1024))
         (if (i32.eqz (i32.load8_u (i32.const 1024))) (then unreachable))",
        url.len()
    );
    let host = node().set("plugins.overrides", overrides("greedy.grants.sources = 1"));
    let guest = Guest::runs(&lines).text(&url);
    plugins::put(&host.folder().join("plugins"), "greedy", &guest.module());
    let host = host.start();
    let api = host.client();
    api.start(&Provision::of_type("greedy", "greedy", "live/a"));
    eventually("one source is open", SOON, || {
        let open = source.connections();
        when(open == 1, || {
            format!("{open} open; {}", api.status("greedy"))
        })
    });
    assert_eq!(api.counter("restreamd_plugin_crashes_total"), 0.0);
    assert_eq!(api.plugin("greedy")["instances"], 1);
}

#[test]
fn a_plugin_that_imports_what_it_is_not_granted_is_told_what_to_add() {
    let host = node().announce("plugin rejected");
    let dir = host.folder().join("plugins");
    plugins::put(&dir, "asker", &Guest::default().importing("http").module());
    let host = host.start();
    let error = host.client().plugin("asker")["error"].clone();
    let told = error.as_str().is_some_and(|error| {
        error.contains("[plugins.overrides.asker.grants]") && error.contains("http = [")
    });
    assert!(told, "{error}");
    // Its author is told too, and not refused for it.
    let (good, said) = crate::plugins::check(&dir.join("asker.wasm"));
    let named = said.contains("[plugins.overrides.asker.grants]");
    assert!(good && named, "{said}");
}

/// Opens that many by an import, all of which have to be let, and one more, which must
/// not; then says so. It traps otherwise.
fn opens(import: &str, most: usize, url: &str) -> Guest {
    let open = format!("(call $rtmp.{import} (i32.const 8192) (i32.const 1024))");
    let good = format!("{open} (if (i32.load8_u (i32.const 1024)) (then unreachable))");
    let bad = format!("{open} (if (i32.eqz (i32.load8_u (i32.const 1024))) (then unreachable))");
    let (length, goods) = (url.len(), good.repeat(most));
    let lines = format!(
        "(i32.store (i32.const 8192) (i32.const 4096))
         (i32.store (i32.const 8196) (i32.const {length})) {goods} {bad}
         (call $runtime.log (i32.const 1) (i32.const 4096) (i32.const {length}))"
    );
    Guest::runs(&lines).text(url)
}

#[test]
fn a_restreamer_opens_no_more_sources_and_targets_than_the_node_lets_it() {
    // It accepts nobody, so that all of them are open for a while.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("it is bound");
    for (most, set) in [(4, None), (2, Some(2))] {
        let mut builder = node();
        if let Some(set) = set {
            builder = builder.set("limits.sources", set);
        }
        let dir = builder.folder().join("plugins");
        for import in ["connect", "publish"] {
            let guest = opens(import, most, &format!("rtmp://{addr}/live/{import}"));
            plugins::put(&dir, import, &guest.module());
        }
        let host = builder.start();
        let api = host.client();
        for import in ["connect", "publish"] {
            api.start(&Provision::of_type(
                import,
                import,
                &format!("live/{import}"),
            ));
            eventually("it was let, and then not", SOON, || {
                let logs = host.logs();
                let said = |line: &String| {
                    line.contains("restreamd::guest") && line.contains(&format!("\"{import}\""))
                };
                when(logs.iter().any(said), || format!("{logs:#?}"))
            });
            assert_eq!(api.plugin(import)["instances"], 1);
        }
        assert_eq!(api.counter("restreamd_plugin_crashes_total"), 0.0);
    }
}

#[test]
fn grants_hold_for_what_a_plugin_sends_to_as_well() {
    let source = Source::open(&Clip::small());
    let own = overrides("rtmp-push.grants.hosts = [\"localhost\"]");
    let host = node().plugin("rtmp-push").set("plugins.overrides", own);
    let host = host.start();
    let api = host.client();
    api.start(&Provision::pull("pull", "live/cam", &source.url("live/s")));
    api.wait_for_state("pull", "LIVE", SOON);
    let far = node().start();
    let push = |guid: &str, name: &str| {
        let port = far.service("rtmp").port();
        Provision::of_type("rtmp-push", guid, "live/cam")
            .with("rtmpUri", format!("rtmp://{name}:{port}/live/copy"))
            .with("persist", true)
    };
    let text = blocked(&api, &push("denied", "127.0.0.1"));
    assert!(
        text.contains("plugins.overrides.rtmp-push.grants: hosts"),
        "{text}"
    );
    let granted = push("granted", "localhost");
    api.start(&granted);
    api.wait_for_state(granted.guid(), "LIVE", SOON);
}

#[test]
fn a_node_may_take_nothing_that_is_not_pinned() {
    let one = plugins::build("rtmp", 1);
    let digest = sha256(&one);
    let builder = node()
        .set("plugins.require_pin", true)
        .set(
            "plugins.overrides",
            overrides(&format!("pinned.sha256 = \"{digest}\"")),
        )
        .announce("plugin rejected");
    let dir = builder.folder().join("plugins");
    for kind in ["pinned", "loose"] {
        plugins::put(&dir, kind, &one);
    }
    let host = builder.start();
    let api = host.client();
    assert_eq!(api.plugin("pinned")["state"], "ready");
    let loose = api.plugin("loose");
    let error = loose["error"].as_str().unwrap_or_default();
    assert_eq!(loose["state"], "rejected", "{loose}");
    assert!(
        error.contains("plugins.overrides.loose.sha256") && error.contains(&digest),
        "{loose}"
    );
    let metrics = api.anonymous().get("/metrics").text;
    let sample = "plugin_rejections_total{type=\"loose\",reason=\"pin\"} 1";
    assert!(metrics.contains(sample), "{metrics}");
}

/// An operator's way with a key: openssl of the machine.
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let done = Command::new("openssl").args(arguments).output();
    let done = done.expect("install the package openssl");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    done.stdout
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

#[test]
fn files_are_signed_by_a_known_key_or_pinned() {
    let builder = node().announce("plugin rejected");
    let (dir, key) = (
        builder.folder().join("plugins"),
        builder.folder().join("key.pem"),
    );
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", path(&key)]);
    let der = openssl(&["pkey", "-in", path(&key), "-pubout", "-outform", "DER"]);
    let public: String = der[der.len() - 32..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let sign = |kind: &str, bytes: &[u8]| {
        let (file, signature) = (
            builder.folder().join("signed"),
            dir.join(format!("{kind}.wasm.sig")),
        );
        fs::write(&file, bytes).expect("writable");
        openssl(&[
            "pkeyutl",
            "-sign",
            "-rawin",
            "-inkey",
            path(&key),
            "-in",
            path(&file),
            "-out",
            path(&signature),
        ]);
    };
    let (one, two) = (plugins::build("rtmp", 1), plugins::build("rtmp", 2));
    let kinds = ["signed", "unsigned", "forged"];
    for kind in kinds {
        plugins::put(&dir, kind, &one);
    }
    sign("signed", &one);
    sign("forged", &two);
    let host = builder.clone().set("plugins.keys", vec![public]).start();
    let api = host.client();
    for (kind, state, why) in [
        ("signed", "ready", ""),
        ("unsigned", "rejected", "not signed"),
        ("forged", "rejected", "not a signature"),
    ] {
        let plugin = api.plugin(kind);
        let error = plugin["error"].as_str().unwrap_or_default();
        assert!(plugin["state"] == state && error.contains(why), "{plugin}");
    }
    // A signature that comes later is as good.
    sign("unsigned", &one);
    eventually("it is offered", SOON, || {
        let plugin = api.plugin("unsigned");
        when(plugin["state"] == "ready", || plugin.to_string())
    });
    // What is changed without one is not taken, and what is in use stays.
    let before = api.plugin("signed")["digest"].clone();
    plugins::put(&dir, "signed", &two);
    eventually("it is rejected", SOON, || {
        let plugin = api.plugin("signed");
        when(
            plugin["state"] == "rejected" && plugin["digest"] == before,
            || plugin.to_string(),
        )
    });
}
