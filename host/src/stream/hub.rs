//! One stream: who feeds it, its clock, its ring, and the wake of its subscribers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use restreamd_rtmp::chunk::Slab;
use tokio::sync::{Notify, watch};

use super::Config;
use super::backlog::Backlog;
use super::cadence::{Cadence, Departure};
use super::gate::{Entrance, Permit};
use super::headers::Headers;
use super::latency::Latency;
use super::progress::{AudioFacts, MoreTracks, Progress, VideoFacts};
use super::pump::Pump;
use super::ring::{Bounds, Ring};
use super::timeline::{Lane, Timeline};
use super::unit::{Content, Unit};
use crate::id::StreamGuid;

/// Keep two seconds although a newer start exists: a stutter costs nothing.
const SLACK_MILLIS: u64 = 2_000;
/// Audio so long without any video makes a feed an audio-only one.
const AUDIO_ONLY_AFTER_MS: u32 = 1_000;
/// Whatever a provision calls a stall, media that pauses for longer is not live.
const PATIENCE: Duration = Duration::from_secs(10);
/// FLV timestamps are signed 31-bit and players die after 24.8 days, so a stream
/// nobody watches starts its wire clock again after an hour.
const REBASE_AFTER_MS: u64 = 3_600_000;

/// Names one feed of a stream; unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedId(u64);

/// Who feeds a stream on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeder {
    /// A provision's restreamer.
    Restreamer,
    /// A plain publisher.
    Publisher,
    /// Another node, which has it; or nobody, while it is not known which one.
    Edge,
}

/// A stream. Shared by its feeds and subscribers.
#[derive(Debug)]
pub struct Stream {
    guid: StreamGuid,
    feeder: watch::Sender<Feeder>,
    config: Arc<Config>,
    inner: Mutex<Inner>,
    /// How long frames wait, in milliseconds; read for every frame.
    window: AtomicU64,
    /// The time of the next departure changed. It outlives the stream, to end the timer.
    timer: Arc<Notify>,
    pub(super) pump: Pump,
    /// The next sequence number, or the end of the stream when closed.
    pub(super) progress: watch::Sender<Tip>,
    pub(super) subscribers: AtomicU64,
    /// Those of them that are other nodes.
    pub(super) edges: AtomicU64,
}

/// What subscribers wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tip {
    /// Frames up to here exist.
    At(u64),
    /// No frame will follow.
    Ended,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) ring: Ring,
    slab: Slab,
    pub(super) headers: Headers,
    timeline: Timeline,
    wire_base: u64,
    /// Whether feeds of this node's own may go on air.
    entrance: Entrance,
    on_air: Option<OnAir>,
    pending: Option<FeedId>,
    /// The pending feed has something to begin with, and was not let in.
    waits: bool,
    bytes_in: u64,
    live_since: Option<(Instant, jiff::Timestamp)>,
    cadence: Cadence,
    ended: bool,
}

#[derive(Debug)]
struct OnAir {
    id: FeedId,
    /// Appended by another node first.
    relayed: bool,
    watch: Arc<Mutex<Progress>>,
    /// Media that pauses for longer does not move.
    patience: Duration,
    last_frame: Instant,
}

/// What the API tells of a stream.
#[derive(Clone, Debug)]
pub struct StreamSnapshot {
    /// Its name.
    pub guid: StreamGuid,
    /// Media moves now.
    pub live: bool,
    /// Fed by a plain publisher and not by a restreamer.
    pub published: bool,
    /// Fed by another node.
    pub edge: bool,
    /// Since when media moves without a break.
    pub since: Option<jiff::Timestamp>,
    /// For how long that is; zero when not live.
    pub duration: Duration,
    /// How long frames wait to be sent together; zero when they do not.
    pub latency: Duration,
    /// Attached subscribers, other nodes not counted.
    pub subscribers: u64,
    /// Media bytes that came in.
    pub bytes_in: u64,
    /// Bytes its ring holds for subscribers.
    pub ring_bytes: usize,
    /// What is known of the video.
    pub video: Option<VideoFacts>,
    /// What is known of the audio.
    pub audio: Option<AudioFacts>,
    /// The tracks beside these.
    pub more: MoreTracks,
    /// Distance of the last two keyframes.
    pub gop: Option<Duration>,
}

