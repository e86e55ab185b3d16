//! One incoming connection: drives its server session between socket and streams.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use restreamd_rtmp::amf0::Value;
use restreamd_rtmp::session::{
    Refusal, ServerConfig, ServerEvent, ServerSession, SessionError, Stage,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;
use tracing::{Span, debug, field, info};

use super::Config;
use super::asking::{Answered, Asking};
use super::dial::OwnPulls;
use super::name::{self, Addressed};
use super::outbox::Outbox;
use super::play::{Play, Step};
use super::publish::Publication;
use crate::drain::Drain;
use crate::gate::{Act, Denied, Gate, Protocol, Wish};
use crate::id::StreamGuid;
use crate::limits::{self, Limits, SubscriberPlace};
use crate::stream::{Audience, Feeder, NameTaken, Outlet, Stream, Streams};

/// Handshake and connect get so long each, as slow peers hold memory.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// See [`HANDSHAKE`].
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that neither plays nor publishes is closed after this.
const IDLE_READY: Duration = Duration::from_secs(60);
/// Another node leaves by itself when nobody there waits for media any more.
const EDGE_WAIT: Duration = Duration::from_secs(3600);
/// Bytes asked of the socket at a time: much from a publisher, little from others.
const READ_PUBLISHER: usize = 64 * 1024;
/// See [`READ_PUBLISHER`].
const READ_OTHERS: usize = 2 * 1024;

/// What connections share.
pub struct Context {
    /// The streams of this node.
    pub streams: Streams,
    /// The settings.
    pub config: Config,
    /// Who may publish and play on this listener.
    pub gate: Gate,
    /// Whether this listener speaks TLS.
    pub protocol: Protocol,
    /// Who finds a place.
    pub limits: Limits,
    /// This node's pulls from itself.
    pub own_pulls: OwnPulls,
    /// Where a player can go on when this node leaves.
    pub elsewhere: Elsewhere,
    /// Tells when to stop.
    pub drain: Drain,
}

/// The tcUrl at which another node has a stream, if one has.
pub type Elsewhere = Arc<dyn Fn(&StreamGuid) -> Option<String> + Send + Sync>;

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The peer left.
    #[error("the peer closed the connection")]
    Peer,
    /// We closed it, for this reason.
    #[error("{0}")]
    Ours(&'static str),
    /// The peer broke the protocol or a bound.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A peer's socket.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether the kernel may join small writes while earlier ones are under way.
    fn join_writes(&self, join: bool);

    /// A way for a stream's pump to write into it, if it has one: TLS has none.
    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        None
    }
}

impl<S: Socket> Socket for &mut S {
    fn join_writes(&self, join: bool) {
        (**self).join_writes(join);
    }

    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        (**self).outlet()
    }
}

/// Serves one connection to its end. The span gets the stream and the totals.
pub async fn serve(io: impl Socket, peer: SocketAddr, context: Arc<Context>) {
    let mut connection = Connection::new(io, peer, context);
    let closed = connection.run().await;
    connection.stop_pump();
    let (received, sent) = (connection.received, connection.outbox.sent());
    let skipped = connection.play.as_ref().map_or(0, Play::skipped);
    let reason = closed
        .err()
        .map_or_else(String::new, |closed| closed.to_string());
    info!(received, sent, skipped, reason, "connection closed");
}

struct Connection<S> {
    io: S,
    peer: SocketAddr,
    context: Arc<Context>,
    session: ServerSession,
    outbox: Outbox,
    publications: HashMap<u32, Publication>,
    play: Option<Play>,
    asking: Asking,
    /// What the client told with connect: the URL it believes it connects to, its page.
    told: (Option<String>, Option<String>),
    /// Whether the kernel joins our writes.
    joined: bool,
    born: Instant,
    /// When the present stage began, for its deadline.
    stage: (Stage, Instant),
    heard: Instant,
    received: u64,
}

