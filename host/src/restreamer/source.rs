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
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::Instant;
use tracing::{Instrument, debug, info, info_span};

use super::host::{Class, ConnectOptions, Facts, Failure, SourceId, SourceState, Stall, news};
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
/// News come with media, so that nobody is woken for them alone, unless none comes for
/// so long.
const FACTS_WAIT: Duration = Duration::from_millis(300);
/// An alarm that is to move is moved before it wakes anybody.
const ALARM_SOON: Duration = Duration::from_millis(600);
/// Media that brings nothing to begin with for so long never will: groups of pictures
/// are seconds long.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A peer that sends without a pause has the clock looked at so late.
const LATE: Duration = Duration::from_secs(1);

/// What is seen of a source at a glance.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// How far it is.
    pub state: SourceState,
    /// It was attached, and no other was since.
    pub attached: bool,
    /// The stream plays it.
    pub on_air: bool,
    /// How long media has come without a stall.
    pub flowing: Duration,
    /// How media has stopped, unless it is over.
    pub stall: Option<Stall>,
}

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
    /// When it ended, and why.
    ended: Option<Instant>,
    failure: Option<Failure>,
    /// A policy has heard of that.
    told: bool,
}

impl State {
    fn new() -> Self {
        Self {
            state: SourceState::Dialing,
            granted: None,
            flowing: None,
            ended: None,
            failure: None,
            told: false,
        }
    }

    fn end(&mut self) {
        self.state = SourceState::Ended;
        self.ended = Some(Instant::now());
    }

    /// For how long media has flowed without a stall, or had when it ended.
    fn flowed(&self) -> Duration {
        let until = self.ended.unwrap_or_else(Instant::now);
        self.flowing.map_or(Duration::ZERO, |since| {
            until.saturating_duration_since(since)
        })
    }
}

/// Until when a source has to bring media, and then something to begin with.
#[derive(Clone, Copy, Debug)]
struct Opening {
    media: Instant,
    start: Instant,
}

impl Opening {
    fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            media: now + timeout,
            start: now + timeout.max(START_TIMEOUT),
        }
    }
}

/// How far a source has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Silent,
    /// Frames come, and none that a stream can start with.
    Coming,
    Flowing,
}

impl Source {
    /// Opens a source of a restreamer's stream; it dials or reads at once.
    pub fn open(id: SourceId, origin: Origin, stream: Arc<Stream>, shared: &Shared) -> Self {
        let stall = origin.stall();
        let feed = stream.feed(stall);
        let state = Arc::new(Mutex::new(State::new()));
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
            flows: false,
            stream: stream.clone(),
        };
        // Boxed here: spawning moves a task about, and this stack is a guest's, one for
        // each restreamer, which keeps what was touched of it.
        let reading = Box::pin(reader.run(origin.clone()));
        let task = tokio::spawn(reading.instrument(span)).abort_handle();
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

    /// Its end is told, if it has one and is still open: to a policy that begins, and
    /// knows nothing of what the former one heard.
    pub fn repeat_end(&self, inbox: &Inbox) {
        let failure = self.state.lock().failure.clone();
        if let Some(failure) = failure {
            inbox.ended(self.id, failure);
        }
    }

    /// A policy hears of its end; true when it is the first one.
    pub fn tell_end(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().told, true)
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

    /// How it is, without what takes time to work out.
    pub fn look(&self) -> Glance {
        self.look_and(|_, _| ()).0
    }

    /// One lock after the other, never two at a time: others nest them.
    fn look_and<T>(&self, more: impl FnOnce(&Progress, std::time::Instant) -> T) -> (Glance, T) {
        let now = Instant::now().into_std();
        let (attached, on_air) = self.standing();
        let (state, flowing) = {
            let state = self.state.lock();
            (state.state, state.flowed())
        };
        let progress = self.progress.lock();
        let stall = self.stall.and_then(|limit| progress.stall(now, limit));
        let state = match (state, stall) {
            (SourceState::Dialing | SourceState::Flowing, Some(_)) => SourceState::Stalled,
            (state, _) => state,
        };
        let glance = Glance {
            state,
            attached,
            on_air,
            flowing,
            stall: stall.filter(|_| state != SourceState::Ended),
        };
        (glance, more(&progress, now))
    }