impl Stream {
    /// A stream that is in no registry: nobody can play it, its name is nobody's.
    pub fn detached(guid: StreamGuid, config: &Config) -> Arc<Self> {
        Self::start(guid, false, Arc::new(config.clone()), Entrance::Free)
    }

    pub(super) fn start(
        guid: StreamGuid,
        published: bool,
        config: Arc<Config>,
        entrance: Entrance,
    ) -> Arc<Self> {
        let bounds = Bounds {
            bytes: config.ring_bytes,
            millis: config.ring_millis,
            slack_millis: SLACK_MILLIS,
        };
        let latency = config.latency_of(&guid);
        let feeder = match published {
            true => Feeder::Publisher,
            false => Feeder::Restreamer,
        };
        let stream = Arc::new(Self {
            guid,
            feeder: watch::Sender::new(feeder),
            config,
            window: AtomicU64::new(millis(latency)),
            inner: Mutex::new(Inner {
                ring: Ring::new(bounds),
                slab: Slab::default(),
                headers: Headers::default(),
                timeline: Timeline::default(),
                wire_base: 0,
                entrance,
                on_air: None,
                pending: None,
                waits: false,
                bytes_in: 0,
                live_since: None,
                cadence: Cadence::default(),
                ended: false,
            }),
            timer: Arc::default(),
            pump: Pump::default(),
            progress: watch::Sender::new(Tip::At(0)),
            subscribers: AtomicU64::new(0),
            edges: AtomicU64::new(0),
        });
        tokio::spawn(keep_time(Arc::downgrade(&stream), stream.timer.clone()));
        stream
    }

    /// How long frames wait to be sent together; `None` is what the configuration says.
    /// From the next frame on, and nobody leaves for it.
    pub fn set_latency(&self, latency: Option<Latency>) {
        let latency = latency.unwrap_or_else(|| self.config.latency_of(&self.guid));
        let former = self.window.swap(millis(latency), Ordering::Relaxed);
        if former != millis(latency) {
            self.timer.notify_one();
            self.pump.recall();
        }
    }

    /// Whether frames wait for each other.
    pub fn batches(&self) -> bool {
        !self.window().is_zero()
    }

    /// How long frames may wait for each other; zero when they do not.
    pub fn window(&self) -> Duration {
        Duration::from_millis(self.window.load(Ordering::Relaxed))
    }

    /// Its name.
    pub fn guid(&self) -> &StreamGuid {
        &self.guid
    }

    /// Whether a plain publisher feeds it.
    pub fn is_published(&self) -> bool {
        self.feeder() == Feeder::Publisher
    }

    /// Who feeds it now.
    pub fn feeder(&self) -> Feeder {
        *self.feeder.borrow()
    }

    /// Changes with who feeds it.
    pub fn feeder_changes(&self) -> watch::Receiver<Feeder> {
        self.feeder.subscribe()
    }

    pub(super) fn set_feeder(&self, feeder: Feeder) {
        self.feeder
            .send_if_modified(|now| std::mem::replace(now, feeder) != feeder);
    }

    /// Other nodes that play it for viewers of theirs.
    pub fn nodes(&self) -> u64 {
        self.edges.load(Ordering::Relaxed)
    }

    /// Subscribers that are no nodes.
    pub fn viewers(&self) -> u64 {
        let all = self.subscribers.load(Ordering::Relaxed);
        all.saturating_sub(self.edges.load(Ordering::Relaxed))
    }

    /// This node has the claim of the stream: feeds of its own may go on air, and one that
    /// waited for that does with its next frame.
    pub fn admit(&self, permit: Permit) {
        self.inner.lock().entrance = Entrance::Permitted(permit);
    }

    /// This node has the claim no more. When this returns, nothing of its own was appended
    /// that comes after it. Feeds stay, and wait.
    pub fn bar(&self) {
        let mut inner = self.inner.lock();
        inner.entrance = Entrance::Barred;
        if let Some(own) = inner.on_air.as_ref().filter(|on_air| !on_air.relayed) {
            let own = own.id;
            inner.take_off_air(own);
        }
    }

    /// The epoch of the claim under which this node may append, if it has one.
    pub fn permitted(&self) -> Option<u64> {
        match &self.inner.lock().entrance {
            Entrance::Permitted(permit) => Some(permit.epoch),
            Entrance::Free | Entrance::Barred => None,
        }
    }

