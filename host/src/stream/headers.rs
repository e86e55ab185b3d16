//! What a subscriber needs before its first frame: metadata, the current sequence
//! header of every track, and the tracks' settings.
//!
//! Messages are kept as they came, also those that set up several tracks (E-RTMP).
//! Invariant: played in order, they leave every track with its newest header.

use std::borrow::Cow;

use bytes::Bytes;
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::message::type_id;

use super::timeline::Lane;
use super::unit::{Content, Unit};

/// Tracks whose headers are kept, and as many settings. E-RTMP numbers tracks in one
/// byte; more than a few are a peer that makes us hold memory.
pub const MAX_TRACKS: usize = 16;
/// A header or metadata message larger than this is passed on, but not kept.
const MAX_BYTES: usize = 64 * 1024;
/// The same of a setting, which is some hundred bytes.
const MAX_SETTING: usize = 4 * 1024;

/// The set. Newest wins.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    metadata: Option<Bytes>,
    headers: Kept,
    settings: Kept,
}

impl Headers {
    /// Takes a unit in. True when subscribers must hear of it: it is new.
    pub fn take(&mut self, unit: &Unit) -> bool {
        let bytes = unit.payload.len();
        match unit.content {
            Content::Metadata | Content::Header { .. } if bytes > MAX_BYTES => true,
            Content::Metadata if self.metadata.as_ref() == Some(&unit.payload) => false,
            Content::Metadata => {
                self.metadata = Some(compact(&unit.payload));
                true
            }
            Content::Header { track } => self.headers.take(unit, track),
            Content::Setting { track } if bytes <= MAX_SETTING => {
                self.settings.take(unit, track);
                true
            }
            Content::Setting { .. } | Content::Data | Content::Keyframe | Content::Frame => true,
        }
    }

    /// The unit as a stream with these tracks sees it: a keyframe of another track than
    /// the default one is no start.
    pub fn judge<'a>(&self, unit: &'a Unit) -> Cow<'a, Unit> {
        let other = |default| {
            let mut tracks = unit.parts().map(|part| part.track).peekable();
            tracks.peek().is_some() && tracks.all(|track| track != default)
        };
        if unit.content != Content::Keyframe || !self.headers.lowest(unit.lane).is_some_and(other) {
            return Cow::Borrowed(unit);
        }
        Cow::Owned(Unit {
            content: Content::Frame,
            ..unit.clone()
        })
    }

    /// Forgets tracks that another source does not have. True when there were some.
    pub fn keep_tracks_of(&mut self, other: &Self) -> bool {
        self.settings.keep_tracks_of(&other.settings);
        self.headers.keep_tracks_of(&other.headers)
    }

    /// Whether a track of this kind was set up.
    pub fn has(&self, lane: Lane) -> bool {
        self.headers.lowest(lane).is_some()
    }

    /// The messages a subscriber gets first, stamped like the frame it starts at; the
    /// metadata at zero, as players take it for a subtitle at any other time (ffmpeg).
    pub fn wires(&self, timestamp: u32) -> Vec<Wire> {
        let metadata = self
            .metadata
            .iter()
            .map(|payload| Wire::media(type_id::DATA_AMF0, 0, payload));
        let tracks = self
            .headers
            .messages
            .iter()
            .chain(&self.settings.messages)
            .map(|message| {
                let kind = if message.lane == Lane::Video {
                    type_id::VIDEO
                } else {
                    type_id::AUDIO
                };
                Wire::media(kind, timestamp, &message.payload)
            });
        metadata.chain(tracks).collect()
    }

    /// The set as units, to be played into a stream that takes this source.
    pub fn units(&self, timestamp: u32) -> Vec<Unit> {
        let unit = |lane, content, payload: &Bytes| Unit {
            timestamp,
            lane,
            content,
            codec: None,
            payload: payload.clone(),
        };
        let metadata = self
            .metadata
            .iter()
            .map(|payload| unit(Lane::Data, Content::Metadata, payload));
        let headers = self.headers.messages.iter().map(|message| {
            let track = message.first();
            unit(message.lane, Content::Header { track }, &message.payload)
        });
        let settings = self.settings.messages.iter().map(|message| {
            let track = message.first();
            unit(message.lane, Content::Setting { track }, &message.payload)
        });
        metadata.chain(headers).chain(settings).collect()
    }
}

