//! The two sides of an RTMP session as state machines.
//!
//! Responsible for what is said, in which order. They do not know sockets,
//! clocks, streams or permissions: bytes go in through `buffer`, events come
//! out of `poll`, bytes to send come out of `take_output`. Invariant: no input
//! panics, and what a peer can make a session hold or answer is bounded.

mod client;
mod command;
mod link;
mod server;

use std::fmt;

use bytes::Bytes;

pub use client::{ClientConfig, ClientEvent, ClientSession, End, Purpose, RejectClass, Rejection};
pub use server::{Refusal, ServerConfig, ServerEvent, ServerSession, Stage};

use crate::amf0::Amf0Error;
use crate::chunk::ChunkError;
use crate::handshake::HandshakeError;
use crate::message::{Message, type_id};

/// What a media message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Audio with its FLV header.
    Audio,
    /// Video with its FLV header.
    Video,
    /// An AMF0 data message.
    Data,
}

impl MediaKind {
    /// The message type it is sent as.
    #[must_use]
    pub fn type_id(self) -> u8 {
        match self {
            MediaKind::Audio => type_id::AUDIO,
            MediaKind::Video => type_id::VIDEO,
            MediaKind::Data => type_id::DATA_AMF0,
        }
    }
}

/// A media message.
#[derive(Clone, PartialEq, Eq)]
pub struct Media {
    /// What it carries.
    pub kind: MediaKind,
    /// Milliseconds, modulo 2^32, in the sender's epoch.
    pub timestamp: u32,
    /// The payload as sent; of data in AMF3 envelope without the zero byte.
    pub payload: Bytes,
}

impl Media {
    /// The media in a message; `None` when it is something else.
    #[must_use]
    pub fn from_message(message: Message) -> Option<Media> {
        let (kind, payload) = match message.type_id {
            type_id::AUDIO => (MediaKind::Audio, message.payload),
            type_id::VIDEO => (MediaKind::Video, message.payload),
            type_id::DATA_AMF0 => (MediaKind::Data, message.payload),
            type_id::DATA_AMF3 => (MediaKind::Data, without_amf3_prefix(&message.payload)),
            _ => return None,
        };
        Some(Media {
            kind,
            timestamp: message.timestamp,
            payload,
        })
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("kind", &self.kind)
            .field("timestamp", &self.timestamp)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish()
    }
}

/// The AMF0 in an AMF3 envelope: the zero byte that opens it is dropped.
fn without_amf3_prefix(payload: &Bytes) -> Bytes {
    match payload.first() {
        Some(0) => payload.slice(1..),
        _ => payload.clone(),
    }
}

/// A name for `Debug`: what follows `?` may be a token.
fn masked(name: &str) -> String {
    match name.split_once('?') {
        Some((name, _)) => format!("{name}?***"),
        None => name.to_owned(),
    }
}

/// Why a session cannot go on; the connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The handshake failed.
    #[error("handshake failed")]
    Handshake(#[from] HandshakeError),
    /// The chunk stream cannot be read.
    #[error("chunk stream is broken")]
    Chunk(#[from] ChunkError),
    /// A command cannot be read.
    #[error("command is broken")]
    Amf0(#[from] Amf0Error),
    /// The peer breaks the rules of the session.
    #[error("protocol violated: {0}")]
    Protocol(String),
    /// The peer asks for more answers than it reads.
    #[error("more than {limit} bytes of answers are waiting for the peer")]
    OutputFull {
        /// The limit in force.
        limit: usize,
    },
}

impl SessionError {
    fn protocol(text: &str) -> SessionError {
        SessionError::Protocol(text.to_owned())
    }
}
