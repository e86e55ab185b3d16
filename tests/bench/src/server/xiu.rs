//! `xiu` of crates.io, an RTMP server in Rust on tokio.
//!
//! It pulls a stream from one address once somebody asks for it, and refuses
//! that first one; so every stream is asked for before it is measured.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use restreamd_tests::port;
use restreamd_tests::proc::Running;
use toml::toml;

use super::{Server, Task, ask_for, bound_command, wait_until_listening};

/// Its queues have no bound: with more players than it can serve they would take
/// all memory. Beyond so many bytes it ends, and has failed.
const MOST_MEMORY: u64 = 6 << 30;

pub(super) fn start(task: &Task<'_>) -> anyhow::Result<Server> {
    let program = &task.programs.xiu;
    ensure!(program.exists(), "{} is not there", program.display());
    let folder = tempfile::tempdir()?;
    let (rtmp, http) = (port::free(), port::free());
    let (port, http_port) = (i64::from(rtmp.port()), i64::from(http.port()));
    let (origin, origin_port) = (task.origin.ip().to_string(), task.origin.port());
    let origin_port = i64::from(origin_port);
    let config = toml! {
        [rtmp]
        enabled = true
        port = port
        gop_num = 1
        [rtmp.pull]
        enabled = true
        address = origin
        port = origin_port

        [httpapi]
        port = http_port

        [authsecret]
        key = ""
        password = ""

        [log]
        level = "error"
    };
    let path = folder.path().join("xiu.toml");
    fs::write(&path, config.to_string())?;
    let mut command = bound_command(Path::new("prlimit"));
    command.arg(format!("--data={MOST_MEMORY}"));
    command.arg("--").arg(program).arg("--config").arg(&path);
    let mut running = Running::start(&mut command, "util-linux");
    wait_until_listening(&mut running, rtmp);
    let server = Server {
        running,
        rtmp,
        api: None,
        _folder: Some(folder),
    };
    ask_for(&server, task.pulls)?;
    Ok(server)
}
