//! The client side: pulling a stream from a server or publishing one to it.
//!
//! Responsible for one stream over one connection. It does not know names,
//! addresses, TLS or when to try again. Invariants: after `Rejected` nothing
//! more happens; media comes only after `PlayStarted`.

mod connect;
mod event;
mod replies;

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};

pub use connect::{ClientConfig, Purpose};
pub use event::{ClientEvent, End, RejectClass, Rejection};

use super::command::Command;
use super::link::{Inbound, Link, user_control};
use super::{Media, MediaKind, SessionError};
use crate::amf0::Value;
use crate::flv;
use crate::message::{Message, type_id};
use crate::rml::Control;

/// Data messages kept until play has started: metadata and a few more.
const MAX_EARLY_DATA: usize = 16;
/// Commands of a server before play or publish has started; real ones send
/// about ten.
const MAX_COMMANDS_BEFORE_GRANT: usize = 64;

/// One session with a server.
pub struct ClientSession {
    config: ClientConfig,
    app_query: String,
    link: Link,
    phase: Phase,
    events: VecDeque<ClientEvent>,
    early: Vec<Media>,
    transaction: u32,
    window_sent: Option<u32>,
    ended: bool,
    commands: usize,
}

// Bytes and the app query inside hold secrets, so `Debug` shows neither.
impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession")
            .field("url", &self.config.url)
            .field("purpose", &self.config.purpose)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// How far the session is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Handshake,
    /// Connect was sent, as the transaction given.
    Connecting(u32),
    /// createStream was sent, as the transaction given.
    Creating(u32),
    /// Play or publish was sent, as the transaction given.
    Asked {
        transaction: u32,
        stream_id: u32,
    },
    Running {
        stream_id: u32,
    },
    /// Rejected, or finished by us.
    Over,
}

