//! What a server session tells its caller, and how the caller refuses.
//!
//! Invariant: `Debug` shows no query of an app or a name, because publishers
//! and players put their tokens there.

use std::fmt;

use super::super::{Media, masked};
use crate::amf0::Value;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The handshake is not done.
    Handshake,
    /// Connect has not been accepted.
    Connect,
    /// Connect was accepted.
    Ready,
    /// A publish or play was accepted at least once.
    Granted,
}

/// Why a publish or play is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The name is in use or not acceptable.
    BadName,
    /// There is no such stream.
    StreamNotFound,
    /// The client may not.
    Unauthorized,
    /// There is no room.
    Limit,
}

/// What happened. Answer `Connect`, `Publish` and `Play` with the accept or
/// reject call of the session.
#[derive(Clone, PartialEq)]
pub enum ServerEvent {
    /// The client wants to connect; nothing more is read until it is decided.
    Connect {
        /// The app as sent, with its query.
        app: String,
        /// The URL the client believes it connects to.
        tc_url: Option<String>,
        /// What the client calls itself.
        flash_ver: Option<String>,
        /// The whole command object.
        object: Value,
    },
    /// The client wants to publish.
    Publish {
        /// Its message stream.
        stream_id: u32,
        /// The app as sent with connect.
        app: String,
        /// The stream name as sent, with its query.
        name: String,
        /// `live`, `record` or `append`, in lower case; `live` when not sent.
        mode: String,
    },
    /// The client wants to play.
    Play {
        /// Its message stream.
        stream_id: u32,
        /// The app as sent with connect.
        app: String,
        /// The stream name as sent, with its query.
        name: String,
    },
    /// A message of a granted publish.
    Media {
        /// The publisher's message stream.
        stream_id: u32,
        /// The message.
        media: Media,
    },
    /// The client ended a publish, or gave up asking for it.
    PublishFinished {
        /// Its message stream.
        stream_id: u32,
    },
    /// The client ended a play, or gave up asking for it.
    PlayFinished {
        /// Its message stream.
        stream_id: u32,
    },
    /// The answer to a ping.
    Pong {
        /// The timestamp of the ping.
        timestamp: u32,
    },
}

impl fmt::Debug for ServerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerEvent::Connect { app, flash_ver, .. } => f
                .debug_struct("Connect")
                .field("app", &masked(app))
                .field("flash_ver", flash_ver)
                .finish_non_exhaustive(),
            ServerEvent::Publish {
                stream_id,
                app,
                name,
                mode,
            } => f
                .debug_struct("Publish")
                .field("stream_id", stream_id)
                .field("app", &masked(app))
                .field("name", &masked(name))
                .field("mode", mode)
                .finish(),
            ServerEvent::Play {
                stream_id,
                app,
                name,
            } => f
                .debug_struct("Play")
                .field("stream_id", stream_id)
                .field("app", &masked(app))
                .field("name", &masked(name))
                .finish(),
            ServerEvent::Media { stream_id, media } => f
                .debug_struct("Media")
                .field("stream_id", stream_id)
                .field("media", media)
                .finish(),
            ServerEvent::PublishFinished { stream_id } => {
                write!(f, "PublishFinished({stream_id})")
            }
            ServerEvent::PlayFinished { stream_id } => write!(f, "PlayFinished({stream_id})"),
            ServerEvent::Pong { timestamp } => write!(f, "Pong({timestamp})"),
        }
    }
}