/// A message that is for some tracks, at least one.
#[derive(Clone, Debug)]
struct Message {
    lane: Lane,
    tracks: Vec<u8>,
    payload: Bytes,
}

impl Message {
    fn first(&self) -> u8 {
        self.tracks.first().copied().unwrap_or_default()
    }
}

/// Messages of one sort, oldest first, none of which later ones replace wholly.
#[derive(Clone, Debug, Default)]
struct Kept {
    messages: Vec<Message>,
    /// The lowest track of each kind, asked for each frame.
    lowest: [Option<u8>; 3],
}

impl Kept {
    /// True when it changes something, also when there is no room to keep it.
    fn take(&mut self, unit: &Unit, track: u8) -> bool {
        let (lane, payload) = (unit.lane, &unit.payload);
        let mut tracks: Vec<u8> = unit.parts().map(|part| part.track).collect();
        if tracks.len() < 2 {
            tracks = vec![track];
        }
        let overlaps = |message: &Message| {
            message.lane == lane && message.tracks.iter().any(|track| tracks.contains(track))
        };
        let last = self.messages.iter().rposition(overlaps);
        if last.is_some_and(|last| self.messages[last].payload == payload) {
            return false;
        }
        // In the place of what it replaces, but behind all that it changes in part.
        let mut place = None;
        let mut at = 0;
        self.messages.retain(|message| {
            let replaced =
                message.lane == lane && message.tracks.iter().all(|t| tracks.contains(t));
            if replaced {
                place.get_or_insert(at);
            } else {
                if overlaps(message) {
                    place = None;
                }
                at += 1;
            }
            !replaced
        });
        if self.messages.len() < MAX_TRACKS && tracks.len() <= MAX_TRACKS {
            let payload = compact(payload);
            let place = place.unwrap_or(self.messages.len());
            self.messages.insert(
                place,
                Message {
                    lane,
                    tracks,
                    payload,
                },
            );
        }
        self.note_lowest();
        true
    }

    fn lowest(&self, lane: Lane) -> Option<u8> {
        self.lowest[lane as usize]
    }

    fn note_lowest(&mut self) {
        self.lowest = [Lane::Video, Lane::Audio, Lane::Data].map(|lane| {
            let of_lane = self.messages.iter().filter(|message| message.lane == lane);
            of_lane.flat_map(|message| &message.tracks).copied().min()
        });
    }

    fn keep_tracks_of(&mut self, other: &Self) -> bool {
        let before = self.messages.len();
        let has = |lane: Lane, track: u8| {
            let mut others = other.messages.iter();
            others.any(|message| message.lane == lane && message.tracks.contains(&track))
        };
        self.messages
            .retain(|message| message.tracks.iter().all(|track| has(message.lane, *track)));
        self.note_lowest();
        self.messages.len() < before
    }
}

