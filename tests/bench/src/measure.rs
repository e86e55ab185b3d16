//! One server at a time under load, and what it used.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use restreamd_tests::eventually::eventually;
use restreamd_tests::port;
use restreamd_tests::proc::Running;
use serde_json::Value;

use crate::player::Player;
use crate::server::{Contender, Programs, Server, Task, bound_command};
use crate::usage;

/// Bounds the attachment of the players; thousands take their time on two cores.
const ATTACH: Duration = Duration::from_secs(180);
/// Many pulls leave the origin in steps, so that it can serve a thousand of them.
pub(crate) const ORIGIN_TICK_MILLIS: u64 = 20;

/// What all servers go through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Streams a server pulls.
    pub(crate) pulls: usize,
    /// Players, in turn on the streams.
    pub(crate) players: usize,
    /// Rate of a stream.
    pub(crate) kbps: u32,
    /// How long to measure.
    pub(crate) seconds: Duration,
    /// How long to let it run before.
    pub(crate) warm: Duration,
    /// How often players look for bytes.
    pub(crate) visit: Duration,
    /// Turns of each server.
    pub(crate) rounds: usize,
}

/// What one turn of one server showed.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// CPU time of the server, the origin and the players together.
    pub(crate) all_cpu: Duration,
    /// For so long.
    pub(crate) wall: Duration,
    /// Received by all players, RTMP included.
    pub(crate) bytes: u64,
    /// Share of what the source sent that the players received together.
    pub(crate) delivered: f64,
    /// Resident memory at the end less that before the players (or before the pulls, when there are many).
    pub(crate) grown: f64,
    /// What it keeps for late players, where it tells.
    pub(crate) ring: Option<f64>,
    /// Players that got too little.
    pub(crate) short: u64,
    /// Share of the source's messages that the witness got.
    pub(crate) messages: f64,
    /// Share of the source's media bytes that the witness got.
    pub(crate) payload: f64,
    /// Median of the delays of pictures; nothing when none arrived.
    pub(crate) p50: Option<Duration>,
    /// Their 99th percentile.
    pub(crate) p99: Option<Duration>,
    /// Share of all cores that was idle.
    pub(crate) idle: f64,
}

impl Turn {
    /// CPU seconds for each 10^9 bits that players received.
    pub(crate) fn cpu_per_gbit(&self) -> f64 {
        self.cpu.as_secs_f64() / self.gbit()
    }

    /// The same of all processes together.
    pub(crate) fn all_cpu_per_gbit(&self) -> f64 {
        self.all_cpu.as_secs_f64() / self.gbit()
    }

    /// 10^9 bits that players received.
    pub(crate) fn gbit(&self) -> f64 {
        self.bytes as f64 * 8e-9
    }

    /// The 99th percentile of the delays, in milliseconds; endless when nothing arrived.
    pub(crate) fn p99_millis(&self) -> f64 {
        millis(self.p99)
    }

    /// Their median.
    pub(crate) fn p50_millis(&self) -> f64 {
        millis(self.p50)
    }

    /// Memory beside what it keeps for late players, where it tells that.
    pub(crate) fn grown_beside_ring(&self) -> Option<f64> {
        Some(self.grown - self.ring?)
    }

    /// Cores it kept busy.
    pub(crate) fn cores(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

fn millis(delay: Option<Duration>) -> f64 {
    delay.map_or(f64::INFINITY, |delay| delay.as_secs_f64() * 1e3)
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} CPU-s per Gbit ({:.3} with the others), {} short, delay {:.2} / {:.2} ms, idle {:.0} %",
            self.cpu_per_gbit(),
            self.all_cpu_per_gbit(),
            self.short,
            self.p50_millis(),
            self.p99_millis(),
            self.idle * 100.0,
        )
    }
}

/// All turns of one contender.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    /// Whose they are.
    pub(crate) contender: Contender,
    /// In order.
    pub(crate) turns: Vec<Turn>,
    /// Why it has no further turns.
    pub(crate) failure: Option<String>,
}

/// What turns are ranked by, the least first.
pub(crate) type Rank = fn(&Turn) -> f64;