    /// What is known of it.
    pub fn facts(&self) -> Facts {
        let (glance, known) = self.look_and(|progress, now| {
            let age = |lane| progress.age(lane, now).unwrap_or_default();
            (
                progress.video(now).map(|facts| (facts, age(Lane::Video))),
                progress.audio(now).map(|facts| (facts, age(Lane::Audio))),
                progress.more(now),
                progress.gop(),
                progress.bytes(),
            )
        });
        let (video, audio, more, gop, bytes) = known;
        Facts {
            state: glance.state,
            attached: glance.attached,
            on_air: glance.on_air,
            video,
            audio,
            more,
            gop,
            bytes,
            flowing: glance.flowing,
            stall: glance.stall,
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
        self.stream.detach(self.feed);
    }
}

/// A source never goes without a word, whatever becomes of its reader.
impl Drop for Reader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let failure = Failure::new(Class::Other, "the reader of the source failed");
            let mut state = self.state.lock();
            state.end();
            state.failure = Some(failure.clone());
            self.inbox.ended(self.id, failure);
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
    /// As the state has it, which is not to be locked for each frame.
    flows: bool,
    stream: Arc<Stream>,
}

impl Reader {
    async fn run(mut self, origin: Origin) {
        let failure = match &origin {
            Origin::Rtmp { url, options } => {
                self.hosts.admit(url.host(), url.port()).await;
                let Failure { class, text } = self.pull(url, options).await;
                if self.was_the_host(class) {
                    self.hosts.failed(url.host(), url.port(), &self.inbox);
                }
                // The server of a reconnect may have been told what this URL holds.
                Failure::new(class, Scrub::of_url(url).apply(&text))
            }
            Origin::File { name, looped } => {
                let playing = Playing::open(self.media.clone(), name.clone(), *looped);
                self.play(&origin, playing).await
            }
        };
        info!(class = failure.class.as_str(), reason = %failure, bytes = self.feed.progress().lock().bytes(), "source ended");
        self.state.lock().end();
        let (inbox, id, state) = (self.inbox.clone(), self.id, self.state.clone());
        drop(self);
        let mut state = state.lock();
        state.failure = Some(failure.clone());
        inbox.ended(id, failure);
    }

    fn was_the_host(&self, class: Class) -> bool {
        self.state.lock().granted.is_none() && class.is_of_the_host()
    }

    /// Reads until there is a reason to stop.
    async fn pull(&mut self, url: &RtmpUrl, options: &ConnectOptions) -> Failure {
        let opening = Opening::new(options.timeout);
        let opened = Dialed::open(url, Purpose::Play, &options.dial, self.hosts.policy());
        let dialed = match tokio::time::timeout_at(opening.media, opened).await {
            Ok(Ok(dialed)) => dialed,
            Ok(Err(failure)) => return failure,
            Err(_) => {
                return Failure::new(Class::Timeout, "the peer did not grant the stream in time");
            }
        };
        debug!("granted");
        self.state.lock().granted = Some(Instant::now());
        self.read(dialed, url, options, opening).await
    }

    /// Reads what a server granted.
    async fn read(
        &mut self,
        mut dialed: Dialed,
        url: &RtmpUrl,
        options: &ConnectOptions,
        opening: Opening,
    ) -> Failure {
        let mut news = self.next_news();
        let mut successor: Option<Successor> = None;
        let mut asked: Option<Instant> = None;
        // Why the old connection ended, while another one may still take over.
        let mut lost: Option<Failure> = None;
        // Kept while it is early enough: another one for each read would cost as much.
        let mut alarm = std::pin::pin!(tokio::time::sleep_until(news));
        loop {
            let check = self.next_check(opening, news);
            if check < alarm.deadline() || alarm.deadline() < Instant::now() + ALARM_SOON {
                alarm.as_mut().reset(check);
            }
            // Who waits for the window anyway is read once a window.
            dialed.set_pause(match self.stage() {
                Stage::Flowing => self.stream.window(),
                Stage::Silent | Stage::Coming => Duration::ZERO,
            });
            let late = tokio::select! {
                biased; // the clock is asked when the socket has nothing more
                ready = Successor::over(&mut successor) => match ready {
                    Ok(ready) => {
                        dialed = self.succeed(ready);
                        lost = None;
                        LATE
                    }
                    Err(failure) => {
                        let reason = Scrub::of_url(url).apply(&failure.text);
                        info!(class = failure.class.as_str(), reason, "cannot reconnect as the peer asks");
                        if let Some(failure) = lost {
                            return failure;
                        }
                        LATE
                    }
                },
                heard = dialed.next(), if lost.is_none() => {
                    let mut heard = heard.map(Some);
                    let now = Instant::now();
                    while let Ok(Some(Heard::Media(media))) = heard {
                        if self.hear(media, now) {
                            self.hosts.reached(url.host(), url.port());
                        }
                        heard = dialed.at_hand();
                    }
                    self.feed.depart_before(dialed.next_read());
                    if self.flows && Instant::now() >= news {
                        self.inbox.facts(self.id);
                        news = self.next_news();
                    }
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
                    LATE
                },
                // Not in the budget that a peer which only talks uses up.
                () = unconstrained(&mut alarm) => Duration::ZERO,
            };
            if Instant::now() >= check + late {
                if let Some(failure) = self.judge(opening) {
                    return failure;
                }
                news = self.next_news();
            }
        }
    }

