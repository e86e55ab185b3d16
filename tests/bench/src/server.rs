//! The servers that are compared, each started with streams that it pulls.

use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use restreamd_tests::api::Api;
use restreamd_tests::eventually::eventually;
use restreamd_tests::port;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::token::{admin_claims, sign};
use tempfile::TempDir;
use toml::toml;

const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// A token outlives the start of a thousand pulls.
const TOKEN_SECONDS: i64 = 600;
/// A server listens after so long, or never.
const START: Duration = Duration::from_secs(30);

/// One of the compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The host, with this `stream.window_millis`.
    Restreamd {
        /// 0 sends every frame at once.
        window_millis: u64,
    },
    /// Debian's nginx with its RTMP module.
    Nginx,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contender::Restreamd { window_millis: 0 } => f.write_str("restreamd low"),
            Contender::Restreamd { window_millis } => write!(f, "restreamd {window_millis} ms"),
            Contender::Nginx => f.write_str("nginx-rtmp"),
        }
    }
}

/// What a server is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    /// The restreamd binary.
    pub(crate) restreamd: &'a Path,
    /// Where all sources are.
    pub(crate) origin: SocketAddr,
    /// Streams to pull.
    pub(crate) pulls: usize,
    /// Connections it must have room for, pulls included.
    pub(crate) connections: usize,
}

/// A running server. It ends at drop.
#[derive(Debug)]
pub(crate) struct Server {
    running: Running,
    rtmp: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts it, and its pulls.
    pub(crate) fn start(contender: Contender, task: &Task<'_>) -> anyhow::Result<Self> {
        match contender {
            Contender::Restreamd { window_millis } => restreamd(window_millis, task),
            Contender::Nginx => nginx(task),
        }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.id()
    }

    /// The URL of its streams without their number.
    pub(crate) fn url(&self) -> String {
        stream_url(self.rtmp)
    }

    /// Its messages, for a failure.
    pub(crate) fn said(&self) -> String {
        self.running.stderr.text()
    }
}

/// A command whose process is killed when this one ends, however it ends.
pub(crate) fn bound_command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn stream_url(server: SocketAddr) -> String {
    format!("rtmp://{server}/live/s")
}

fn restreamd(window_millis: u64, task: &Task<'_>) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let (api, rtmp) = (port::free(), port::free());
    let window_millis = i64::try_from(window_millis)?;
    let text = |addr: SocketAddr| addr.to_string();
    let (api_listen, rtmp_listen) = (text(api), text(rtmp));
    let data_dir = folder.path().join("data").to_string_lossy().into_owned();
    let config = toml! {
        api_listen = api_listen
        rtmp_listen = rtmp_listen
        data_dir = data_dir
        store = "memory"
        admin_password = "correct-horse-battery"
        jwt_secret = JWT_SECRET

        [stream]
        window_millis = window_millis

        [dial]
        allow = ["127.0.0.0/8"]

        [log]
        filter = "warn"
    };
    let path = folder.path().join("restreamd.toml");
    fs::write(&path, config.to_string())?;
    let mut command = bound_command(task.restreamd);
    command.args(["serve", "--config"]).arg(path);
    let mut running = Running::start(&mut command, "util-linux");
    wait_until_listening(&mut running, api);
    wait_until_listening(&mut running, rtmp);

    let token = sign(JWT_SECRET, &admin_claims(TOKEN_SECONDS));
    let client = Api::new(api).with_token(&token);
    for pull in 0..task.pulls {
        let uri = format!("{}{pull}", stream_url(task.origin));
        client.start(&Provision::pull(
            &format!("pull{pull}"),
            &format!("live/s{pull}"),
            &uri,
        ));
    }
    Ok(Server {
        running,
        rtmp,
        _folder: folder,
    })
}

fn nginx(task: &Task<'_>) -> anyhow::Result<Server> {
    let folder = tempfile::tempdir()?;
    let rtmp = port::free();
    let config = folder.path().join("nginx.conf");
    fs::write(&config, nginx_config(rtmp, task)?).context("writing nginx.conf")?;
    let mut command = bound_command(Path::new("/usr/sbin/nginx"));
    command
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(&config)
        .args(["-e", "stderr"]);
    let mut running = Running::start(&mut command, "util-linux");
    wait_until_listening(&mut running, rtmp);
    Ok(Server {
        running,
        rtmp,
        _folder: folder,
    })
}

/// One process does what one worker does, and its id is the only one.
fn nginx_config(rtmp: SocketAddr, task: &Task<'_>) -> anyhow::Result<String> {
    let mut pulls = String::new();
    for pull in 0..task.pulls {
        let url = stream_url(task.origin);
        writeln!(pulls, "pull {url}{pull} name=s{pull} static;")?;
    }
    let connections = task.connections + 64;
    Ok(format!(
        "load_module {NGINX_MODULE};\n\
         daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections {connections}; }}\n\
         rtmp {{ access_log off; server {{ listen {rtmp}; chunk_size 4096;\n\
         application live {{ live on;\n{pulls}}} }} }}\n"
    ))
}

/// Waits until somebody answers there.
pub(crate) fn wait_until_listening(running: &mut Running, addr: SocketAddr) {
    eventually("the server listens", START, || {
        assert!(
            running.ended().is_none(),
            "the server ended: {}",
            running.stderr.text()
        );
        TcpStream::connect(addr).map_err(|error| error.to_string())
    });
}