impl Results {
    /// The turns, the best first.
    pub(crate) fn ranked(&self, by: Rank) -> Vec<&Turn> {
        let mut turns: Vec<&Turn> = self.turns.iter().collect();
        turns.sort_by(|a, b| by(a).total_cmp(&by(b)));
        turns
    }

    /// Its best turn; none of one that failed, however often it did not.
    pub(crate) fn best(&self, by: Rank) -> Option<&Turn> {
        match self.failure {
            Some(_) => None,
            None => self.ranked(by).first().copied(),
        }
    }
}

/// The best turn of one of them.
pub(crate) fn best_of(results: &[Results], contender: Contender, by: Rank) -> Option<&Turn> {
    results
        .iter()
        .find(|result| result.contender == contender)?
        .best(by)
}

/// Takes the measurements.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// What is measured.
    pub(crate) programs: Programs,
}

impl Bench {
    /// Lets every contender take its turn, all of them once a round. One that
    /// fails has no further turns; the others go on.
    pub(crate) fn compare(&self, contenders: &[Contender], scenario: &Scenario) -> Vec<Results> {
        let mut results: Vec<Results> = contenders
            .iter()
            .map(|contender| Results {
                contender: *contender,
                turns: Vec::new(),
                failure: None,
            })
            .collect();
        for round in 1..=scenario.rounds {
            for result in &mut results {
                if result.failure.is_some() {
                    continue;
                }
                let name = result.contender.to_string();
                match self.attempt(result.contender, scenario) {
                    Ok(turn) => {
                        println!("round {round}: {name:<17} {turn}");
                        result.turns.push(turn);
                    }
                    Err(error) => {
                        println!("round {round}: {name:<17} failed: {error:#}");
                        result.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
        results
    }

    /// A turn; what it panics with is its error.
    fn attempt(&self, contender: Contender, scenario: &Scenario) -> anyhow::Result<Turn> {
        attempt(|| self.turn(contender, scenario))
    }

    fn turn(&self, contender: Contender, scenario: &Scenario) -> anyhow::Result<Turn> {
        let many = scenario.pulls > 1;
        let tick = if many { ORIGIN_TICK_MILLIS } else { 0 };
        let (origin_process, origin) = start_origin(port::free(), scenario.kbps, tick)?;
        let task = |pulls| Task {
            programs: &self.programs,
            origin,
            pulls,
            connections: scenario.pulls + scenario.players,
        };
        let without_pulls = if many {
            let server = Server::start(contender, &task(0))?;
            Some(usage::resident(server.pid()))
        } else {
            None
        };
        let server = Server::start(contender, &task(scenario.pulls))?;
        let last = format!("{}{}", server.url(), scenario.pulls - 1);
        let plays = match contender.is_bare() {
            true => Player::attach_bare(&last),
            false => Player::attach(&last),
        };
        plays.with_context(|| format!("playing; it says: {}", server.said()))?;
        let before = without_pulls.unwrap_or_else(|| usage::resident(server.pid()));
        observe(
            &server,
            contender.is_bare(),
            &origin_process,
            scenario,
            before,
        )
    }
}

/// Runs what may panic, as the harness does when something is not as it should be.
pub(crate) fn attempt<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(anyhow!(text.unwrap_or_else(|| "a panic".to_owned())))
    })
}

/// Starts the origin at an address; it is listening then.
pub(crate) fn start_origin(
    addr: SocketAddr,
    kbps: u32,
    tick_millis: u64,
) -> anyhow::Result<(Running, SocketAddr)> {
    let running = start_origin_with(addr, kbps, tick_millis, &[])?;
    Ok((running, addr))
}

/// The same with a thin source, and it says when connections come.
pub(crate) fn start_thin_origin(addr: SocketAddr, kbps: u32) -> anyhow::Result<Running> {
    start_origin_with(addr, kbps, ORIGIN_TICK_MILLIS, &["--thin", "--tell"])
}

fn start_origin_with(
    addr: SocketAddr,
    kbps: u32,
    tick_millis: u64,
    more: &[&str],
) -> anyhow::Result<Running> {
    let mut command = bound_command(&std::env::current_exe()?);
    command.args(["origin", "--listen", &addr.to_string()]);
    command.args(["--kbps", &kbps.to_string()]);
    command.args(["--tick-millis", &tick_millis.to_string()]);
    command.args(more);
    let mut running = Running::start(&mut command, "util-linux");
    eventually("the origin listens", Duration::from_secs(10), || {
        assert!(
            running.ended().is_none(),
            "the origin ended: {}",
            running.stderr.text()
        );
        std::net::TcpStream::connect(addr).map_err(|error| error.to_string())
    });
    Ok(running)
}

fn start_load(server: &Server, bare: bool, scenario: &Scenario, program: &Path) -> Running {
    let mut command = bound_command(program);
    command.args(["load", "--url", &server.url()]);
    let numbers = [
        ("--streams", scenario.pulls as u128),
        ("--players", scenario.players as u128),
        ("--kbps", u128::from(scenario.kbps)),
        ("--warm-millis", scenario.warm.as_millis()),
        ("--millis", scenario.seconds.as_millis()),
        ("--visit-millis", scenario.visit.as_millis()),
    ];
    for (name, number) in numbers {
        command.args([name, &number.to_string()]);
    }
    if bare {
        command.arg("--bare");
    }
    Running::start(&mut command, "util-linux")
}

/// CPU times and the idle time of the machine, at one moment.
struct Reading {
    at: Instant,
    cpu: Duration,
    others: Duration,
    idle: Duration,
}

impl Reading {
    fn take(server: &Server, others: [&Running; 2]) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu: usage::cpu(server.pid())?,
            others: usage::cpu(others[0].id())? + usage::cpu(others[1].id())?,
            idle: usage::idle()?,
        })
    }
}

