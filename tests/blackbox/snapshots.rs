//! The command line's `drain` and `store`: what a node holds goes out, and into another.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use restreamd_tests::api::provision_path;
use restreamd_tests::eventually::eventually;
use restreamd_tests::host::{Builder, TestHost};
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;

use crate::{SOON, node};

/// Its exit code and what it wrote to standard error.
type Said = (Option<i32>, String);

fn run(arguments: &[&str], folder: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command.args(arguments).arg("--config");
    let mut running = Running::start(command.arg(folder.join("restreamd.toml")), "restreamd");
    let status = running.wait(Duration::from_secs(60));
    (status.code(), running.stderr.text())
}

fn at(host: &TestHost, arguments: &[&str]) -> Said {
    let url = format!("http://{}", host.api);
    run(&[arguments, &["--api", &url]].concat(), host.folder())
}

fn ok((code, said): Said) {
    assert_eq!(code, Some(0), "{said}");
}

fn refused((code, said): Said, why: &str) {
    assert!(code == Some(1) && said.contains(why), "{code:?} {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_snapshot_moves_from_one_node_to_another_and_is_the_backup() {
    let mut old = node().start();
    let uri = "rtmp://user:word@127.0.0.1:9/live/s";
    old.client()
        .start(&Provision::pull("moved-pull", "live/moved", uri));
    let list = |host: &TestHost| host.client().get(&provision_path("")).expect(200);
    let before = list(&old);
    let file = old.folder().join("backup.json");
    let file = file.to_str().expect("temporary paths are UTF-8");
    ok(at(&old, &["store", "export", file]));
    let mode = fs::metadata(file).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        fs::read_to_string(file)
            .expect("text")
            .contains("user:word")
    );

    // Its secrets came along, and what ran runs.
    let new = node().start();
    ok(at(&new, &["store", "import", file]));
    assert_eq!(list(&new), before);
    let backoff = |s: &serde_json::Value| s["phase"] != "stopping" && !s["plugin"].is_null();
    new.client()
        .wait_for("moved-pull", "it runs", SOON, backoff);
    refused(at(&new, &["store", "import", file]), "exists already");

    // The file belongs to the node while it runs.
    let offline = |what, folder: &Path| run(&["store", what, file, "--offline"], folder);
    refused(offline("export", old.folder()), "a node runs on this store");
    old.kill();
    let first = fs::read_to_string(file).expect("text");
    ok(offline("export", old.folder()));
    assert_eq!(fs::read_to_string(file).expect("text"), first);
    refused(offline("import", old.folder()), "exists already");
    let fresh = node();
    fresh.write_config();
    refused(offline("export", fresh.folder()), "no node has kept");
    // A folder is no store yet, and is not made one.
    let data = fresh.folder().join("data");
    fs::create_dir(&data).expect("the temporary folder is writable");
    refused(offline("export", fresh.folder()), "no node has kept");
    assert_eq!(fs::read_dir(&data).expect("lists").count(), 0);
    ok(offline("import", fresh.folder()));
    assert_eq!(list(&fresh.start()), before);
}

#[test]
fn drain_ends_the_node_it_reaches() {
    let mut host = node().start();
    ok(at(&host, &["drain"]));
    assert!(host.wait().success());
    let builder = Builder::new(env!("CARGO_BIN_EXE_restreamd"));
    builder.write_config();
    let url = format!("http://{}", host.api);
    eventually("nobody answers", SOON, || {
        match run(&["drain", "--api", &url], builder.folder()).0 {
            Some(69) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
