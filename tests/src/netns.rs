//! A test inside a network (process, and mount) namespace of its own, with loopback up.
//!
//! The test runs itself again inside `unshare`: there every well-known port is
//! free, and nothing of it outlives it, since the namespace's first process ends
//! with `unshare`.

use std::env;
use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::proc::Running;

/// A program of a second's work.
const SHORT: Duration = Duration::from_secs(10);
/// Set for the run inside.
const INSIDE: &str = "RESTREAMD_TESTS_NAMESPACE";

/// Runs `body` inside. `test` is the full name of the calling test, `module::name`.
///
/// # Panics
/// When the run inside fails, with its output, or takes longer than `within`.
pub fn inside(test: &str, within: Duration, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some_and(|name| name == test) {
        body();
        return;
    }
    let this = env::current_exe().expect("a test knows its own binary");
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    // The shell stays the first process of the namespace and reaps what is left over.
    command.args(["sh", "-c", "ip link set lo up && \"$0\" \"$@\"; exit $?"]);
    command
        .arg(this)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, test);
    let mut running = Running::start(&mut command, "util-linux iproute2");
    let status = running.wait(within);
    let output = format!("{}\n{}", running.stdout.text(), running.stderr.text());
    assert!(status.success(), "inside the namespace: {status}\n{output}");
    assert!(
        output.contains("1 passed"),
        "no test is named {test}:\n{output}"
    );
}

/// Gives the namespace's loopback one more address. Only inside.
pub fn add_address(address: &str) {
    let length = if address.contains(':') { 128 } else { 32 };
    let mut command = Command::new("ip");
    command.args(["addr", "add", &format!("{address}/{length}"), "dev", "lo"]);
    // Until duplicates were looked for, an IPv6 address cannot be used.
    if length == 128 {
        command.arg("nodad");
    }
    run(&mut command, "iproute2");
}

/// Makes a file of the system hold this text, for this namespace alone. Only inside.
///
/// # Panics
/// When it cannot.
pub fn replace_file(path: &str, text: &str) {
    let folder = env::temp_dir().join("restreamd-tests");
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let mut file = tempfile::NamedTempFile::new_in(folder).expect("the folder is writable");
    file.write_all(text.as_bytes())
        .expect("a fresh file is writable");
    let mut command = Command::new("mount");
    command.arg("--bind").arg(file.path()).arg(path);
    run(&mut command, "mount");
    // The mount holds on to it.
}

fn run(command: &mut Command, package: &str) {
    let mut running = Running::start(command, package);
    let status = running.wait(SHORT);
    assert!(status.success(), "{command:?}: {}", running.stderr.text());
}
