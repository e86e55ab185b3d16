//! What a client session tells its caller.
//!
//! Invariant: `Debug` shows no query of a redirect, which may hold a token.

use std::fmt;

use super::super::{Media, masked};

/// How a server says that a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// User control Stream EOF.
    StreamEof,
    /// `NetStream.Play.UnpublishNotify`: the publisher left.
    UnpublishNotify,
    /// `NetStream.Play.Stop`.
    Stop,
    /// User control Stream Dry.
    StreamDry,
    /// `NetStream.Play.Complete`.
    Complete,
    /// The server closes the connection or the publish.
    Closed,
}

/// What kind of no a server says.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum RejectClass {
    /// Credentials are missing or wrong.
    Auth,
    /// There is no such app or stream.
    NotFound,
    /// Anything else.
    Rejected,
    /// The stream is elsewhere.
    Redirected {
        /// The URL to go to, unchecked.
        to: String,
    },
}

impl fmt::Debug for RejectClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RejectClass::Auth => f.write_str("Auth"),
            RejectClass::NotFound => f.write_str("NotFound"),
            RejectClass::Rejected => f.write_str("Rejected"),
            RejectClass::Redirected { .. } => f.write_str("Redirected"),
        }
    }
}

/// A server's no.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What kind of no.
    pub class: RejectClass,
    /// The status code, empty when none was given.
    pub code: String,
    /// The text of the server. With [`RejectClass::Auth`] it may hold the
    /// challenge (`authmod=adobe`, salt and all), so `Debug` cuts it at `?`.
    pub description: String,
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("class", &self.class)
            .field("code", &self.code)
            .field("description", &masked(&self.description))
            .finish()
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// Connect was accepted.
    Connected,
    /// The stream plays, or is about to.
    PlayStarted,
    /// Media may be sent.
    PublishAccepted,
    /// A message of the stream.
    Media(Media),
    /// The stream is over; media may still follow when a new publisher comes.
    Ended(End),
    /// The server refuses; nothing more happens.
    Rejected(Rejection),
    /// The server asks to connect again (Enhanced RTMP).
    Reconnect {
        /// Where to, unchecked; the same URL when not given.
        tc_url: Option<String>,
        /// Why.
        description: Option<String>,
    },
    /// The answer to a ping.
    Pong {
        /// The timestamp of the ping.
        timestamp: u32,
    },
}

impl fmt::Debug for ClientEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientEvent::Connected => f.write_str("Connected"),
            ClientEvent::PlayStarted => f.write_str("PlayStarted"),
            ClientEvent::PublishAccepted => f.write_str("PublishAccepted"),
            ClientEvent::Media(media) => media.fmt(f),
            ClientEvent::Ended(end) => write!(f, "Ended({end:?})"),
            ClientEvent::Rejected(rejection) => rejection.fmt(f),
            ClientEvent::Reconnect { tc_url, .. } => f
                .debug_struct("Reconnect")
                .field("tc_url", &tc_url.as_deref().map(masked))
                .finish_non_exhaustive(),
            ClientEvent::Pong { timestamp } => write!(f, "Pong({timestamp})"),
        }
    }
}
