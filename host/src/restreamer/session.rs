//! The host of a real restreamer: sources, clock, log and status behind the
//! policy's calls.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use restreamd_rtmp::url::RtmpUrl;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::board::{Board, Phase};
use super::host::{
    Claim, Class, ConnectOptions, Facts, Failure, Host, Level, Properties, SourceId, SourceState,
    WaitFuture, Wake,
};
use super::hosts::Hosts;
use super::inbox::Inbox;
use super::probe::Sight;
use super::scrub::Scrub;
use super::source::Source;
use crate::stream::Stream;

/// A message longer than this is cut.
const LOG_BYTES: usize = 1024;
/// The longest first-media timeout a guest can ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// And the shortest stall.
const MIN_STALL: Duration = Duration::from_millis(500);

/// What outlives a run: the sources, the inbox and the board of one restreamer.
#[derive(Debug)]
pub struct Shared {
    /// The stream it feeds.
    pub stream: Arc<Stream>,
    /// The remote hosts, shared with the other restreamers.
    pub hosts: Arc<Hosts>,
    /// What it waits on.
    pub inbox: Arc<Inbox>,
    /// What the status says.
    pub board: Mutex<Board>,
    sources: Mutex<Sources>,
    checkpoint: Mutex<Vec<u8>>,
    properties: Mutex<Properties>,
    scrub: Mutex<Scrub>,
    /// Properties that the type calls secret.
    secret_keys: Vec<String>,
    max_sources: usize,
}

#[derive(Debug, Default)]
struct Sources {
    open: Vec<Source>,
    next: SourceId,
    closed: bool,
}

impl Shared {
    /// A restreamer of a stream, with nothing open.
    pub fn new(
        stream: Arc<Stream>,
        hosts: Arc<Hosts>,
        properties: Properties,
        secret_keys: Vec<String>,
        max_sources: usize,
    ) -> Self {
        Self {
            scrub: Mutex::new(Scrub::of(&properties, |key| {
                secret_keys.iter().any(|known| known == key)
            })),
            secret_keys,
            properties: Mutex::new(properties),
            stream,
            hosts,
            inbox: Arc::default(),
            board: Mutex::new(Board::default()),
            sources: Mutex::default(),
            checkpoint: Mutex::default(),
            max_sources,
        }
    }

    /// Closes all sources; none is opened any more.
    pub fn close(&self) {
        let mut sources = self.sources.lock();
        sources.closed = true;
        sources.open.clear();
    }

    /// The sources still open, the one on air first, then the attached one.
    pub fn open_sources(&self) -> Vec<SourceId> {
        let mut ids: Vec<(bool, bool, SourceId)> = self
            .sources
            .lock()
            .open
            .iter()
            .map(|source| {
                let (attached, on_air) = source.standing();
                (!on_air, !attached, source.id())
            })
            .collect();
        ids.sort_unstable();
        ids.into_iter().map(|(.., id)| id).collect()
    }

    /// Closes what a run did not hand over.
    pub fn keep_only(&self, keep: &[SourceId]) {
        self.sources
            .lock()
            .open
            .retain(|source| keep.contains(&source.id()));
    }

    /// Where the media on air comes from, else where the newest source was opened. Masked.
    pub fn source(&self) -> Option<String> {
        let sources = self.sources.lock();
        let on_air = sources.open.iter().find(|source| source.standing().1);
        let url = on_air.map(|source| source.url().masked());
        drop(sources);
        url.or_else(|| self.board.lock().source.clone())
    }

    /// A guest's or a peer's text without this restreamer's secrets.
    pub fn scrubbed(&self, text: &str) -> String {
        self.scrub.lock().apply(text)
    }

    /// The properties the next run begins with.
    pub fn properties(&self) -> Properties {
        self.properties.lock().clone()
    }

    /// The provision was updated: the guest hears of it, and so does every later run.
    pub fn reconfigure(&self, properties: Properties) {
        *self.scrub.lock() = Scrub::of(&properties, |key| {
            self.secret_keys.iter().any(|known| known == key)
        });
        self.properties.lock().clone_from(&properties);
        self.inbox.reconfigure(properties);
    }

    /// The last checkpoint.
    pub fn last_checkpoint(&self) -> Vec<u8> {
        self.checkpoint.lock().clone()
    }

    /// The phase, and since when.
    pub fn phase(&self) -> (Phase, jiff::Timestamp) {
        let states: Vec<_> = self
            .sources
            .lock()
            .open
            .iter()
            .map(|source| {
                let facts = source.facts();
                let moves = !facts.on_air || self.stream.is_live();
                let state = match facts.state {
                    SourceState::Flowing if !moves => SourceState::Stalled,
                    state => state,
                };
                (state, facts.on_air)
            })
            .collect();
        self.board.lock().phase(states.into_iter())
    }

    /// What the source that is attached, or else the first, shows.
    pub(super) fn sight(&self) -> Option<Sight> {
        let sources = self.sources.lock();
        let attached = sources.open.iter().find(|source| source.standing().0);
        let source = attached.or(sources.open.first())?;
        let (dial, first_frame) = source.times();
        Some(Sight {
            facts: source.facts(),
            dial,
            first_frame,
        })
    }

    fn with<T>(&self, id: SourceId, act: impl FnOnce(&mut Source) -> T) -> Option<T> {
        self.sources
            .lock()
            .open
            .iter_mut()
            .find(|source| source.id() == id)
            .map(act)
    }
}

/// The host of one run.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    born: Instant,
    log_budget: LogBudget,
}

