//! Many pulls of an origin that is dead, and what happens when it returns.
//!
//! It is dead in two manners: nobody listens, or a listener closes whatever it
//! accepts. Dials are counted by who sees them all: the kernel's count of
//! connections that failed while opening (the whole machine's, so nothing else
//! may be refused meanwhile), or that listener. What the host says of its
//! attempts is shown beside it.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use restreamd_tests::api::Api;
use restreamd_tests::port;
use restreamd_tests::provision::Provision;

use crate::asker::{Asker, Times};
use crate::measure::{ORIGIN_TICK_MILLIS, attempt, start_origin};
use crate::server::{Contender, Programs, Server, Task, restreamd};
use crate::table::markdown;
use crate::usage;

/// How often dials are counted.
const TICK: Duration = Duration::from_secs(1);
/// How often it is asked how many are live.
const LOOK: Duration = Duration::from_millis(100);
/// Shares of the pulls that are waited for, %.
const SHARES: [usize; 3] = [50, 95, 100];

/// How the origin is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nobody listens.
    Refuses,
    /// Connections are accepted and closed.
    Closes,
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuses => "refuses",
            Self::Closes => "accepts and closes",
        })
    }
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Pulls of the one origin.
    pub(crate) pulls: usize,
    /// How long it is dead once all pulls are there.
    pub(crate) dead: Duration,
    /// How long all may take to be live once it is back.
    pub(crate) back: Duration,
    /// Requests of the API a second.
    pub(crate) asked_a_second: u32,
    /// What the origin plays when it is back.
    pub(crate) kbps: u32,
}

/// What was seen in one manner.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// How the origin was dead.
    pub(crate) manner: Manner,
    /// How many pulls there were.
    pub(crate) pulls: usize,
    /// How long the origin was dead with all of them.
    pub(crate) dead: Duration,
    /// Dials in the fullest second, the start of the pulls included.
    pub(crate) most_in_a_second: f64,
    /// Dials a second while all pulls were there.
    pub(crate) a_second: f64,
    /// The same by the `attempt` of all streams' status.
    pub(crate) attempts_a_second: f64,
    /// CPU time of the host, cores, while all pulls were there.
    pub(crate) cores: f64,
    /// Requests meanwhile.
    pub(crate) asked: Times,
    /// The same by kind.
    pub(crate) kinds: Vec<(&'static str, Times)>,
    /// Requests while the pulls came back.
    pub(crate) asked_at_return: Times,
    /// From the start of the origin until 50, 95 and 100 % were live.
    pub(crate) live_after: [Option<Duration>; 3],
}

/// Goes through both manners; of one that fails, why.
pub(crate) fn run(
    programs: &Programs,
    options: &Options,
) -> Vec<(Manner, anyhow::Result<Outcome>)> {
    [Manner::Refuses, Manner::Closes]
        .into_iter()
        .map(|manner| (manner, attempt(|| one(manner, programs, options))))
        .collect()
}

fn one(manner: Manner, programs: &Programs, options: &Options) -> anyhow::Result<Outcome> {
    let origin = port::free();
    let closer = match manner {
        Manner::Refuses => None,
        Manner::Closes => Some(Closer::start(origin)?),
    };
    let task = Task {
        programs,
        origin,
        pulls: 0,
        connections: options.pulls,
    };
    let server = Server::start(Contender::Restreamd { window_millis: 20 }, &task)?;
    let api = server.api().context("the host has an API")?;

    let dials = match &closer {
        Some(closer) => Ticker::start(closer.count()),
        None => Ticker::start(usage::failed_connects),
    };
    let began = Instant::now();
    for number in 0..options.pulls {
        api.start(&restreamd::pull(number, origin));
    }
    println!(
        "{} pulls were made in {:.1?}",
        options.pulls,
        began.elapsed()
    );

    let asker = Asker::start(api, options.asked_a_second, options.pulls, own(origin));
    let dead = Dead::watch(&server, api, &dials, options.dead)?;

    // Its port is free before the origin takes it.
    drop(closer);
    let returned = Instant::now();
    let _origin = start_origin(origin, options.kbps, ORIGIN_TICK_MILLIS)?;
    let live_after = comeback(api, options, returned);
    let seen = asker.end()?;
    let kinds = seen.kinds_between(dead.begin, dead.end);
    Ok(Outcome {
        manner,
        pulls: options.pulls,
        dead: dead.end - dead.begin,
        most_in_a_second: dials.fullest(dead.end),
        a_second: dead.dials / dead.seconds(),
        attempts_a_second: dead.attempts / dead.seconds(),
        cores: dead.cpu.as_secs_f64() / dead.seconds(),
        asked: seen.between(dead.begin, dead.end),
        kinds: kinds.into_iter().collect(),
        asked_at_return: seen.between(returned, Instant::now()),
        live_after,
    })
}

