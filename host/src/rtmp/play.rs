//! A player's side of a connection: waits for media, sends it, tells the end.

use std::sync::Arc;
use std::time::Duration;

use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::session::{Refusal, ServerSession};
use tokio::time::Instant;

use super::outbox::Outbox;
use crate::id::StreamGuid;
use crate::limits::SubscriberPlace;
use crate::stream::{Batch, Stream, Subscriber};

/// How long a player may take to leave after the end was told.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For media, until then.
    Waiting(Instant),
    Playing,
    /// The end was told; the connection closes then.
    Ending(Instant),
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    On,
    /// The player gets nothing more; close.
    Close(&'static str),
}

/// A stream that a connection plays.
#[derive(Debug)]
pub struct Play {
    stream_id: u32,
    stream: Arc<Stream>,
    subscriber: Subscriber,
    place: SubscriberPlace,
    state: State,
    batch: Vec<Wire>,
}

impl Play {
    /// Attaches to a stream; the player is told to go when media comes before `until`.
    pub fn begin(
        stream_id: u32,
        stream: Arc<Stream>,
        place: SubscriberPlace,
        until: Instant,
    ) -> Self {
        let subscriber = Subscriber::new(stream.clone());
        Self {
            stream_id,
            stream,
            subscriber,
            place,
            state: State::Waiting(until),
            batch: Vec::new(),
        }
    }

    /// The message stream it plays on.
    pub fn stream_id(&self) -> u32 {
        self.stream_id
    }

    /// The stream.
    pub fn guid(&self) -> &StreamGuid {
        self.stream.guid()
    }

    /// Whether its stream's frames wait for each other.
    pub fn batches(&self) -> bool {
        self.stream.batches()
    }

    /// So many bytes went to the player.
    pub fn sent(&self, bytes: u64) {
        self.place.sent(bytes);
    }

    /// Frames left out because the player was slow.
    pub fn skipped(&self) -> u64 {
        self.subscriber.skipped()
    }

    /// Waits until [`Play::step`] has something to do. Cancel safe.
    pub async fn ready(&mut self) {
        match self.state {
            State::Waiting(until) => {
                let _ = tokio::time::timeout_at(until, self.subscriber.ready()).await;
            }
            State::Playing => self.subscriber.ready().await,
            State::Ending(until) => tokio::time::sleep_until(until).await,
        }
    }

    /// Moves on: fills the outbox, which must be empty, or tells the end.
    pub fn step(&mut self, session: &mut ServerSession, outbox: &mut Outbox) -> Step {
        match self.state {
            State::Waiting(until) => self.start(session, until),
            State::Playing => {}
            State::Ending(until) if Instant::now() >= until => {
                return Step::Close("the stream ended");
            }
            State::Ending(_) => return Step::On,
        }
        if self.state != State::Playing {
            return Step::On;
        }
        match self.subscriber.take(&mut self.batch) {
            Batch::TooSlow => return Step::Close("the player is too slow"),
            Batch::Ended => {
                session.end_play(self.stream_id);
                self.state = State::Ending(Instant::now() + GRACE);
            }
            Batch::Frames | Batch::Empty => {}
        }
        if let Some(bytes) = session.take_output() {
            outbox.push(bytes);
        }
        for wire in self.batch.drain(..) {
            let (head, rest) = wire.for_stream(self.stream_id);
            outbox.push(head);
            outbox.push(rest);
        }
        Step::On
    }

    /// The end comes from elsewhere: tell the player.
    pub fn end(&mut self, session: &mut ServerSession) {
        match self.state {
            State::Playing => session.end_play(self.stream_id),
            State::Waiting(_) => refuse(session, self.stream_id),
            State::Ending(_) => return,
        }
        self.state = State::Ending(Instant::now() + GRACE);
    }

    fn start(&mut self, session: &mut ServerSession, until: Instant) {
        if self.stream.has_start() {
            session.accept_play(self.stream_id);
            self.state = State::Playing;
        } else if self.stream.is_ended() || Instant::now() >= until {
            refuse(session, self.stream_id);
            self.state = State::Ending(Instant::now() + GRACE);
        }
    }
}

fn refuse(session: &mut ServerSession, stream_id: u32) {
    session.reject_play(
        stream_id,
        Refusal::StreamNotFound,
        "the stream has no media",
    );
}
