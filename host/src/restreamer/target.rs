//! A target: a connection to a remote that the local stream is pushed to.
//!
//! Owned by the host and not by the guest, as a source is. One task reads the stream as a
//! subscriber does and sends what it gets; it tells facts and its end through the inbox and
//! decides nothing about either. Invariants: the stream never waits for it, and it holds one
//! write's worth of frames at a time, however slow the peer is.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::url::RtmpUrl;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span};

use super::host::{Class, Failure, PublishOptions, TargetFacts, TargetId, TargetState};
use super::hosts::Hosts;
use super::inbox::Inbox;
use super::scrub::Scrub;
use crate::id::StreamGuid;
use crate::rtmp::dial::Publishing;
use crate::stream::{Batch, Stream, Streams, Subscriber};

/// The clock is looked at so often, and news of a healthy target comes with every second look.
const LOOK: Duration = Duration::from_millis(500);
/// A peer that takes nothing for so long has stalled; it is over only later.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// A stream that brings nothing for so long has nothing to send: three keyframes a second
/// apart, or a gap between them.
const QUIET_AFTER: Duration = Duration::from_millis(2_500);

/// An open target. Dropping it takes leave of the peer.
#[derive(Debug)]
pub struct Target {
    id: TargetId,
    url: RtmpUrl,
    tally: Arc<Mutex<Tally>>,
    left: CancellationToken,
}

/// What is known of a target, and why it ended.
#[derive(Debug)]
struct Tally {
    facts: TargetFacts,
    flowing_since: Option<Instant>,
    failure: Option<Failure>,
    /// A policy has heard of that.
    told: bool,
}

impl Tally {
    fn new() -> Self {
        Self {
            facts: TargetFacts {
                state: TargetState::Dialing,
                bytes: 0,
                frames: 0,
                dropped: 0,
                flowing: Duration::ZERO,
                lag: Duration::ZERO,
            },
            flowing_since: None,
            failure: None,
            told: false,
        }
    }

    /// True when it is another state than before.
    fn enter(&mut self, state: TargetState) -> bool {
        if self.facts.state == state || self.facts.state == TargetState::Ended {
            return false;
        }
        self.facts.state = state;
        self.flowing_since = (state == TargetState::Flowing).then(Instant::now);
        true
    }
}

/// What a target needs of its restreamer.
pub struct Context {
    /// The local streams.
    pub streams: Streams,
    /// The one that is pushed.
    pub guid: StreamGuid,
    /// The remote hosts.
    pub hosts: Arc<Hosts>,
    /// Where news go.
    pub inbox: Arc<Inbox>,
}

impl Target {
    /// Opens a target; it dials at once.
    pub fn open(id: TargetId, url: RtmpUrl, options: PublishOptions, context: Context) -> Self {
        let tally = Arc::new(Mutex::new(Tally::new()));
        let left = CancellationToken::new();
        let span = info_span!("target", id, url = shown(&url));
        let writer = Writer {
            id,
            tally: tally.clone(),
            left: left.clone(),
            context,
            options,
        };
        // Boxed for the sake of the stack, as sources are.
        let writing = Box::pin(writer.run(url.clone()));
        tokio::spawn(writing.instrument(span));
        Self {
            id,
            url,
            tally,
            left,
        }
    }

    /// Its name.
    pub fn id(&self) -> TargetId {
        self.id
    }

    /// Where to, with secrets: for the guest that gave it.
    pub fn full_url(&self) -> String {
        self.url.full()
    }

    /// Where to, without secrets.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Its secrets, to be taken out of texts.
    pub fn hide(&self, scrub: &mut Scrub) {
        hide(&self.url, scrub);
    }

    /// What is known of it.
    pub fn facts(&self) -> TargetFacts {
        let tally = self.tally.lock();
        TargetFacts {
            flowing: tally
                .flowing_since
                .map_or(Duration::ZERO, |at| at.elapsed()),
            ..tally.facts
        }
    }

    /// Its end is told, if it has one: to a policy that begins.
    pub fn repeat_end(&self, inbox: &Inbox) {
        let failure = self.tally.lock().failure.clone();
        if let Some(failure) = failure {
            inbox.target_ended(self.id, failure);
        }
    }

