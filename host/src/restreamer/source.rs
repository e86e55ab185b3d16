//! A source: a connection to a remote whose media feeds the stream.
//!
//! Owned by the host and not by the guest, so it outlives a guest that traps or is
//! swapped. One task reads it; it tells facts and its end through the inbox and
//! decides nothing about either.

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
use super::origin::{FILE_TIMEOUT, Origin, unplayable};
use super::scrub::Scrub;
use super::session::Shared;
use super::successor::{Ready, Successor};
use crate::flv::{MediaDir, Playing};
use crate::rtmp::dial::{Dialed, Heard};
use crate::stream::progress::Progress;
use crate::stream::timeline::Lane;
use crate::stream::{Feed, FeedId, Stream, Unit};

/// A peer that asks for a reconnect sooner than this after the last one is not heard.
const RECONNECT_EVERY: Duration = Duration::from_secs(1);
/// News of a healthy source comes so often.
const FACTS_EVERY: Duration = Duration::from_secs(1);

/// An open source. Dropping it closes the connection.
#[derive(Debug)]
pub struct Source {
    id: SourceId,
    born: Instant,
    origin: Origin,
    feed: FeedId,
    stall: Option<Duration>,
    progress: Arc<Mutex<Progress>>,
    state: Arc<Mutex<State>>,
    stream: Arc<Stream>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    state: SourceState,
    /// When the peer granted the stream.
    granted: Option<Instant>,
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
            granted: None,
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
            born: Instant::now(),
            origin,
            feed: feed_id,
            stall,
            progress,
            state,
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

    /// Whether it is attached, and whether the stream plays it.
    pub fn standing(&self) -> (bool, bool) {
        self.stream.standing(self.feed)
    }

    /// It goes on air at its next keyframe.
    pub fn attach(&self) {
        self.stream.attach(self.feed);
    }

    /// How long it took from its opening to the grant and to the first frame.
    pub fn times(&self) -> (Option<Duration>, Option<Duration>) {
        let granted = self.state.lock().granted;
        let first = self.progress.lock().flowing_since();
        (
            granted.map(|at| at.saturating_duration_since(self.born)),
            first.map(|at| at.saturating_duration_since(self.born.into_std())),
        )
    }

    /// What is known of it.
    pub fn facts(&self) -> Facts {
        let now = Instant::now().into_std();
        let (attached, on_air) = self.standing();
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
            attached,
            on_air,
            video: progress.video(now).map(|facts| (facts, age(Lane::Video))),
            audio: progress.audio(now).map(|facts| (facts, age(Lane::Audio))),
            more: progress.more(now),
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
        let failure = match &origin {
            Origin::Rtmp { url, options } => {
                self.hosts.admit(url.host(), url.port()).await;
                let Failure { class, text } = self.pull(url, options).await;
                self.hosts.failed(url.host(), url.port(), &self.inbox);
                // Peers repeat what they were asked for.
                Failure::new(class, Scrub::of_url(url).apply(&text))
            }
            Origin::File { name, looped } => {
                let playing = Playing::open(self.media.clone(), name.clone(), *looped);
                self.play(&origin, playing).await
            }
        };
        info!(class = failure.class.as_str(), reason = %failure, bytes = self.feed.progress().lock().bytes(), "source ended");
        self.state.lock().state = SourceState::Ended;
        let (inbox, id) = (self.inbox.clone(), self.id);
        drop(self);
        inbox.ended(id, failure);
    }

