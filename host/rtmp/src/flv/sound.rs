//! What sequence headers and frames say about sound.
//!
//! Knows which part of which codec tells it; the codecs' files read it.

use super::{Codec, PacketKind, Part};
use super::{aac, ac3, flac, mp3, opus};

/// Rate and channels of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// Samples a second; not 0.
    pub sample_rate: u32,
    /// Channels, low frequency ones included; `None` when a table elsewhere says it.
    pub channels: Option<u8>,
}

impl Sound {
    pub(super) fn of(part: &Part<'_>) -> Option<Self> {
        let header = part.kind == PacketKind::SequenceHeader;
        let frame = part.kind == PacketKind::Frame;
        match part.codec {
            Codec::Aac if header => aac::config(part.data),
            Codec::Opus if header => opus::header(part.data),
            Codec::Flac if header => flac::header(part.data),
            // These have no sequence header, or an empty one.
            Codec::Ac3 | Codec::Eac3 if frame => ac3::frame(part.data),
            Codec::Mp3 if frame => mp3::frame(part.data),
            _ => None,
        }
    }
}
