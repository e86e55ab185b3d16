//! The tracks of a media message: one in the classic form, any number in Enhanced RTMP.
//!
//! Follows the ExVideoTagHeader and ExAudioTagHeader of Enhanced RTMP v2. It does not
//! know what is inside coded media. Invariant: every part takes bytes from the payload,
//! so walking them ends, and a part's data lie within it.

use super::cursor::Cursor;
use super::{AudioHeader, COMMAND_FRAME, Codec, KEY_FRAME, PacketKind, Picture, Sound};
use super::{VideoHeader, audio as audio_header, video as video_header};
use crate::message::type_id;

/// Modifier blocks come before the packet type they are for.
const MODEX: u8 = 7;

/// What a message carries of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The track.
    pub track: u8,
    /// How it is coded.
    pub codec: Codec,
    /// What the part is for.
    pub kind: PacketKind,
    /// Coded video at which a decoder can begin.
    pub keyframe: bool,
    /// Presentation time minus decoding time of video, in milliseconds.
    pub composition_ms: i32,
    /// What is behind the headers: a configuration record, or coded media.
    pub data: &'a [u8],
}

impl Part<'_> {
    /// The picture, as far as this part tells: mostly of sequence headers, of VP8 and
    /// VP9 of keyframes.
    #[must_use]
    pub fn picture(&self) -> Option<Picture> {
        Picture::of(self)
    }

    /// The sound, as far as this part tells: mostly of sequence headers, of MP3, AC-3
    /// and E-AC-3 of frames.
    #[must_use]
    pub fn sound(&self) -> Option<Sound> {
        Sound::of(self)
    }
}

/// How the tracks of a message are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Track 0 without saying so.
    Single,
    OneTrack,
    ManyTracks,
    ManyTracksManyCodecs,
    /// Nothing to be walked.
    Unknown,
}

/// The parts of a message, in its order.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    form: Form,
    kind: PacketKind,
    /// That of all tracks, unless each has its own.
    codec: Codec,
    keyframe: bool,
    /// The packet type carries composition offsets for the codecs that have them.
    offsets: bool,
    cursor: Cursor<'a>,
}

/// The parts of a video message. None when it has no track that could be told.
#[must_use]
pub fn video_parts(payload: &[u8]) -> Parts<'_> {
    match payload.first() {
        Some(first) if first & 0x80 != 0 => Parts::video(payload),
        // The packet type and the composition offset of those codecs that have them.
        _ => video_header(payload).and_then(|header| {
            let unregistered = matches!(header.codec, Codec::Other(_));
            let begin = if unregistered { 1 } else { 5 };
            let kind = header.kind;
            Parts::classic(payload, begin, header.codec, kind, header.keyframe)
        }),
    }
    .unwrap_or(Parts::NONE)
}

/// The parts of an audio message, as of [`video_parts`].
#[must_use]
pub fn audio_parts(payload: &[u8]) -> Parts<'_> {
    match payload.first() {
        Some(first) if first >> 4 == 9 => Parts::audio(payload),
        _ => audio_header(payload).and_then(|header| {
            let begin = if header.codec == Codec::Aac { 2 } else { 1 };
            Parts::classic(payload, begin, header.codec, header.kind, false)
        }),
    }
    .unwrap_or(Parts::NONE)
}

/// Whether a message of this type is what players know that know one track of each kind
/// (mpegts.js): of Enhanced RTMP the sequence header, frames and end of the only track,
/// without a modifier. Others take the rest for errors.
#[must_use]
pub fn is_basic(message_type: u8, payload: &[u8]) -> bool {
    match (message_type, payload.first()) {
        (type_id::VIDEO, Some(first)) => first & 0x80 == 0 || first & 0x0F <= 3,
        (type_id::AUDIO, Some(first)) => first >> 4 != 9 || first & 0x0F <= 2,
        _ => true,
    }
}

/// The header of an enhanced video message.
pub(super) fn video(payload: &[u8]) -> Option<VideoHeader> {
    let mut parts = Parts::video(payload)?;
    let (kind, keyframe) = (parts.kind, parts.keyframe);
    if parts.form == Form::Unknown {
        return Some(VideoHeader {
            codec: parts.codec,
            keyframe,
            kind,
            track: 0,
            composition_ms: 0,
        });
    }
    let first = parts.next()?;
    Some(VideoHeader {
        codec: first.codec,
        keyframe,
        kind,
        track: first.track,
        composition_ms: first.composition_ms,
    })
}

/// The header of an enhanced audio message.
pub(super) fn audio(payload: &[u8]) -> Option<AudioHeader> {
    let mut parts = Parts::audio(payload)?;
    let kind = parts.kind;
    if parts.form == Form::Unknown {
        return Some(AudioHeader {
            codec: parts.codec,
            kind,
            track: 0,
        });
    }
    let first = parts.next()?;
    Some(AudioHeader {
        codec: first.codec,
        kind,
        track: first.track,
    })
}

