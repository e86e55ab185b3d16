//! What parameter sets say about pictures.
//!
//! Knows which part of which codec tells it; the codecs' files read it.

use super::{Codec, PacketKind, Part};
use super::{av1, h264, hevc, vp8, vp9};

/// Encoders without a fixed rate write clock rates where a rate should be; nothing
/// real is faster than this.
pub(super) const MAX_FPS: f64 = 1_000.0;

/// Size and rate of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture {
    /// Width after cropping, in pixels; not 0.
    pub width: u32,
    /// Height after cropping, in pixels; not 0.
    pub height: u32,
    /// Frames a second, when the set says so.
    pub fps: Option<f64>,
}

impl Picture {
    /// `None` when a side is 0. A rate that cannot be is left out.
    pub(super) fn new(width: u32, height: u32, fps: Option<f64>) -> Option<Self> {
        let fps = fps.filter(|fps| *fps > 0.0 && *fps <= MAX_FPS);
        (width > 0 && height > 0).then_some(Self { width, height, fps })
    }

    pub(super) fn of(part: &Part<'_>) -> Option<Self> {
        let header = part.kind == PacketKind::SequenceHeader;
        match part.codec {
            Codec::Avc if header => h264::record(part.data),
            Codec::Hevc if header => hevc::record(part.data),
            Codec::Av1 if header => av1::record(part.data),
            // A record may come without its sequence header; the frame has it, too.
            Codec::Av1 if part.keyframe => av1::frame(part.data),
            Codec::Vp8 if part.keyframe => vp8::frame(part.data),
            Codec::Vp9 if part.keyframe => vp9::frame(part.data),
            _ => None,
        }
    }
}