/// The pulls that the client of the API adds and deletes.
fn own(origin: SocketAddr) -> impl Fn(usize) -> Provision + Clone + Send + 'static {
    /// Beyond those of the benchmark.
    const FIRST: usize = 1_000_000;
    move |number| restreamd::pull(FIRST + number, origin)
}

/// The time in which all pulls fail.
struct Dead {
    begin: Instant,
    end: Instant,
    dials: f64,
    attempts: f64,
    cpu: Duration,
}

impl Dead {
    fn watch(
        server: &Server,
        api: &Api,
        dials: &Ticker,
        how_long: Duration,
    ) -> anyhow::Result<Self> {
        let (attempts, cpu) = (attempts(api), usage::cpu(server.pid())?);
        let (begin, before) = (Instant::now(), dials.now());
        thread::sleep(how_long);
        let (end, after) = (Instant::now(), dials.now());
        Ok(Self {
            begin,
            end,
            dials: after.saturating_sub(before) as f64,
            cpu: usage::cpu(server.pid())? - cpu,
            attempts: self::attempts(api) - attempts,
        })
    }

    fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }
}

/// Attempts of all streams together, as their status says.
fn attempts(api: &Api) -> f64 {
    let streams = api.streams();
    streams
        .iter()
        .filter_map(|stream| stream["attempt"].as_f64())
        .sum()
}

/// When the shares of the pulls were live.
fn comeback(api: &Api, options: &Options, returned: Instant) -> [Option<Duration>; 3] {
    let mut after = [None; 3];
    while returned.elapsed() < options.back && after.contains(&None) {
        let live = api.gauge("restreamd_stream_live_count") as usize;
        for (share, after) in SHARES.iter().zip(&mut after) {
            if after.is_none() && live * 100 >= options.pulls * share {
                *after = Some(returned.elapsed());
            }
        }
        thread::sleep(LOOK);
    }
    after
}

