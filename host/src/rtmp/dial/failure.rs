//! Why there is no media: the classes of failure, and the one place that chooses them.
//!
//! Invariant: a failure's text never holds a secret.

use std::fmt;
use std::io;

use restreamd_rtmp::session::{End, RejectClass, Rejection, SessionError};

use super::scrub::Scrub;

/// The classes of failure; policies wait by them, and the status shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "the words are the glossary's; design and WIT say what each means"
)]
pub enum Class {
    Dns,
    Refused,
    Unreachable,
    Timeout,
    Tls,
    Handshake,
    Protocol,
    Auth,
    NotFound,
    Rejected,
    Redirected,
    Closed,
    Ended,
    Stalled,
    Blocked,
    Invalid,
    Unsupported,
    Limit,
    Cancelled,
    Other,
}

impl Class {
    /// The word of the API, the log and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Protocol => "protocol",
            Self::Auth => "auth",
            Self::NotFound => "not-found",
            Self::Rejected => "rejected",
            Self::Redirected => "redirected",
            Self::Closed => "closed",
            Self::Ended => "ended",
            Self::Stalled => "stalled",
            Self::Blocked => "blocked",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Limit => "limit",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

impl Class {
    /// Whether a failure before the grant is one of the whole host, and not of one stream or
    /// a password there: one that other streams of the host can tell the end of.
    pub fn is_of_the_host(self) -> bool {
        matches!(
            self,
            Self::Dns
                | Self::Refused
                | Self::Unreachable
                | Self::Timeout
                | Self::Tls
                | Self::Handshake
                | Self::Closed
        )
    }
}

/// Why there is no media (any more). The text never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What kind.
    pub class: Class,
    /// For people.
    pub text: String,
}

impl Failure {
    /// A failure of a class.
    pub fn new(class: Class, text: impl fmt::Display) -> Self {
        Self {
            class,
            text: text.to_string(),
        }
    }

    pub(super) fn io(doing: &str, error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let tls = error
            .get_ref()
            .is_some_and(|inner| inner.is::<rustls::Error>());
        let class = match error.kind() {
            _ if tls => Class::Tls,
            K::ConnectionRefused => Class::Refused,
            K::TimedOut => Class::Timeout,
            K::HostUnreachable | K::NetworkUnreachable | K::AddrNotAvailable | K::NetworkDown => {
                Class::Unreachable
            }
            K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => {
                Class::Closed
            }
            _ => Class::Other,
        };
        Self::new(class, format!("{doing}: {error}"))
    }
}

impl Failure {
    /// A server's no. What follows `?` in its words may be a challenge or a name.
    pub(super) fn rejected(rejection: &Rejection) -> Self {
        let class = match &rejection.class {
            RejectClass::Auth => Class::Auth,
            RejectClass::NotFound => Class::NotFound,
            RejectClass::Redirected { .. } => Class::Redirected,
            RejectClass::Rejected => Class::Rejected,
        };
        let said = match rejection.description.split_once('?') {
            Some((said, _)) if class == Class::Auth => said,
            _ => &rejection.description,
        };
        let text = format!("{} {}", printable(&rejection.code), printable(said));
        Self::new(class, text.trim())
    }

    /// The same without secrets.
    pub(super) fn scrubbed(self, scrub: &Scrub) -> Self {
        Self {
            text: scrub.apply(&self.text),
            ..self
        }
    }

    /// A server's end.
    pub(super) fn ended(end: End) -> Self {
        let text = match end {
            End::StreamEof => "the peer sent StreamEOF",
            End::UnpublishNotify => "the peer said that its publisher left (UnpublishNotify)",
            End::Stop => "the peer stopped playing (Play.Stop)",
            End::StreamDry => "the peer has no more media (StreamDry)",
            End::Complete => "the peer finished playing (Play.Complete)",
            End::Closed => return Self::new(Class::Closed, "the peer closed the stream"),
        };
        Self::new(Class::Ended, text)
    }
}

/// A peer's own words, fit for a log line and a status.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let class = if matches!(error, SessionError::Handshake(..)) {
            Class::Handshake
        } else {
            Class::Protocol
        };
        Self::new(class, error)
    }
}
