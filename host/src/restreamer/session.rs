//! The host of a real restreamer: sources, clock, log and status behind the
//! policy's calls.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use restreamd_rtmp::url::RtmpUrl;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::board::{Board, Phase};
use super::fetch::Checked;
use super::host::{
    Claim, Class, ConnectOptions, Facts, Failure, FetchFuture, FileOptions, Host, Level,
    Properties, PublishOptions, Request, SourceId, SourceState, TargetFacts, TargetId, TargetState,
    WaitFuture, Wake,
};
use super::hosts::Hosts;
use super::inbox::Inbox;
use super::origin::{Origin, unplayable};
use super::probe::Sight;
use super::scrub::{self, Scrub};
use super::source::Source;
use super::target::{self, Target};
use crate::flv::{self, MediaDir};
use crate::id::StreamGuid;
use crate::plugin::Grants;
use crate::rtmp::dial::Feeding;
use crate::rtmp::policy::Policy;
use crate::stream::{Stream, Streams};

/// A message longer than this is cut.
const LOG_BYTES: usize = 1024;
/// And a text for the status.
const STATUS_TEXT: usize = 200;
/// The longest first-media timeout a guest can ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Sources and targets that a restreamer may open at once, and then one in so long, and
/// requests it may send: a list of dead sources with the shortest waits stays below.
const OPENS: (u32, Duration) = (40, Duration::from_millis(100));
/// Waits of a guest that end at once, and then one in so long: more than any policy has
/// a use for, and little work.
const WAITS: (u32, Duration) = (100, Duration::from_millis(10));
/// And the shortest stall.
const MIN_STALL: Duration = Duration::from_millis(500);

/// And the shortest time after which a peer that takes nothing is over, and the longest:
/// the kernel gives it up then.
const PUSH_STALL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// And the shortest lag.
const MIN_LAG: Duration = Duration::from_millis(500);

/// What a restreamer has to do with streams of this node.
#[derive(Clone, Debug)]
pub struct Local {
    /// The stream it feeds; none for one that reads.
    pub feeds: Option<Arc<Stream>>,
    /// The stream it is about.
    pub guid: StreamGuid,
    /// Where to find that when it is pushed; none when nothing may be.
    pub streams: Option<Streams>,
}

/// Whom a type may ask by HTTP: `grants.http` says so, within the node's own policy. What
/// else it is granted is about media.
#[derive(Clone, Debug)]
pub struct Asking {
    /// What it was granted.
    pub grants: Grants,
    /// Where the node may dial.
    pub policy: Arc<Policy>,
}

/// What outlives a run: sources, targets, the inbox and the board of one restreamer.
pub struct Shared {
    /// What it has to do with streams of this node.
    pub local: Local,
    /// The remote hosts, shared with the other restreamers.
    pub hosts: Arc<Hosts>,
    /// The files it may play.
    pub media: MediaDir,
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
    asking: Asking,
    fetches: Mutex<Pace>,
}

/// Properties hold secrets and are not shown.
impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Sources {
    open: Vec<Source>,
    targets: Vec<Target>,
    next: SourceId,
    /// A remote was dialed.
    dialed: bool,
    closed: bool,
    pace: Pace,
}

/// So many at once, and then one in so long.
#[derive(Debug, Default)]
struct Pace {
    /// When as many as possible may come again.
    rested_at: Option<Instant>,
}

impl Sources {
    /// The number of one more of these, if there may be one.
    fn admit(&mut self, what: &str, open: usize, most: usize) -> Result<u32, Failure> {
        if self.closed {
            return Err(Failure::new(Class::Cancelled, "the restreamer stops"));
        }
        if open >= most {
            let text = format!("at most {most} {what} at a time");
            return Err(Failure::new(Class::Limit, text));
        }
        if !self.pace.take(Instant::now(), OPENS).is_zero() {
            let text = format!("too many {what} in a short time");
            return Err(Failure::new(Class::Limit, text));
        }
        self.next += 1;
        Ok(self.next)
    }
}

