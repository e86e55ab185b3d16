//! The walk-through of plugins/README.md, line by line.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use restreamd_tests::author;
use restreamd_tests::plugins::root;
use restreamd_tests::port;
use restreamd_tests::proc::Running;

/// The shell lines below a heading, without those that install tools: `tests/run` did.
fn shell_lines(text: &str, heading: &str) -> String {
    let section = text.split("\n## ").find(|part| part.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no {heading}"));
    let blocks = section.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().expect("a block").lines());
    let lines = lines.filter(|line| !line.ends_with("# once"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_walk_from_nothing_to_a_running_plugin_works_as_written() {
    let readme = fs::read_to_string(root().join("plugins/README.md")).expect("the tree");
    let mut script = shell_lines(&readme, "From nothing to a running plugin");
    assert!(script.lines().count() > 25, "{script}");
    let ports = [1935, 1936, 5080, 5081].map(|known| (known, port::free().port()));
    for (known, free) in ports {
        script = script.replace(&format!(":{known}"), &format!(":{free}"));
    }
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("walk");
    // What is started ends with the script, however that ends.
    let prelude = "set -euo pipefail\ntrap 'kill ${DEMO:-} ${NODE:-} 2>/dev/null || true' EXIT\n";
    fs::write(&file, format!("{prelude}{script}\n")).expect("writable");
    let binary = Path::new(env!("CARGO_BIN_EXE_restreamd"))
        .parent()
        .expect("a folder");
    let path = std::env::join_paths(
        std::iter::once(binary.to_owned()).chain(std::env::split_paths(&author::path())),
    );
    let mut command = Command::new("bash");
    command
        .arg(&file)
        .current_dir(folder.path())
        .env("PATH", path.expect("a path"))
        .env("RESTREAMD_API_LISTEN", format!("127.0.0.1:{}", ports[2].1))
        .env("RESTREAMD_RTMP_LISTEN", format!("127.0.0.1:{}", ports[0].1));
    // A variable beats the file of the second node: it is for the demo alone.
    let text = fs::read_to_string(&file).expect("written");
    let text = text.replace(
        "restreamd serve",
        "env -u RESTREAMD_API_LISTEN -u RESTREAMD_RTMP_LISTEN restreamd serve",
    );
    fs::write(&file, text).expect("writable");
    let mut walk = Running::start(&mut command, "bash");
    let status = walk.wait(Duration::from_secs(300));
    let said = format!("{}\n{}", walk.stdout.text(), walk.stderr.text());
    let log = fs::read_to_string(folder.path().join("my-pull/node.log")).unwrap_or_default();
    assert!(status.success(), "{said}\n{log}");
    for part in [
        "made my-pull/",
        "built ./my-pull.wasm",
        "admitted: type my-pull, version 0.1.0",
        "ok scenarios/hand-over.toml",
        " live rtmp://",
        "\"state\":\"LIVE\"",
        "\"version\":\"0.2.0\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
