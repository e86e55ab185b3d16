//! What is known of one track of a source.

use std::time::{Duration, Instant};

use restreamd_rtmp::flv::{Codec, Part, Picture, Sound};

use super::meter::{Meter, Pace};
use super::{AudioFacts, VideoFacts};
use crate::stream::timeline::Lane;

/// A track without a frame for so long has no rate.
const QUIET: Duration = Duration::from_secs(3);

/// A told rate and timestamps that are this far apart, in parts of it, disagree.
const TOLERANCE: f64 = 0.05;

/// One track, known since its header or its first frame.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) lane: Lane,
    pub(super) number: u8,
    codec: Option<Codec>,
    picture: Option<Picture>,
    sound: Option<Sound>,
    /// Since its first frame.
    pub(super) motion: Option<Motion>,
}

/// How a track's frames come.
#[derive(Debug)]
pub(super) struct Motion {
    pub(super) last_frame: Instant,
    last_timestamp: u32,
    pub(super) advanced: Instant,
    meter: Meter,
    pace: Pace,
}

impl Motion {
    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_frame) >= QUIET
    }

    /// What the parameter set tells, exactly, while the timestamps agree; some sets lie.
    /// Arrival is the last resort: frames come in bursts.
    fn fps(&self, told: Option<f64>) -> Option<f64> {
        // Timestamps of milliseconds tell no more than hundredths.
        let pace = self.pace.per_second();
        let pace = pace.map(|pace| (pace * 100.0).round() / 100.0);
        match (told, pace) {
            (Some(told), Some(pace)) if (told - pace).abs() > told * TOLERANCE => Some(pace),
            _ => told.or(pace).or_else(|| self.meter.per_second()),
        }
    }
}

impl Track {
    pub(super) fn new(lane: Lane, number: u8) -> Self {
        Self {
            lane,
            number,
            codec: None,
            picture: None,
            sound: None,
            motion: None,
        }
    }

    /// A sequence header: what it does not tell is not known any more.
    pub(super) fn header(&mut self, part: Option<&Part<'_>>) {
        self.picture = part.and_then(Part::picture);
        self.sound = part.and_then(Part::sound);
    }

    /// A frame of so many bytes.
    pub(super) fn frame(
        &mut self,
        codec: Option<Codec>,
        part: Option<&Part<'_>>,
        (timestamp, bytes): (u32, usize),
        (second, now): (u64, Instant),
    ) {
        self.codec = codec.or(self.codec);
        match self.lane {
            Lane::Video => self.picture = part.and_then(Part::picture).or(self.picture),
            _ => self.sound = self.sound.or_else(|| part.and_then(Part::sound)),
        }
        let motion = self.motion.get_or_insert_with(|| Motion {
            last_frame: now,
            last_timestamp: timestamp.wrapping_sub(1),
            advanced: now,
            meter: Meter::new(second),
            pace: Pace::default(),
        });
        motion.last_frame = now;
        motion.meter.count(second, bytes);
        motion.pace.count(timestamp);
        if timestamp != motion.last_timestamp {
            motion.last_timestamp = timestamp;
            motion.advanced = now;
        }
    }

    /// What is known of a video track. Rates are zero while nothing comes.
    pub(super) fn video(&self, now: Instant) -> Option<VideoFacts> {
        let motion = self.motion.as_ref()?;
        let told = self.picture.and_then(|picture| picture.fps);
        let (fps, kbps) = if motion.is_quiet(now) {
            (Some(0.0), Some(0))
        } else {
            (motion.fps(told), motion.meter.kbps())
        };
        Some(VideoFacts {
            codec: self.name(),
            width: self.picture.map(|picture| picture.width),
            height: self.picture.map(|picture| picture.height),
            fps,
            kbps,
        })
    }

    /// What is known of an audio track. The rate is zero while nothing comes.
    pub(super) fn audio(&self, now: Instant) -> Option<AudioFacts> {
        let motion = self.motion.as_ref()?;
        let quiet = motion.is_quiet(now);
        Some(AudioFacts {
            codec: self.name(),
            sample_rate: self.sound.map(|sound| sound.sample_rate),
            channels: self.sound.and_then(|sound| sound.channels),
            kbps: if quiet { Some(0) } else { motion.meter.kbps() },
        })
    }

    fn name(&self) -> &'static str {
        self.codec.map_or("other", |codec| codec.name())
    }
}