impl<'a> Parts<'a> {
    const NONE: Parts<'static> = Parts {
        form: Form::Unknown,
        kind: PacketKind::Other,
        codec: Codec::Other([0; 4]),
        keyframe: false,
        offsets: false,
        cursor: Cursor::EMPTY,
    };

    fn classic(
        payload: &'a [u8],
        begin: usize,
        codec: Codec,
        kind: PacketKind,
        keyframe: bool,
    ) -> Option<Self> {
        Some(Self {
            form: Form::Single,
            kind,
            codec,
            keyframe,
            offsets: false,
            cursor: Cursor::new(payload.get(begin..)?),
        })
    }

    fn video(payload: &'a [u8]) -> Option<Self> {
        const METADATA: u8 = 4;
        const MULTITRACK: u8 = 6;
        let mut cursor = Cursor::new(payload);
        let first = cursor.byte()?;
        let frame_type = (first >> 4) & 0x07;
        let packet = skip_modex(first & 0x0F, &mut cursor)?;
        if frame_type == COMMAND_FRAME && packet != METADATA {
            return Some(Parts::NONE);
        }
        let (packet, mut parts) = Self::open(packet, MULTITRACK, cursor)?;
        parts.kind = match packet {
            _ if parts.form == Form::Unknown => PacketKind::Other,
            // 5 is the sequence header of MPEG-2 TS.
            0 | 5 => PacketKind::SequenceHeader,
            1 | 3 => PacketKind::Frame,
            2 => PacketKind::EndOfSequence,
            METADATA => PacketKind::Metadata,
            _ => PacketKind::Other,
        };
        parts.keyframe = frame_type == KEY_FRAME && parts.kind == PacketKind::Frame;
        parts.offsets = packet == 1;
        Some(parts)
    }

    fn audio(payload: &'a [u8]) -> Option<Self> {
        const MULTITRACK: u8 = 5;
        let mut cursor = Cursor::new(payload);
        let first = cursor.byte()?;
        let packet = skip_modex(first & 0x0F, &mut cursor)?;
        let (packet, mut parts) = Self::open(packet, MULTITRACK, cursor)?;
        parts.kind = match packet {
            _ if parts.form == Form::Unknown => PacketKind::Other,
            0 => PacketKind::SequenceHeader,
            1 => PacketKind::Frame,
            2 => PacketKind::EndOfSequence,
            4 => PacketKind::Metadata,
            _ => PacketKind::Other,
        };
        Some(parts)
    }

    /// The form of the message and the packet type of its tracks.
    fn open(packet: u8, multitrack: u8, mut cursor: Cursor<'a>) -> Option<(u8, Self)> {
        let (mut packet, mut form) = (packet, Form::Single);
        if packet == multitrack {
            let kind = cursor.byte()?;
            packet = kind & 0x0F;
            form = match kind >> 4 {
                0 => Form::OneTrack,
                1 => Form::ManyTracks,
                2 => Form::ManyTracksManyCodecs,
                _ => Form::Unknown,
            };
        }
        let shared = matches!(form, Form::Single | Form::OneTrack | Form::ManyTracks);
        let parts = Self {
            form,
            codec: if shared {
                Codec::from_fourcc(cursor.array()?)
            } else {
                Codec::Other([0; 4])
            },
            cursor,
            ..Self::NONE
        };
        Some((packet, parts))
    }

    fn part(&mut self) -> Option<Part<'a>> {
        let mut codec = self.codec;
        let (track, data) = match self.form {
            Form::Unknown => return None,
            Form::Single => (0, self.cursor.rest()),
            Form::OneTrack => (self.cursor.byte()?, self.cursor.rest()),
            Form::ManyTracks | Form::ManyTracksManyCodecs => {
                if self.form == Form::ManyTracksManyCodecs {
                    codec = Codec::from_fourcc(self.cursor.array()?);
                }
                let track = self.cursor.byte()?;
                let [high, mid, low] = self.cursor.array()?;
                let size = u32::from_be_bytes([0, high, mid, low]) as usize;
                // Of a part that is cut off there is what there is.
                let size = size.min(self.cursor.rest().len());
                (track, self.cursor.take(size)?)
            }
        };
        if matches!(self.form, Form::Single | Form::OneTrack) {
            self.form = Form::Unknown;
        }
        let mut data = Cursor::new(data);
        let offset = self.offsets && matches!(codec, Codec::Avc | Codec::Hevc | Codec::Vvc);
        Some(Part {
            track,
            codec,
            kind: self.kind,
            keyframe: self.keyframe,
            composition_ms: if offset { data.i24()? } else { 0 },
            data: data.rest(),
        })
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let part = self.part();
        if part.is_none() {
            self.form = Form::Unknown;
        }
        part
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