    /// Whether a feed has media at hand and waits for the claim alone.
    pub fn can_begin(&self) -> bool {
        self.inner.lock().waits
    }

    /// Opens a feed of what another node appended: it needs no claim.
    pub fn relay(self: &Arc<Self>, stall: Option<Duration>) -> Feed {
        self.open_feed(stall, true)
    }

    /// Opens a feed. Nothing it pushes is played before [`Feed::attach`].
    pub fn feed(self: &Arc<Self>, stall: Option<Duration>) -> Feed {
        self.open_feed(stall, false)
    }

    fn open_feed(self: &Arc<Self>, stall: Option<Duration>, relayed: bool) -> Feed {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Feed {
            id: FeedId(NEXT.fetch_add(1, Ordering::Relaxed)),
            stream: self.clone(),
            headers: Headers::default(),
            first_audio: None,
            started: false,
            relayed,
            progress: Arc::new(Mutex::new(Progress::new(Instant::now()))),
            stall,
            backlog: Backlog::default(),
        }
    }

    /// This feed goes on air at its next start.
    pub fn attach(&self, feed: FeedId) {
        let mut inner = self.inner.lock();
        if inner.on_air.as_ref().is_none_or(|on_air| on_air.id != feed) {
            inner.pending = Some(feed);
        } else {
            inner.pending = None;
        }
        inner.waits = false;
    }

    /// The feed that is on air.
    pub fn on_air(&self) -> Option<FeedId> {
        self.inner.lock().on_air_id()
    }

    /// Whether a feed was attached and no other was since, and whether it is on air.
    pub fn standing(&self, feed: FeedId) -> (bool, bool) {
        let inner = self.inner.lock();
        let on_air = inner.on_air_id() == Some(feed);
        let attached = inner.pending.map_or(on_air, |pending| pending == feed);
        (attached, on_air)
    }

    /// The feed is over; it leaves the air and is no longer waited for.
    pub fn detach(&self, feed: FeedId) {
        let mut inner = self.inner.lock();
        if inner.pending == Some(feed) {
            inner.pending = None;
            inner.waits = false;
        }
        if inner.on_air_id() == Some(feed) {
            inner.leave_air();
        }
    }

    /// Ends the stream: subscribers are told and leave.
    pub fn end(&self) {
        let mut inner = self.inner.lock();
        inner.ended = true;
        inner.on_air = None;
        inner.pending = None;
        drop(inner);
        self.progress.send_replace(Tip::Ended);
        self.pump.departure(self);
        self.timer.notify_one();
    }

    /// Whether it was ended.
    pub fn is_ended(&self) -> bool {
        self.inner.lock().ended
    }

    /// Whether media moves now.
    pub fn is_live(&self) -> bool {
        self.inner.lock().live(Instant::now())
    }

    /// Whether a subscriber would get a frame now.
    pub fn has_start(&self) -> bool {
        self.inner.lock().ring.newest_start().is_some()
    }

    /// What the API tells.
    pub fn snapshot(&self) -> StreamSnapshot {
        let inner = self.inner.lock();
        let now = Instant::now();
        let live = inner.live(now);
        let since = inner.live_since.filter(|_| live);
        let progress = inner.on_air.as_ref().map(|on_air| on_air.watch.lock());
        StreamSnapshot {
            guid: self.guid.clone(),
            live,
            published: self.is_published(),
            edge: self.feeder() == Feeder::Edge,
            since: since.map(|(_, at)| at),
            duration: since.map_or(Duration::ZERO, |(from, _)| {
                now.saturating_duration_since(from)
            }),
            latency: self.window(),
            subscribers: self.viewers(),
            bytes_in: inner.bytes_in,
            ring_bytes: inner.ring.bytes(),
            video: progress.as_ref().and_then(|p| p.video(now)),
            audio: progress.as_ref().and_then(|p| p.audio(now)),
            more: progress.as_ref().map(|p| p.more(now)).unwrap_or_default(),
            gop: progress.as_ref().and_then(|p| p.gop()),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.lock())
    }

    /// The feed's clock begins anew.
    fn resume(&self, feed: FeedId) {
        let mut inner = self.inner.lock();
        if inner.on_air_id() == Some(feed) {
            inner.timeline.switch_source();
        }
    }

