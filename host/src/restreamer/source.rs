//! A source: media of a remote or of a file that feeds the stream.
//!
//! Owned by the host and not by the guest, so it outlives a guest that traps or is
//! swapped. One task reads it; it tells facts and its end through the inbox and
//! decides nothing about either.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use restreamd_rtmp::session::{Media, Purpose};
use restreamd_rtmp::url::RtmpUrl;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{Instrument, debug, info, info_span};

use super::host::{Class, ConnectOptions, Facts, Failure, SourceId, SourceState};
use super::hosts::Hosts;
use super::inbox::Inbox;
use super::session::Shared;
use crate::flv::{self, MediaDir, Playing};
use crate::rtmp::dial::Dialed;
use crate::stream::progress::Progress;
use crate::stream::timeline::Lane;
use crate::stream::{Feed, FeedId, Stream, Unit};

/// News of a healthy source comes so often.
const FACTS_EVERY: Duration = Duration::from_secs(1);

/// A file begins to play within this time, or its disk hangs.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a source's media comes from. Its text holds no secret.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Pulled from a remote.
    Rtmp {
        /// What to dial.
        url: RtmpUrl,
        /// And how.
        options: Box<ConnectOptions>,
    },
    /// Read from the media directory.
    File {
        /// The file's name below it.
        name: String,
        /// Begin again at its end.
        looped: bool,
    },
}

impl Origin {
    /// Where from, with secrets: for the guest that gave it.
    pub fn full(&self) -> String {
        match self {
            Self::Rtmp { url, .. } => url.full(),
            Self::File { .. } => self.to_string(),
        }
    }

    /// When silence is a stall. A file is never silent longer than it is meant to be.
    fn stall(&self) -> Option<Duration> {
        match self {
            Self::Rtmp { options, .. } => options.stall,
            Self::File { .. } => None,
        }
    }

    /// How long the first frame may take.
    fn timeout(&self) -> Duration {
        match self {
            Self::Rtmp { options, .. } => options.timeout,
            Self::File { .. } => FILE_TIMEOUT,
        }
    }

    /// The remote whose other pulls hear of this one's fate.
    fn remote(&self) -> Option<(&str, u16)> {
        match self {
            Self::Rtmp { url, .. } => Some((url.host(), url.port())),
            Self::File { .. } => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp { url, .. } => f.write_str(&url.masked()),
            Self::File { name, .. } => write!(f, "file:{name}"),
        }
    }
}

/// What a policy hears of a file that does not play (on).
pub fn unplayable(origin: &Origin, error: &flv::Error) -> Failure {
    let class = match error {
        flv::Error::NotFound => Class::NotFound,
        flv::Error::Outside | flv::Error::NoDirectory => Class::Blocked,
        _ => Class::Other,
    };
    Failure::new(class, format!("{origin}: {error}"))
}

/// An open source. Dropping it closes the connection or the file.
#[derive(Debug)]
pub struct Source {
    id: SourceId,
    origin: Origin,
    feed: FeedId,
    stall: Option<Duration>,
    progress: Arc<Mutex<Progress>>,
    state: Arc<Mutex<State>>,
    attached: bool,
    stream: Arc<Stream>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    state: SourceState,
    /// Since when media flows without a stall.
    flowing: Option<Instant>,
}

impl Source {
    /// Opens a source of a restreamer's stream; it dials or reads at once.
    pub fn open(id: SourceId, origin: Origin, shared: &Shared) -> Self {
        let stream = shared.stream.clone();
        let stall = origin.stall();
        let feed = stream.feed(stall);
        let state = Arc::new(Mutex::new(State {
            state: SourceState::Dialing,
            flowing: None,
        }));
        let span = info_span!("source", id, url = %origin);
        let (feed_id, progress) = (feed.id(), feed.progress().clone());
        let reader = Reader {
            id,
            feed,
            state: state.clone(),
            hosts: shared.hosts.clone(),
            media: shared.media.clone(),
            inbox: shared.inbox.clone(),
            stall,
            on_air: false,
            stream: stream.clone(),
        };
        let task = tokio::spawn(reader.run(origin.clone()).instrument(span)).abort_handle();
        Self {
            id,
            origin,
            feed: feed_id,
            stall,
            progress,
            state,
            attached: false,
            stream,
            task,
        }
    }

    /// Its name.
    pub fn id(&self) -> SourceId {
        self.id
    }

    /// Where from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether it is the one attached.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// It goes on air at its next keyframe.
    pub fn attach(&mut self) {
        self.attached = true;
        self.stream.attach(self.feed);
    }

    /// Another one was attached.
    pub fn unmark(&mut self) {
        self.attached = false;
    }