impl Session {
    /// A run begins.
    pub fn new(shared: Arc<Shared>, log_lines_per_second: u32) -> Self {
        Self {
            shared,
            born: Instant::now(),
            log_budget: LogBudget::new(log_lines_per_second),
        }
    }
}

impl Session {
    /// What a wake means for the status: it is stamped when it happens and not when
    /// somebody asks.
    fn note(&self, wake: &Wake) {
        let stall = match wake {
            Wake::SourceEnded(_, failure) => {
                self.shared.board.lock().incident(failure);
                None
            }
            Wake::Facts(id) => self
                .shared
                .with(*id, |source| source.facts().stall)
                .flatten(),
            _ => None,
        };
        if let Some(stall) = stall {
            self.shared.board.lock().stalled(stall);
        }
        self.shared.phase();
    }
}

impl Host for Session {
    fn connect(&mut self, url: &str, mut options: ConnectOptions) -> Result<SourceId, Failure> {
        let url =
            RtmpUrl::parse(url).map_err(|e| Failure::new(Class::Other, format!("bad URL: {e}")));
        let url = url.inspect_err(|failure| self.shared.board.lock().incident(failure))?;
        options.timeout = options.timeout.min(MAX_TIMEOUT);
        options.stall = options.stall.map(|stall| stall.max(MIN_STALL));
        let mut sources = self.shared.sources.lock();
        if sources.closed {
            return Err(Failure::new(Class::Cancelled, "the restreamer stops"));
        }
        if sources.open.len() >= self.shared.max_sources {
            return Err(Failure::new(
                Class::Other,
                format!("at most {} sources at a time", self.shared.max_sources),
            ));
        }
        sources.next += 1;
        let id = sources.next;
        self.shared.board.lock().dialing(url.masked());
        let (stream, hosts, inbox) = (&self.shared.stream, &self.shared.hosts, &self.shared.inbox);
        sources.open.push(Source::open(
            id,
            url,
            options,
            stream.clone(),
            hosts.clone(),
            inbox.clone(),
        ));
        drop(sources);
        self.shared.phase();
        Ok(id)
    }

    fn url(&mut self, id: SourceId) -> String {
        self.shared
            .with(id, |source| source.url().full())
            .unwrap_or_default()
    }

    fn facts(&mut self, id: SourceId) -> Facts {
        self.shared
            .with(id, |source| source.facts())
            .unwrap_or_else(over)
    }

    fn attach(&mut self, id: SourceId) -> Result<(), Failure> {
        let sources = self.shared.sources.lock();
        let Some(at) = sources.open.iter().position(|source| source.id() == id) else {
            return Err(Failure::new(Class::Closed, "the source is closed"));
        };
        sources.open[at].attach();
        Ok(())
    }

    fn close(&mut self, id: SourceId) {
        self.shared
            .sources
            .lock()
            .open
            .retain(|source| source.id() != id);
        self.shared.inbox.forget(id);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> WaitFuture<'_> {
        Box::pin(async move {
            let next = self.shared.inbox.next();
            let wake = match timeout {
                Some(timeout) => tokio::time::timeout(timeout, next)
                    .await
                    .unwrap_or(Wake::Timer),
                None => next.await,
            };
            self.note(&wake);
            wake
        })
    }

    fn log(&mut self, level: Level, message: &str) {
        if !self.log_budget.take() {
            return;
        }
        let message = cut(&self.shared.scrubbed(message));
        match level {
            Level::Debug => debug!(target: "restreamd::guest", "{message}"),
            Level::Info => info!(target: "restreamd::guest", "{message}"),
            Level::Warn => warn!(target: "restreamd::guest", "{message}"),
            Level::Error => error!(target: "restreamd::guest", "{message}"),
        }
    }

    fn now_ms(&mut self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    fn random(&mut self) -> u32 {
        rand::random()
    }

    fn set_status(&mut self, claim: Claim, text: &str, next_attempt: Option<Duration>) {
        let text = cut(&self.shared.scrubbed(text));
        debug!(text, ?next_attempt, "status");
        self.shared.board.lock().claim(claim, next_attempt);
        self.shared.phase();
    }

    fn checkpoint(&mut self, state: Vec<u8>) {
        *self.shared.checkpoint.lock() = state;
    }
}

/// The facts of a source that no longer exists.
fn over() -> Facts {
    Facts {
        state: SourceState::Ended,
        attached: false,
        on_air: false,
        video: None,
        audio: None,
        gop: None,
        bytes: 0,
        flowing: Duration::ZERO,
        stall: None,
    }
}

/// A guest's text, fit for one log line.
fn cut(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LOG_BYTES)
        .collect()
}

/// So many lines a second; the rest is counted.
#[derive(Debug)]
struct LogBudget {
    per_second: u32,
    second: Instant,
    used: u32,
    left_out: u64,
}

impl LogBudget {
    fn new(per_second: u32) -> Self {
        Self {
            per_second,
            second: Instant::now(),
            used: 0,
            left_out: 0,
        }
    }

    fn take(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            if self.left_out > 0 {
                info!(
                    lines = self.left_out,
                    "log lines of the plugin were left out"
                );
            }
            (self.second, self.used, self.left_out) = (Instant::now(), 0, 0);
        }
        self.used += 1;
        let within = self.used <= self.per_second;
        self.left_out += u64::from(!within);
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_talkative_guest_gets_so_many_lines_a_second() {
        let mut budget = LogBudget::new(10);
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 10);
    }
}
