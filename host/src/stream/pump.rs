//! One writer for many subscribers: when frames leave, one task writes them to all
//! sockets that take them at once.
//!
//! A task for each player would have to be woken for each write, and that costs as much
//! as the write. A subscriber that is up to date opens a [`Tap`]: its cursor is the pump's
//! until a write does not fit, the stream ends, or its owner takes the cursor back. All
//! that is not simple stays with the owner: starts, jumps, ends, words of its own.
//! Invariants: whoever has the cursor is the only one who writes; a message is written
//! whole or its rest is handed back.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{Instrument, debug_span};

use super::hub::{Stream, Tip};
use super::subscriber::Subscriber;

/// Tasks that write for one stream at most, and not more than there are cores.
const SHARDS: usize = 4;
/// Up to so many taps one task is enough, and their writes end before the next frame.
const ONE_SHARD: usize = 64;
/// Up to so many taps are written by whoever brings the frames: waking a task costs more.
const INLINE: usize = 8;
/// Taps in a row; then others on the same core get their turn.
const TURN: usize = 64;
/// Frames and bytes gathered for one write. More follow in the next.
const FRAMES: usize = 256;
/// See [`FRAMES`].
const BYTES: usize = 512 * 1024;

/// Bytes of a thread's memory for batches; larger ones are rare.
const KEPT: usize = 64 * 1024;

/// A socket, as far as the pump knows it: takes what fits and never waits.
pub trait Outlet: Send + Sync {
    /// Writes some of the bytes; `WouldBlock` when none fit.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

enum Place {
    /// The pump writes, from this frame on.
    Open {
        cursor: u64,
        outlet: Arc<dyn Outlet>,
    },
    /// The pump cannot go on; the owner is to look.
    Returned { cursor: u64, rest: Bytes },
    /// The owner writes.
    Shut,
}

struct Seat {
    stream_id: u32,
    shard: usize,
    state: Mutex<State>,
    called: Notify,
}

struct State {
    place: Place,
    /// In a list of its shard.
    listed: bool,
    gone: bool,
    /// Bytes the pump wrote since it was opened.
    written: u64,
}

/// A subscriber's connection to the pump. Dropping it ends that.
pub struct Tap {
    stream: Arc<Stream>,
    outlet: Arc<dyn Outlet>,
    seat: Arc<Seat>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("stream", self.stream.guid())
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// A shut tap of a stream, whose frames go to this RTMP message stream.
    pub fn new(stream: Arc<Stream>, stream_id: u32, outlet: Arc<dyn Outlet>) -> Self {
        let shard = stream.pump.choose();
        let seat = Arc::new(Seat {
            stream_id,
            shard,
            state: Mutex::new(State {
                place: Place::Shut,
                listed: false,
                gone: false,
                written: 0,
            }),
            called: Notify::new(),
        });
        Self {
            stream,
            outlet,
            seat,
        }
    }

    /// Hands the subscriber's cursor to the pump. False when there is more to take at once.
    /// One that has no place in the ring, and no start to jump to, stays with its owner.
    pub fn open(&self, subscriber: &Subscriber) -> bool {
        let held = |seq: &u64| self.stream.read(|inner| *seq >= inner.ring.first_seq());
        let Some(cursor) = subscriber.cursor().filter(held) else {
            return true;
        };
        let newcomer = {
            let mut state = self.seat.state.lock();
            state.place = Place::Open {
                cursor,
                outlet: self.outlet.clone(),
            };
            !std::mem::replace(&mut state.listed, true)
        };
        if newcomer {
            self.stream.pump.list(&self.stream, &self.seat);
        }
        // Frames that left before the pump had the cursor would wait for the next ones.
        let behind = self
            .stream
            .read(|inner| inner.ended() || inner.ring.next_seq() != cursor);
        if behind {
            self.seat.give_back();
        }
        !self.is_returned()
    }

    /// Whether the pump has the cursor, or had it and wants the owner.
    pub fn is_open(&self) -> bool {
        !matches!(self.seat.state.lock().place, Place::Shut)
    }

    /// Whether the pump wants the owner to go on.
    pub fn is_returned(&self) -> bool {
        matches!(self.seat.state.lock().place, Place::Returned { .. })
    }

