//! nginx with its RTMP module: the peer most restream hosts meet.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::eventually::eventually;
use crate::port;
use crate::proc::Running;

/// Where Debian's libnginx-mod-rtmp puts the module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
/// Ports tried when another process takes the one that was free.
const ATTEMPTS: usize = 5;

/// A running nginx with one application, `live`.
#[derive(Debug)]
pub struct Nginx {
    running: Running,
    addr: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it on a free loopback port.
    ///
    /// # Panics
    /// When nginx or its RTMP module is missing.
    pub fn start() -> Self {
        Self::with("")
    }

    /// Starts it with these directives in its application: `pull …;`, `push …;`.
    ///
    /// # Panics
    /// When nginx or its RTMP module is missing.
    pub fn with(directives: &str) -> Self {
        assert!(
            Path::new(MODULE).is_file(),
            "{MODULE} is missing: install the package libnginx-mod-rtmp"
        );
        let started = (0..ATTEMPTS).find_map(|_| Self::try_start(port::free(), directives));
        started.expect("one of a few free ports stays free")
    }

    fn try_start(addr: SocketAddr, directives: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let config = folder.path().join("nginx.conf");
        fs::write(&config, configuration(addr, directives)).expect("a fresh folder is writable");
        let mut command = Command::new("/usr/sbin/nginx");
        command
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"]);
        let mut running = Running::start(&mut command, "nginx");
        let listens = eventually(
            "nginx listens or ends",
            Duration::from_secs(10),
            || match running.ended() {
                Some(status) => {
                    let said = running.stderr.text();
                    assert!(
                        said.contains("Address already in use"),
                        "nginx ended with {status}: {said}"
                    );
                    Ok(false)
                }
                None => TcpStream::connect(addr)
                    .map(|_| true)
                    .map_err(|e| e.to_string()),
            },
        );
        listens.then_some(Self {
            running,
            addr,
            _folder: folder,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The RTMP address of a stream of the application `live`.
    pub fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.addr)
    }

    /// What it logged.
    pub fn said(&self) -> String {
        self.running.stderr.text()
    }
}

fn configuration(addr: SocketAddr, directives: &str) -> String {
    // One process, so that ending it by its id ends all of it.
    format!(
        "load_module {MODULE};\n\
         daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr info;\n\
         events {{ worker_connections 256; }}\n\
         rtmp {{ server {{ listen {addr}; chunk_size 4096; application live {{ live on; {directives} }} }} }}\n"
    )
}
