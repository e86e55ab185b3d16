//! The headers of FLV media, as RTMP carries them, Enhanced RTMP included.
//!
//! Responsible for telling what a payload is from its first bytes. It does not
//! know streams and does not decode media. Invariant: payloads are never
//! changed; what is not recognised is `Other`, what is too short is `None`.

mod cursor;
mod file;
pub mod h264;
mod metadata;

pub use file::{FILE_HEADER, FileError, Reader, tag_header, tag_trailer};
pub use metadata::metadata_payload;

use cursor::Cursor;

/// How media is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264.
    Avc,
    /// H.265.
    Hevc,
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
    /// Colour info, channel maps, commands to the player: no coded media.
    Metadata,
    /// Several tracks in one message.
    Multitrack,
}

/// The header of a video message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoHeader {
    /// How it is coded; for several codecs in one message, that of the first.
    pub codec: Codec,
    /// Coded media at which a decoder can begin. False for sequence headers.
    pub keyframe: bool,
    /// What the message is for.
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
    /// How it is coded; for several codecs in one message, that of the first.
    pub codec: Codec,
    /// What the message is for.
    pub kind: PacketKind,
    /// The track, as in [`VideoHeader::track`].
    pub track: u8,
}

const KEY_FRAME: u8 = 1;
/// A frame type that carries a command to the player (seek) and no media.
const COMMAND_FRAME: u8 = 5;
const MODEX: u8 = 7;

/// Reads the header of a video message; `None` when it is empty or too short.
#[must_use]
pub fn video(payload: &[u8]) -> Option<VideoHeader> {
    let mut cursor = Cursor::new(payload);
    let first = cursor.byte()?;
    if first & 0x80 != 0 {
        return enhanced_video(first, cursor);
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
        header.kind = PacketKind::Metadata;
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

fn enhanced_video(first: u8, mut cursor: Cursor<'_>) -> Option<VideoHeader> {
    const METADATA: u8 = 4;
    const MULTITRACK: u8 = 6;
    let frame_type = (first >> 4) & 0x07;
    let packet = skip_modex(first & 0x0F, &mut cursor)?;
    if frame_type == COMMAND_FRAME && packet != METADATA {
        return Some(VideoHeader {
            codec: Codec::Other([0; 4]),
            keyframe: false,
            kind: PacketKind::Metadata,
            track: 0,
            composition_ms: 0,
        });
    }
    let body = Body::read(packet, MULTITRACK, &mut cursor)?;
    let (inner, coded) = match body.packet {
        0 | 5 => (PacketKind::SequenceHeader, false),
        1 | 3 => (PacketKind::Frame, true),
        2 => (PacketKind::EndOfSequence, false),
        _ => (PacketKind::Metadata, false),
    };
    // Only these two carry the offset, and only in packet type 1.
    let offset = body.packet == 1 && matches!(body.codec, Codec::Avc | Codec::Hevc);
    Some(VideoHeader {
        codec: body.codec,
        keyframe: frame_type == KEY_FRAME && coded,
        kind: body.kind(inner),
        track: body.track,
        composition_ms: if offset { cursor.i24()? } else { 0 },
    })
}

/// Reads the header of an audio message; `None` when it is empty or too short.
#[must_use]
pub fn audio(payload: &[u8]) -> Option<AudioHeader> {
    const ENHANCED: u8 = 9;
    const AAC: u8 = 10;
    let mut cursor = Cursor::new(payload);
    let first = cursor.byte()?;
    let codec = match first >> 4 {
        ENHANCED => return enhanced_audio(first & 0x0F, cursor),
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

fn enhanced_audio(packet: u8, mut cursor: Cursor<'_>) -> Option<AudioHeader> {
    const MULTITRACK: u8 = 5;
    let packet = skip_modex(packet, &mut cursor)?;
    let body = Body::read(packet, MULTITRACK, &mut cursor)?;
    let inner = match body.packet {
        0 => PacketKind::SequenceHeader,
        1 => PacketKind::Frame,
        2 => PacketKind::EndOfSequence,
        _ => PacketKind::Metadata,
    };
    Some(AudioHeader {
        codec: body.codec,
        kind: body.kind(inner),
        track: body.track,
    })
}

/// The part of an enhanced header that audio and video share.
struct Body {
    packet: u8,
    codec: Codec,
    track: u8,
    many: bool,
}

impl Body {
    fn read(packet: u8, multitrack: u8, cursor: &mut Cursor<'_>) -> Option<Body> {
        if packet != multitrack {
            let codec = Codec::from_fourcc(cursor.array()?);
            return Some(Body {
                packet,
                codec,
                track: 0,
                many: false,
            });
        }
        // The high half says how many tracks and codecs. With many codecs the
        // FourCC belongs to the track, but it still comes right before the id.
        let kind = cursor.byte()?;
        let codec = Codec::from_fourcc(cursor.array()?);
        let track = cursor.byte()?;
        let many = kind >> 4 != 0;
        if many {
            cursor.array::<3>()?;
        }
        Some(Body {
            packet: kind & 0x0F,
            codec,
            track,
            many,
        })
    }

    fn kind(&self, inner: PacketKind) -> PacketKind {
        if self.many {
            PacketKind::Multitrack
        } else {
            inner
        }
    }
}

/// Steps over modifier blocks to the packet type behind them. Each takes bytes
/// from the payload, so the loop ends.
fn skip_modex(mut packet: u8, cursor: &mut Cursor<'_>) -> Option<u8> {
    while packet == MODEX {
        let mut size = usize::from(cursor.byte()?) + 1;
        if size == 256 {
            size = usize::from(u16::from_be_bytes(cursor.array()?)) + 1;
        }
        cursor.skip(size)?;
        packet = cursor.byte()? & 0x0F;
    }
    Some(packet)
}