    /// Resolves when the pump wants the owner to go on. Cancel safe.
    pub async fn returned(&self) {
        while !self.is_returned() {
            self.seat.called.notified().await;
        }
    }

    /// Takes the cursor back: what is left of a message that was begun, and the bytes
    /// that were written. Nothing when the pump had none.
    pub fn shut(&self, subscriber: &mut Subscriber) -> (Bytes, u64) {
        let mut state = self.seat.state.lock();
        let (cursor, rest) = match std::mem::replace(&mut state.place, Place::Shut) {
            Place::Open { cursor, .. } => (cursor, Bytes::new()),
            Place::Returned { cursor, rest } => (cursor, rest),
            Place::Shut => return (Bytes::new(), 0),
        };
        subscriber.resume_at(cursor);
        (rest, std::mem::take(&mut state.written))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut state = self.seat.state.lock();
        // With the place goes the outlet: a closed connection holds no socket.
        state.place = Place::Shut;
        state.gone = true;
        drop(state);
        self.stream.pump.forget(self.seat.shard);
    }
}

impl Seat {
    fn give_back(&self) {
        let mut state = self.state.lock();
        if let Place::Open { cursor, .. } = state.place {
            state.give_back(cursor, Bytes::new());
            self.called.notify_one();
        }
    }

    /// Writes what there is. False when the seat is to be struck off the list.
    fn serve(&self, stream: &Stream, batch: &mut Batch) -> bool {
        let mut state = self.state.lock();
        if state.gone {
            return false;
        }
        loop {
            let Place::Open { cursor, outlet } = &state.place else {
                return true;
            };
            let cursor = *cursor;
            batch.gather(stream, cursor, self.stream_id);
            if batch.lost {
                state.give_back(cursor, Bytes::new());
                self.called.notify_one();
                return true;
            }
            if batch.bytes.is_empty() {
                return true;
            }
            let written = outlet.try_write(&batch.bytes).unwrap_or(0);
            state.written += written as u64;
            if written == batch.bytes.len() {
                state.advance(batch.end);
                if batch.end == batch.tip {
                    return true;
                }
                continue;
            }
            // What failed will fail again, in the hands of the owner.
            if written == 0 {
                state.give_back(cursor, Bytes::new());
            } else {
                let rest = Bytes::copy_from_slice(&batch.bytes[written..]);
                state.give_back(batch.end, rest);
            }
            self.called.notify_one();
            return true;
        }
    }
}

impl State {
    fn give_back(&mut self, cursor: u64, rest: Bytes) {
        self.place = Place::Returned { cursor, rest };
    }

    fn advance(&mut self, to: u64) {
        if let Place::Open { cursor, .. } = &mut self.place {
            *cursor = to;
        }
    }
}

thread_local! {
    /// Memory of the batches of a thread, which has one at a time.
    static GATHERED: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// The frames behind a cursor in one piece, gathered once for all that are there.
struct Batch {
    key: Option<(u64, u32)>,
    bytes: BytesMut,
    /// The cursor behind them.
    end: u64,
    /// The stream's next frame when they were gathered.
    tip: u64,
    lost: bool,
}

impl Batch {
    fn new() -> Self {
        Self {
            key: None,
            bytes: GATHERED.take().unwrap_or_default(),
            end: 0,
            tip: 0,
            lost: false,
        }
    }

    fn gather(&mut self, stream: &Stream, cursor: u64, stream_id: u32) {
        if self.key == Some((cursor, stream_id)) {
            return;
        }
        let bytes = &mut self.bytes;
        bytes.clear();
        // Copied under the stream's lock: to share each frame first costs more.
        let (frames, tip, lost) = stream.read(|inner| {
            let ring = &inner.ring;
            if inner.ended() || cursor < ring.first_seq() {
                return (0, ring.next_seq(), true);
            }
            let (mut frames, mut total) = (0, 0);
            for frame in ring.from(cursor).take(FRAMES) {
                if total > BYTES {
                    break;
                }
                total += frame.wire.bytes().len();
                frames += 1;
            }
            bytes.reserve(total);
            for frame in ring.from(cursor).take(frames) {
                frame.wire.put(stream_id, bytes);
            }
            (frames as u64, ring.next_seq(), false)
        });
        self.key = Some((cursor, stream_id));
        self.end = cursor + frames;
        (self.tip, self.lost) = (tip, lost);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.bytes.capacity() <= KEPT {
            GATHERED.set(Some(std::mem::take(&mut self.bytes)));
        }
    }
}

#[derive(Default)]
struct Shard {
    seats: Mutex<Vec<Arc<Seat>>>,
    /// Listed at the next round, so that nobody waits for one that is under way.
    newcomers: Mutex<Vec<Arc<Seat>>>,
    taps: AtomicUsize,
    running: AtomicBool,
}

impl Shard {
    /// One turn from a place in the list on; where the next one begins, unless it was the last.
    fn turn(&self, stream: &Stream, from: usize) -> Option<usize> {
        let mut seats = self.seats.lock();
        if from == 0 {
            seats.append(&mut self.newcomers.lock());
        }
        let mut batch = Batch::new();
        let (mut at, mut served) = (from, 0);
        while at < seats.len() && served < TURN {
            if seats[at].serve(stream, &mut batch) {
                at += 1;
            } else {
                seats.swap_remove(at);
            }
            served += 1;
        }
        (at < seats.len()).then_some(at)
    }
}

/// A stream's pump. See the module.
pub(super) struct Pump {
    shards: Box<[Shard]>,
    /// Those of all shards.
    taps: AtomicUsize,
}

impl std::fmt::Debug for Pump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pump").field("taps", &self.taps()).finish()
    }
}