impl Pace {
    /// How long one more has to wait. It is counted if it need not.
    fn take(&mut self, now: Instant, (burst, interval): (u32, Duration)) -> Duration {
        let rested_at = self.rested_at.unwrap_or(now).max(now) + interval;
        let early = (rested_at - now).saturating_sub(interval * burst);
        if early.is_zero() {
            self.rested_at = Some(rested_at);
        }
        early
    }
}

impl Shared {
    /// A restreamer of a stream, with nothing open.
    pub fn new(
        local: Local,
        hosts: Arc<Hosts>,
        media: MediaDir,
        properties: Properties,
        secret_keys: Vec<String>,
        max_sources: usize,
        asking: Asking,
    ) -> Self {
        Self {
            scrub: Mutex::new(scrub::of(&properties, local.feeds.is_none(), |key| {
                secret_keys.iter().any(|known| known == key)
            })),
            secret_keys,
            properties: Mutex::new(properties),
            local,
            hosts,
            media,
            inbox: Arc::default(),
            board: Mutex::new(Board::default()),
            sources: Mutex::default(),
            checkpoint: Mutex::default(),
            max_sources,
            asking,
            fetches: Mutex::default(),
        }
    }

    /// Closes all sources and targets; none is opened any more.
    pub fn close(&self) {
        let mut sources = self.sources.lock();
        sources.closed = true;
        sources.open.clear();
        sources.targets.clear();
    }

    /// The targets still open.
    pub fn open_targets(&self) -> Vec<TargetId> {
        let sources = self.sources.lock();
        sources.targets.iter().map(Target::id).collect()
    }

