//! The headers of FLV media, as RTMP carries them, Enhanced RTMP included.
//!
//! Responsible for telling what a payload is from its first bytes. It does not
//! know streams and does not decode media. Invariant: payloads are never
//! changed; what is not recognised is `Other`, what is too short is `None`.

mod aac;
mod ac3;
mod av1;
mod bits;
mod cursor;
mod enhanced;
mod file;
mod flac;
mod h264;
mod hevc;
mod metadata;
mod mp3;
mod opus;
mod picture;
mod sound;
mod vp8;
mod vp9;

pub use enhanced::{Part, Parts, audio_parts, is_basic, video_parts};
pub use file::{FILE_HEADER, FileError, Reader, tag_header, tag_trailer};
pub use metadata::metadata_payload;
pub use picture::Picture;
pub use sound::Sound;

use cursor::Cursor;

/// How media is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264.
    Avc,
    /// H.265.
    Hevc,
    /// H.266.
    Vvc,
    /// AV1.
    Av1,
    /// VP9.
    Vp9,
    /// VP8.
    Vp8,
    /// AAC.
    Aac,
    /// MP3.
    Mp3,
    /// Opus.
    Opus,
    /// FLAC.
    Flac,
    /// Dolby AC-3.
    Ac3,
    /// Dolby E-AC-3.
    Eac3,
    /// Speex.
    Speex,
    /// Anything else: its FourCC, or zeros and the FLV codec number.
    Other([u8; 4]),
}

impl Codec {
    /// The name for APIs and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Codec::Avc => "avc",
            Codec::Hevc => "hevc",
            Codec::Vvc => "vvc",
            Codec::Av1 => "av1",
            Codec::Vp9 => "vp9",
            Codec::Vp8 => "vp8",
            Codec::Aac => "aac",
            Codec::Mp3 => "mp3",
            Codec::Opus => "opus",
            Codec::Flac => "flac",
            Codec::Ac3 => "ac3",
            Codec::Eac3 => "eac3",
            Codec::Speex => "speex",
            Codec::Other(_) => "other",
        }
    }

    fn from_fourcc(fourcc: [u8; 4]) -> Codec {
        match &fourcc {
            b"avc1" => Codec::Avc,
            b"hvc1" => Codec::Hevc,
            b"vvc1" => Codec::Vvc,
            b"av01" => Codec::Av1,
            b"vp09" => Codec::Vp9,
            b"vp08" => Codec::Vp8,
            b"mp4a" => Codec::Aac,
            b".mp3" => Codec::Mp3,
            b"Opus" => Codec::Opus,
            b"fLaC" => Codec::Flac,
            b"ac-3" => Codec::Ac3,
            b"ec-3" => Codec::Eac3,
            _ => Codec::Other(fourcc),
        }
    }
}

/// What a media message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// What a decoder needs before the first frame.
    SequenceHeader,
    /// Coded media.
    Frame,
    /// No more of this sequence.
    EndOfSequence,
    /// Colour info or a channel map of a track, which the next one replaces.
    Metadata,
    /// Commands to the player and what is not known: no coded media.
    Other,
}

/// The header of a video message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoHeader {
    /// How it is coded; for several tracks in one message, the first.
    pub codec: Codec,
    /// Coded media at which a decoder can begin. False for sequence headers.
    pub keyframe: bool,
    /// What the message is for; the same for all its tracks.
    pub kind: PacketKind,
    /// The track; 0 unless the message says otherwise. For several tracks in
    /// one message, the first.
    pub track: u8,
    /// Presentation time minus decoding time, in milliseconds.
    pub composition_ms: i32,
}

/// The header of an audio message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioHeader {
    /// How it is coded; for several tracks in one message, the first.
    pub codec: Codec,
    /// What the message is for; the same for all its tracks.
    pub kind: PacketKind,
    /// The track, as in [`VideoHeader::track`].
    pub track: u8,
}

const KEY_FRAME: u8 = 1;
/// A frame type that carries a command to the player (seek) and no media.
const COMMAND_FRAME: u8 = 5;

/// Reads the header of a video message; `None` when it is empty or too short.
#[must_use]
pub fn video(payload: &[u8]) -> Option<VideoHeader> {
    let mut cursor = Cursor::new(payload);
    let first = cursor.byte()?;
    if first & 0x80 != 0 {
        return enhanced::video(payload);
    }
    let frame_type = first >> 4;
    let codec = match first & 0x0F {
        7 => Codec::Avc,
        // 12 to 14 were never registered; encoders in the field use them.
        12 => Codec::Hevc,
        13 => Codec::Av1,
        14 => Codec::Vp9,
        other => Codec::Other([0, 0, 0, other]),
    };
    let mut header = VideoHeader {
        codec,
        keyframe: false,
        kind: PacketKind::Frame,
        track: 0,
        composition_ms: 0,
    };
    if frame_type == COMMAND_FRAME {
        header.kind = PacketKind::Other;
    } else if !matches!(codec, Codec::Other(_)) {
        header.kind = match cursor.byte()? {
            0 => PacketKind::SequenceHeader,
            2 => PacketKind::EndOfSequence,
            _ => PacketKind::Frame,
        };
        if header.kind == PacketKind::Frame {
            header.composition_ms = cursor.i24()?;
        }
    }
    header.keyframe = frame_type == KEY_FRAME && header.kind == PacketKind::Frame;
    Some(header)
}

/// Reads the header of an audio message; `None` when it is empty or too short.
#[must_use]
pub fn audio(payload: &[u8]) -> Option<AudioHeader> {
    const ENHANCED: u8 = 9;
    const AAC: u8 = 10;
    let mut cursor = Cursor::new(payload);
    let first = cursor.byte()?;
    let codec = match first >> 4 {
        ENHANCED => return enhanced::audio(payload),
        2 | 14 => Codec::Mp3,
        AAC => Codec::Aac,
        11 => Codec::Speex,
        // Never registered; encoders in the field use it.
        13 => Codec::Opus,
        other => Codec::Other([0, 0, 0, other]),
    };
    let kind = match first >> 4 {
        AAC if cursor.byte()? == 0 => PacketKind::SequenceHeader,
        _ => PacketKind::Frame,
    };
    Some(AudioHeader {
        codec,
        kind,
        track: 0,
    })
}
