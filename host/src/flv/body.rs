//! The body of one HTTP-FLV response: a subscriber that hands out FLV bytes.
//!
//! It is asked for bytes when the connection can take some, so that a slow player
//! falls behind in the stream's ring and nowhere else. Invariant: it holds one
//! batch of slices at most.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::Stream;
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::flv;
use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use super::metrics::{End, Metrics};
use super::mux::{Muxer, Room, Timed};
use crate::drain::Drain;
use crate::id::StreamGuid;
use crate::limits::{AddressPlace, SubscriberPlace};
use crate::stream::{Batch, Subscriber};

/// The response is cut off, so that the player knows it has not seen the end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the player is too slow")]
pub struct TooSlow;

/// Which messages a body has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracks {
    /// All there are.
    All,
    /// Those of players that know one track of each kind.
    One,
}

impl Tracks {
    fn have(self, wire: &Wire) -> bool {
        let first = wire.payload_parts().next();
        let basic = |payload: Bytes| flv::is_basic(wire.message_type(), &payload);
        self == Self::All || first.is_none_or(basic)
    }
}

/// What a body is made of.
#[derive(Debug)]
pub struct Viewer {
    /// The stream's name, for the log.
    pub guid: StreamGuid,
    /// The player's address, for the log.
    pub peer: SocketAddr,
    /// Its place in the stream.
    pub subscriber: Subscriber,
    /// What it gets of the stream.
    pub tracks: Tracks,
    /// Its place.
    pub place: Place,
    /// Ends the body.
    pub drain: Drain,
    /// Counts it.
    pub metrics: Metrics,
}

/// A response's places, given back together.
#[derive(Debug)]
pub struct Place {
    /// Among the node's and the app's subscribers.
    pub subscriber: SubscriberPlace,
    /// Among the node's responses.
    pub among_ours: OwnedSemaphorePermit,
    /// Among the connections of the player's address.
    pub of_address: AddressPlace,
}

/// The bytes of a response, from now to the stream's end.
pub fn stream(viewer: Viewer) -> impl Stream<Item = Result<Bytes, TooSlow>> + Send {
    futures_util::stream::unfold(Body::new(viewer), |mut body| async move {
        body.next().await.map(|bytes| (bytes, body))
    })
}

struct Body {
    viewer: Viewer,
    muxer: Muxer,
    batch: Vec<Timed>,
    queue: VecDeque<Bytes>,
    sent: u64,
    end: Option<End>,
}

impl Body {
    fn new(viewer: Viewer) -> Self {
        viewer.metrics.began();
        info!(peer = %viewer.peer, stream = %viewer.guid, "playing http-flv");
        Self {
            viewer,
            muxer: Muxer::default(),
            batch: Vec::new(),
            queue: VecDeque::new(),
            sent: 0,
            end: None,
        }
    }

