//! One subscriber's place in a stream.
//!
//! A cursor into the shared ring: it starts at a keyframe with the current
//! headers, and when it falls out of the ring it jumps to the newest keyframe.
//! It hands out ready-to-send chunks and knows nothing of how they are sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use restreamd_rtmp::chunk::Wire;
use tokio::sync::watch;

use super::hub::{Inner, Stream, Tip};

/// Frames and bytes handed out at a time: enough for one large vectored write.
const BATCH_FRAMES: usize = 64;
/// See [`BATCH_FRAMES`].
const BATCH_BYTES: usize = 256 * 1024;
/// After so long without a jump a subscriber keeps up again. The slowest jump seldom:
/// a write's worth at 40 KB/s takes seconds.
const JUMP_WINDOW: Duration = Duration::from_secs(60);

/// What [`Subscriber::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Frames were handed out.
    Frames,
    /// Nothing new; wait.
    Empty,
    /// The stream ended and all its frames were handed out.
    Ended,
    /// This subscriber cannot keep up and is to be closed.
    TooSlow,
}

/// For whom media is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A player, or a push to a remote.
    Viewer,
    /// Another node, for all of its viewers.
    Edge,
}

/// A subscriber. Dropping it detaches it.
#[derive(Debug)]
pub struct Subscriber {
    stream: Arc<Stream>,
    audience: Audience,
    tip: watch::Receiver<Tip>,
    /// The next frame to hand out; `None` until a start exists.
    cursor: Option<u64>,
    /// Jumps one after the other, and the last of them.
    jumps: u32,
    jumped: Option<Instant>,
    skipped: u64,
}

impl Subscriber {
    /// Attaches a viewer to a stream.
    pub fn new(stream: Arc<Stream>) -> Self {
        Self::attach(stream, Audience::Viewer)
    }

    /// Attaches to a stream.
    pub fn attach(stream: Arc<Stream>, audience: Audience) -> Self {
        stream.subscribers.fetch_add(1, Ordering::Relaxed);
        if audience == Audience::Edge {
            stream.edges.fetch_add(1, Ordering::Relaxed);
        }
        let tip = stream.progress.subscribe();
        Self {
            stream,
            audience,
            tip,
            cursor: None,
            jumps: 0,
            jumped: None,
            skipped: 0,
        }
    }

    /// Frames it missed because it was slow.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether its first frame was handed out.
    pub fn has_started(&self) -> bool {
        self.cursor.is_some()
    }

    /// The next frame to hand out, once it has started.
    pub(super) fn cursor(&self) -> Option<u64> {
        self.cursor
    }

    /// The frames before this one were handed out by another.
    pub(super) fn resume_at(&mut self, cursor: u64) {
        self.cursor = Some(cursor);
        self.tip.mark_changed();
    }

