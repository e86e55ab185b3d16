//! A test inside a network (and process) namespace of its own, with loopback up.
//!
//! The test runs itself again inside `unshare`: there every well-known port is
//! free, and nothing of it outlives it, since the namespace's first process ends
//! with `unshare`.

use std::env;
use std::process::Command;
use std::time::Duration;

use crate::proc::Running;

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