fn observe(
    server: &Server,
    bare: bool,
    origin: &Running,
    scenario: &Scenario,
    before: u64,
) -> anyhow::Result<Turn> {
    let mut load = start_load(server, bare, scenario, &std::env::current_exe()?);
    said(&mut load, "begin", ATTACH + scenario.warm);
    let begin = Reading::take(server, [origin, &load])?;
    let told = said(&mut load, "end", scenario.seconds + ATTACH);
    let end = Reading::take(server, [origin, &load])?;
    let grown = usage::resident(server.pid()) as f64 - before as f64;
    let ring = server.ring_bytes();
    for key in ["failure", "lost"] {
        if let Some(why) = told[key].as_str() {
            println!("players: {why}; the server says: {}", server.said());
        }
    }

    let wall = end.at - begin.at;
    let cores = std::thread::available_parallelism()?.get() as f64;
    let bytes = told["bytes"].as_u64().context("no bytes")?;
    let expected = told["expected"].as_f64().context("no expectation")?;
    let nanos = |key: &str| told[key].as_u64().map(Duration::from_nanos);
    Ok(Turn {
        cpu: end.cpu - begin.cpu,
        all_cpu: end.cpu + end.others - begin.cpu - begin.others,
        wall,
        bytes,
        delivered: bytes as f64 / (expected * (scenario.players + 1) as f64),
        grown,
        ring,
        short: told["short"].as_u64().context("no short")?,
        messages: told["messages"].as_f64().context("no messages")?,
        payload: told["payload"].as_f64().context("no payload")?,
        p50: nanos("delay_p50_nanos"),
        p99: nanos("delay_p99_nanos"),
        idle: (end.idle - begin.idle).as_secs_f64() / (wall.as_secs_f64() * cores),
    })
}

/// Waits for the players' line of this name.
fn said(load: &mut Running, at: &str, within: Duration) -> Value {
    eventually(&format!("the players say {at}"), within, || {
        let lines = load.stdout.all();
        let parsed = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = parsed.into_iter().find(|line| line["at"] == at);
        assert!(
            found.is_some() || load.ended().is_none(),
            "the players ended: {}",
            load.stderr.text()
        );
        found.ok_or_else(|| lines.last().cloned().unwrap_or_default())
    })
}
