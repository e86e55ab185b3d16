//! What a subscriber needs before its first frame: metadata and the current
//! sequence header of every track.

use bytes::Bytes;
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::message::type_id;

use super::timeline::Lane;
use super::unit::{Content, Unit};

/// Tracks whose headers are kept. E-RTMP numbers tracks in one byte; more than a
/// few are a peer that makes us hold memory.
const MAX_TRACKS: usize = 16;
/// A header or metadata message larger than this is passed on, but not kept.
const MAX_BYTES: usize = 64 * 1024;

/// The set. Newest wins.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    metadata: Option<Bytes>,
    tracks: Vec<(Lane, u8, Bytes)>,
}

impl Headers {
    /// Takes a unit in. True when subscribers must hear of it: it is new.
    pub fn take(&mut self, unit: &Unit) -> bool {
        if unit.payload.len() > MAX_BYTES {
            return true;
        }
        match unit.content {
            Content::Metadata if self.metadata.as_ref() == Some(&unit.payload) => false,
            Content::Metadata => {
                self.metadata = Some(compact(&unit.payload));
                true
            }
            Content::Header { track } => self.take_header(unit.lane, track, &unit.payload),
            Content::Data | Content::Keyframe | Content::Frame => true,
        }
    }

    fn take_header(&mut self, lane: Lane, track: u8, payload: &Bytes) -> bool {
        let known = self
            .tracks
            .iter_mut()
            .find(|(l, t, _)| (*l, *t) == (lane, track));
        match known {
            Some((_, _, current)) if current == payload => false,
            Some((_, _, current)) => {
                *current = compact(payload);
                true
            }
            None => {
                if self.tracks.len() < MAX_TRACKS {
                    self.tracks.push((lane, track, compact(payload)));
                }
                true
            }
        }
    }

    /// Forgets tracks that another source does not have. True when there were some.
    pub fn keep_tracks_of(&mut self, other: &Self) -> bool {
        let before = self.tracks.len();
        self.tracks.retain(|(lane, track, _)| {
            other.tracks.iter().any(|(l, t, _)| (l, t) == (lane, track))
        });
        self.tracks.len() < before
    }

    /// Whether a track of this kind was set up.
    pub fn has(&self, lane: Lane) -> bool {
        self.tracks.iter().any(|(l, ..)| *l == lane)
    }

    /// The header of the first track of this kind.
    pub fn first(&self, lane: Lane) -> Option<&Bytes> {
        self.tracks
            .iter()
            .find(|(l, ..)| *l == lane)
            .map(|(.., payload)| payload)
    }

    /// The messages a subscriber gets first, stamped like the frame it starts at; the
    /// metadata at zero, as players take it for a subtitle at any other time (ffmpeg).
    pub fn wires(&self, timestamp: u32) -> Vec<Wire> {
        let metadata = self
            .metadata
            .iter()
            .map(|payload| Wire::media(type_id::DATA_AMF0, 0, payload));
        let tracks = self.tracks.iter().map(|(lane, _, payload)| {
            let kind = if *lane == Lane::Video {
                type_id::VIDEO
            } else {
                type_id::AUDIO
            };
            Wire::media(kind, timestamp, payload)
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
        let tracks = self
            .tracks
            .iter()
            .map(|(lane, track, payload)| unit(*lane, Content::Header { track: *track }, payload));
        metadata.chain(tracks).collect()
    }
}

/// A copy that does not pin the read buffer it came in.
fn compact(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(payload)
}
