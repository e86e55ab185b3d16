//! What an author gets: a project in each language that builds with public tools, does what
//! its scenarios say, and pulls a real stream, over restarts of the source and of itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use restreamd_tests::api::Api;
use restreamd_tests::author::Project;
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::ffmpeg;
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;

use crate::{SOON, node};

/// Python's 18 MB, by a compiler that is not optimised, on a busy machine.
const COMPILED: Duration = Duration::from_secs(120);

fn project(language: &str) -> Project {
    Project::new(env!("CARGO_BIN_EXE_restreamd"), language, "my-pull")
}

/// A node with this file as its plugin.
fn with_plugin(file: &Path) -> TestHost {
    let builder = node();
    let place = builder.folder().join("plugins/my-pull.wasm");
    fs::copy(file, place).expect("the plugin folder is writable");
    builder.start()
}

/// ffmpeg publishes, the plugin pulls what it publishes, a player plays what the plugin
/// pulls; the source goes and comes back, then a new build takes over.
fn pulls_a_real_stream(project: &Project, component: &Path, version: &str) {
    let host = with_plugin(component);
    let api = host.client();
    offered(&api, version);
    let clip = Clip::small();
    let mut source = ffmpeg::publish(&clip, &host.url("live/stream1"));
    let pull =
        Provision::of_type("my-pull", "guest", "live/guest").with("url", host.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state("guest", "LIVE", SOON);
    let player = Player::attach(&host.url("live/guest"));
    player.wait_for_more(60, SOON);

    source.kill();
    api.wait_for_state("guest", "WAIT", SOON);
    let _again = ffmpeg::publish(&clip, &host.url("live/stream1"));
    // Its longest wait is 10 s.
    api.wait_for_state("guest", "LIVE", SOON * 2);
    player.wait_for_more(60, SOON);

    let before = api.status("guest");
    let place = host.folder().join("plugins/my-pull.wasm");
    let next = project.restamp(component, "0.2.0");
    fs::rename(next, &place).expect("the plugin folder is writable");
    // The node sees the file by itself.
    offered(&api, "0.2.0");
    let after = api.wait_for("guest", "the new build runs it", SOON, |status| {
        status["plugin"]["version"] == "0.2.0"
    });
    player.wait_for_more(60, SOON);
    assert_eq!(
        after["attempt"], before["attempt"],
        "nothing is dialed again"
    );
    assert_eq!(api.status("guest")["state"], "LIVE");
    player.assert_attached();
    player.assert_monotonic();
    assert!(api.counter("restreamd_plugin_crashes_total") < 1.0);
}

/// A large file is compiled while the node runs already.
fn offered(api: &Api, version: &str) {
    eventually("the plugin is compiled", COMPILED, || {
        let plugin = api.get("/as/v1/plugins/my-pull").json();
        let ready = plugin["state"] == "ready" && plugin["version"] == version;
        when(ready, || plugin.to_string())
    });
}

fn is_proven(project: &Project) {
    let component = project.build();
    project.test(&component);
    pulls_a_real_stream(project, &component, "0.1.0");
}

#[test]
fn a_plugin_in_rust_is_made_built_and_pulls() {
    is_proven(&project("rust"));
}

/// The compiler's own output, as it is: the node makes a component of it.
#[test]
fn a_plugin_in_rust_runs_as_a_wasip1_core_module_too() {
    let project = project("rust");
    let manifest = project.path().join("plugin.toml");
    let text = fs::read_to_string(&manifest).expect("readable");
    fs::write(&manifest, format!("{text}target = \"wasm32-wasip1\"\n")).expect("writable");
    project.build();
    let core = project
        .path()
        .join("target/wasm32-wasip1/release/plugin.wasm");
    let bytes = fs::read(&core).expect("built");
    assert_eq!(bytes[4..8], [1, 0, 0, 0], "a core module");
    let module = project.path().join("target/my-pull.wasm");
    fs::copy(core, &module).expect("writable");
    project.test(&module);
    // A compiler writes none into it.
    pulls_a_real_stream(&project, &module, "unknown");
}

#[test]
fn a_plugin_in_c_is_made_built_and_pulls() {
    is_proven(&project("c"));
}

#[test]
fn a_plugin_in_javascript_is_made_built_and_pulls() {
    is_proven(&project("js"));
}

#[test]
fn a_plugin_in_python_is_made_built_and_pulls() {
    is_proven(&project("python"));
}

#[test]
fn a_project_is_never_written_over_and_its_name_is_a_types() {
    let project = project("js");
    let again = |name: &str| {
        let folder = project.path();
        let mut command = project.restreamd(folder.parent().expect("it has one"));
        let output = command
            .args(["plugin", "new", "--lang", "c", name])
            .output();
        let output = output.expect("restreamd runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = again("my-pull");
    assert!(code == Some(1) && text.contains("File exists"), "{text}");
    assert!(!project.path().join("plugin.c").exists());
    for bad in ["My-Pull", "../x", "", "a/b", "a_b"] {
        let (code, text) = again(bad);
        assert!(code == Some(1) && text.contains("name"), "{bad}: {text}");
    }
}

#[test]
fn a_missing_tool_is_named_with_what_installs_it() {
    for (language, advice) in [
        ("rust", "rustup target add wasm32-unknown-unknown"),
        ("c", "pip install -r requirements.txt"),
        ("js", "npm install"),
        ("python", "pip install -r requirements.txt"),
    ] {
        let project = project(language);
        if language == "rust" && Path::new("/usr/bin/cargo").exists() {
            // Debian's is found at its place.
            continue;
        }
        let mut command = project.restreamd(&project.path());
        let output = command
            .args(["plugin", "build"])
            .env("PATH", "/nowhere")
            .output();
        let output = output.expect("restreamd runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(advice), "{text}");
        assert!(
            text.contains(&project.path().display().to_string()) || text.contains(" in ."),
            "{text}"
        );
    }
}

#[test]
fn a_build_that_fails_leaves_the_one_before() {
    let project = project("js");
    let component = project.build();
    let before = fs::read(&component).expect("built");
    fs::write(
        project.path().join("plugin.js"),
        "export const restreamer = {",
    )
    .expect("writable");
    let mut command = project.restreamd(&project.path());
    let output = command
        .args(["plugin", "build"])
        .output()
        .expect("restreamd runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(&component).expect("still there"), before);
}