    /// One unit of a feed: goes out when the feed is on air, or puts it on air. False
    /// when the feed is not on air.
    fn append(&self, feed: &Feed, unit: &Unit, may_start: bool, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        if inner.ended {
            return false;
        }
        if !feed.relayed && !inner.entrance.is_open() {
            inner.take_off_air(feed.id);
            let begins = may_start || !feed.backlog.units().is_empty();
            inner.waits |= begins && inner.pending == Some(feed.id);
            return false;
        }
        if inner.on_air_id() != Some(feed.id) {
            // A start of its own beats the group before it.
            let group = if may_start { &[] } else { feed.backlog.units() };
            let first = group.first().or(may_start.then_some(unit));
            let Some(first) = first.filter(|_| inner.pending == Some(feed.id)) else {
                return false;
            };
            self.switch(&mut inner, feed, first, now);
            for former in group {
                self.add(&mut inner, former);
            }
        }
        if unit.is_frame() {
            inner.note_frame(now);
        }
        self.add(&mut inner, unit);
        if !feed.relayed {
            inner.entrance.note();
        }
        let sound = unit.lane == Lane::Audio && unit.is_frame() && inner.headers.has(Lane::Video);
        inner.cadence.added(!sound, now);
        true
    }

    /// Lets the frames that wait leave, if it is their time, or more come only at `next`.
    /// `arm` leaves a later departure to the timer.
    fn depart(&self, arm: bool, next: Option<Instant>) -> Departure {
        let now = tokio::time::Instant::now().into_std();
        let audience = self.subscribers.load(Ordering::Relaxed) as usize;
        let mut inner = self.inner.lock();
        let departure = inner.cadence.ask(now, self.window(), audience, next);
        let armed = arm && matches!(departure, Departure::At(_)) && inner.cadence.arm();
        let tip = Tip::At(inner.ring.next_seq());
        drop(inner);
        if armed {
            self.timer.notify_one();
        }
        if departure == Departure::Now {
            self.show(tip);
            self.pump.departure(self);
        }
        departure
    }

    /// Wakes subscribers for frames up to here, if there are any they were not woken for.
    fn show(&self, tip: Tip) {
        self.progress.send_if_modified(|current| {
            *current != Tip::Ended && std::mem::replace(current, tip) != tip
        });
    }

    fn switch(&self, inner: &mut Inner, feed: &Feed, unit: &Unit, now: Instant) {
        inner.pending = None;
        inner.waits = false;
        inner.on_air = Some(OnAir {
            id: feed.id,
            relayed: feed.relayed,
            watch: feed.progress.clone(),
            patience: feed.stall.map_or(PATIENCE, |stall| stall.min(PATIENCE)),
            last_frame: now,
        });
        inner.live_since = Some((now, jiff::Timestamp::now()));
        inner.timeline.switch_source();
        let idle = self.subscribers.load(Ordering::Relaxed) == 0;
        if idle && inner.timeline.now().saturating_sub(inner.wire_base) > REBASE_AFTER_MS {
            inner.wire_base = inner.timeline.now();
            inner.ring.invalidate_starts();
        }
        if inner.headers.keep_tracks_of(&feed.headers) {
            inner.ring.invalidate_starts();
        }
        for header in feed.headers.units(unit.timestamp) {
            self.add(inner, &header);
        }
    }

    fn add(&self, inner: &mut Inner, unit: &Unit) {
        inner.bytes_in += unit.payload.len() as u64;
        if !inner.headers.take(unit) {
            return;
        }
        let track = unit.parts().next().map_or(0, |part| part.track);
        let timeline = &mut inner.timeline;
        let at = match unit.is_frame() {
            true => timeline.map_track(unit.lane, track, unit.timestamp),
            false => Some(timeline.beside(unit.lane, track, unit.timestamp)),
        };
        let Some(at) = at else {
            return;
        };
        self.rebase_when_unwatched(inner, unit, at);
        if at < inner.wire_base {
            // Sound from before the new zero, which nobody was there to hear.
            return;
        }
        if matches!(unit.content, Content::Header { .. }) {
            inner.ring.invalidate_starts();
        }
        let start = match unit.content {
            Content::Keyframe => true,
            Content::Frame => unit.lane == Lane::Audio && !inner.headers.has(Lane::Video),
            _ => false,
        };
        // At any other time players take metadata for a subtitle (ffmpeg).
        let wire_at = match unit.content {
            Content::Metadata => 0,
            _ => inner.wire_time(at),
        };
        let kept = inner.ring.count();
        let wire = (inner.slab).media(unit.type_id(), wire_at, &unit.payload, kept);
        inner.ring.push(at, start, wire);
    }

