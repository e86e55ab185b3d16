//! The servers that are compared, each started with streams that it pulls.

mod nginx;
pub(crate) mod restreamd;
mod xiu;

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::ValueEnum;
use restreamd_tests::api::Api;
use restreamd_tests::eventually::eventually;
use restreamd_tests::port;
use restreamd_tests::proc::Running;
use tempfile::TempDir;

use crate::player::Player;
use crate::relay::Grain;

/// A server listens after so long, or never.
const START: Duration = Duration::from_secs(30);
/// A server plays a stream it pulls after so long, or never.
const FIRST_MEDIA: Duration = Duration::from_secs(30);

/// Where the measured programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// The restreamd binary.
    pub(crate) restreamd: PathBuf,
    /// The xiu binary; a peer that is not there has failed.
    pub(crate) xiu: PathBuf,
}

/// Other servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Debian's nginx with its RTMP module.
    Nginx,
    /// crates.io's `xiu`.
    Xiu,
}

/// One of the compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The host, with this `stream.latency`.
    Restreamd {
        /// 0 sends every frame at once.
        window_millis: u64,
    },
    /// Somebody else's server.
    Peer(Peer),
    /// The limit: nothing but writes.
    Relay(Grain),
}

impl Contender {
    /// Every ratio is to this one, if it took part.
    pub(crate) const REFERENCE: Self = Self::Peer(Peer::Nginx);

    /// How far from mere writes a server is, is said to this one.
    pub(crate) const LIMIT: Self = Self::Relay(Grain::Message);

    /// Whether players need no RTMP.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Self::Relay(_))
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restreamd { window_millis: 0 } => f.write_str("restreamd low"),
            Self::Restreamd { window_millis } => write!(f, "restreamd {window_millis} ms"),
            Self::Peer(Peer::Nginx) => f.write_str("nginx-rtmp"),
            Self::Peer(Peer::Xiu) => f.write_str("xiu"),
            Self::Relay(grain) => write!(f, "relay {grain}"),
        }
    }
}

/// What a server is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    /// Where the servers are.
    pub(crate) programs: &'a Programs,
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
    api: Option<Api>,
    _folder: Option<TempDir>,
}

impl Server {
    /// Starts it, and its pulls.
    pub(crate) fn start(contender: Contender, task: &Task<'_>) -> anyhow::Result<Self> {
        match contender {
            Contender::Restreamd { window_millis } => restreamd::start(window_millis, task),
            Contender::Peer(Peer::Nginx) => nginx::start(task),
            Contender::Peer(Peer::Xiu) => xiu::start(task),
            Contender::Relay(grain) => relay(grain, task),
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
        /// Servers repeat themselves.
        const MOST: usize = 2_000;
        let text = self.running.stderr.text();
        text.chars().take(MOST).collect()
    }

    /// A client of its REST, with an administrator's token.
    pub(crate) fn api(&self) -> Option<&Api> {
        self.api.as_ref()
    }

    /// Bytes that it keeps for late players, where it tells.
    pub(crate) fn ring_bytes(&self) -> Option<f64> {
        let bytes = self.api.as_ref()?.counter("restreamd_stream_ring_bytes");
        // No such series sums up to nothing.
        (bytes > 0.0).then_some(bytes)
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

fn relay(grain: Grain, task: &Task<'_>) -> anyhow::Result<Server> {
    ensure!(task.pulls == 1, "the relay reads one stream");
    let rtmp = port::free();
    let mut command = bound_command(&std::env::current_exe()?);
    command.args(["relay-server", "--listen", &rtmp.to_string()]);
    command.args(["--from", &format!("{}0", stream_url(task.origin))]);
    let grain = grain.to_possible_value();
    command.args([
        "--grain",
        grain.as_ref().map_or("", |value| value.get_name()),
    ]);
    let mut running = Running::start(&mut command, "util-linux");
    wait_until_listening(&mut running, rtmp);
    Ok(Server {
        running,
        rtmp,
        api: None,
        _folder: None,
    })
}

/// Plays every stream until its first message, and again when that fails: for servers
/// that pull when they are asked, and refuse whoever asks first. They are left alone
/// in between: asked twice before its pull is there, xiu pulls twice, and plays neither.
fn ask_for(server: &Server, pulls: usize) -> anyhow::Result<()> {
    /// A pull on loopback is there by then.
    const PAUSE: Duration = Duration::from_secs(2);
    let mut left: Vec<usize> = (0..pulls).collect();
    let end = Instant::now() + FIRST_MEDIA;
    loop {
        left.retain(|pull| Player::attach(&format!("{}{pull}", server.url())).is_err());
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{} streams never played", left.len());
        thread::sleep(PAUSE);
    }
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