    /// Plays a file until there is a reason to stop.
    async fn play(&mut self, origin: &Origin, mut playing: Playing) -> Failure {
        let opening = Opening::new(FILE_TIMEOUT);
        let mut news = self.next_news();
        loop {
            let check = self.next_check(opening, news);
            tokio::select! {
                biased;
                media = playing.next() => match media {
                    Ok(Some(media)) => {
                        self.hear(media, Instant::now());
                        self.feed.depart();
                    }
                    Ok(None) => return Failure::new(Class::Ended, format!("{origin} is played to its end")),
                    Err(error) => return unplayable(origin, &error),
                },
                () = tokio::time::sleep_until(check) => {
                    if let Some(failure) = self.judge(opening) {
                        return failure;
                    }
                    news = self.next_news();
                }
            }
        }
    }

    /// Another connection goes on where the old one stops, within the same source.
    fn succeed(&mut self, ready: Ready) -> Dialed {
        info!("reconnected as the peer asked");
        self.feed.resume();
        let now = Instant::now();
        for unit in &ready.units {
            self.take(unit, now);
        }
        self.feed.depart();
        ready.dialed
    }

    /// One media message that came now; true when media begins with it.
    fn hear(&mut self, media: Media, now: Instant) -> bool {
        Unit::classify(media).is_some_and(|unit| self.take(&unit, now))
    }

    /// One unit; true when media begins with it.
    fn take(&mut self, unit: &Unit, now: Instant) -> bool {
        self.feed.push_at(unit, now);
        if !unit.is_frame() {
            return false;
        }
        let begins = !self.flows && self.begin();
        let went_on_air = !self.on_air && self.stream.on_air() == Some(self.feed.id());
        self.on_air |= went_on_air;
        if begins || went_on_air {
            self.inbox.facts(self.id);
        }
        begins
    }

    /// Whether media begins, which is noted then.
    fn begin(&mut self) -> bool {
        let mut state = self.state.lock();
        let begins = match state.state {
            SourceState::Dialing => self.feed.has_started(),
            // One track alone, or frozen frames, are no begin.
            SourceState::Stalled => self.stalls().is_none(),
            SourceState::Flowing | SourceState::Ended => false,
        };
        if begins {
            state.state = SourceState::Flowing;
            state.flowing = Some(Instant::now());
        }
        self.flows = state.state == SourceState::Flowing;
        begins
    }

    fn stalls(&self) -> Option<Stall> {
        let now = Instant::now().into_std();
        let progress = self.feed.progress().lock();
        self.stall.and_then(|limit| progress.stall(now, limit))
    }

    fn stage(&self) -> Stage {
        if self.flows || self.state.lock().flowing.is_some() {
            return Stage::Flowing;
        }
        match self.feed.progress().lock().flowing_since() {
            Some(_) => Stage::Coming,
            None => Stage::Silent,
        }
    }

    /// When a policy is told again that it goes on.
    fn next_news(&self) -> Instant {
        let flowing = {
            let state = self.state.lock();
            (state.state == SourceState::Flowing).then(|| state.flowed())
        };
        let on_air = self.stream.on_air() == Some(self.feed.id());
        news::due(Instant::now(), news::gap(on_air, flowing))
    }