    /// Where media goes to, without secrets, and how that is.
    pub fn targets(&self) -> Vec<(String, TargetFacts)> {
        let sources = self.sources.lock();
        let targets = sources.targets.iter();
        targets
            .map(|target| (target.shown(), target.facts()))
            .collect()
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
    pub fn keep_only(&self, sources: &[SourceId], targets: &[TargetId]) {
        let mut open = self.sources.lock();
        open.open.retain(|source| sources.contains(&source.id()));
        open.targets.retain(|target| targets.contains(&target.id()));
    }

    /// Where the media on air comes from, else where the newest source was opened. Masked.
    pub fn source(&self) -> Option<String> {
        let sources = self.sources.lock();
        let on_air = sources.open.iter().find(|source| source.standing().1);
        let url = on_air.map(|source| source.origin().to_string());
        drop(sources);
        url.or_else(|| self.board.lock().source.clone())
    }

    /// A run begins with what is open: it hears of each end, also if the former one did.
    pub fn repeat_ends(&self) {
        let sources = self.sources.lock();
        let ends = sources.open.iter();
        ends.for_each(|source| source.repeat_end(&self.inbox));
        let ends = sources.targets.iter();
        ends.for_each(|target| target.repeat_end(&self.inbox));
    }

    /// A guest's or a peer's text without this restreamer's secrets.
    pub fn scrubbed(&self, text: &str) -> String {
        let mut scrub = self.scrub.lock().clone();
        // What the properties were before, as long as it is open.
        let sources = self.sources.lock();
        for source in &sources.open {
            if let Origin::Rtmp { url, .. } = source.origin() {
                scrub.add_url(url);
            }
        }
        sources
            .targets
            .iter()
            .for_each(|target| target.hide(&mut scrub));
        drop(sources);
        scrub.apply(text)
    }

    /// The properties the next run begins with.
    pub fn properties(&self) -> Properties {
        self.properties.lock().clone()
    }

    /// The provision was updated: the guest hears of it, and so does every later run.
    pub fn reconfigure(&self, properties: Properties) {
        *self.scrub.lock() = scrub::of(&properties, self.local.feeds.is_none(), |key| {
            self.secret_keys.iter().any(|known| known == key)
        });
        self.properties.lock().clone_from(&properties);
        self.inbox.reconfigure(properties);
    }

    /// The last checkpoint.
    pub fn last_checkpoint(&self) -> Vec<u8> {
        self.checkpoint.lock().clone()
    }

    /// The phase, and since when: of what feeds, its sources tell it, of what reads, its
    /// targets.
    pub fn phase(&self) -> (Phase, jiff::Timestamp) {
        let Some(stream) = &self.local.feeds else {
            let sources = self.sources.lock();
            let states: Vec<_> = sources.targets.iter().filter_map(standing).collect();
            drop(sources);
            return self.board.lock().phase(states.into_iter());
        };
        let states: Vec<_> = self
            .sources
            .lock()
            .open
            .iter()
            .map(|source| {
                let seen = source.look();
                let moves = !seen.on_air || stream.is_live();
                let state = match seen.state {
                    SourceState::Flowing if !moves => SourceState::Stalled,
                    state => state,
                };
                (state, seen.on_air)
            })
            .collect();
        self.board.lock().phase(states.into_iter())
    }

    /// Opens a source, if there may be one more.
    fn open(&self, origin: Origin) -> Result<SourceId, Failure> {
        let Some(stream) = self.local.feeds.clone() else {
            let text = "this restreamer reads its stream and has nothing to feed";
            return Err(Failure::new(Class::Invalid, text));
        };
        let mut sources = self.sources.lock();
        let open = sources.open.len();
        let id = sources.admit("sources", open, self.max_sources)?;
        sources.dialed |= origin.is_remote();
        self.board.lock().dialing(origin.to_string());
        sources.open.push(Source::open(id, origin, stream, self));
        drop(sources);
        self.phase();
        Ok(id)
    }

    /// Opens a target, if there may be one more.
    fn open_target(&self, url: RtmpUrl, options: PublishOptions) -> Result<TargetId, Failure> {
        let Some(streams) = self.local.streams.clone() else {
            let text = "a source is looked at, and nothing published";
            return Err(Failure::new(Class::Blocked, text));
        };
        let context = target::Context {
            streams,
            guid: self.local.guid.clone(),
            hosts: self.hosts.clone(),
            inbox: self.inbox.clone(),
        };
        let mut sources = self.sources.lock();
        let open = sources.targets.len();
        let id = sources.admit("targets", open, self.max_sources)?;
        if self.local.feeds.is_none() {
            self.board.lock().dialing(target::shown(&url));
        }
        let target = Target::open(id, url, options, context);
        sources.targets.push(target);
        drop(sources);
        self.phase();
        Ok(id)
    }

    /// What the source that is attached, or else the first, shows. Files count only when
    /// nothing was ever dialed: a slate is not what is looked for.
    pub(super) fn sight(&self) -> Option<Sight> {
        let sources = self.sources.lock();
        let counts = |source: &&Source| !sources.dialed || source.origin().is_remote();
        let mut open = sources.open.iter().filter(counts);
        let attached = open.clone().find(|source| source.standing().0);
        let source = attached.or_else(|| open.next())?;
        let (dial, first_frame) = source.times();
        Some(Sight {
            facts: source.facts(),
            dial,
            first_frame,
        })
    }

    async fn fetch(&self, request: Request) -> Result<super::host::Response, Failure> {
        let checked = Checked::new(request)?;
        let (host, port) = checked.to();
        if !self.asking.grants.http_allows(host, port) {
            let text = format!("grants.http of this type does not cover {host}:{port}");
            return Err(Failure::new(Class::Blocked, text));
        }
        if !self.fetches.lock().take(Instant::now(), OPENS).is_zero() {
            let text = "too many requests in a short time";
            return Err(Failure::new(Class::Limit, text));
        }
        checked.ask(&self.asking.policy).await
    }

    fn with_target<T>(&self, id: TargetId, act: impl FnOnce(&Target) -> T) -> Option<T> {
        let sources = self.sources.lock();
        let mut targets = sources.targets.iter();
        targets.find(|target| target.id() == id).map(act)
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
    waits: Pace,
}

impl Session {
    /// A run begins.
    pub fn new(shared: Arc<Shared>, log_lines_per_second: u32) -> Self {
        Self {
            shared,
            born: Instant::now(),
            log_budget: LogBudget::new(log_lines_per_second),
            waits: Pace::default(),
        }
    }

    fn parse(&self, url: &str) -> Result<RtmpUrl, Failure> {
        let url = RtmpUrl::parse(url);
        let url = url.map_err(|e| Failure::new(Class::Invalid, format!("bad URL: {e}")));
        url.inspect_err(|failure| self.shared.board.lock().incident(failure))
    }

    /// A guest that waits again and again for what is there already is slowed down.
    /// Cancel safe.
    async fn pace(&mut self) {
        loop {
            let early = self.waits.take(Instant::now(), WAITS);
            if early.is_zero() {
                return;
            }
            tokio::time::sleep(early).await;
        }
    }

    /// What a wake means for the status: it is stamped when it happens and not when
    /// somebody asks.
    fn note(&self, wake: &Wake) {
        let stall = match wake {
            Wake::SourceEnded(id, failure) => {
                if self.shared.with(*id, |source| source.tell_end()) != Some(false) {
                    self.shared.board.lock().incident(failure);
                }
                None
            }
            Wake::TargetEnded(id, failure) => {
                if self.shared.with_target(*id, Target::tell_end) != Some(false) {
                    self.shared.board.lock().incident(failure);
                }
                None
            }
            Wake::Facts(id) => self
                .shared
                .with(*id, |source| source.look().stall)
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
        let url = self.parse(url)?;
        options.timeout = options.timeout.min(MAX_TIMEOUT);
        options.stall = options.stall.map(|stall| stall.max(MIN_STALL));
        options.dial.feeds = Some(Feeding {
            stream: self.shared.local.guid.clone(),
            pulls: self.shared.hosts.own_pulls().clone(),
        });
        options.dial.moments = self.shared.hosts.moments().clone();
        self.shared.open(Origin::Rtmp {
            url,
            options: Box::new(options),
        })
    }

    fn open_file(&mut self, name: &str, options: FileOptions) -> Result<SourceId, Failure> {
        let origin = Origin::File {
            name: name.to_owned(),
            looped: options.looped,
        };
        let legal = self.shared.media.check(name);
        let legal = legal.map_err(|error| match error {
            flv::Error::BadName => Failure::new(Class::Invalid, error),
            error => unplayable(&origin, &error),
        });
        legal.inspect_err(|failure| self.shared.board.lock().incident(failure))?;
        self.shared.open(origin)
    }

    fn publish(&mut self, url: &str, mut options: PublishOptions) -> Result<TargetId, Failure> {
        let url = self.parse(url)?;
        options.timeout = options.timeout.min(MAX_TIMEOUT);
        options.stall = options.stall.clamp(PUSH_STALL.0, PUSH_STALL.1);
        options.max_lag = options.max_lag.max(MIN_LAG);
        self.shared.open_target(url, options)
    }

    fn target_url(&mut self, id: TargetId) -> String {
        self.shared
            .with_target(id, Target::full_url)
            .unwrap_or_default()
    }

    fn target_facts(&mut self, id: TargetId) -> TargetFacts {
        let facts = self.shared.with_target(id, Target::facts);
        facts.unwrap_or(TargetFacts {
            state: TargetState::Ended,
            bytes: 0,
            frames: 0,
            dropped: 0,
            flowing: Duration::ZERO,
            lag: Duration::ZERO,
        })
    }

    fn close_target(&mut self, id: TargetId) {
        let mut sources = self.shared.sources.lock();
        sources.targets.retain(|target| target.id() != id);
        drop(sources);
        self.shared.inbox.forget(id);
    }

    fn url(&mut self, id: SourceId) -> String {
        self.shared
            .with(id, |source| source.origin().full())
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

    fn fetch(&mut self, request: Request) -> FetchFuture<'_> {
        Box::pin(async move {
            let shared = &*self.shared;
            let answered = tokio::select! {
                biased;
                () = shared.inbox.called_back() => {
                    let why = "the restreamer stops, or moves to another build";
                    return Err(Failure::new(Class::Cancelled, why));
                }
                answered = shared.fetch(request) => answered,
            };
            answered.inspect_err(|failure| shared.board.lock().incident(failure))
        })
    }

    fn wait(&mut self, timeout: Option<Duration>) -> WaitFuture<'_> {
        Box::pin(async move {
            self.pace().await;
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
        let text: String = cut(&self.shared.scrubbed(text))
            .chars()
            .take(STATUS_TEXT)
            .collect();
        debug!(text, ?next_attempt, "status");
        self.shared.board.lock().claim(claim, text, next_attempt);
        self.shared.phase();
    }

    fn checkpoint(&mut self, state: Vec<u8>) {
        *self.shared.checkpoint.lock() = state;
    }
}

/// What a target means for the phase of a restreamer that reads.
fn standing(target: &Target) -> Option<(SourceState, bool)> {
    match target.facts().state {
        TargetState::Dialing => Some((SourceState::Dialing, false)),
        TargetState::Flowing => Some((SourceState::Flowing, true)),
        TargetState::Stalled => Some((SourceState::Stalled, true)),
        // It has nothing to do.
        TargetState::Waiting | TargetState::Ended => None,
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
        more: super::host::MoreTracks::default(),
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

    const CLIP: &[u8] = include_bytes!("../../demo/clip.flv");

    /// A session with a media directory that holds the demo's clip and `broken.flv`.
    fn session() -> (tempfile::TempDir, Session) {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("clip.flv"), CLIP).expect("writable");
        std::fs::write(dir.path().join("broken.flv"), &CLIP[..10]).expect("writable");
        let streams = crate::stream::Streams::new(crate::stream::Config::default());
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let local = Local {
            feeds: Some(streams.open(&guid).expect("free")),
            guid,
            streams: Some(streams),
        };
        let media = MediaDir::new(Some(dir.path().to_owned()), 10 << 20);
        let hosts = Arc::new(Hosts::new(Arc::default()));
        let shared = Shared::new(
            local,
            hosts,
            media,
            Vec::new(),
            Vec::new(),
            4,
            Asking {
                grants: Grants::default(),
                policy: Arc::default(),
            },
        );
        (dir, Session::new(Arc::new(shared), 20))
    }

    const ONCE: FileOptions = FileOptions { looped: false };

    #[tokio::test(start_paused = true)]
    async fn a_file_is_played_at_its_own_speed_and_ends() {
        let (_dir, mut session) = session();
        let begin = Instant::now();
        let id = session.open_file("clip.flv", ONCE).expect("opened");
        assert_eq!(session.url(id), "file:clip.flv");
        session.attach(id).expect("attached");
        let mut went_on_air = false;
        let failure = loop {
            match session.wait(None).await {
                Wake::SourceEnded(of, failure) if of == id => break failure,
                Wake::Facts(of) if of == id => went_on_air |= session.facts(id).on_air,
                wake => panic!("{wake:?}"),
            }
        };
        assert_eq!(failure.class, Class::Ended);
        assert!(went_on_air);
        let took = begin.elapsed().as_millis();
        assert!((9_900..10_200).contains(&took), "{took} ms");
        let board = session.shared.board.lock();
        assert_eq!(board.source.as_deref(), Some("file:clip.flv"));
    }

    #[tokio::test]
    async fn files_that_are_absent_or_damaged_end_with_a_reason_that_names_them() {
        let (_dir, mut session) = session();
        for (name, class) in [
            ("none.flv", Class::NotFound),
            ("broken.flv", Class::Unsupported),
            ("none/../clip.flv", Class::Blocked),
            ("../clip.flv", Class::Blocked),
            ("/etc/passwd", Class::Blocked),
            ("a\nb", Class::Invalid),
        ] {
            let failure = match session.open_file(name, ONCE) {
                Err(failure) => failure,
                Ok(id) => loop {
                    if let Wake::SourceEnded(of, failure) = session.wait(None).await {
                        assert_eq!(of, id);
                        session.close(id);
                        break failure;
                    }
                },
            };
            assert_eq!(failure.class, class, "{name:?}: {failure}");
            assert!(!failure.text.contains("/tmp"), "{failure}");
            let shown = session.shared.board.lock().error.clone();
            let expected = format!("{}: {failure}", class.as_str());
            assert_eq!(shown, Some(expected));
        }
    }

    #[tokio::test]
    async fn secrets_of_an_open_source_stay_secret_when_the_provision_changes() {
        let (_dir, mut session) = session();
        let options = ConnectOptions {
            timeout: MAX_TIMEOUT,
            stall: None,
            dial: Default::default(),
        };
        let url = "rtmp://127.0.0.1:9/live/s?token=former";
        let id = session.connect(url, options).expect("legal");
        let new = "rtmp://127.0.0.1:9/live/s?token=newer";
        let properties = vec![("rtmpUri".to_owned(), new.to_owned())];
        session.shared.reconfigure(properties);
        let said = session.shared.scrubbed("former and newer");
        assert_eq!(said, "*** and ***");
        session.close(id);
        let said = session.shared.scrubbed("former and newer");
        assert_eq!(said, "former and ***");
    }

    #[tokio::test]
    async fn what_a_policy_says_of_its_wait_is_bounded_and_without_secrets() {
        let (_dir, mut session) = session();
        let uri = "rtmp://127.0.0.1:9/live/s?token=hunter2".to_owned();
        session
            .shared
            .reconfigure(vec![("rtmpUri".to_owned(), uri)]);
        let text = format!("hunter2\n{}", "x".repeat(5_000));
        session.set_status(Claim::BackingOff, &text, None);
        let shown = session.shared.board.lock().text().expect("a text");
        assert!(shown.starts_with("*** x"), "{shown}");
        assert_eq!(shown.chars().count(), STATUS_TEXT);
    }

    #[tokio::test]
    async fn a_run_hears_of_the_end_of_what_it_takes_over() {
        let (_dir, mut session) = session();
        let id = session.open_file("none.flv", ONCE).expect("opened");
        let ended = session.wait(None).await;
        assert!(matches!(ended, Wake::SourceEnded(of, _) if of == id));
        // It traps here.
        assert_eq!(session.shared.open_sources(), [id]);
        session.shared.repeat_ends();
        session.shared.repeat_ends();
        let again = session.wait(Some(Duration::from_secs(5))).await;
        assert_eq!(again, ended);
        let more = session.wait(Some(Duration::from_millis(10))).await;
        assert_eq!(more, Wake::Timer, "once a run");
        assert_eq!(session.shared.board.lock().history.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_opens_sources_without_end_is_paced() {
        let (_dir, mut session) = session();
        let open = |session: &mut Session| {
            let opened = session.open_file("clip.flv", ONCE);
            opened.map(|id| session.close(id)).is_ok()
        };
        assert_eq!((0..1_000).filter(|_| open(&mut session)).count(), 40);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1_000).filter(|_| open(&mut session)).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_waits_for_nothing_without_end_is_paced() {
        let (_dir, mut session) = session();
        let begin = Instant::now();
        for _ in 0..100 {
            session.wait(Some(Duration::ZERO)).await;
        }
        assert!(begin.elapsed() <= Duration::from_millis(100), "at once");
        let mut waits = 0;
        let until = begin + Duration::from_secs(11);
        while Instant::now() < until {
            session.wait(Some(Duration::ZERO)).await;
            waits += 1;
        }
        assert!((950..=1_150).contains(&waits), "{waits} in eleven seconds");
        session.shared.inbox.stop();
        assert_eq!(session.wait(None).await, Wake::Stop);
    }

    #[tokio::test]
    async fn files_count_as_sources() {
        let (_dir, mut session) = session();
        let looped = FileOptions { looped: true };
        let open: Vec<_> = (0..4)
            .map(|_| session.open_file("clip.flv", looped).expect("opened"))
            .collect();
        assert_eq!(
            session.open_file("clip.flv", looped).map_err(|f| f.class),
            Err(Class::Limit)
        );
        session.close(open[0]);
        assert!(session.open_file("clip.flv", looped).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_talkative_guest_gets_so_many_lines_a_second() {
        let mut budget = LogBudget::new(10);
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 10);
    }
}