    /// A policy hears of its end; true when it is the first one.
    pub fn tell_end(&self) -> bool {
        !std::mem::replace(&mut self.tally.lock().told, true)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.left.cancel();
    }
}

/// A URL that is pushed to, without secrets: its last part is the stream's key there.
pub fn shown(url: &RtmpUrl) -> String {
    let masked = url.masked();
    match masked.rsplit_once('/') {
        Some((place, _)) => format!("{place}/***"),
        None => masked,
    }
}

/// What is secret of a URL that is pushed to.
pub fn hide(url: &RtmpUrl, scrub: &mut Scrub) {
    scrub.add_url(url);
    let name = url.name().split('?').next().unwrap_or_default();
    scrub.add([name.to_owned()]);
}

/// The task of a target.
struct Writer {
    id: TargetId,
    tally: Arc<Mutex<Tally>>,
    left: CancellationToken,
    context: Context,
    options: PublishOptions,
}

/// Why a task stops sending.
enum Over {
    /// The policy closed the target.
    Left,
    /// There is a reason.
    Failed(Failure),
}

impl From<Failure> for Over {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A target never goes without a word, whatever becomes of its task.
impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end(Failure::new(
                Class::Other,
                "the writer of the target failed",
            ));
        }
    }
}

impl Writer {
    async fn run(mut self, url: RtmpUrl) {
        let over = match self.dial(&url).await {
            Ok(mut connection) => {
                let over = self.serve(&mut connection).await;
                let (tally, over) = (self.tally.lock().facts, over);
                info!(
                    bytes = tally.bytes,
                    frames = tally.frames,
                    dropped = tally.dropped,
                    "target closed"
                );
                if self.is_to_take_leave(&over) {
                    connection.finish().await;
                }
                over
            }
            Err(over) => over,
        };
        if let Over::Failed(failure) = over {
            let mut scrub = Scrub::default();
            hide(&url, &mut scrub);
            let failure = Failure::new(failure.class, scrub.apply(&failure.text));
            info!(class = failure.class.as_str(), reason = %failure, "target ended");
            self.end(failure);
        }
    }

    fn end(&self, failure: Failure) {
        let mut tally = self.tally.lock();
        tally.enter(TargetState::Ended);
        tally.failure = Some(failure.clone());
        drop(tally);
        self.context.inbox.target_ended(self.id, failure);
    }

    /// A peer that is there and reads is told.
    fn is_to_take_leave(&self, over: &Over) -> bool {
        match over {
            Over::Left => true,
            Over::Failed(failure) => failure.class == Class::Ended,
        }
    }

    async fn dial(&self, url: &RtmpUrl) -> Result<Publishing, Over> {
        let hosts = &self.context.hosts;
        let late = "the peer did not let us in in time";
        let deadline = Instant::now() + self.options.timeout;
        let open = async {
            hosts.admit(url.host(), url.port()).await;
            Publishing::open(url, &self.options.dial, hosts.policy()).await
        };
        let opened = tokio::select! {
            opened = tokio::time::timeout_at(deadline, open) => opened,
            () = self.left.cancelled() => return Err(Over::Left),
        };
        match opened.unwrap_or_else(|_| Err(Failure::new(Class::Timeout, late))) {
            Ok(connection) => {
                debug!("let in");
                hosts.reached(url.host(), url.port());
                Ok(connection)
            }
            Err(failure) => {
                if failure.class.is_of_the_host() {
                    hosts.failed(url.host(), url.port(), &self.context.inbox);
                }
                Err(failure.into())
            }
        }
    }

