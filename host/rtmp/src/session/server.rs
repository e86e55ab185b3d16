//! The server side: clients that publish or play.
//!
//! Responsible for answering what clients say and for asking its caller to
//! decide on connect, publish and play. It does not know streams, names in use
//! or permissions. Invariants: media is only delivered for a stream whose
//! publish was accepted; streams, commands and requests are counted.

mod commands;
mod config;
mod event;
mod reply;
mod streams;

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};

pub use config::ServerConfig;
pub use event::{Refusal, ServerEvent, Stage};

use super::command::Command;
use super::link::{Inbound, Link, user_control};
use super::{Media, SessionError};
use crate::chunk::Limits;
use crate::message::{Message, type_id};
use crate::rml::Control;
use streams::Streams;

/// Commands before the first grant: the longest real opening (connect,
/// releaseStream, FCPublish, createStream, _checkbw, publish and retries) has
/// about ten.
const MAX_COMMANDS_BEFORE_GRANT: usize = 64;

/// One client's session.
pub struct ServerSession {
    config: ServerConfig,
    link: Link,
    connect: Connect,
    /// The client obeys requests to reconnect (Enhanced RTMP `capsEx`, bit 0).
    reconnects: bool,
    granted: bool,
    streams: Streams,
    events: VecDeque<ServerEvent>,
    commands: usize,
    requests: usize,
}

// Names and bytes inside hold tokens, so `Debug` shows neither.
impl fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSession")
            .field("stage", &self.stage())
            .field("commands", &self.commands)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

/// How far the connect command is.
enum Connect {
    /// The handshake is not done.
    Handshake,
    /// The command has not come.
    Awaited,
    /// It has come; the caller has not decided.
    Asked(Offer),
    Accepted {
        app: String,
        /// Of the connect that was answered.
        transaction: f64,
    },
    Rejected,
}

/// What is needed of a connect command to answer it.
struct Offer {
    transaction: f64,
    app: String,
    /// The client speaks Enhanced RTMP.
    enhanced: bool,
}

impl ServerSession {
    /// A session that waits for a client's first byte.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self {
            streams: Streams::new(config.max_streams),
            config,
            link: Link::server(),
            connect: Connect::Handshake,
            reconnects: false,
            granted: false,
            events: VecDeque::new(),
            commands: 0,
            requests: 0,
        }
    }

    /// How far the client has come; the caller times the first stages.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.connect {
            Connect::Handshake => Stage::Handshake,
            Connect::Accepted { .. } if self.granted => Stage::Granted,
            Connect::Accepted { .. } => Stage::Ready,
            _ => Stage::Connect,
        }
    }

    /// Where received bytes go; call [`received`](Self::received) after.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.link.buffer()
    }

    /// Counts received bytes for acknowledgements.
    pub fn received(&mut self, bytes: usize) {
        self.link.received(bytes);
    }

    /// The next event; `None` when more bytes or a decision on connect are
    /// needed. An error ends the session, after all events before it:
    /// every further poll gives it again, and what is received then is dropped.
    pub fn poll(&mut self) -> Result<Option<ServerEvent>, SessionError> {
        self.link.check()?;
        let polled = self.step();
        self.link.note(&polled);
        polled
    }

    fn step(&mut self) -> Result<Option<ServerEvent>, SessionError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if matches!(self.connect, Connect::Asked(_) | Connect::Rejected) {
                return self.hold();
            }
            match self.link.next()? {
                None => return Ok(None),
                Some(inbound) => self.inbound(inbound)?,
            }
        }
    }

    /// Nothing is read before connect is decided, and nothing after it was
    /// rejected; what a client may send into that is bounded.
    fn hold(&mut self) -> Result<Option<ServerEvent>, SessionError> {
        if self.link.buffer().len() > Limits::BEFORE_GRANT.partial {
            return Err(SessionError::protocol("too much sent before connect"));
        }
        Ok(None)
    }

    fn inbound(&mut self, inbound: Inbound) -> Result<(), SessionError> {
        match inbound {
            Inbound::HandshakeDone => self.connect = Connect::Awaited,
            Inbound::UserControl {
                event: user_control::PONG,
                value,
            } => self
                .events
                .push_back(ServerEvent::Pong { timestamp: value }),
            // SetBufferLength and everything unknown: players work without.
            Inbound::UserControl { .. } | Inbound::PeerBandwidth(_) => {}
            Inbound::Message(message) => match message.type_id {
                type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                    self.count_command()?;
                    let command = Command::decode(&message)?;
                    self.command(&command)?;
                }
                _ => self.media(message),
            },
        }
        Ok(())
    }

    fn count_command(&mut self) -> Result<(), SessionError> {
        self.commands += 1;
        if !self.granted && self.commands > MAX_COMMANDS_BEFORE_GRANT {
            return Err(SessionError::protocol("too many commands"));
        }
        Ok(())
    }

    fn media(&mut self, message: Message) {
        let stream_id = message.stream_id;
        if !self.streams.is_publishing(stream_id) {
            return;
        }
        if let Some(media) = Media::from_message(message) {
            self.events
                .push_back(ServerEvent::Media { stream_id, media });
        }
    }

    /// All bytes to send so far, in order. Take them only when the last ones
    /// have been written: what is not taken is what bounds a greedy peer.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.link.take_output()
    }

    /// The bytes that wait to be taken.
    #[must_use]
    pub fn output_pending(&self) -> usize {
        self.link.output_pending()
    }

    /// Sends a ping; the answer is [`ServerEvent::Pong`].
    pub fn ping(&mut self, timestamp: u32) {
        self.link.control(Control::Ping(timestamp));
    }
}