impl Default for Pump {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            shards: (0..cores.min(SHARDS)).map(|_| Shard::default()).collect(),
            taps: AtomicUsize::new(0),
        }
    }
}

impl Pump {
    fn taps(&self) -> usize {
        self.taps.load(Ordering::Relaxed)
    }

    /// The shard of a new tap.
    fn choose(&self) -> usize {
        let taps = |(_, shard): &(usize, &Shard)| shard.taps.load(Ordering::Relaxed);
        let least = self.shards.iter().enumerate().min_by_key(taps);
        let chosen = match least {
            Some((least, _)) if self.taps() >= ONE_SHARD => least,
            _ => 0,
        };
        self.shards[chosen].taps.fetch_add(1, Ordering::Relaxed);
        self.taps.fetch_add(1, Ordering::Relaxed);
        chosen
    }

    fn forget(&self, shard: usize) {
        self.shards[shard].taps.fetch_sub(1, Ordering::Relaxed);
        self.taps.fetch_sub(1, Ordering::Relaxed);
    }

    /// Every owner is to look: what it set up its socket for has changed.
    pub(super) fn recall(&self) {
        for shard in &self.shards {
            let seats = shard.seats.lock();
            let newcomers = shard.newcomers.lock();
            seats.iter().chain(&*newcomers).for_each(|s| s.give_back());
        }
    }

    fn list(&self, stream: &Arc<Stream>, seat: &Arc<Seat>) {
        let shard = &self.shards[seat.shard];
        let mut newcomers = shard.newcomers.lock();
        // Who came and went while no frame came.
        newcomers.retain(|seat| !seat.state.lock().gone);
        newcomers.push(seat.clone());
        drop(newcomers);
        let inline = seat.shard == 0 && self.taps() <= INLINE;
        if !inline && !shard.running.swap(true, Ordering::Relaxed) {
            let tip = stream.progress.subscribe();
            let span = debug_span!("pump", stream = %stream.guid());
            tokio::spawn(run(Arc::downgrade(stream), seat.shard, tip).instrument(span));
        }
    }

    /// Frames leave: few taps are served here and now, the others by their tasks, which
    /// hear of it by themselves.
    pub(super) fn departure(&self, stream: &Stream) {
        let first = &self.shards[0];
        if self.taps() <= INLINE || !first.running.load(Ordering::Relaxed) {
            let mut from = Some(0);
            while let Some(at) = from {
                from = first.turn(stream, at);
            }
        }
    }
}

