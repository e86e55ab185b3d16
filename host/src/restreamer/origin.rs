//! Where a source's media comes from.

use std::fmt;
use std::time::Duration;

use restreamd_rtmp::url::RtmpUrl;

use super::host::{Class, ConnectOptions, Failure};
use crate::flv;

/// A file begins to play within this time, or its disk hangs.
pub(super) const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a source's media comes from. Its text holds no secret.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Pulled from a remote.
    Rtmp {
        /// What to dial.
        url: RtmpUrl,
        /// And how.
        options: Box<ConnectOptions>,
    },
    /// Read from the media directory.
    File {
        /// The file's name below it.
        name: String,
        /// Begin again at its end.
        looped: bool,
    },
}

impl Origin {
    /// Where from, with secrets: for the guest that gave it.
    pub fn full(&self) -> String {
        match self {
            Self::Rtmp { url, .. } => url.full(),
            Self::File { .. } => self.to_string(),
        }
    }

    /// Whether it is dialed.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Rtmp { .. })
    }

    /// When silence is a stall. A file is never silent longer than it is meant to be.
    pub(super) fn stall(&self) -> Option<Duration> {
        match self {
            Self::Rtmp { options, .. } => options.stall,
            Self::File { .. } => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp { url, .. } => f.write_str(&url.masked()),
            Self::File { name, .. } => write!(f, "file:{name}"),
        }
    }
}

/// What a policy hears of a file that does not play (on).
pub fn unplayable(origin: &Origin, error: &flv::Error) -> Failure {
    let class = match error {
        flv::Error::NotFound => Class::NotFound,
        flv::Error::TooSlow => Class::Timeout,
        flv::Error::Outside | flv::Error::NoDirectory => Class::Blocked,
        flv::Error::BadName => Class::Invalid,
        _ => Class::Unsupported,
    };
    Failure::new(class, format!("{origin}: {error}"))
}
