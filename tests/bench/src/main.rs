//! Measures restreamd beside nginx-rtmp.
//!
//! Responsible for one comparison at a time: the same source, the same players,
//! one server after the other. It knows the servers by their documents and
//! their process ids, never by their code. Invariant: whatever it starts ends
//! with it. What is measured, and how to read it, is told in `tests/bench/run`.

#![expect(
    clippy::print_stdout,
    reason = "its tables, and what its processes tell each other"
)]

mod load;
mod measure;
mod origin;
mod player;
mod pump;
mod server;
mod soak;
mod source;
mod table;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use measure::{Bench, Scenario};
use server::Contender;

#[derive(Parser)]
#[command(about = "Measures restreamd beside nginx-rtmp")]
struct Cli {
    /// The restreamd binary to measure.
    #[arg(long, default_value = "target/release/restreamd")]
    restreamd: PathBuf,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// One pull, many players: CPU per Gbit, memory per player.
    FanOut {
        /// Players, one table for each number.
        #[arg(long, value_delimiter = ',', default_value = "1000")]
        players: Vec<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Many pulls with one reader each: CPU and memory per pull.
    Pulls {
        /// Pulls, one table for each number.
        #[arg(long, value_delimiter = ',', default_value = "500,1000")]
        pulls: Vec<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Frame in to frame out, with no other player and with some.
    Latency {
        /// Other players, one table for each number.
        #[arg(long, value_delimiter = ',', default_value = "0,500")]
        players: Vec<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Rough weather for long; fails when the node holds more than it did.
    Soak(soak::Soak),
    /// The process that all servers pull from.
    #[command(hide = true)]
    Origin {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        kbps: u32,
        #[arg(long)]
        tick_millis: u64,
    },
    /// The process that plays.
    #[command(hide = true)]
    Load(load::Load),
}

#[derive(Args)]
struct Common {
    /// Media of one stream, in kbit/s.
    #[arg(long, default_value_t = 600)]
    kbps: u32,
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
    /// Restreamd's `stream.window_millis`, each a column of its own.
    #[arg(long, value_delimiter = ',')]
    windows: Option<Vec<u64>>,
    /// Only restreamd, for a profile of it.
    #[arg(long)]
    without_peer: bool,
}

impl Common {
    fn contenders(&self, default_windows: &[u64]) -> Vec<Contender> {
        let windows = self.windows.as_deref().unwrap_or(default_windows);
        let ours = windows.iter().map(|window_millis| Contender::Restreamd {
            window_millis: *window_millis,
        });
        let peer = (!self.without_peer).then_some(Contender::Nginx);
        ours.chain(peer).collect()
    }

    fn scenario(&self, pulls: usize, players: usize) -> Scenario {
        Scenario {
            pulls,
            players,
            kbps: self.kbps,
            seconds: Duration::from_secs(self.seconds),
            warm: Duration::from_secs(self.warm),
            visit: Duration::from_millis(self.visit),
            rounds: self.rounds,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let bench = Bench {
        restreamd: cli.restreamd,
    };
    match cli.mode {
        Mode::Origin {
            listen,
            kbps,
            tick_millis,
        } => origin::run(listen, kbps, Duration::from_millis(tick_millis)),
        Mode::Load(load) => load::run(&load),
        Mode::Soak(soak) => soak::run(bench.restreamd, &soak),
        Mode::FanOut { players, common } => {
            let contenders = common.contenders(&[20]);
            for players in players {
                allow_files(players)?;
                let scenario = common.scenario(1, players);
                let results = bench.compare(&contenders, &scenario)?;
                println!("{}", table::fan_out(&scenario, &results));
            }
            Ok(())
        }
        Mode::Pulls { pulls, common } => {
            let contenders = common.contenders(&[20]);
            for pulls in pulls {
                allow_files(2 * pulls)?;
                let scenario = common.scenario(pulls, pulls);
                let results = bench.compare(&contenders, &scenario)?;
                println!("{}", table::pulls(&scenario, &results));
            }
            Ok(())
        }
        Mode::Latency { players, common } => {
            let contenders = common.contenders(&[0, 20]);
            for players in players {
                allow_files(players)?;
                let scenario = common.scenario(1, players);
                let results = bench.compare(&contenders, &scenario)?;
                println!("{}", table::latency(&scenario, &results));
            }
            Ok(())
        }
    }
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
