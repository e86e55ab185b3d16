//! Measures restreamd beside other servers.
//!
//! Responsible for one comparison at a time: the same source, the same players,
//! one server after the other. It knows the servers by their documents and
//! their process ids, never by their code. Invariant: whatever it starts ends
//! with it. What is measured, and how to read it, is told in
//! `tests/bench/README.md`.

#![expect(
    clippy::print_stdout,
    reason = "its tables, and what its processes tell each other"
)]

mod asker;
mod cluster;
mod dead_origin;
mod goal;
mod load;
mod measure;
mod origin;
mod player;
mod pump;
mod relay;
mod scenario;
mod server;
mod soak;
mod source;
mod table;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use measure::Bench;
use scenario::{Runner, Settings};
use server::{Peer, Programs};

/// The most connections of one process: 4000 players, or 1000 pulls and their readers.
const CONNECTIONS: usize = 4_100;

#[derive(Parser)]
#[command(about = "Measures restreamd beside other servers")]
struct Cli {
    /// The restreamd binary to measure.
    #[arg(long, default_value = "target/release/restreamd")]
    restreamd: PathBuf,
    /// The xiu binary, a peer.
    #[arg(long, default_value = "target/tools/bin/xiu")]
    xiu: PathBuf,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// All of them, as the goals are about them.
    All {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        dead: Dead,
    },
    /// One pull, many players: CPU per Gbit, memory per player.
    FanOut {
        /// Players, one table for each number; without them the loads of the goals.
        #[arg(long, value_delimiter = ',')]
        players: Option<Vec<usize>>,
        #[command(flatten)]
        common: Common,
    },
    /// The same bytes merely written, as the limit of fan-out.
    Relay {
        /// Players, one table for each number.
        #[arg(long, value_delimiter = ',', default_value = "1000")]
        players: Vec<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Many pulls with one reader each: CPU and memory per pull.
    Pulls {
        /// Pulls, one table for each number.
        #[arg(long, value_delimiter = ',')]
        pulls: Option<Vec<usize>>,
        #[command(flatten)]
        common: Common,
    },
    /// Frame in to frame out, with no other player and at half load.
    Latency {
        /// Other players, one table for each number; half load is found out without.
        #[arg(long, value_delimiter = ',')]
        players: Option<Vec<usize>>,
        #[command(flatten)]
        common: Common,
    },
    /// Many pulls of an origin that is dead, and returns.
    DeadOrigin {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        dead: Dead,
    },
    /// Several nodes on one etcd: failover, drain, restart, a store that is full, rest.
    Cluster(cluster::Options),
    /// Rough weather for long; fails when the node holds more than it did.
    Soak(soak::Soak),
    /// The process that all servers pull from.
    #[command(hide = true)]
    Origin(origin::Options),
    /// The process that plays.
    #[command(hide = true)]
    Load(load::Load),
    /// The process that merely writes.
    #[command(hide = true)]
    RelayServer(relay::Relay),
}

#[derive(Args)]
struct Common {
    /// Media of one stream, in kbit/s; 600 without.
    #[arg(long)]
    kbps: Option<u32>,
    /// How long to measure; a multiple of 10/11 s holds whole groups of pictures.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How long to let it run before.
    #[arg(long, default_value_t = 5)]
    warm: u64,
    /// Milliseconds after which a player looks for bytes again; the kernel acknowledges then.
    #[arg(long, default_value_t = 5)]
    visit: u64,
    /// How often each server has its turn.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Restreamd's `stream.latency` in milliseconds, each a column of its own.
    #[arg(long, value_delimiter = ',')]
    windows: Option<Vec<u64>>,
    /// Other servers to measure.
    #[arg(long, value_delimiter = ',', default_value = "nginx,xiu")]
    peers: Vec<Peer>,
    /// Only restreamd, for a profile of it.
    #[arg(long)]
    without_peer: bool,
}

#[derive(Args)]
struct Dead {
    /// Pulls of the dead origin.
    #[arg(long, default_value_t = 1_000)]
    dead_pulls: usize,
    /// How long it is dead, in seconds.
    #[arg(long, default_value_t = 60)]
    dead_seconds: u64,
    /// How long all may take to be live once it is back, in seconds.
    #[arg(long, default_value_t = 60)]
    back_seconds: u64,
    /// Requests of the API a second meanwhile.
    #[arg(long, default_value_t = 40)]
    asked: u32,
}

impl Dead {
    fn options(&self, settings: &Settings) -> dead_origin::Options {
        /// As everywhere.
        const KBPS: u32 = 600;
        dead_origin::Options {
            pulls: self.dead_pulls,
            dead: Duration::from_secs(self.dead_seconds),
            back: Duration::from_secs(self.back_seconds),
            asked_a_second: self.asked,
            kbps: settings.kbps.unwrap_or(KBPS),
        }
    }
}

impl Common {
    fn settings(self) -> Settings {
        Settings {
            kbps: self.kbps,
            seconds: Duration::from_secs(self.seconds),
            warm: Duration::from_secs(self.warm),
            visit: Duration::from_millis(self.visit),
            rounds: self.rounds,
            windows: self.windows,
            peers: match self.without_peer {
                true => Vec::new(),
                false => self.peers,
            },
        }
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let programs = Programs {
        restreamd: cli.restreamd,
        xiu: cli.xiu,
    };
    let run = |common: Common, work: &dyn Fn(&mut Runner)| run(programs.clone(), common, work);
    match cli.mode {
        Mode::Origin(options) => origin::run(&options),
        Mode::Load(load) => load::run(&load),
        Mode::RelayServer(relay) => relay::run(&relay),
        Mode::Cluster(options) => {
            allow_files(CONNECTIONS)?;
            let goals = cluster::run(&programs.restreamd, &options);
            println!("{}", goal::table(&goals));
            Ok(())
        }
        Mode::Soak(soak) => soak::run(programs.restreamd, &soak),
        Mode::FanOut { players, common } => {
            run(common, &|runner| runner.fan_out(players.as_deref(), false))
        }
        Mode::Relay { players, common } => run(common, &|runner| runner.relay(&players)),
        Mode::Pulls { pulls, common } => run(common, &|runner| runner.pulls(pulls.as_deref())),
        Mode::Latency { players, common } => {
            run(common, &|runner| runner.latency(players.as_deref()))
        }
        Mode::DeadOrigin { common, dead } => run(common, &|runner| {
            runner.dead_origin(&dead.options(&runner.settings));
        }),
        Mode::All { common, dead } => run(common, &|runner| {
            runner.fan_out(None, true);
            runner.pulls(None);
            runner.latency(None);
            runner.dead_origin(&dead.options(&runner.settings));
        }),
    }
}

/// Runs scenarios, and says at the end which goals are met.
fn run(programs: Programs, common: Common, work: &dyn Fn(&mut Runner)) -> anyhow::Result<()> {
    allow_files(CONNECTIONS)?;
    let mut runner = Runner {
        bench: Bench { programs },
        settings: common.settings(),
        goals: Vec::new(),
    };
    work(&mut runner);
    println!("{}", goal::table(&runner.goals));
    Ok(())
}

/// Lets this process and those it starts open a socket for each connection.
fn allow_files(connections: usize) -> anyhow::Result<()> {
    /// Binaries, logs, pipes, listeners, the store.
    const OTHERS: u64 = 200;
    let wanted = connections as u64 + OTHERS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= wanted) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "{connections} connections need {wanted} open files: raise the hard limit (ulimit -Hn)"
    );
    limit.current = Some(wanted);
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}
