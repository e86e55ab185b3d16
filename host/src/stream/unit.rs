//! One media message as it comes in, with what a look at its first bytes tells.
//!
//! Classified once, where it is read; everything behind only asks.

use bytes::Bytes;
use restreamd_rtmp::flv::{self, Codec, PacketKind, Parts};
use restreamd_rtmp::message::type_id;
use restreamd_rtmp::session::{Media, MediaKind};

use super::timeline::Lane;

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `onMetaData`, without `@setDataFrame`.
    Metadata,
    /// Another data message.
    Data,
    /// A sequence header of a track.
    Header {
        /// The track it sets up; of several in one message, the first.
        track: u8,
    },
    /// Colour info or a channel map of a track, in place of the one before.
    Setting {
        /// The track it is for, as in [`Content::Header`].
        track: u8,
    },
    /// A frame that decoding can start at: a video keyframe.
    Keyframe,
    /// Any other frame.
    Frame,
}

/// A media message, classified.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The source's timestamp.
    pub timestamp: u32,
    /// Video, audio or data.
    pub lane: Lane,
    /// What it is.
    pub content: Content,
    /// The codec, where there is one.
    pub codec: Option<Codec>,
    /// The message's payload.
    pub payload: Bytes,
}

impl Unit {
    /// Classifies a message; `None` for those that carry nothing for subscribers
    /// (empty messages, end of sequence).
    pub fn classify(media: Media) -> Option<Self> {
        let Media {
            kind,
            timestamp,
            payload,
        } = media;
        let (lane, content, codec) = match kind {
            MediaKind::Video => {
                let header = flv::video(&payload)?;
                (
                    Lane::Video,
                    content(header.kind, header.track, header.keyframe)?,
                    Some(header.codec),
                )
            }
            MediaKind::Audio => {
                let header = flv::audio(&payload)?;
                (
                    Lane::Audio,
                    content(header.kind, header.track, false)?,
                    Some(header.codec),
                )
            }
            MediaKind::Data => return Self::data(timestamp, payload),
        };
        Some(Self {
            timestamp,
            lane,
            content,
            codec,
            payload,
        })
    }

    fn data(timestamp: u32, payload: Bytes) -> Option<Self> {
        let (content, payload) = match flv::metadata_payload(&payload) {
            Some(metadata) => (Content::Metadata, metadata),
            None if payload.is_empty() => return None,
            None => (Content::Data, payload),
        };
        Some(Self {
            timestamp,
            lane: Lane::Data,
            content,
            codec: None,
            payload,
        })
    }

    /// A copy for whoever keeps it: of its own it may be a small piece of what a socket
    /// was read into.
    pub fn apart(&self) -> Self {
        Self {
            payload: Bytes::copy_from_slice(&self.payload),
            ..self.clone()
        }
    }

    /// What it carries of each track. None of data, and of what cannot be told.
    pub fn parts(&self) -> Parts<'_> {
        match self.lane {
            Lane::Video => flv::video_parts(&self.payload),
            Lane::Audio => flv::audio_parts(&self.payload),
            Lane::Data => flv::video_parts(&[]),
        }
    }

    /// The RTMP message type it goes out as.
    pub fn type_id(&self) -> u8 {
        match self.lane {
            Lane::Video => type_id::VIDEO,
            Lane::Audio => type_id::AUDIO,
            Lane::Data => type_id::DATA_AMF0,
        }
    }

    /// Whether it is a frame of audio or video.
    pub fn is_frame(&self) -> bool {
        matches!(self.content, Content::Keyframe | Content::Frame)
    }
}

fn content(kind: PacketKind, track: u8, keyframe: bool) -> Option<Content> {
    match kind {
        PacketKind::SequenceHeader => Some(Content::Header { track }),
        PacketKind::EndOfSequence => None,
        PacketKind::Metadata => Some(Content::Setting { track }),
        PacketKind::Other => Some(Content::Data),
        PacketKind::Frame if keyframe => Some(Content::Keyframe),
        PacketKind::Frame => Some(Content::Frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffmpeg_sends_of_two_video_tracks_is_told_apart() {
        let file = include_bytes!("../../../tests/testdata/ffmpeg_two_video_ac3.flv");
        let mut reader = flv::Reader::new();
        reader.buffer().extend_from_slice(file);
        let messages = std::iter::from_fn(|| reader.poll().expect("a good file"));
        let media = messages.filter_map(Media::from_message);
        let units: Vec<Option<Unit>> = media.map(Unit::classify).collect();
        let known = units.iter().flatten();
        let seen: Vec<_> = known.map(|unit| (unit.lane, unit.content)).collect();
        use Content::{Frame, Header, Keyframe, Metadata, Setting};
        use Lane::{Audio, Data, Video};
        assert_eq!(
            seen[..8],
            [
                (Data, Metadata),
                // The first track goes without saying, the second in multitrack form.
                (Video, Header { track: 0 }),
                (Video, Header { track: 1 }),
                // AC-3 has an empty header, and a channel map.
                (Audio, Header { track: 0 }),
                (Audio, Setting { track: 0 }),
                (Video, Setting { track: 0 }),
                (Video, Keyframe),
                (Video, Frame),
            ]
        );
        // The ends of both tracks, which ffmpeg says of the first one: streams go on.
        assert!(units.last().is_some_and(Option::is_none));
        assert!(seen.contains(&(Audio, Frame)));
    }
}