    /// Waits until [`Subscriber::take`] may find something. Cancel safe.
    pub async fn ready(&mut self) {
        if self.tip.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How far what it would be handed next is behind the newest frame.
    pub fn lag(&self) -> Duration {
        let Some(cursor) = self.cursor else {
            return Duration::ZERO;
        };
        self.stream.read(|inner| {
            let at = |seq| inner.ring.from(seq).next().map(|frame| frame.at);
            let newest = inner.ring.next_seq().checked_sub(1).and_then(at);
            let behind = newest
                .unwrap_or(0)
                .saturating_sub(at(cursor).unwrap_or(u64::MAX));
            Duration::from_millis(behind)
        })
    }

    /// Goes on at the newest keyframe, if there is one ahead; for those who choose to. What
    /// it leaves out counts as skipped, and not as a jump.
    pub fn catch_up(&mut self) {
        let newest = self
            .stream
            .read(|inner| inner.ring.newest_start().map(|start| start.seq));
        if let (Some(cursor), Some(newest)) = (self.cursor, newest)
            && newest > cursor
        {
            self.skipped += newest - cursor;
            // It starts anew there, with its headers.
            self.cursor = None;
            self.tip.mark_changed();
        }
    }

    /// Hands out what is there, up to one write's worth.
    pub fn take(&mut self, out: &mut Vec<Wire>) -> Batch {
        self.take_each(|_, wire| out.push(wire.clone()))
    }

    /// The same, for those who need each frame's milliseconds on the stream's
    /// timeline; headers come with the time of the frame they are for.
    pub fn take_each(&mut self, mut each: impl FnMut(u64, &Wire)) -> Batch {
        // Seen before looking, so that a frame added meanwhile wakes us again.
        self.tip.mark_unchanged();
        let stream = self.stream.clone();
        stream.read(|inner| self.take_from(inner, &mut each))
    }

    fn take_from(&mut self, inner: &Inner, each: &mut impl FnMut(u64, &Wire)) -> Batch {
        let ring = &inner.ring;
        let place = match self.cursor {
            Some(seq) if seq >= ring.first_seq() => seq,
            former => {
                let Some(start) = ring.newest_start() else {
                    return if inner.ended() {
                        Batch::Ended
                    } else {
                        Batch::Empty
                    };
                };
                if let Some(former) = former {
                    self.skipped += start.seq.saturating_sub(former);
                    if self.jump(Instant::now()) {
                        return Batch::TooSlow;
                    }
                }
                for wire in inner.headers.wires(inner.wire_time(start.at)) {
                    each(start.at, &wire);
                }
                start.seq
            }
        };
        let mut bytes = 0;
        let mut next = place;
        for frame in ring.from(place).take(BATCH_FRAMES) {
            if bytes > BATCH_BYTES {
                break;
            }
            bytes += frame.wire.bytes().len();
            next = frame.seq + 1;
            each(frame.at, &frame.wire);
        }
        self.cursor = Some(next);
        if next < ring.next_seq() {
            self.tip.mark_changed();
        }
        match (next > place, inner.ended()) {
            (true, _) => Batch::Frames,
            (false, true) => Batch::Ended,
            (false, false) => Batch::Empty,
        }
    }

    /// Counts a jump; true when there were too many without a minute in between.
    fn jump(&mut self, now: Instant) -> bool {
        let former = self.jumped.replace(now);
        if former.is_none_or(|at| now.saturating_duration_since(at) > JUMP_WINDOW) {
            self.jumps = 0;
        }
        self.jumps = self.jumps.saturating_add(1);
        self.jumps > self.stream.config().max_jumps
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stream.subscribers.fetch_sub(1, Ordering::Relaxed);
        if self.audience == Audience::Edge {
            self.stream.edges.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stream::gate::Entrance;
    use crate::stream::timeline::Lane;
    use crate::stream::unit::{Content, Unit};
    use crate::stream::{Config, Feed};

    fn unit(content: Content, timestamp: u32, bytes: usize) -> Unit {
        Unit {
            timestamp,
            lane: Lane::Video,
            content,
            codec: None,
            payload: Bytes::from(vec![timestamp as u8; bytes]),
        }
    }

    fn stream(config: Config) -> (Arc<Stream>, Feed) {
        let stream = Stream::start(
            "live/a".parse().expect("legal"),
            true,
            Arc::new(config),
            Entrance::Free,
        );
        let feed = stream.feed(None);
        feed.attach();
        (stream, feed)
    }

    #[tokio::test]
    async fn a_subscriber_that_jumps_seldom_but_always_is_too_slow_in_the_end() {
        let (stream, _feed) = stream(Config {
            max_jumps: 3,
            ..Config::default()
        });
        let begin = Instant::now();
        let jumps = |every: u64| {
            let mut subscriber = Subscriber::new(stream.clone());
            let at = |n| begin + Duration::from_secs(n * every);
            (0..100).take_while(|n| !subscriber.jump(at(*n))).count()
        };
        assert_eq!(jumps(20), 3, "never a minute without one");
        assert_eq!(jumps(61), 100, "it catches up in between");
    }

    #[tokio::test]
    async fn late_subscriber_starts_at_keyframe_with_the_headers() {
        let (stream, mut feed) = stream(Config::default());
        feed.push(&unit(Content::Header { track: 0 }, 0, 9));
        feed.push(&unit(Content::Keyframe, 0, 100));
        feed.push(&unit(Content::Frame, 40, 100));
        feed.push(&unit(Content::Keyframe, 80, 101));
        feed.push(&unit(Content::Frame, 120, 102));
        let mut out = Vec::new();
        assert_eq!(Subscriber::new(stream).take(&mut out), Batch::Frames);
        assert_eq!(
            out.iter().map(Wire::payload_len).collect::<Vec<_>>(),
            [9, 101, 102]
        );
    }

    #[tokio::test]
    async fn slow_subscriber_jumps_to_the_newest_keyframe_and_is_closed_in_the_end() {
        let (stream, mut feed) = stream(Config {
            ring_bytes: 2_000,
            max_jumps: 3,
            ..Config::default()
        });
        let mut subscriber = Subscriber::new(stream);
        let mut out = Vec::new();
        let mut ends = Vec::new();
        for round in 0..5u32 {
            for at in 0..100 {
                let content = if at % 5 == 0 {
                    Content::Keyframe
                } else {
                    Content::Frame
                };
                feed.push(&unit(content, round * 4_000 + at * 40, 100));
            }
            out.clear();
            ends.push(subscriber.take(&mut out));
        }
        assert_eq!(
            ends,
            [
                Batch::Frames,
                Batch::Frames,
                Batch::Frames,
                Batch::Frames,
                Batch::TooSlow
            ]
        );
        assert!(subscriber.skipped() > 200);
    }

    #[tokio::test]
    async fn a_subscriber_that_is_behind_can_go_on_at_the_newest_keyframe_any_number_of_times() {
        let (stream, mut feed) = stream(Config {
            max_jumps: 1,
            ..Config::default()
        });
        feed.push(&unit(Content::Header { track: 0 }, 0, 9));
        feed.push(&unit(Content::Keyframe, 0, 100));
        let mut subscriber = Subscriber::new(stream);
        let mut out = Vec::new();
        assert_eq!(subscriber.lag(), Duration::ZERO, "it has not begun");
        assert_eq!(subscriber.take(&mut out), Batch::Frames);
        for round in 1..=20u32 {
            for at in 0..5 {
                feed.push(&unit(Content::Frame, round * 1_000 + at * 40, 100));
            }
            feed.push(&unit(Content::Keyframe, round * 1_000 + 200, 101));
            feed.push(&unit(Content::Frame, round * 1_000 + 240, 102));
            assert_eq!(subscriber.lag(), Duration::from_millis(240));
            subscriber.catch_up();
            assert_eq!(subscriber.skipped(), u64::from(round) * 5);
            out.clear();
            assert_eq!(subscriber.take(&mut out), Batch::Frames);
            let sizes: Vec<usize> = out.iter().map(Wire::payload_len).collect();
            assert_eq!(sizes, [9, 101, 102]);
            subscriber.catch_up();
            assert_eq!(
                subscriber.take(&mut out),
                Batch::Empty,
                "it is there already"
            );
        }
    }

    #[tokio::test]
    async fn the_end_comes_after_the_last_frame() {
        let (stream, mut feed) = stream(Config::default());
        let mut subscriber = Subscriber::new(stream.clone());
        feed.push(&unit(Content::Keyframe, 0, 10));
        stream.end();
        let mut out = Vec::new();
        assert_eq!(subscriber.take(&mut out), Batch::Frames);
        assert_eq!(subscriber.take(&mut out), Batch::Ended);
    }

    #[tokio::test]
    async fn another_source_takes_over_at_its_keyframe_only() {
        let (stream, mut old) = stream(Config::default());
        let mut subscriber = Subscriber::new(stream.clone());
        old.push(&unit(Content::Keyframe, 1_000, 10));
        let mut out = Vec::new();
        subscriber.take(&mut out);
        let mut new = stream.feed(None);
        new.attach();
        new.push(&unit(Content::Frame, 5, 11));
        old.push(&unit(Content::Frame, 1_040, 12));
        new.push(&unit(Content::Keyframe, 45, 13));
        old.push(&unit(Content::Frame, 1_080, 14));
        subscriber.take(&mut out);
        assert_eq!(
            out.iter().map(Wire::payload_len).collect::<Vec<_>>(),
            [10, 12, 13]
        );
        assert_eq!(stream.on_air(), Some(new.id()));
    }

    #[tokio::test]
    async fn a_warm_source_takes_over_without_waiting_for_its_next_keyframe() {
        let (stream, mut old) = stream(Config::default());
        let mut subscriber = Subscriber::new(stream.clone());
        old.push(&unit(Content::Keyframe, 1_000, 10));
        let mut warm = stream.feed(None);
        warm.push(&unit(Content::Header { track: 0 }, 500, 9));
        warm.push(&unit(Content::Keyframe, 500, 21));
        warm.push(&unit(Content::Frame, 540, 22));
        let mut out = Vec::new();
        subscriber.take(&mut out);
        warm.attach();
        warm.push(&unit(Content::Frame, 580, 23));
        subscriber.take(&mut out);
        let sizes: Vec<usize> = out.iter().map(Wire::payload_len).collect();
        assert_eq!(sizes, [10, 9, 21, 22, 23]);
    }

    #[tokio::test]
    async fn a_source_without_video_replaces_one_with_it() {
        let (stream, mut old) = stream(Config::default());
        old.push(&unit(Content::Header { track: 0 }, 0, 9));
        old.push(&unit(Content::Keyframe, 0, 10));
        let mut audio = stream.feed(None);
        audio.attach();
        for at in (0..1_500).step_by(100) {
            let mut unit = unit(Content::Frame, at, 30);
            unit.lane = Lane::Audio;
            audio.push(&unit);
        }
        let mut out = Vec::new();
        assert_eq!(Subscriber::new(stream).take(&mut out), Batch::Frames);
        assert!(
            out.iter().all(|wire| wire.payload_len() == 30),
            "no header of the old video"
        );
    }
}