/// Accepts and closes, until it is dropped.
struct Closer {
    addr: SocketAddr,
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Closer {
    fn start(addr: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(addr).context("the dead origin's port is taken")?;
        let (accepted, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let thread = {
            let (accepted, stop) = (accepted.clone(), stop.clone());
            thread::spawn(move || {
                while let Ok(connection) = listener.accept() {
                    drop(connection);
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Ok(Self {
            addr,
            accepted,
            stop,
            thread: Some(thread),
        })
    }

    fn count(&self) -> impl Fn() -> anyhow::Result<u64> + Send + Sync + use<> {
        let accepted = self.accepted.clone();
        move || Ok(accepted.load(Ordering::Relaxed))
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // One more connection wakes it.
        let woken = std::net::TcpStream::connect(self.addr);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            // It does nothing that panics.
            let _ = thread.join();
        }
    }
}

type Counts = Arc<Mutex<Vec<(Instant, u64)>>>;

/// Reads a counter once a second, until it is dropped.
struct Ticker {
    counts: Counts,
    read: Arc<dyn Fn() -> anyhow::Result<u64> + Send + Sync>,
    stop: Arc<AtomicBool>,
}

impl Ticker {
    fn start(read: impl Fn() -> anyhow::Result<u64> + Send + Sync + 'static) -> Self {
        let counts = Counts::default();
        let stop = Arc::new(AtomicBool::new(false));
        let read: Arc<dyn Fn() -> anyhow::Result<u64> + Send + Sync> = Arc::new(read);
        let ticker = Self {
            counts: counts.clone(),
            read: read.clone(),
            stop: stop.clone(),
        };
        thread::spawn(move || {
            let mut due = Instant::now();
            while let (false, Ok(count)) = (stop.load(Ordering::Relaxed), read()) {
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                counts.push((Instant::now(), count));
                drop(counts);
                due += TICK;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        ticker
    }

    fn now(&self) -> u64 {
        (self.read)().unwrap_or_default()
    }

    /// The most in one tick until then, made a second's.
    fn fullest(&self, until: Instant) -> f64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        fullest(&counts, until)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn fullest(counts: &[(Instant, u64)], until: Instant) -> f64 {
    let ticks = counts.windows(2).filter(|tick| tick[1].0 <= until);
    ticks
        .map(|tick| {
            let seconds = (tick[1].0 - tick[0].0).as_secs_f64();
            tick[1].1.saturating_sub(tick[0].1) as f64 / seconds.max(TICK.as_secs_f64())
        })
        .fold(0.0, f64::max)
}

/// The table of both manners.
pub(crate) fn table(options: &Options, outcomes: &[(Manner, anyhow::Result<Outcome>)]) -> String {
    let title = format!(
        "dead-origin: {} pulls of one origin, dead for {} s; the API is asked {} times a second",
        options.pulls,
        options.dead.as_secs(),
        options.asked_a_second
    );
    let mut head = vec![String::new()];
    head.extend(outcomes.iter().map(|(manner, _)| manner.to_string()));
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &dyn Fn(&Outcome) -> String| {
        let mut cells = vec![name.to_owned()];
        let cell = |(_, outcome): &(_, anyhow::Result<Outcome>)| {
            outcome.as_ref().map_or_else(|_| "failed".to_owned(), value)
        };
        cells.extend(outcomes.iter().map(cell));
        lines.push(cells);
    };
    line("dials in one second, at most", &|o| {
        format!("{:.0}", o.most_in_a_second)
    });
    line("dials a second", &|o| format!("{:.1}", o.a_second));
    line("attempts a second, by status", &|o| {
        format!("{:.1}", o.attempts_a_second)
    });
    line("cores busy", &|o| format!("{:.3}", o.cores));
    line("API, all: p50 / p99 / longest, ms", &|o| times(&o.asked));
    line("API, all: requests (failed)", &|o| {
        format!("{} ({})", o.asked.asked, o.asked.failed)
    });
    let kinds = outcomes.iter().flat_map(|(_, outcome)| outcome.as_ref());
    let mut names: Vec<&str> = kinds
        .flat_map(|outcome| outcome.kinds.iter().map(|(what, _)| *what))
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        line(name, &|o| {
            let kind = o.kinds.iter().find(|(what, _)| *what == name);
            kind.map_or_else(String::new, |(_, kind)| times(kind))
        });
    }
    line("API while they come back", &|o| times(&o.asked_at_return));
    for (n, share) in SHARES.iter().enumerate() {
        line(&format!("{share} % live after, s"), &|o| {
            o.live_after[n]
                .map_or_else(|| "never".to_owned(), |s| format!("{:.1}", s.as_secs_f64()))
        });
    }
    let mut out = markdown(&title, &head, &lines);
    for (manner, outcome) in outcomes {
        if let Err(why) = outcome {
            out.push_str(&format!("\n{manner} failed: {why:#}\n"));
        }
    }
    out
}

fn times(times: &Times) -> String {
    let millis = |time: Option<Duration>| {
        time.map_or_else(
            || "-".to_owned(),
            |t| format!("{:.1}", t.as_secs_f64() * 1e3),
        )
    };
    [times.p50, times.p99, times.longest]
        .map(millis)
        .join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_second_is_of_the_time_before_the_return() {
        let begin = Instant::now();
        let at = |second: u64, count| (begin + Duration::from_secs(second), count);
        let counts = [at(0, 0), at(1, 250), at(2, 350), at(4, 550), at(5, 5_000)];
        let until = begin + Duration::from_secs(4);
        assert!((fullest(&counts, until) - 250.0).abs() < 1.0);
        assert!(fullest(&[], until) < f64::EPSILON);
    }

    #[test]
    fn the_closing_listener_counts_and_gives_its_port_back() {
        let addr = port::free();
        let closer = Closer::start(addr).expect("the port is free");
        for _ in 0..3 {
            drop(std::net::TcpStream::connect(addr).expect("it listens"));
        }
        let count = closer.count();
        restreamd_tests::eventually::eventually("3 are counted", Duration::from_secs(10), || {
            let counted = count().unwrap_or_default();
            restreamd_tests::eventually::when(counted == 3, || counted.to_string())
        });
        drop(closer);
        TcpListener::bind(addr).expect("it is free again");
    }
}