    /// Sends the local stream, until there is a reason to stop.
    async fn serve(&mut self, connection: &mut Publishing) -> Over {
        let mut changes = self.context.streams.changes();
        self.note(TargetState::Waiting);
        let stream = match self.wait(connection, &mut changes).await {
            Ok(stream) => stream,
            Err(over) => return over,
        };
        let mut sending = Sending::new(stream, connection.sent());
        loop {
            let step = tokio::select! {
                biased;
                () = self.left.cancelled() => return Over::Left,
                exchanged = connection.exchange() => exchanged.map(|()| true),
                () = sending.subscriber.ready(), if connection.is_idle() => Ok(true),
                () = tokio::time::sleep_until(sending.look) => Ok(false),
            };
            let go_on = match step {
                Ok(true) => Ok(()),
                Ok(false) => self.look(connection, &mut sending),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = go_on {
                return failure.into();
            }
            if connection.is_idle()
                && let Err(failure) = self.fill(connection, &mut sending)
            {
                return failure.into();
            }
        }
    }

    /// The local stream, once it is there.
    async fn wait(
        &self,
        connection: &mut Publishing,
        changes: &mut watch::Receiver<()>,
    ) -> Result<Arc<Stream>, Over> {
        loop {
            changes.mark_unchanged();
            if let Some(stream) = self.context.streams.find(&self.context.guid) {
                return Ok(stream);
            }
            tokio::select! {
                () = self.left.cancelled() => return Err(Over::Left),
                heard = connection.exchange() => heard?,
                _ = changes.changed() => {}
            }
        }
    }

    /// The next write's worth.
    fn fill(&self, connection: &mut Publishing, sending: &mut Sending) -> Result<(), Failure> {
        let lag = sending.subscriber.lag();
        if lag > self.options.max_lag {
            sending.subscriber.catch_up();
        }
        let mut given = 0;
        let batch = sending.subscriber.take_each(|_, wire: &Wire| {
            connection.give(wire);
            given += 1;
        });
        match batch {
            Batch::Ended => return Err(Failure::new(Class::Ended, "the local stream ended")),
            Batch::TooSlow => sending.begin_anew(),
            Batch::Frames | Batch::Empty => {}
        }
        if given > 0 {
            sending.given_at = Instant::now();
        }
        let mut tally = self.tally.lock();
        tally.facts.frames += given;
        tally.facts.dropped = sending.dropped();
        tally.facts.lag = sending.subscriber.lag();
        drop(tally);
        if given > 0 && self.tally.lock().facts.state != TargetState::Stalled {
            self.note(TargetState::Flowing);
        }
        Ok(())
    }

    /// Looks at the clock.
    fn look(&self, connection: &Publishing, sending: &mut Sending) -> Result<(), Failure> {
        let now = Instant::now();
        sending.look = now + LOOK;
        let sent = connection.sent();
        if sent != sending.sent || connection.is_idle() {
            sending.took_at = now;
        }
        self.tally.lock().facts.bytes += sent - sending.sent;
        sending.sent = sent;
        let silent = now - sending.took_at;
        if silent >= self.options.stall {
            let text = format!("the peer has taken nothing for {} ms", silent.as_millis());
            return Err(Failure::new(Class::Stalled, text));
        }
        self.tally.lock().facts.lag = sending.subscriber.lag();
        let quiet = now - sending.given_at >= QUIET_AFTER;
        let changed = self.note(match () {
            () if silent >= STALLED_AFTER => TargetState::Stalled,
            () if quiet => TargetState::Waiting,
            () if sending.subscriber.has_started() => TargetState::Flowing,
            () => TargetState::Waiting,
        });
        sending.news = !sending.news;
        if sending.news && !changed {
            self.context.inbox.facts(self.id);
        }
        Ok(())
    }

    /// Whether it is another state than before; that is told.
    fn note(&self, state: TargetState) -> bool {
        let changed = self.tally.lock().enter(state);
        if changed {
            self.context.inbox.facts(self.id);
        }
        changed
    }
}

/// How far a target has come with its stream.
struct Sending {
    stream: Arc<Stream>,
    subscriber: Subscriber,
    /// Left out by subscribers before this one.
    dropped: u64,
    sent: u64,
    /// When the peer took something, or had all.
    took_at: Instant,
    /// When there was something to give.
    given_at: Instant,
    look: Instant,
    news: bool,
}

impl Sending {
    fn new(stream: Arc<Stream>, sent: u64) -> Self {
        let now = Instant::now();
        Self {
            subscriber: Subscriber::new(stream.clone()),
            stream,
            dropped: 0,
            sent,
            took_at: now,
            given_at: now,
            look: now + LOOK,
            news: false,
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped + self.subscriber.skipped()
    }

    /// A subscriber that fell behind too often is closed by its stream; a target goes on.
    fn begin_anew(&mut self) {
        self.dropped += self.subscriber.skipped();
        self.subscriber = Subscriber::new(self.stream.clone());
    }
}
