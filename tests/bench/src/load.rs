//! The players' process: attaches them, visits them, counts, and tells.
//!
//! It says `begin` and, after the time asked for, `end` with what was counted
//! in between, each in one line of JSON. Sockets are visited in turn and not
//! waited for, so that a server's writes wake nobody here: with real players
//! that cost is another machine's. Player 0, the witness, reads every message.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use restreamd_rtmp::session::MediaKind;
use serde_json::json;

use crate::player::Player;
use crate::pump::Pump;
use crate::source::{self, Source};
use crate::usage::monotonic_nanos;

/// Players that attach at a time.
const ATTACHERS: usize = 64;
/// How often to tell how far the attaching is.
const PROGRESS: Duration = Duration::from_secs(1);
/// Discarded in one call at most.
const SCRATCH: usize = 1024 * 1024;
/// A player that got less of what the source sent is short.
const ENOUGH: f64 = 0.98;

/// What to play.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// The streams' URL without their number.
    #[arg(long)]
    pub(crate) url: String,
    /// How many streams there are, from number 0.
    #[arg(long)]
    pub(crate) streams: usize,
    /// Players beside the witness; they take the streams in turn.
    #[arg(long)]
    pub(crate) players: usize,
    /// What a stream carries.
    #[arg(long)]
    pub(crate) kbps: u32,
    /// Milliseconds from the last attachment to the begin.
    #[arg(long)]
    pub(crate) warm_millis: u64,
    /// Milliseconds from begin to end.
    #[arg(long)]
    pub(crate) millis: u64,
    /// Milliseconds from one visit of the sockets to the next.
    #[arg(long)]
    pub(crate) visit_millis: u64,
    /// The server sends bare chunks to whoever connects.
    #[arg(long)]
    pub(crate) bare: bool,
}

impl Load {
    fn url_of(&self, player: usize) -> String {
        format!("{}{}", self.url, player % self.streams)
    }

    fn attach(&self, player: usize) -> anyhow::Result<Player> {
        let url = self.url_of(player);
        match self.bare {
            true => Player::attach_bare(&url),
            false => Player::attach(&url),
        }
    }
}

/// What the witness saw since it was asked last.
#[derive(Debug, Default)]
struct Seen {
    messages: u64,
    bytes: u64,
    delays: Vec<u64>,
    lost: Option<String>,
}

/// Plays, tells, and waits to be ended.
pub(crate) fn run(load: &Load) -> anyhow::Result<()> {
    let source = Source::new(load.kbps)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let player = load.attach(0).context("attaching the first player")?;
    witness(player, seen.clone());

    let mut pumps = Pumps::new(Duration::from_millis(load.visit_millis.max(1)));
    let sockets = attach(load.clone());
    let mut told = Instant::now();
    while let Some(more) = pumps.take_in(&sockets) {
        pumps.visit_until(more);
        let progress =
            json!({"at": "attaching", "players": pumps.pumps.len(), "failure": pumps.failure});
        if Instant::now() >= told + PROGRESS {
            told = Instant::now();
            println!("{progress}");
        }
    }
    pumps.visit_until(Instant::now() + Duration::from_millis(load.warm_millis));

    pumps.visit_all();
    let before = pumps.received();
    *lock(&seen) = Seen::default();
    let begin = Instant::now();
    println!("{}", json!({"at": "begin"}));

    pumps.visit_until(begin + Duration::from_millis(load.millis));
    pumps.visit_all();
    let seconds = begin.elapsed().as_secs_f64();
    let mut seen = std::mem::take(&mut *lock(&seen));
    let got: Vec<u64> = pumps
        .received()
        .iter()
        .zip(&before)
        .map(|(now, before)| now - before)
        .collect();
    let expected = source.bytes_per_second() * seconds;
    let enough = got
        .iter()
        .filter(|got| **got as f64 >= ENOUGH * expected)
        .count();
    seen.delays.sort_unstable();
    println!(
        "{}",
        json!({
            "at": "end",
            "seconds": seconds,
            "bytes": got.iter().sum::<u64>() + seen.bytes,
            "expected": expected,
            "least": got.iter().min(),
            "short": load.players - enough,
            "messages": seen.messages as f64 / (source.messages_per_second() * seconds),
            "payload": seen.bytes as f64 / expected,
            "delay_p50_nanos": percentile(&seen.delays, 50),
            "delay_p99_nanos": percentile(&seen.delays, 99),
            "lost": seen.lost,
            "failure": pumps.failure,
        })
    );
    // The sockets stay open until the memory of the server was looked at.
    loop {
        pumps.visit_until(Instant::now() + pumps.period);
    }
}

fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted
        .get((sorted.len().max(1) - 1) * percent / 100)
        .copied()
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn witness(mut player: Player, seen: Arc<Mutex<Seen>>) {
    thread::spawn(move || {
        loop {
            match player.next() {
                Ok(media) if media.kind == MediaKind::Data => {}
                Ok(media) => {
                    let now = monotonic_nanos();
                    let sent = source::stamped(&media.payload);
                    let mut seen = lock(&seen);
                    seen.messages += 1;
                    seen.bytes += media.payload.len() as u64;
                    seen.delays
                        .extend(sent.map(|sent| now.saturating_sub(sent)));
                }
                Err(error) => {
                    lock(&seen).lost = Some(format!("{error:#}"));
                    return;
                }
            }
        }
    });
}

type Attached = anyhow::Result<TcpStream>;

/// Attaches all players; the channel closes behind the last.
fn attach(load: Load) -> mpsc::Receiver<Attached> {
    let (sender, receiver) = mpsc::channel();
    let next = Arc::new(AtomicUsize::new(0));
    let load = Arc::new(load);
    for _ in 0..ATTACHERS {
        let (sender, next, load) = (sender.clone(), next.clone(), load.clone());
        thread::spawn(move || {
            loop {
                let player = next.fetch_add(1, Ordering::Relaxed);
                if player >= load.players {
                    return;
                }
                let attached = load.attach(player).and_then(Player::into_stream);
                if sender.send(attached).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

#[derive(Debug)]
struct Pumps {
    pumps: Vec<Pump>,
    /// From one visit to the next.
    period: Duration,
    scratch: Vec<u8>,
    /// Why the first that was not let in was not.
    failure: Option<String>,
}

impl Pumps {
    fn new(period: Duration) -> Self {
        Self {
            pumps: Vec::new(),
            period,
            scratch: vec![0; SCRATCH],
            failure: None,
        }
    }

    /// Takes those in that are attached; says until when to wait for more.
    fn take_in(&mut self, sockets: &mpsc::Receiver<Attached>) -> Option<Instant> {
        loop {
            match sockets.try_recv() {
                Ok(Ok(socket)) => self.pumps.push(Pump::new(socket)),
                Ok(Err(error)) => {
                    self.failure.get_or_insert(format!("{error:#}"));
                }
                Err(mpsc::TryRecvError::Empty) => return Some(Instant::now() + self.period),
                Err(mpsc::TryRecvError::Disconnected) => return None,
            }
        }
    }

    fn received(&self) -> Vec<u64> {
        self.pumps.iter().map(Pump::received).collect()
    }

    fn visit_all(&mut self) {
        let now = Instant::now();
        for pump in &mut self.pumps {
            pump.drain(&mut self.scratch, now);
        }
        if self.pumps.iter().any(Pump::is_gone) {
            self.failure
                .get_or_insert_with(|| "the server closed a connection".to_owned());
        }
    }

    fn visit_until(&mut self, end: Instant) {
        loop {
            let next = Instant::now() + self.period;
            self.visit_all();
            let left = next.min(end).saturating_duration_since(Instant::now());
            thread::sleep(left);
            if Instant::now() >= end {
                return;
            }
        }
    }
}