impl<S: Socket> Connection<S> {
    fn new(io: S, peer: SocketAddr, context: Arc<Context>) -> Self {
        let now = Instant::now();
        Self {
            io,
            peer,
            context,
            session: ServerSession::new(ServerConfig::default()),
            outbox: Outbox::default(),
            publications: HashMap::new(),
            play: None,
            asking: Asking::default(),
            told: (None, None),
            joined: false,
            born: now,
            stage: (Stage::Handshake, now),
            heard: now,
            received: 0,
        }
    }

    async fn run(&mut self) -> Result<(), Closed> {
        let context = self.context.clone();
        let mut ping =
            tokio::time::interval(Duration::from_secs(context.config.ping_seconds.max(1)));
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut draining = false;
        loop {
            self.events()?;
            self.pace();
            self.send().await?;
            let deadline = self.deadline();
            let chunk = if self.publications.is_empty() {
                READ_OTHERS
            } else {
                READ_PUBLISHER
            };
            let buffer = self.session.buffer();
            buffer.reserve(chunk);
            let playing = async {
                match self.play.as_mut() {
                    Some(play) => play.ready().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = self.io.read_buf(buffer) => self.on_read(read?)?,
                () = playing => {}
                answered = self.asking.answered() => self.on_answer(answered),
                _ = ping.tick() => self.on_ping()?,
                () = sleep_until(deadline) => return Err(Closed::Ours("the peer took too long")),
                () = context.drain.started(), if !draining => {
                    draining = true;
                    self.on_drain()?;
                }
            }
        }
    }

    /// Who waits for others' frames anyway gains when the kernel joins writes too, as
    /// nginx-rtmp does; who does not would be held back by it.
    fn pace(&mut self) {
        let join = self.play.as_ref().is_some_and(Play::batches);
        if std::mem::replace(&mut self.joined, join) != join {
            self.io.join_writes(join);
        }
    }

    /// Everything there is to send, until the player has nothing more. While the stream's
    /// pump writes there is nothing to do but words of our own.
    async fn send(&mut self) -> Result<(), Closed> {
        let pumped = self.play.as_ref().is_some_and(Play::is_pumped);
        if pumped && self.session.output_pending() == 0 {
            return Ok(());
        }
        self.stop_pump();
        loop {
            if let Some(bytes) = self.session.take_output() {
                self.outbox.push(bytes);
            }
            let before = self.outbox.sent();
            self.outbox.flush(&mut self.io).await?;
            let Some(play) = self.play.as_mut() else {
                return Ok(());
            };
            play.sent(self.outbox.sent() - before);
            if let Step::Close(why) = play.step(&mut self.session, &mut self.outbox) {
                if self.publications.is_empty() {
                    return Err(Closed::Ours(why));
                }
                debug!(why, "play ended; the connection publishes");
                self.play = None;
            }
            if self.outbox.is_empty() && self.session.output_pending() == 0 {
                if self.play.as_mut().is_none_or(Play::pump) {
                    self.outbox.shrink();
                    return Ok(());
                }
                self.stop_pump();
            }
        }
    }

    /// Whatever is written next is ours.
    fn stop_pump(&mut self) {
        if let Some(play) = self.play.as_mut() {
            play.stop_pump(&mut self.outbox);
        }
    }

    fn on_read(&mut self, read: usize) -> Result<(), Closed> {
        if read == 0 {
            return Err(Closed::Peer);
        }
        self.received += read as u64;
        if let Some(publication) = self.publications.values().next() {
            publication.received(read as u64);
        }
        self.heard = Instant::now();
        self.session.received(read);
        Ok(())
    }

    fn on_ping(&mut self) -> Result<(), Closed> {
        if self.heard.elapsed() > Duration::from_secs(self.context.config.idle_seconds) {
            return Err(Closed::Ours("the peer is silent"));
        }
        if self.session.stage() == Stage::Granted {
            self.session.ping(self.born.elapsed().as_millis() as u32);
        }
        Ok(())
    }

    fn on_drain(&mut self) -> Result<(), Closed> {
        self.publications.clear();
        match self.play.as_mut() {
            Some(play) => {
                if let Some(url) = (self.context.elsewhere)(play.guid()) {
                    self.session.request_reconnect(&url, "the node leaves");
                }
                play.end(&mut self.session);
                Ok(())
            }
            None => Err(Closed::Ours("the node drains")),
        }
    }

    fn deadline(&mut self) -> Option<Instant> {
        let stage = self.session.stage();
        let busy = self.play.is_some() || !self.publications.is_empty();
        if stage != self.stage.0 || busy {
            self.stage = (stage, Instant::now());
        }
        let limit = match stage {
            Stage::Handshake => HANDSHAKE,
            Stage::Connect => CONNECT,
            Stage::Ready | Stage::Granted => IDLE_READY,
        };
        (!busy).then_some(self.stage.1 + limit)
    }

    fn events(&mut self) -> Result<(), Closed> {
        while let Some(event) = self.session.poll()? {
            match event {
                ServerEvent::Connect {
                    app,
                    tc_url,
                    object,
                    ..
                } => {
                    debug!(app = name::without_query(&app), "connect");
                    let page_url = object.get("pageUrl").and_then(Value::as_str);
                    self.told = (tc_url, page_url.map(str::to_owned));
                    self.session.accept_connect();
                }
                ServerEvent::Publish {
                    stream_id,
                    app,
                    name,
                    ..
                } => self.want(stream_id, Act::Publish, &app, &name),
                ServerEvent::Play {
                    stream_id,
                    app,
                    name,
                } => self.want(stream_id, Act::Play, &app, &name),
                ServerEvent::Media { stream_id, media } => {
                    if let Some(publication) = self.publications.get_mut(&stream_id) {
                        publication.push(media);
                    }
                }
                ServerEvent::PublishFinished { stream_id } => {
                    self.asking.forget(stream_id);
                    drop(self.publications.remove(&stream_id))
                }
                ServerEvent::PlayFinished { stream_id } => {
                    self.stop_pump();
                    self.asking.forget(stream_id);
                    self.play.take_if(|play| play.stream_id() == stream_id);
                }
                ServerEvent::Pong { .. } => {}
            }
        }
        self.publications.values().for_each(Publication::depart);
        if self.publications.values().any(Publication::is_over) {
            return Err(Closed::Ours("another node has the stream"));
        }
        Ok(())
    }

    /// The client wants to publish or to play; the gate may have to ask others.
    fn want(&mut self, stream_id: u32, act: Act, app: &str, name: &str) {
        let Ok(Addressed { guid, query, token }) = name::resolve(app, name) else {
            let refusal = match act {
                Act::Publish => Refusal::BadName,
                Act::Play => Refusal::StreamNotFound,
            };
            let why = "the app and name make no legal stream name";
            return self.refuse(stream_id, act, refused(refusal, why));
        };
        let gate = &self.context.gate;
        if act == Act::Play && gate.is_node(token.as_deref()) {
            let done = self.begin_edge(stream_id, &guid);
            return done.unwrap_or_else(|no| self.refuse(stream_id, act, no));
        }
        let (tc_url, page_url) = self.told.clone();
        let wish = Wish {
            act,
            stream: guid.clone(),
            query,
            token,
            peer: self.peer,
            protocol: self.context.protocol,
            tc_url,
            page_url,
        };
        let subject = (act, guid.clone());
        let verdict = self.asking.want(stream_id, subject, || gate.judge(wish));
        if let Some(verdict) = verdict {
            self.decide(stream_id, act, &guid, verdict);
        }
    }

    fn on_answer(&mut self, answered: Answered) {
        let (act, guid) = answered.subject;
        for stream_id in answered.streams {
            self.decide(stream_id, act, &guid, answered.verdict);
        }
    }

    fn decide(&mut self, stream_id: u32, act: Act, guid: &StreamGuid, verdict: Result<(), Denied>) {
        let fenced = self.context.streams.fenced().then_some(FENCED);
        let allowed = match fenced {
            Some(why) => Err(refused(Refusal::Limit, why)),
            None => verdict.map_err(not_allowed),
        };
        let done = allowed.and_then(|()| match act {
            Act::Publish => self.publish(stream_id, guid),
            Act::Play => self.begin_play(stream_id, guid),
        });
        if let Err(no) = done {
            self.refuse(stream_id, act, no);
        }
    }

    fn refuse(&mut self, stream_id: u32, act: Act, (refusal, why): No) {
        match act {
            Act::Publish => {
                info!(%why, "publish refused");
                self.session.reject_publish(stream_id, refusal, &why);
            }
            Act::Play => {
                info!(%why, "play refused");
                self.session.reject_play(stream_id, refusal, &why);
            }
        }
    }

    fn publish(&mut self, stream_id: u32, guid: &StreamGuid) -> Result<(), No> {
        let place = self.context.limits.publisher(guid).map_err(no_place)?;
        let begun = Publication::begin(&self.context.streams, guid, place);
        let publication = begun.map_err(|taken| {
            let why = match taken {
                NameTaken::Provision => "the name belongs to a provision",
                NameTaken::Publisher => "the name is being published already",
            };
            refused(Refusal::BadName, why)
        })?;
        Span::current().record("stream", field::display(publication.guid()));
        info!("publishing");
        self.session.accept_publish(stream_id);
        self.publications.insert(stream_id, publication);
        Ok(())
    }

    fn begin_play(&mut self, stream_id: u32, guid: &StreamGuid) -> Result<(), No> {
        self.may_play(stream_id, guid)?;
        let stream = self.context.streams.play(guid);
        let stream = stream.ok_or(refused(Refusal::StreamNotFound, "there is no such stream"))?;
        let own = self.context.own_pulls.play(self.peer, guid);
        own.map_err(|round| (Refusal::Limit, round.to_string().into()))?;
        let place = self.context.limits.subscriber(guid).map_err(no_place)?;
        info!("playing");
        let wait = Duration::from_secs(self.context.config.play_wait_seconds);
        self.attach(stream_id, stream, Audience::Viewer, place, wait);
        Ok(())
    }

    /// Another node plays for its own viewers: what this one feeds, and nothing that it
    /// has from elsewhere.
    fn begin_edge(&mut self, stream_id: u32, guid: &StreamGuid) -> Result<(), No> {
        self.may_play(stream_id, guid)?;
        if self.context.streams.fenced() {
            return Err(refused(Refusal::Limit, FENCED));
        }
        let stream = self.context.streams.find(guid);
        let stream = stream.filter(|stream| stream.feeder() != Feeder::Edge);
        let why = "this node does not have the stream";
        let stream = stream.ok_or(refused(Refusal::StreamNotFound, why))?;
        let place = self.context.limits.edge(guid);
        info!("playing for another node");
        self.attach(stream_id, stream, Audience::Edge, place, EDGE_WAIT);
        Ok(())
    }

    fn may_play(&self, stream_id: u32, guid: &StreamGuid) -> Result<(), No> {
        let other = |play: &Play| play.stream_id() != stream_id;
        if self.play.as_ref().is_some_and(other) {
            let why = "one play at a time on a connection";
            return Err(refused(Refusal::Limit, why));
        }
        Span::current().record("stream", field::display(guid));
        Ok(())
    }

    fn attach(
        &mut self,
        stream_id: u32,
        stream: Arc<Stream>,
        audience: Audience,
        place: SubscriberPlace,
        wait: Duration,
    ) {
        let until = Instant::now() + wait;
        let outlet = self.io.outlet();
        self.stop_pump();
        let play = Play::begin(stream_id, stream, audience, place, until, outlet);
        self.play = Some(play);
    }
}

/// Why nobody begins on a node that does not know whether it still is in its cluster.
const FENCED: &str = "the node has lost touch with its cluster";

/// What a refused peer and the log are told.
type No = (Refusal, Cow<'static, str>);

fn refused(refusal: Refusal, why: &'static str) -> No {
    (refusal, why.into())
}

fn not_allowed(denied: Denied) -> No {
    let refusal = match denied {
        Denied::Busy => Refusal::Limit,
        _ => Refusal::Unauthorized,
    };
    (refusal, denied.to_string().into())
}

fn no_place(limit: limits::Refused) -> No {
    (Refusal::Limit, limit.to_string().into())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