    /// When the clock is to be looked at if nothing comes from now on.
    fn next_check(&self, opening: Opening, news: Instant) -> Instant {
        match self.stage() {
            Stage::Silent => opening.media,
            Stage::Coming => self.next_look(news).min(opening.start),
            Stage::Flowing => self.next_look(news),
        }
    }

    /// The next news, or the moment a stall would show.
    fn next_look(&self, news: Instant) -> Instant {
        if !self.flows && self.state.lock().state == SourceState::Stalled {
            return news;
        }
        let due = self
            .stall
            .and_then(|limit| self.feed.progress().lock().stall_due(limit));
        let due =
            due.map(|due| Instant::from_std(due).max(Instant::now() + Duration::from_millis(10)));
        let news = news + FACTS_WAIT;
        due.map_or(news, |due| due.min(news))
    }

    /// Looks at the clock: it may be too late for a begin, a stall changes the state, or
    /// it is time for news.
    fn judge(&mut self, opening: Opening) -> Option<Failure> {
        let stage = self.stage();
        if stage == Stage::Silent {
            let text = "the stream was granted, but no media came in time";
            return Some(Failure::new(Class::Timeout, text));
        }
        if stage == Stage::Coming && Instant::now() >= opening.start {
            let text = "media came, but nothing to begin with: no keyframe, nor sound alone";
            return Some(Failure::new(Class::Timeout, text));
        }
        let stall = self.stalls();
        if stall.is_some() && stage == Stage::Flowing {
            let mut state = self.state.lock();
            state.state = SourceState::Stalled;
            state.flowing = Some(Instant::now());
            self.flows = false;
        }
        self.inbox.facts(self.id);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use restreamd_rtmp::message::type_id;
    use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
    use tokio::task::coop;

    use super::*;
    use crate::restreamer::host::Wake;
    use crate::rtmp::dial::rehearsal::{media, ping};

    /// A keyframe and another frame of H.264, the header of the two, a frame of MP3.
    const KEYFRAME: &[u8] = &[0x17, 1, 0, 0, 0, 7];
    const INTER: &[u8] = &[0x27, 1, 0, 0, 0, 7];
    const HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 1];
    const SOUND: &[u8] = &[0x2f, 7];

    fn url() -> RtmpUrl {
        RtmpUrl::parse("rtmp://h/live/s").expect("legal")
    }

    fn reader(stall: Option<Duration>) -> Reader {
        let config = crate::stream::Config::default();
        let stream = Stream::detached("live/a".parse().expect("legal"), &config);
        Reader {
            id: 1,
            feed: stream.feed(stall),
            state: Arc::new(Mutex::new(State::new())),
            hosts: Arc::new(Hosts::new(Arc::default())),
            media: MediaDir::new(None, 0),
            inbox: Arc::default(),
            stall,
            on_air: false,
            flows: false,
            stream,
        }
    }

    fn options(timeout: u64) -> ConnectOptions {
        ConnectOptions {
            timeout: Duration::from_millis(timeout),
            stall: None,
            dial: Default::default(),
        }
    }

    /// Reads what is granted until it ends.
    async fn read(mut reader: Reader, dialed: Dialed, timeout: u64) -> Failure {
        let options = options(timeout);
        let opening = Opening::new(options.timeout);
        reader.read(dialed, &url(), &options, opening).await
    }

    /// A peer whose bytes never end and are always there.
    #[derive(Debug)]
    struct Flood(Vec<u8>);

