//! A player's side of a connection: waits for media, sends it, tells the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::session::{Refusal, ServerSession};
use tokio::sync::watch;
use tokio::time::Instant;

use super::outbox::Outbox;
use crate::id::StreamGuid;
use crate::limits::{Sent, SubscriberPlace};
use crate::stream::{Audience, Batch, Feeder, Outlet, Stream, Subscriber, Tap};

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
    /// To the stream's pump, where the socket allows it.
    tap: Option<Tap>,
    place: SubscriberPlace,
    /// For another node: who feeds the stream here.
    feeder: Option<watch::Receiver<Feeder>>,
    state: State,
    batch: Vec<Wire>,
}

impl Play {
    /// Attaches to a stream; the player is told to go when media comes before `until`.
    pub fn begin(
        stream_id: u32,
        stream: Arc<Stream>,
        audience: Audience,
        place: SubscriberPlace,
        until: Instant,
        outlet: Option<Arc<dyn Outlet>>,
    ) -> Self {
        let subscriber = Subscriber::attach(stream.clone(), audience);
        let feeder = (audience == Audience::Edge).then(|| stream.feeder_changes());
        let tap = outlet.map(|outlet| {
            let sent = place.meter();
            Tap::new(
                stream.clone(),
                stream_id,
                Arc::new(Metered { outlet, sent }),
            )
        });
        Self {
            stream_id,
            stream,
            subscriber,
            tap,
            place,
            feeder,
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
        let (state, subscriber, tap) = (self.state, &mut self.subscriber, &self.tap);
        let due = async {
            match state {
                State::Waiting(until) => {
                    let _ = tokio::time::timeout_at(until, subscriber.ready()).await;
                }
                State::Playing => match tap {
                    Some(tap) if tap.is_open() => tap.returned().await,
                    _ => subscriber.ready().await,
                },
                State::Ending(until) => tokio::time::sleep_until(until).await,
            }
        };
        match &mut self.feeder {
            None => due.await,
            Some(feeder) => tokio::select! {
                () = due => {}
                // It lives as long as the stream.
                _ = feeder.changed() => {}
            },
        }
    }

    /// Whether another node plays a stream that this one only has from elsewhere: an edge
    /// of an edge could be its own.
    fn is_misled(&self) -> bool {
        let feeder = self.feeder.as_ref();
        feeder.is_some_and(|feeder| *feeder.borrow() == Feeder::Edge)
    }

    /// Moves on: fills the outbox, which must be empty, or tells the end.
    pub fn step(&mut self, session: &mut ServerSession, outbox: &mut Outbox) -> Step {
        if self.is_misled() {
            self.end(session);
        }
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

    /// Lets the stream's pump write from here on. False when it cannot go on already. Whoever
    /// has no pump waits for media as well.
    pub fn pump(&mut self) -> bool {
        match &self.tap {
            Some(tap) if self.state == State::Playing => {
                // A player is here for hours; its start was the most it needed at a time.
                self.batch = Vec::new();
                tap.open(&self.subscriber)
            }
            _ => true,
        }
    }

    /// Whether the stream's pump writes and needs nothing.
    pub fn is_pumped(&self) -> bool {
        let tap = self.tap.as_ref();
        tap.is_some_and(|tap| tap.is_open() && !tap.is_returned()) && !self.is_misled()
    }

    /// Takes over from the pump, with the rest of the message it was at.
    pub fn stop_pump(&mut self, outbox: &mut Outbox) {
        if let Some(tap) = &self.tap {
            let (rest, written) = tap.shut(&mut self.subscriber);
            outbox.count(written);
            outbox.push(rest);
        }
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

/// Counts what the pump writes.
struct Metered {
    outlet: Arc<dyn Outlet>,
    sent: Sent,
}

impl Outlet for Metered {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.outlet.try_write(bytes)?;
        self.sent.count(written as u64);
        Ok(written)
    }
}

fn refuse(session: &mut ServerSession, stream_id: u32) {
    session.reject_play(
        stream_id,
        Refusal::StreamNotFound,
        "the stream has no media",
    );
}