impl ClientSession {
    /// A session whose first handshake packets are ready to be sent.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self {
            config,
            app_query: String::new(),
            link: Link::client(),
            phase: Phase::Handshake,
            events: VecDeque::new(),
            early: Vec::new(),
            transaction: 0,
            window_sent: None,
            ended: false,
            commands: 0,
        }
    }

    /// Appends a query (`?authmod=…`) to the app and the tcUrl of connect, as
    /// the adobe and llnw forms of authentication want it. Call it before the
    /// handshake is done.
    pub fn set_app_query(&mut self, query: &str) {
        query.clone_into(&mut self.app_query);
    }

    /// Where received bytes go; call [`received`](Self::received) after.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.link.buffer()
    }

    /// Counts received bytes for acknowledgements.
    pub fn received(&mut self, bytes: usize) {
        self.link.received(bytes);
    }

    /// The message stream of a running play or publish, for callers that send
    /// shared media themselves.
    #[must_use]
    pub fn stream_id(&self) -> Option<u32> {
        match self.phase {
            Phase::Running { stream_id } => Some(stream_id),
            _ => None,
        }
    }

    /// The next event; `None` when more bytes are needed. An error ends the
    /// session, after all events before it: every further poll gives it again, and
    /// what is received then is dropped.
    pub fn poll(&mut self) -> Result<Option<ClientEvent>, SessionError> {
        self.link.check()?;
        let polled = self.step();
        self.link.note(&polled);
        polled
    }

    fn step(&mut self) -> Result<Option<ClientEvent>, SessionError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.link.next()? {
                None => return Ok(None),
                Some(_) if self.phase == Phase::Over => {}
                Some(inbound) => self.inbound(inbound)?,
            }
        }
    }

    fn inbound(&mut self, inbound: Inbound) -> Result<(), SessionError> {
        match inbound {
            Inbound::HandshakeDone => self.send_connect(),
            Inbound::PeerBandwidth(size) => self.answer_bandwidth(size),
            Inbound::UserControl { event, value } => self.user_control(event, value),
            Inbound::Message(message) => match message.type_id {
                type_id::COMMAND_AMF0 | type_id::COMMAND_AMF3 => {
                    self.count_command()?;
                    let command = Command::decode(&message)?;
                    self.command(&command);
                }
                _ => self.media(message),
            },
        }
        Ok(())
    }

    fn count_command(&mut self) -> Result<(), SessionError> {
        self.commands += 1;
        let running = matches!(self.phase, Phase::Running { .. });
        if !running && self.commands > MAX_COMMANDS_BEFORE_GRANT {
            return Err(SessionError::protocol("too many commands"));
        }
        Ok(())
    }

    /// The server limits what we may send unacknowledged and expects to hear
    /// how often it is to acknowledge.
    fn answer_bandwidth(&mut self, size: u32) {
        if self.window_sent != Some(size) {
            self.window_sent = Some(size);
            self.link.control(Control::WindowAckSize(size));
        }
    }

    fn user_control(&mut self, event: u16, value: u32) {
        match event {
            user_control::PONG => self
                .events
                .push_back(ClientEvent::Pong { timestamp: value }),
            user_control::STREAM_EOF => self.end(End::StreamEof),
            user_control::STREAM_DRY => self.end(End::StreamDry),
            _ => {}
        }
    }

    /// Reports an end once. Before play has started it is the tail of some
    /// earlier stream of that name.
    fn end(&mut self, end: End) {
        if matches!(self.phase, Phase::Running { .. }) && !self.ended {
            self.ended = true;
            self.events.push_back(ClientEvent::Ended(end));
        }
    }

    fn media(&mut self, message: Message) {
        let Some(media) = Media::from_message(message) else {
            return;
        };
        if self.config.purpose != Purpose::Play {
            return;
        }
        if media.kind == MediaKind::Data && self.connection_data(&media.payload) {
            return;
        }
        match self.phase {
            Phase::Asked { .. } if media.kind == MediaKind::Data => {
                if self.early.len() < MAX_EARLY_DATA {
                    self.early.push(media);
                }
                return;
            }
            // Servers that wait for a publisher start without saying so.
            Phase::Asked { .. } => self.started(),
            Phase::Running { .. } => {}
            _ => return,
        }
        // An empty message is no sign of life.
        self.ended &= media.kind == MediaKind::Data || media.payload.is_empty();
        self.events.push_back(ClientEvent::Media(media));
    }

    /// Sends a media message of a publish that was accepted; anything else is
    /// dropped. Metadata goes out as `@setDataFrame`.
    pub fn send_media(&mut self, media: &Media) {
        let Phase::Running { stream_id } = self.phase else {
            return;
        };
        if self.config.purpose != Purpose::Publish {
            return;
        }
        let type_id = media.kind.type_id();
        let metadata = match media.kind {
            MediaKind::Data => flv::metadata_payload(&media.payload),
            _ => None,
        };
        match metadata {
            Some(metadata) => {
                let mut payload = BytesMut::new();
                payload.extend_from_slice(&crate::amf0::encode(&[Value::from("@setDataFrame")]));
                payload.extend_from_slice(&metadata);
                self.link
                    .media(type_id, stream_id, media.timestamp, &payload);
            }
            None => self
                .link
                .media(type_id, stream_id, media.timestamp, &media.payload),
        }
    }

    /// Takes leave of the server; send the output, then close.
    pub fn finish(&mut self) {
        let stream = match self.phase {
            Phase::Asked { stream_id, .. } | Phase::Running { stream_id } => Some(stream_id),
            _ => None,
        };
        self.phase = Phase::Over;
        let Some(stream_id) = stream else { return };
        if self.config.purpose == Purpose::Publish {
            let name = self.config.url.name().to_owned();
            self.call("FCUnpublish", &[Value::Null, Value::from(name)]);
        }
        let id = Value::Number(f64::from(stream_id));
        self.call("deleteStream", &[Value::Null, id]);
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

    /// Sends a ping; the answer is [`ClientEvent::Pong`]. Nothing while the handshake is
    /// under way, which it would break.
    pub fn ping(&mut self, timestamp: u32) {
        if self.phase != Phase::Handshake {
            self.link.control(Control::Ping(timestamp));
        }
    }
}