    /// Reads until there is a reason to stop.
    async fn pull(&mut self, url: &RtmpUrl, options: &ConnectOptions) -> Failure {
        let first_media = Instant::now() + options.timeout;
        let opened = Dialed::open(url, Purpose::Play, &options.dial, self.hosts.policy());
        let mut dialed = match tokio::time::timeout_at(first_media, opened).await {
            Ok(Ok(dialed)) => dialed,
            Ok(Err(failure)) => return failure,
            Err(_) => {
                return Failure::new(Class::Timeout, "the peer did not grant the stream in time");
            }
        };
        debug!("granted");
        self.state.lock().granted = Some(Instant::now());
        let mut news = Instant::now() + FACTS_EVERY;
        let mut successor: Option<Successor> = None;
        let mut asked: Option<Instant> = None;
        // Why the old connection ended, while another one may still take over.
        let mut lost: Option<Failure> = None;
        loop {
            let flowing = self.state.lock().flowing.is_some();
            let check = if flowing {
                self.next_check(news)
            } else {
                first_media
            };
            // Who waits for the window anyway is read once a window.
            dialed.set_pause(if flowing {
                self.stream.window()
            } else {
                Duration::ZERO
            });
            tokio::select! {
                biased; // the clock is asked when the socket has nothing more
                ready = Successor::over(&mut successor) => match ready {
                    Ok(ready) => {
                        dialed = self.succeed(ready);
                        lost = None;
                    }
                    Err(failure) => {
                        info!(class = failure.class.as_str(), reason = %failure, "cannot reconnect as the peer asks");
                        if let Some(failure) = lost {
                            return failure;
                        }
                    }
                },
                heard = dialed.next(), if lost.is_none() => {
                    let mut heard = heard.map(Some);
                    while let Ok(Some(Heard::Media(media))) = heard {
                        if self.hear(media) {
                            self.hosts.reached(url.host(), url.port());
                        }
                        heard = dialed.at_hand();
                    }
                    self.feed.depart();
                    match heard {
                        Ok(Some(Heard::Reconnect(to))) => {
                            let soon = asked.is_some_and(|at| at.elapsed() < RECONNECT_EVERY);
                            if successor.is_none() && !soon {
                                let to = to.unwrap_or_else(|| url.clone());
                                info!(to = %to, "the peer asks for a reconnect");
                                asked = Some(Instant::now());
                                successor = Some(Successor::dial(to, options.clone(), self.hosts.clone()));
                            }
                        }
                        Ok(_) => {}
                        Err(failure) if successor.is_some() => lost = Some(failure),
                        Err(failure) => return failure,
                    }
                },
                () = tokio::time::sleep_until(check) => {
                    if !flowing {
                        return Failure::new(Class::Timeout, "the peer granted the stream but sent no media");
                    }
                    self.judge();
                    news = Instant::now() + FACTS_EVERY;
                }
            }
        }
    }

    /// Plays a file until there is a reason to stop.
    async fn play(&mut self, origin: &Origin, mut playing: Playing) -> Failure {
        let first_media = Instant::now() + FILE_TIMEOUT;
        let mut news = Instant::now() + FACTS_EVERY;
        loop {
            let flowing = self.state.lock().flowing.is_some();
            let check = if flowing { news } else { first_media };
            tokio::select! {
                biased;
                media = playing.next() => match media {
                    Ok(Some(media)) => {
                        self.hear(media);
                        self.feed.depart();
                    }
                    Ok(None) => return Failure::new(Class::Ended, format!("{origin} is played to its end")),
                    Err(error) => return unplayable(origin, &error),
                },
                () = tokio::time::sleep_until(check) => {
                    if !flowing {
                        return Failure::new(Class::Timeout, "the file gave no media in time");
                    }
                    self.judge();
                    news = Instant::now() + FACTS_EVERY;
                }
            }
        }
    }

    /// Another connection goes on where the old one stops, within the same source.
    fn succeed(&mut self, ready: Ready) -> Dialed {
        info!("reconnected as the peer asked");
        self.feed.resume();
        for unit in &ready.units {
            self.take(unit);
        }
        self.feed.depart();
        ready.dialed
    }

    /// One media message; true when media begins with it.
    fn hear(&mut self, media: Media) -> bool {
        Unit::classify(media).is_some_and(|unit| self.take(&unit))
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
