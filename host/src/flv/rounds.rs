//! A file's messages, once or over and over on one clock.
//!
//! Timestamps begin at 0 with the first frame; a round follows the one before when
//! the last frame of every track had its time. It reads and does not wait.

use restreamd_rtmp::flv::{self, PacketKind};
use restreamd_rtmp::session::{Media, MediaKind};

use super::Error;
use super::demux::Demux;

/// How long a frame lasts that has none before it: one at 25 fps.
const FRAME_MS: u32 = 40;
/// A longer step between two frames is a jump and no duration.
const LONGEST_FRAME_MS: u32 = 10_000;

/// The rounds of a file.
#[derive(Debug)]
pub(super) struct Rounds {
    demux: Demux,
    looped: bool,
    clock: Clock,
}

impl Rounds {
    /// Before the first message.
    pub(super) fn new(demux: Demux, looped: bool) -> Self {
        Self {
            demux,
            looped,
            clock: Clock::default(),
        }
    }

    /// The next message, or `None` at the end of a file that is not looped.
    pub(super) fn next(&mut self) -> Result<Option<Media>, Error> {
        loop {
            if let Some(mut media) = self.demux.next()? {
                media.timestamp = self.clock.stamp(&media);
                return Ok(Some(media));
            }
            self.clock.next_round().ok_or(Error::NoMedia)?;
            if !self.looped {
                return Ok(None);
            }
            self.demux.rewind()?;
        }
    }

    /// When the round begins that comes next.
    pub(super) fn begin(&self) -> u32 {
        self.clock.offset
    }
}

/// Whether a message has a frame of audio or video, which alone keep time.
pub(super) fn is_frame(media: &Media) -> bool {
    let kind = match media.kind {
        MediaKind::Video => flv::video(&media.payload).map(|header| header.kind),
        MediaKind::Audio => flv::audio(&media.payload).map(|header| header.kind),
        MediaKind::Data => None,
    };
    kind == Some(PacketKind::Frame)
}

/// Where a track is, and how long its last frame lasts.
#[derive(Clone, Copy, Debug)]
struct Track {
    last: u32,
    frame: u32,
}

/// The clock of the rounds.
#[derive(Debug, Default)]
struct Clock {
    /// The file's own timestamp of its first frame.
    first: Option<u32>,
    /// Where this round begins.
    offset: u32,
    tracks: [Option<Track>; 2],
}

impl Clock {
    /// The timestamp of a message on the clock.
    fn stamp(&mut self, media: &Media) -> u32 {
        let frame = is_frame(media);
        if frame {
            self.first.get_or_insert(media.timestamp);
        }
        // What comes before the first frame belongs to it.
        let first = self.first.unwrap_or(media.timestamp);
        let at = media
            .timestamp
            .wrapping_sub(first)
            .wrapping_add(self.offset);
        if frame {
            let track = &mut self.tracks[usize::from(media.kind == MediaKind::Video)];
            let step = track.map(|track| at.wrapping_sub(track.last));
            let step = step.filter(|step| (1..=LONGEST_FRAME_MS).contains(step));
            let frame = step.or(track.map(|track| track.frame));
            *track = Some(Track {
                last: at,
                frame: frame.unwrap_or(FRAME_MS),
            });
        }
        at
    }

    /// The file is over: the next round begins when all tracks are. `None` when there is
    /// no frame in it.
    fn next_round(&mut self) -> Option<()> {
        let ends = self.tracks.iter().flatten();
        let ends = ends.map(|track| track.last.wrapping_add(track.frame));
        self.offset = ends.reduce(|a, b| if (a.wrapping_sub(b) as i32) < 0 { b } else { a })?;
        self.first = None;
        self.tracks = [None; 2];
        Some(())
    }
}
