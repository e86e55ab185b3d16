//! FLV and media files: files played as a source would send them, and streams as HTTP
//! responses with a page that plays them.
//!
//! Finds a file in the media directory, takes it apart and paces it; it does not know
//! restreamers. HTTP-FLV is one more way to read a stream: a subscriber like those of
//! RTMP, with the same rules for slow ones. Invariants: whatever a file holds, the
//! answer is media or an [`Error`], and memory is bounded by one batch; payloads of
//! HTTP-FLV are slices of the frames that all subscribers share.

pub mod body;
mod config;
pub mod metrics;
pub mod mux;
mod page;
pub mod route;

pub use config::{Config, Cors};
pub use metrics::Metrics;
pub use route::{Context, Refused, described, router};

mod demux;
mod directory;
mod idle;
mod mp4;
mod pace;
mod playing;
mod rounds;

pub use directory::MediaDir;
pub use playing::Playing;

use std::io;

use restreamd_rtmp::flv::FileError;

/// Why a file does not play (on). The text names neither the file nor the directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator has set none.
    #[error("this node has no media_dir")]
    NoDirectory,
    /// It leads out of the media directory.
    #[error("leads out of the media directory")]
    Outside,
    /// No file has such a name.
    #[error("is no legal file name")]
    BadName,
    /// There is no such file.
    #[error("is not in the media directory")]
    NotFound,
    /// A folder, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// The limit in force.
    #[error("is larger than limits.media_file_bytes, {0} bytes")]
    TooLarge(u64),
    /// Neither FLV nor MP4.
    #[error("is neither FLV nor MP4")]
    Unknown,
    /// It has no frame of audio or video.
    #[error("has no frame of audio or video")]
    NoMedia,
    /// An FLV file that is damaged.
    #[error("cannot be played: {0}")]
    Flv(#[from] FileError),
    /// An MP4 file that is damaged.
    #[error("cannot be played: {0}")]
    Damaged(String),
    /// It holds what is not played.
    #[error("cannot be played: {0}")]
    Unsupported(String),
    /// The disk hangs.
    #[error("cannot be read in time")]
    TooSlow,
    /// The system says no.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}