    /// The next bytes; `None` when the body is complete.
    async fn next(&mut self) -> Option<Result<Bytes, TooSlow>> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                self.sent += bytes.len() as u64;
                self.viewer.metrics.sent(bytes.len());
                self.viewer.place.subscriber.sent(bytes.len() as u64);
                return Some(Ok(bytes));
            }
            if self.end.is_some() {
                return None;
            }
            if self.viewer.drain.is_started() {
                self.end = Some(End::Drained);
                return None;
            }
            match self.fill() {
                Batch::Frames => {}
                Batch::Empty => self.wait().await,
                Batch::Ended => self.end = Some(End::Ended),
                Batch::TooSlow => {
                    self.end = Some(End::TooSlow);
                    return Some(Err(TooSlow));
                }
            }
        }
    }

    fn fill(&mut self) -> Batch {
        let (batch, tracks) = (&mut self.batch, self.viewer.tracks);
        let taken = self.viewer.subscriber.take_each(|at, wire| {
            if tracks.have(wire) {
                batch.push((at, wire.clone()));
            }
        });
        if self.muxer.write(&self.batch, &mut self.queue) == Room::Full {
            self.end = Some(End::Full);
        }
        self.batch.clear();
        taken
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.viewer.subscriber.ready() => {}
            () = self.viewer.drain.started() => {}
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let end = self.end.unwrap_or(End::Left);
        let skipped = self.viewer.subscriber.skipped();
        self.viewer.metrics.ended(end, skipped);
        info!(
            peer = %self.viewer.peer,
            stream = %self.viewer.guid,
            sent = self.sent,
            skipped,
            reason = end.reason(),
            "http-flv closed"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::limits::Limits;
    use crate::stream::timeline::Lane;
    use crate::stream::unit::{Content, Unit};
    use crate::stream::{Config, Feed, Streams};

    fn unit(content: Content, timestamp: u32, bytes: usize) -> Unit {
        Unit {
            timestamp,
            lane: Lane::Video,
            content,
            codec: None,
            payload: Bytes::from(vec![timestamp as u8; bytes]),
        }
    }

    struct Stage {
        streams: Streams,
        stream: Arc<crate::stream::Stream>,
        feed: Feed,
        drain: Drain,
        seats: Arc<Semaphore>,
    }

    impl Stage {
        fn new(config: Config) -> Self {
            let streams = Streams::new(config);
            let stream = streams
                .publish(&"live/a".parse().expect("legal"))
                .expect("free");
            let feed = stream.feed(None);
            feed.attach();
            Self {
                streams,
                stream,
                feed,
                drain: Drain::new(),
                seats: Arc::new(Semaphore::new(1)),
            }
        }

        fn body(&self) -> impl Stream<Item = Result<Bytes, TooSlow>> + Send + use<> {
            stream(Viewer {
                guid: self.stream.guid().clone(),
                peer: SocketAddr::from(([127, 0, 0, 1], 1)),
                subscriber: Subscriber::new(self.stream.clone()),
                tracks: Tracks::All,
                place: Place {
                    subscriber: Limits::default()
                        .subscriber(self.stream.guid())
                        .expect("free"),
                    among_ours: self.seats.clone().try_acquire_owned().expect("free"),
                    of_address: Limits::default()
                        .address([127, 0, 0, 1].into())
                        .expect("free"),
                },
                drain: self.drain.clone(),
                metrics: Metrics::default(),
            })
        }
    }

    #[tokio::test]
    async fn the_streams_end_completes_the_body_and_frees_its_place() {
        let mut stage = Stage::new(Config::default());
        let body = stage.body();
        stage.feed.push(&unit(Content::Keyframe, 0, 10));
        stage.streams.end(&stage.stream);
        let parts: Vec<_> = body.collect().await;
        assert!(parts.iter().all(Result::is_ok));
        let bytes: usize = parts.iter().flatten().map(Bytes::len).sum();
        assert_eq!(bytes, 13 + 11 + 10 + 4);
        assert_eq!(stage.seats.available_permits(), 1);
        assert_eq!(stage.stream.snapshot().subscribers, 0);
    }

    #[tokio::test]
    async fn a_drain_ends_a_body_that_waits() {
        let mut stage = Stage::new(Config::default());
        stage.feed.push(&unit(Content::Keyframe, 0, 10));
        let body = tokio::spawn(stage.body().count());
        stage.drain.start();
        let parts = tokio::time::timeout(std::time::Duration::from_secs(5), body).await;
        assert!(parts.expect("in time").is_ok());
    }

    #[tokio::test]
    async fn a_player_that_cannot_keep_up_is_cut_off_in_the_end() {
        let mut stage = Stage::new(Config {
            ring_bytes: 2_000,
            max_jumps: 2,
            ..Config::default()
        });
        let mut body = Box::pin(stage.body());
        let mut cut = false;
        for round in 0..200u32 {
            for at in 0..100 {
                let content = if at % 5 == 0 {
                    Content::Keyframe
                } else {
                    Content::Frame
                };
                stage
                    .feed
                    .push(&unit(content, round * 4_000 + at * 40, 100));
            }
            if body.next().await.expect("no end").is_err() {
                cut = true;
                break;
            }
        }
        assert!(cut, "it was never closed");
        assert!(body.next().await.is_none());
    }
}