/// Writes a shard's share whenever frames leave, until the stream ends.
async fn run(stream: Weak<Stream>, shard: usize, mut tip: watch::Receiver<Tip>) {
    loop {
        let open = tip.changed().await.is_ok();
        let Some(stream) = stream.upgrade() else {
            return;
        };
        let ended = !open || *tip.borrow_and_update() == Tip::Ended;
        let mut from = Some(0);
        while let Some(at) = from {
            from = stream.pump.shards[shard].turn(&stream, at);
            if from.is_some() {
                tokio::task::yield_now().await;
            }
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use restreamd_rtmp::chunk::Wire;

    use super::*;
    use crate::stream::gate::Entrance;
    use crate::stream::timeline::Lane;
    use crate::stream::unit::{Content, Unit};
    use crate::stream::{Batch, Config, Feed, Latency};

    /// Takes so many bytes, then none.
    struct Narrow {
        room: AtomicUsize,
        got: Mutex<Vec<u8>>,
    }

    impl Narrow {
        fn new(room: usize) -> Arc<Self> {
            Arc::new(Self {
                room: AtomicUsize::new(room),
                got: Mutex::default(),
            })
        }

        fn got(&self) -> usize {
            self.got.lock().len()
        }
    }

    impl Outlet for Narrow {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room.load(Ordering::Relaxed));
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room.fetch_sub(taken, Ordering::Relaxed);
            self.got.lock().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
    }

    /// A stream with a subscriber that has seen its first frame.
    struct Stage {
        stream: Arc<Stream>,
        feed: Feed,
        at: u32,
    }

    impl Stage {
        fn new() -> Self {
            let config = Config {
                latency: Latency::LOW,
                ring_bytes: 64 * 1024,
                ..Config::default()
            };
            let stream = Stream::start(
                "live/a".parse().expect("legal"),
                true,
                Arc::new(config),
                Entrance::Free,
            );
            let feed = stream.feed(None);
            feed.attach();
            let mut stage = Self {
                stream,
                feed,
                at: 0,
            };
            stage.push(1);
            stage
        }

        /// So many keyframes of 100 bytes, which leave one by one.
        fn push(&mut self, frames: u32) {
            for _ in 0..frames {
                self.feed.push(&Unit {
                    timestamp: self.at,
                    lane: Lane::Video,
                    content: Content::Keyframe,
                    codec: None,
                    payload: vec![self.at as u8; 100].into(),
                });
                self.feed.depart();
                self.at += 40;
            }
        }

        fn subscriber(&self, outlet: &Arc<Narrow>) -> (Subscriber, Tap) {
            let mut subscriber = Subscriber::new(self.stream.clone());
            while subscriber.take(&mut Vec::new()) == Batch::Frames {}
            let tap = Tap::new(self.stream.clone(), 1, outlet.clone());
            (subscriber, tap)
        }

        /// The bytes of these frames on the wire.
        fn wire(&self, from: u64, to: u64) -> Vec<u8> {
            let frames = |inner: &crate::stream::hub::Inner| {
                let frames = inner.ring.from(from).take((to - from) as usize);
                frames
                    .map(|frame| frame.wire.clone())
                    .collect::<Vec<Wire>>()
            };
            let wires = self.stream.read(frames);
            wires
                .iter()
                .flat_map(|wire| wire.bytes().to_vec())
                .collect()
        }
    }

    #[tokio::test]
    async fn the_pump_writes_what_comes_until_the_owner_takes_over() {
        let mut stage = Stage::new();
        let outlet = Narrow::new(usize::MAX);
        let (mut subscriber, tap) = stage.subscriber(&outlet);
        assert!(tap.open(&subscriber));
        stage.push(5);
        assert_eq!(*outlet.got.lock(), stage.wire(1, 6));
        let (rest, written) = tap.shut(&mut subscriber);
        assert_eq!((rest.len(), written), (0, outlet.got() as u64));
        stage.push(2);
        let mut out = Vec::new();
        assert_eq!(subscriber.take(&mut out), Batch::Frames);
        assert_eq!(out.len(), 2, "frames after the pump's last");
    }

    #[tokio::test]
    async fn a_message_that_does_not_fit_is_handed_back_with_its_rest() {
        let mut stage = Stage::new();
        let outlet = Narrow::new(250);
        let (mut subscriber, tap) = stage.subscriber(&outlet);
        assert!(tap.open(&subscriber));
        stage.push(4);
        tap.returned().await;
        let (rest, written) = tap.shut(&mut subscriber);
        let mut all = outlet.got.lock().clone();
        all.extend_from_slice(&rest);
        assert_eq!((written, all), (250, stage.wire(1, 4)));
        let mut out = Vec::new();
        subscriber.take(&mut out);
        assert_eq!(out.len(), 1, "what the pump did not begin is the owner's");
        // Whose socket takes nothing at all keeps its place.
        assert!(tap.open(&subscriber));
        stage.push(1);
        tap.returned().await;
        assert!(tap.shut(&mut subscriber).0.is_empty());
        out.clear();
        subscriber.take(&mut out);
        assert_eq!(out.len(), 1);
    }

    #[tokio::test]
    async fn another_latency_calls_the_owners() {
        let stage = Stage::new();
        let outlet = Narrow::new(usize::MAX);
        let (subscriber, tap) = stage.subscriber(&outlet);
        assert!(tap.open(&subscriber));
        stage.stream.set_latency(Some(Latency::LOW));
        assert!(!tap.is_returned(), "it is the same");
        stage.stream.set_latency(Some(Latency::default()));
        tap.returned().await;
    }

    #[tokio::test]
    async fn frames_that_left_before_the_tap_opened_are_the_owners() {
        let mut stage = Stage::new();
        let outlet = Narrow::new(usize::MAX);
        let (mut subscriber, tap) = stage.subscriber(&outlet);
        stage.push(1);
        assert!(!tap.open(&subscriber));
        tap.shut(&mut subscriber);
        let mut out = Vec::new();
        subscriber.take(&mut out);
        assert_eq!((out.len(), outlet.got()), (1, 0));
        assert!(tap.open(&subscriber));
    }

    #[tokio::test]
    async fn the_end_and_a_lost_place_are_the_owners_business() {
        let mut stage = Stage::new();
        let outlet = Narrow::new(0);
        let (mut subscriber, tap) = stage.subscriber(&outlet);
        assert!(tap.open(&subscriber));
        stage.push(1);
        tap.returned().await;
        tap.shut(&mut subscriber);
        // More than the ring holds; and the source goes, so that there is no start.
        stage.push(1_000);
        stage.stream.detach(stage.feed.id());
        assert_eq!(subscriber.take(&mut Vec::new()), Batch::Empty);
        assert!(tap.open(&subscriber) && !tap.is_open(), "it waits");

        let (subscriber, tap) = {
            stage.feed.attach();
            stage.push(1);
            stage.subscriber(&outlet)
        };
        assert!(tap.open(&subscriber));
        stage.stream.end();
        tap.returned().await;
    }

    #[tokio::test]
    async fn a_tap_that_is_gone_holds_no_socket_even_when_no_frame_comes() {
        let stage = Stage::new();
        for _ in 0..100 {
            let outlet = Narrow::new(0);
            let (subscriber, tap) = stage.subscriber(&outlet);
            assert!(tap.open(&subscriber));
            drop(tap);
            assert_eq!(Arc::strong_count(&outlet), 1);
        }
        assert_eq!(stage.stream.pump.taps(), 0);
        let listed = stage.stream.pump.shards[0].newcomers.lock().len();
        assert!(listed <= 1, "{listed} seats of the gone are kept");
    }

    #[tokio::test]
    async fn a_crowd_is_served_by_tasks_and_everyone_gets_everything() {
        let mut stage = Stage::new();
        let audience: Vec<_> = (0..3 * TURN + 5)
            .map(|_| {
                let outlet = Narrow::new(usize::MAX);
                let (subscriber, tap) = stage.subscriber(&outlet);
                assert!(tap.open(&subscriber));
                (outlet, subscriber, tap)
            })
            .collect();
        stage.push(20);
        let expected = stage.wire(1, 21).len();
        assert!(expected > 0);
        let all = async {
            while audience.iter().any(|(outlet, ..)| outlet.got() < expected) {
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), all).await;
        done.expect("all frames reach all");
        drop(audience);
        stage.push(1);
        assert_eq!(stage.stream.pump.taps(), 0);
    }
}