    /// What is known of it.
    pub fn facts(&self) -> Facts {
        let now = Instant::now().into_std();
        let on_air = self.stream.on_air() == Some(self.feed);
        let (state, flowing) = {
            let state = self.state.lock();
            (
                state.state,
                state
                    .flowing
                    .map_or(Duration::ZERO, |since| since.elapsed()),
            )
        };
        let progress = self.progress.lock();
        let age = |lane| progress.age(lane, now).unwrap_or_default();
        let stall = self.stall.and_then(|limit| progress.stall(now, limit));
        let state = match (state, stall) {
            (SourceState::Flowing, Some(_)) => SourceState::Stalled,
            (state, _) => state,
        };
        Facts {
            state,
            attached: self.attached,
            on_air,
            video: progress.video().map(|facts| (facts, age(Lane::Video))),
            audio: progress.audio().map(|facts| (facts, age(Lane::Audio))),
            gop: progress.gop(),
            bytes: progress.bytes(),
            flowing,
            stall: stall.filter(|_| state != SourceState::Ended),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
        self.stream.detach(self.feed);
    }
}

/// What the task reads from.
#[derive(Debug)]
enum Opened {
    Dialed(Box<Dialed>),
    Playing(Box<Playing>),
}

impl Opened {
    /// The next message, or why there is none. Cancel safe.
    async fn next(&mut self, origin: &Origin) -> Result<Media, Failure> {
        match self {
            Self::Dialed(dialed) => dialed.next().await,
            Self::Playing(playing) => match playing.next().await {
                Ok(Some(media)) => Ok(media),
                Ok(None) => Err(Failure::new(
                    Class::Ended,
                    format!("{origin} is played to its end"),
                )),
                Err(error) => Err(unplayable(origin, &error)),
            },
        }
    }

    /// What it means that nothing came for so long.
    fn silent(&self) -> &'static str {
        match self {
            Self::Dialed(_) => "the peer granted the stream but sent no media",
            Self::Playing(_) => "the file gave no media in time",
        }
    }
}

/// The task that reads a source.
struct Reader {
    id: SourceId,
    feed: Feed,
    state: Arc<Mutex<State>>,
    hosts: Arc<Hosts>,
    media: MediaDir,
    inbox: Arc<Inbox>,
    stall: Option<Duration>,
    on_air: bool,
    stream: Arc<Stream>,
}

impl Reader {
    async fn run(mut self, origin: Origin) {
        if let Some((host, port)) = origin.remote() {
            self.hosts.admit(host, port).await;
        }
        let failure = self.read(&origin).await;
        if let Some((host, port)) = origin.remote() {
            self.hosts.failed(host, port, &self.inbox);
        }
        info!(class = failure.class.as_str(), reason = %failure, bytes = self.feed.progress().lock().bytes(), "source ended");
        self.state.lock().state = SourceState::Ended;
        let (inbox, id) = (self.inbox.clone(), self.id);
        drop(self);
        inbox.ended(id, failure);
    }

    /// Reads until there is a reason to stop.
    async fn read(&mut self, origin: &Origin) -> Failure {
        let first_media = Instant::now() + origin.timeout();
        let opened = self.open(origin);
        let mut opened = match tokio::time::timeout_at(first_media, opened).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(failure)) => return failure,
            Err(_) => {
                return Failure::new(Class::Timeout, "the peer did not grant the stream in time");
            }
        };
        debug!("granted");
        let mut news = Instant::now() + FACTS_EVERY;
        loop {
            let flowing = self.state.lock().flowing.is_some();
            let check = if flowing {
                self.next_check(news)
            } else {
                first_media
            };
            tokio::select! {
                biased; // the clock is asked when the socket has nothing more
                media = opened.next(origin) => match media {
                    Ok(media) => {
                        if let Some(unit) = Unit::classify(media)
                            && self.take(&unit)
                            && let Some((host, port)) = origin.remote()
                        {
                            self.hosts.reached(host, port);
                        }
                    }
                    Err(failure) => return failure,
                },
                () = tokio::time::sleep_until(check) => {
                    if !flowing {
                        return Failure::new(Class::Timeout, opened.silent());
                    }
                    self.judge();
                    news = Instant::now() + FACTS_EVERY;
                }
            }
        }
    }

    async fn open(&self, origin: &Origin) -> Result<Opened, Failure> {
        match origin {
            Origin::Rtmp { url, options } => {
                let policy = self.hosts.policy();
                let dialed = Dialed::open(url, Purpose::Play, &options.dial, policy).await?;
                Ok(Opened::Dialed(Box::new(dialed)))
            }
            Origin::File { name, looped } => {
                let playing = Playing::open(self.media.clone(), name.clone(), *looped);
                Ok(Opened::Playing(Box::new(playing)))
            }
        }
    }

    /// One unit; true when media begins with it.
    fn take(&mut self, unit: &Unit) -> bool {
        self.feed.push(unit);
        if !unit.is_frame() {
            return false;
        }
        let mut state = self.state.lock();
        let begins = state.state != SourceState::Flowing;
        if begins {
            state.state = SourceState::Flowing;
            state.flowing = Some(Instant::now());
        }
        drop(state);
        let went_on_air = !self.on_air && self.stream.on_air() == Some(self.feed.id());
        self.on_air |= went_on_air;
        if begins || went_on_air {
            self.inbox.facts(self.id);
        }
        begins
    }

    /// The next second, or the moment a stall would show if nothing came from now on.
    fn next_check(&self, news: Instant) -> Instant {
        let due = self
            .stall
            .and_then(|limit| self.feed.progress().lock().stall_due(limit));
        let due =
            due.map(|due| Instant::from_std(due).max(Instant::now() + Duration::from_millis(10)));
        due.map_or(news, |due| due.min(news))
    }

    /// Looks at the clock: a stall changes the state, a second brings news.
    fn judge(&mut self) {
        let stall = self.stall.and_then(|limit| {
            self.feed
                .progress()
                .lock()
                .stall(std::time::Instant::now(), limit)
        });
        if stall.is_some() {
            let mut state = self.state.lock();
            state.state = SourceState::Stalled;
            state.flowing = Some(Instant::now());
        }
        self.inbox.facts(self.id);
    }
}