    /// Nobody watches and the wire clock has run for long: it starts again at this keyframe.
    fn rebase_when_unwatched(&self, inner: &mut Inner, unit: &Unit, at: u64) {
        let long = at.saturating_sub(inner.wire_base) > REBASE_AFTER_MS;
        if long
            && unit.content == Content::Keyframe
            && self.subscribers.load(Ordering::Relaxed) == 0
        {
            inner.wire_base = at;
            inner.ring.invalidate_starts();
        }
    }
}

impl Inner {
    /// A time of the timeline as RTMP's 32 bits carry it.
    pub(super) fn wire_time(&self, at: u64) -> u32 {
        at.saturating_sub(self.wire_base) as u32
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Who comes now waits for media that moves; who is there goes on.
    fn leave_air(&mut self) {
        self.on_air = None;
        self.live_since = None;
        self.ring.invalidate_starts();
    }

    /// A feed that may not go on waits until it may, if no other one was attached since.
    fn take_off_air(&mut self, feed: FeedId) {
        if self.on_air_id() == Some(feed) {
            self.leave_air();
            self.pending.get_or_insert(feed);
        }
    }

    fn on_air_id(&self) -> Option<FeedId> {
        self.on_air.as_ref().map(|on_air| on_air.id)
    }

    /// A frame of what is on air: after a stall, live begins anew with it.
    fn note_frame(&mut self, now: Instant) {
        let Some(on_air) = self.on_air.as_mut() else {
            return;
        };
        let paused = now.saturating_duration_since(on_air.last_frame) >= on_air.patience;
        on_air.last_frame = now;
        if paused {
            self.live_since = Some((now, jiff::Timestamp::now()));
        }
    }

    fn live(&self, now: Instant) -> bool {
        self.on_air.as_ref().is_some_and(|on_air| {
            let watch = on_air.watch.lock();
            watch.stall(now, on_air.patience).is_none()
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.timer.notify_one();
    }
}

fn millis(latency: Latency) -> u64 {
    u64::try_from(latency.window().as_millis()).unwrap_or(u64::MAX)
}

/// Lets frames leave whose time comes while no other frame does.
async fn keep_time(stream: Weak<Stream>, timer: Arc<Notify>) {
    let mut next: Option<Instant> = None;
    loop {
        match next {
            Some(next) => {
                let _ = tokio::time::timeout_at(next.into(), timer.notified()).await;
            }
            None => timer.notified().await,
        }
        let Some(stream) = stream.upgrade() else {
            return;
        };
        if stream.is_ended() {
            return;
        }
        next = match stream.depart(false, None) {
            Departure::At(at) => Some(at),
            Departure::Now | Departure::None => None,
        };
    }
}

/// The way media enters a stream: held by whoever reads it from a peer.
#[derive(Debug)]
pub struct Feed {
    id: FeedId,
    stream: Arc<Stream>,
    headers: Headers,
    first_audio: Option<u32>,
    started: bool,
    relayed: bool,
    progress: Arc<Mutex<Progress>>,
    stall: Option<Duration>,
    /// What it would start with, while it is not on air.
    backlog: Backlog,
}

impl Feed {
    /// Its name.
    pub fn id(&self) -> FeedId {
        self.id
    }

    /// The watch over its media.
    pub fn progress(&self) -> &Arc<Mutex<Progress>> {
        &self.progress
    }

    /// Goes on air at its next start.
    pub fn attach(&self) {
        self.stream.attach(self.id);
    }

    /// Whether it ever brought a frame that a stream can start with.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// What follows comes from another connection to the same source, with a clock and
    /// headers of its own, and begins with a start. It stays on air.
    pub fn resume(&mut self) {
        self.headers = Headers::default();
        self.first_audio = None;
        self.progress.lock().resume();
        self.stream.resume(self.id);
    }

    /// One unit, in the order it came. [`Feed::depart`] must follow when no other is at
    /// hand: units that came together leave together.
    pub fn push(&mut self, unit: &Unit) {
        self.push_at(unit, tokio::time::Instant::now());
    }

    /// The same for what came then: to ask the clock for each unit costs as much as to
    /// classify it.
    pub fn push_at(&mut self, unit: &Unit, came: tokio::time::Instant) {
        let now = came.into_std();
        let is_new = self.headers.take(unit);
        let unit = &*self.headers.judge(unit);
        self.progress.lock().observe(unit, now);
        if is_new && matches!(unit.content, Content::Header { .. }) {
            // What waits was made for the former one.
            self.backlog.clear();
        }
        let may_start = self.may_start(unit);
        self.started |= may_start;
        if self.stream.append(self, unit, may_start, now) {
            self.backlog.clear();
        } else {
            self.backlog.push(unit);
        }
    }

    /// What was pushed leaves for the subscribers, at once or when its time comes.
    pub fn depart(&self) {
        self.stream.depart(true, None);
    }

    /// The same when nothing will be pushed before then, if that is known: what is not to
    /// wait so long leaves now, and nobody has to be woken for it.
    pub fn depart_before(&self, next: Option<tokio::time::Instant>) {
        let next = next.map(tokio::time::Instant::into_std);
        self.stream.depart(true, next);
    }

    fn may_start(&mut self, unit: &Unit) -> bool {
        match unit.content {
            Content::Keyframe => true,
            Content::Frame if unit.lane == Lane::Audio && !self.headers.has(Lane::Video) => {
                let first = *self.first_audio.get_or_insert(unit.timestamp);
                unit.timestamp.wrapping_sub(first) >= AUDIO_ONLY_AFTER_MS
                    && !self.progress.lock().has_video()
            }
            _ => false,
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stream.detach(self.id);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stream::gate::{Gate, since_boot};
    use crate::stream::{Batch, Subscriber};

    fn keyframe(timestamp: u32) -> Unit {
        Unit {
            timestamp,
            lane: Lane::Video,
            content: Content::Keyframe,
            codec: None,
            payload: Bytes::from_static(b"frame"),
        }
    }

    fn stream(latency: u64) -> (Arc<Stream>, Feed) {
        let config = Config {
            latency: Latency::millis(latency).expect("legal"),
            ..Config::default()
        };
        let guid = "live/a".parse().expect("legal");
        let stream = Stream::start(guid, true, Arc::new(config), Entrance::Free);
        let feed = stream.feed(None);
        feed.attach();
        (stream, feed)
    }

    /// Milliseconds until a subscriber that has seen all is woken for the next frame.
    async fn waited(subscriber: &mut Subscriber, feed: &mut Feed, at: u32) -> u128 {
        let mut out = Vec::new();
        while subscriber.take(&mut out) == Batch::Frames {}
        let begin = tokio::time::Instant::now();
        feed.push(&keyframe(at));
        feed.depart();
        subscriber.ready().await;
        begin.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_wait_for_the_window_and_not_at_all_in_low_mode() {
        for (latency, second) in [(250, 250), (0, 0)] {
            let (stream, mut feed) = stream(latency);
            let mut subscriber = Subscriber::new(stream);
            let first = waited(&mut subscriber, &mut feed, 0).await;
            assert_eq!(first, 0, "after a pause nothing waits");
            let waited = waited(&mut subscriber, &mut feed, 40).await;
            assert!((second..=second + 1).contains(&waited), "{waited} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_latency_holds_from_the_next_frame_on_also_while_one_waits() {
        let (stream, mut feed) = stream(1_000);
        let mut subscriber = Subscriber::new(stream.clone());
        waited(&mut subscriber, &mut feed, 0).await;
        let begin = tokio::time::Instant::now();
        feed.push(&keyframe(40));
        feed.depart();
        stream.set_latency(Some(Latency::LOW));
        subscriber.ready().await;
        assert!(begin.elapsed().as_millis() <= 1, "it waits no longer");
        for at in [80, 120] {
            assert_eq!(waited(&mut subscriber, &mut feed, at).await, 0);
        }
        assert_eq!(stream.snapshot().latency, Duration::ZERO);
        // Back to what the configuration says.
        stream.set_latency(None);
        waited(&mut subscriber, &mut feed, 160).await;
        let waited = waited(&mut subscriber, &mut feed, 200).await;
        assert!((999..=1_001).contains(&waited), "{waited} ms");
    }

    #[tokio::test]
    async fn frames_of_a_former_header_do_not_go_out_behind_a_new_one() {
        let (stream, _on_air) = stream(0);
        let mut warm = stream.feed(None);
        let header = |byte: u8| Unit {
            content: Content::Header { track: 0 },
            payload: Bytes::from(vec![byte]),
            ..keyframe(0)
        };
        let frame = |at| Unit {
            content: Content::Frame,
            ..keyframe(at)
        };
        for unit in [header(1), keyframe(0), frame(40), header(1)] {
            warm.push(&unit);
        }
        assert_eq!(warm.backlog.units().len(), 2, "the same header again");
        warm.push(&header(2));
        warm.attach();
        warm.push(&frame(80));
        assert_ne!(stream.on_air(), Some(warm.id()), "not with what it has");
        warm.push(&keyframe(120));
        assert_eq!(stream.on_air(), Some(warm.id()));
    }

    fn permit(gate: &Gate, epoch: u64) -> Permit {
        Permit {
            gate: gate.clone(),
            epoch,
            appends: Some(Arc::default()),
        }
    }

    fn guarded() -> (Arc<Stream>, Feed) {
        let guid = "live/a".parse().expect("legal");
        let config = Arc::new(Config::default());
        let stream = Stream::start(guid, false, config, Entrance::Barred);
        let feed = stream.feed(None);
        feed.attach();
        (stream, feed)
    }

    fn appended(stream: &Stream) -> u64 {
        stream.read(|inner| inner.ring.next_seq())
    }

    #[tokio::test]
    async fn nothing_is_appended_before_the_claim_and_what_waited_begins_with_its_group() {
        let (stream, mut feed) = guarded();
        feed.push(&keyframe(0));
        assert!(stream.can_begin() && appended(&stream) == 0);
        let gate = Gate::shut();
        gate.extend(since_boot() + Duration::from_secs(60));
        stream.admit(permit(&gate, 7));
        assert_eq!((stream.permitted(), stream.on_air()), (Some(7), None));
        let frame = Unit {
            content: Content::Frame,
            ..keyframe(40)
        };
        feed.push(&frame);
        assert_eq!(appended(&stream), 2, "from the keyframe on");
        assert!(!stream.can_begin() && stream.is_live());
    }

    #[tokio::test]
    async fn past_the_gates_deadline_frames_are_dropped_and_the_feed_leaves_the_air() {
        let (stream, mut feed) = guarded();
        let gate = Gate::shut();
        gate.extend(since_boot() + Duration::from_secs(60));
        let permit = permit(&gate, 1);
        stream.admit(permit.clone());
        feed.push(&keyframe(0));
        assert_eq!(appended(&stream), 1);
        let noted = permit.appends.as_ref().and_then(|a| a.seen());
        gate.close();
        feed.push(&keyframe(40));
        assert_eq!((appended(&stream), stream.on_air()), (1, None));
        assert!(!stream.has_start(), "who comes now waits");
        assert_eq!(permit.appends.as_ref().and_then(|a| a.seen()), noted);
        // Back in the cluster with the claim made anew.
        let gate = Gate::shut();
        gate.extend(since_boot() + Duration::from_secs(60));
        stream.admit(self::permit(&gate, 2));
        feed.push(&keyframe(80));
        assert_eq!(stream.on_air(), Some(feed.id()), "nobody had to attach it");
    }

    #[tokio::test]
    async fn a_stream_that_was_let_go_takes_what_other_nodes_append_and_nothing_else() {
        let (stream, mut feed) = guarded();
        stream.admit(permit(&Gate::always(), 1));
        feed.push(&keyframe(0));
        stream.bar();
        assert_eq!(stream.on_air(), None);
        let mut relay = stream.relay(None);
        relay.attach();
        relay.push(&keyframe(40));
        assert_eq!(stream.on_air(), Some(relay.id()));
        feed.push(&keyframe(80));
        stream.bar();
        assert_eq!(stream.on_air(), Some(relay.id()), "it needs no claim");
        assert_eq!(appended(&stream), 2);
    }

    #[tokio::test]
    async fn nothing_of_a_stream_stays_when_nobody_holds_it() {
        let (stream, feed) = stream(1_000);
        let (left, tasks) = (Arc::downgrade(&stream), tokio::runtime::Handle::current());
        assert_eq!(tasks.metrics().num_alive_tasks(), 1);
        drop((stream, feed));
        assert!(left.upgrade().is_none());
        while tasks.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