    impl AsyncRead for Flood {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            // As sockets have it.
            let coop = std::task::ready!(coop::poll_proceed(cx));
            while buf.remaining() >= self.0.len() {
                buf.put_slice(&self.0);
            }
            coop.made_progress();
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Flood {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_peer_that_talks_without_a_pause_is_judged_by_the_clock_all_the_same() {
        let data = media(type_id::DATA_AMF0, 0, b"\x02\x00\x01x\x05");
        for said in [data, ping()] {
            let dialed = Dialed::rehearsed(&url(), Flood(said));
            // A task of its own: it would leave this one no turn.
            let reading = tokio::spawn(read(reader(None), dialed, 100));
            let failure = tokio::time::timeout(Duration::from_secs(20), reading).await;
            let failure = failure.expect("the clock has a turn").expect("no panic");
            assert_eq!(failure.class, Class::Timeout, "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn media_that_brings_nothing_to_begin_with_ends_in_half_a_minute() {
        let inter: fn(u32) -> Vec<u8> = |at| media(type_id::VIDEO, at, INTER);
        let sound: fn(u32) -> Vec<u8> = |at| media(type_id::AUDIO, at, SOUND);
        for frame in [inter, sound] {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let dialed = Dialed::rehearsed(&url(), near);
            let begin = Instant::now();
            let sending = tokio::spawn(async move {
                let header = media(type_id::VIDEO, 0, HEADER);
                let mut said = far.write_all(&header).await;
                let mut at = 0;
                while said.is_ok() {
                    said = far.write_all(&frame(at)).await;
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    at += 40;
                }
            });
            let reader = reader(Some(Duration::from_millis(2_500)));
            let (state, inbox) = (reader.state.clone(), reader.inbox.clone());
            let reading = read(reader, dialed, 10_000);
            let failure = tokio::time::timeout(Duration::from_secs(120), reading).await;
            let failure = failure.expect("it ends");
            assert_eq!(failure.class, Class::Timeout, "{failure}");
            assert!(failure.text.contains("keyframe"), "{failure}");
            assert_eq!(begin.elapsed().as_secs(), 30);
            assert_eq!(state.lock().state, SourceState::Dialing);
            assert_eq!(inbox.next().await, Wake::Facts(1), "what comes is told");
            sending.abort();
        }
    }

    #[tokio::test]
    async fn a_reader_that_panics_ends_its_source() {
        let reader = reader(None);
        let inbox = reader.inbox.clone();
        let failed = tokio::spawn(async move {
            let _reader = reader;
            panic!("as a bug would have it");
        });
        assert!(failed.await.is_err());
        let told = tokio::time::timeout(Duration::from_secs(5), inbox.next()).await;
        let Ok(Wake::SourceEnded(1, failure)) = told else {
            panic!("it has ended: {told:?}");
        };
        assert_eq!(failure.class, Class::Other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_told_once_a_second_while_one_track_goes_on() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let dialed = Dialed::rehearsed(&url(), near);
        let sending = tokio::spawn(async move {
            for at in (0..10_000).step_by(20) {
                let sound = media(type_id::AUDIO, at, SOUND);
                let picture = media(type_id::VIDEO, at, KEYFRAME);
                let both = [sound, if at < 1_000 { picture } else { Vec::new() }].concat();
                if far.write_all(&both).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let reader = reader(Some(Duration::from_millis(500)));
        let (state, inbox) = (reader.state.clone(), reader.inbox.clone());
        let reading = tokio::spawn(read(reader, dialed, 10_000));
        let stalled = || state.lock().state == SourceState::Stalled;
        while !stalled() {
            inbox.next().await;
        }
        let mut told = 0;
        let until = Instant::now() + Duration::from_secs(5);
        while tokio::time::timeout_at(until, inbox.next()).await.is_ok() {
            told += 1;
            assert!(stalled());
        }
        assert!((4..=6).contains(&told), "{told} in five seconds");
        reading.abort();
        sending.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn media_flows_from_its_first_keyframe_or_a_second_of_sound_alone_on() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut reader = reader(None);
        let state = reader.state.clone();
        let mut dialed = Dialed::rehearsed(&url(), near);
        let mut hear = async |bytes: Vec<u8>| {
            far.write_all(&bytes).await.expect("open");
            let Ok(Heard::Media(media)) = dialed.next().await else {
                panic!("media");
            };
            reader.hear(media, Instant::now());
            state.lock().state
        };
        for at in [0, 999] {
            let heard = hear(media(type_id::AUDIO, at, SOUND)).await;
            assert_eq!(heard, SourceState::Dialing);
        }
        let heard = hear(media(type_id::VIDEO, 999, INTER)).await;
        assert_eq!(heard, SourceState::Dialing);
        let heard = hear(media(type_id::VIDEO, 1_000, KEYFRAME)).await;
        assert_eq!(heard, SourceState::Flowing);
    }
}