/// A copy that does not pin the read buffer it came in.
fn compact(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(payload: &[u8]) -> Unit {
        let media = restreamd_rtmp::session::Media {
            kind: restreamd_rtmp::session::MediaKind::Video,
            timestamp: 0,
            payload: Bytes::copy_from_slice(payload),
        };
        Unit::classify(media).expect("it is legal")
    }

    fn kept(headers: &Headers) -> Vec<Bytes> {
        let units = headers.units(0).into_iter();
        units.map(|unit| unit.payload).collect()
    }

    const DEFAULT: &[u8] = b"\x90hvc1a";
    const ONE: &[u8] = b"\x96\x00avc1\x01b";
    const MANY: &[u8] = b"\x96\x20hvc1\0\0\0\x01cav01\x02\0\0\x01d";
    const COLOURS: &[u8] = b"\x94hvc1colours";

    #[test]
    fn every_track_is_set_up_by_the_message_that_came() {
        let mut headers = Headers::default();
        for message in [DEFAULT, ONE, COLOURS] {
            assert!(headers.take(&unit(message)));
        }
        assert!(!headers.take(&unit(ONE)), "it is known");
        assert_eq!(kept(&headers), [DEFAULT, ONE, COLOURS]);
        // A message for several tracks comes behind those it changes in part only.
        assert!(headers.take(&unit(MANY)));
        assert_eq!(kept(&headers), [MANY, ONE, COLOURS]);
        assert!(headers.take(&unit(DEFAULT)));
        assert_eq!(kept(&headers), [MANY, ONE, DEFAULT, COLOURS]);
        assert!(headers.take(&unit(MANY)), "track 0 had another header");
        assert_eq!(kept(&headers), [MANY, ONE, COLOURS]);
        let wires = headers.wires(7);
        let sizes: Vec<usize> = wires.iter().map(Wire::payload_len).collect();
        assert_eq!(sizes, [MANY.len(), ONE.len(), COLOURS.len()]);
    }

    #[test]
    fn the_newest_setting_of_a_track_is_kept_and_all_are_passed_on() {
        let mut headers = Headers::default();
        for _ in 0..2 {
            assert!(headers.take(&unit(b"\x94hvc1other")));
            assert!(headers.take(&unit(COLOURS)));
            assert!(headers.take(&unit(COLOURS)));
        }
        assert!(headers.take(&unit(b"\x96\x04hvc1\x01colours")));
        assert_eq!(kept(&headers), [COLOURS, b"\x96\x04hvc1\x01colours"]);
        assert!(!headers.has(Lane::Video), "a setting sets nothing up");
    }

    #[test]
    fn only_the_default_track_has_starts() {
        let mut headers = Headers::default();
        let content = |headers: &Headers, payload: &[u8]| headers.judge(&unit(payload)).content;
        let other = b"\x96\x03avc1\x01x";
        assert_eq!(content(&headers, other), Content::Keyframe, "the only one");
        headers.take(&unit(ONE));
        assert_eq!(content(&headers, other), Content::Keyframe, "the lowest");
        headers.take(&unit(DEFAULT));
        assert_eq!(content(&headers, other), Content::Frame);
        assert_eq!(content(&headers, b"\x93hvc1x"), Content::Keyframe);
        let both = b"\x96\x13hvc1\x01\0\0\x01x\0\0\0\x01y";
        assert_eq!(content(&headers, both), Content::Keyframe);
    }

    #[test]
    fn another_source_leaves_no_track_it_does_not_have() {
        let mut headers = Headers::default();
        let mut other = Headers::default();
        for message in [MANY, ONE, COLOURS] {
            headers.take(&unit(message));
        }
        other.take(&unit(ONE));
        other.take(&unit(DEFAULT));
        assert!(headers.keep_tracks_of(&other));
        assert_eq!(kept(&headers), [ONE]);
        assert!(!headers.keep_tracks_of(&other));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut headers = Headers::default();
        for track in 0..=u8::MAX {
            for kind in [0, 4] {
                let message = [&[0x96, kind][..], b"av01", &[track, 1]].concat();
                assert!(headers.take(&unit(&message)), "it is passed on");
            }
        }
        assert_eq!(kept(&headers).len(), 2 * MAX_TRACKS);
        let mut many = b"\x96\x10av01".to_vec();
        (0..40).for_each(|track| many.extend([track, 0, 0, 0]));
        assert!(headers.take(&unit(&many)));
        let mut large = Headers::default();
        assert!(large.take(&unit(&many)));
        assert!(large.take(&unit(&[b"\x90av01", &[0; MAX_BYTES][..]].concat())));
        assert!(large.take(&unit(&[b"\x94av01", &[0; MAX_SETTING][..]].concat())));
        assert!(kept(&large).is_empty());
    }
}
