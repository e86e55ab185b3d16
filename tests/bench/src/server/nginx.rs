//! Debian's nginx with its RTMP module, one process, pulls from its configuration.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use restreamd_tests::port;
use restreamd_tests::proc::Running;

use super::{Server, Task, bound_command, stream_url, wait_until_listening};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

pub(super) fn start(task: &Task<'_>) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let rtmp = port::free();
    let path = folder.path().join("nginx.conf");
    fs::write(&path, config(rtmp, task)?).context("writing nginx.conf")?;
    let mut command = bound_command(Path::new("/usr/sbin/nginx"));
    command
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(&path)
        .args(["-e", "stderr"]);
    let mut running = Running::start(&mut command, "util-linux");
    wait_until_listening(&mut running, rtmp);
    Ok(Server {
        running,
        rtmp,
        api: None,
        _folder: Some(folder),
    })
}

/// One process does what one worker does, and its id is the only one.
fn config(rtmp: SocketAddr, task: &Task<'_>) -> anyhow::Result<String> {
    let mut pulls = String::new();
    for pull in 0..task.pulls {
        let url = stream_url(task.origin);
        writeln!(pulls, "pull {url}{pull} name=s{pull} static;")?;
    }
    let connections = task.connections + 64;
    Ok(format!(
        "load_module {MODULE};\n\
         daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections {connections}; }}\n\
         rtmp {{ access_log off; server {{ listen {rtmp}; chunk_size 4096;\n\
         application live {{ live on;\n{pulls}}} }} }}\n"
    ))
}
