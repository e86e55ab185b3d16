//! One incoming connection: drives its server session between socket and streams.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use restreamd_rtmp::session::{
    Refusal, ServerConfig, ServerEvent, ServerSession, SessionError, Stage,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;
use tracing::{Span, debug, field, info};

use super::dial::OwnPulls;
use super::name::{self, Addressed};
use super::outbox::Outbox;
use super::play::{Play, Step};
use super::publish::Publication;
use super::{Access, Config};
use crate::drain::Drain;
use crate::id::StreamGuid;
use crate::stream::{NameTaken, Streams};

/// Handshake and connect get so long each, as slow peers hold memory.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// See [`HANDSHAKE`].
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that neither plays nor publishes is closed after this.
const IDLE_READY: Duration = Duration::from_secs(60);
/// Bytes asked of the socket at a time: much from a publisher, little from others.
const READ_PUBLISHER: usize = 64 * 1024;
/// See [`READ_PUBLISHER`].
const READ_OTHERS: usize = 2 * 1024;

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Bring a stream.
    Publish,
    /// Take a stream.
    Play,
}

/// Whether a stream token allows an act on a stream.
pub type VerifyToken = Arc<dyn Fn(&str, Act, &StreamGuid) -> bool + Send + Sync>;

/// What connections share.
pub struct Context {
    /// The streams of this node.
    pub streams: Streams,
    /// The settings.
    pub config: Config,
    /// Who may publish on this listener.
    pub publish: Access,
    /// Judges stream tokens.
    pub verify: VerifyToken,
    /// This node's pulls from itself.
    pub own_pulls: OwnPulls,
    /// Tells when to stop.
    pub drain: Drain,
}

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

/// Serves one connection to its end. The span gets the stream and the totals.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    context: Arc<Context>,
) {
    let mut connection = Connection::new(io, peer, context);
    let closed = connection.run().await;
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
    born: Instant,
    /// When the present stage began, for its deadline.
    stage: (Stage, Instant),
    heard: Instant,
    received: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
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
                _ = ping.tick() => self.on_ping()?,
                () = sleep_until(deadline) => return Err(Closed::Ours("the peer took too long")),
                () = context.drain.started(), if !draining => {
                    draining = true;
                    self.on_drain()?;
                }
            }
        }
    }

    /// Everything there is to send, until the player has nothing more.
    async fn send(&mut self) -> Result<(), Closed> {
        loop {
            if let Some(bytes) = self.session.take_output() {
                self.outbox.push(bytes);
            }
            self.outbox.flush(&mut self.io).await?;
            let Some(play) = self.play.as_mut() else {
                return Ok(());
            };
            if let Step::Close(why) = play.step(&mut self.session, &mut self.outbox) {
                if self.publications.is_empty() {
                    return Err(Closed::Ours(why));
                }
                debug!(why, "play ended; the connection publishes");
                self.play = None;
            }
            if self.outbox.is_empty() && self.session.output_pending() == 0 {
                return Ok(());
            }
        }
    }

    fn on_read(&mut self, read: usize) -> Result<(), Closed> {
        if read == 0 {
            return Err(Closed::Peer);
        }
        self.received += read as u64;
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
                ServerEvent::Connect { app, .. } => {
                    debug!(app = name::without_query(&app), "connect");
                    self.session.accept_connect();
                }
                ServerEvent::Publish {
                    stream_id,
                    app,
                    name,
                    ..
                } => self.publish(stream_id, &app, &name),
                ServerEvent::Play {
                    stream_id,
                    app,
                    name,
                } => self.begin_play(stream_id, &app, &name),
                ServerEvent::Media { stream_id, media } => {
                    if let Some(publication) = self.publications.get_mut(&stream_id) {
                        publication.push(media);
                    }
                }
                ServerEvent::PublishFinished { stream_id } => {
                    drop(self.publications.remove(&stream_id))
                }
                ServerEvent::PlayFinished { stream_id } => {
                    self.play.take_if(|play| play.stream_id() == stream_id);
                }
                ServerEvent::Pong { .. } => {}
            }
        }
        Ok(())
    }

    fn publish(&mut self, stream_id: u32, app: &str, name: &str) {
        let begun = self.admit(Act::Publish, app, name).and_then(|guid| {
            Publication::begin(&self.context.streams, &guid).map_err(|taken| match taken {
                NameTaken::Provision => (Refusal::BadName, "the name belongs to a provision"),
                NameTaken::Publisher => (Refusal::BadName, "the name is being published already"),
            })
        });
        match begun {
            Ok(publication) => {
                Span::current().record("stream", field::display(publication.guid()));
                info!("publishing");
                self.session.accept_publish(stream_id);
                self.publications.insert(stream_id, publication);
            }
            Err((refusal, why)) => {
                info!(why, "publish refused");
                self.session.reject_publish(stream_id, refusal, why);
            }
        }
    }

    fn begin_play(&mut self, stream_id: u32, app: &str, name: &str) {
        let found = self.admit(Act::Play, app, name).and_then(|guid| {
            let busy = self
                .play
                .as_ref()
                .is_some_and(|play| play.stream_id() != stream_id);
            if busy {
                return Err((Refusal::Limit, "one play at a time on a connection"));
            }
            Span::current().record("stream", field::display(&guid));
            let stream = self.context.streams.find(&guid);
            stream.ok_or((Refusal::StreamNotFound, "there is no such stream"))
        });
        if let Ok(stream) = &found
            && let Err(round) = self.context.own_pulls.play(self.peer, stream.guid())
        {
            info!(why = %round, "play refused");
            let why = round.to_string();
            return self.session.reject_play(stream_id, Refusal::Limit, &why);
        }
        match found {
            Ok(stream) => {
                info!("playing");
                let wait = Duration::from_secs(self.context.config.play_wait_seconds);
                self.play = Some(Play::begin(stream_id, stream, Instant::now() + wait));
            }
            Err((refusal, why)) => {
                info!(why, "play refused");
                self.session.reject_play(stream_id, refusal, why);
            }
        }
    }

    /// Whether this client may do this, and to which stream.
    fn admit(
        &self,
        act: Act,
        app: &str,
        name: &str,
    ) -> Result<StreamGuid, (Refusal, &'static str)> {
        let Ok(Addressed { guid, token }) = name::resolve(app, name) else {
            let refusal = if act == Act::Publish {
                Refusal::BadName
            } else {
                Refusal::StreamNotFound
            };
            return Err((refusal, "the app and name make no legal stream name"));
        };
        let access = if act == Act::Publish {
            self.context.publish
        } else {
            self.context.config.play
        };
        let allowed = match access {
            Access::Open => true,
            Access::Token => token.is_some_and(|token| (self.context.verify)(&token, act, &guid)),
            Access::Off => false,
        };
        allowed
            .then_some(guid)
            .ok_or((Refusal::Unauthorized, "not allowed"))
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
