//! Whether media moves: frames, their timestamps and keyframes, track by track.
//!
//! Bytes and control traffic do not count. Pure: the time is an argument.

use std::time::{Duration, Instant};

use restreamd_rtmp::flv::{Codec, h264};

use super::timeline::Lane;
use super::unit::{Content, Unit};

/// How media has stopped while its connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// Neither audio nor video comes.
    Nothing,
    /// Video stopped, audio goes on.
    AudioOnly,
    /// Audio stopped, video goes on.
    VideoOnly,
    /// Frames come, but their timestamps stand still.
    FrozenTimestamps,
}

impl Stall {
    /// For people and for the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "no media arrives",
            Self::AudioOnly => "video stopped, audio goes on",
            Self::VideoOnly => "audio stopped, video goes on",
            Self::FrozenTimestamps => "timestamps stand still",
        }
    }
}

/// Facts of a video track.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoFacts {
    /// As RTMP names it, lower case.
    pub codec: &'static str,
    /// From the parameter sets.
    pub width: Option<u32>,
    /// From the parameter sets.
    pub height: Option<u32>,
    /// Measured over the last seconds, else from the parameter sets.
    pub fps: Option<f64>,
    /// Measured over the last seconds.
    pub kbps: Option<u64>,
}

/// Facts of an audio track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFacts {
    /// As RTMP names it, lower case.
    pub codec: &'static str,
    /// Measured over the last seconds.
    pub kbps: Option<u64>,
}

/// Bytes and frames per second over the last few whole seconds.
#[derive(Debug, Default)]
struct Meter {
    second: u64,
    current: (u64, u32),
    past: [(u64, u32); 4],
    filled: usize,
}

impl Meter {
    fn count(&mut self, second: u64, bytes: usize) {
        while self.second < second && self.filled < self.past.len() {
            self.close();
        }
        if self.second < second {
            let missed = (second - self.second).min(self.past.len() as u64);
            (0..missed).for_each(|_| self.close());
            self.second = second;
        }
        self.current.0 += bytes as u64;
        self.current.1 += 1;
    }

    fn close(&mut self) {
        self.past.rotate_right(1);
        self.past[0] = std::mem::take(&mut self.current);
        self.filled = (self.filled + 1).min(self.past.len());
        self.second += 1;
    }

    fn kbps(&self) -> Option<u64> {
        let bytes: u64 = self.past[..self.filled]
            .iter()
            .map(|(bytes, _)| bytes)
            .sum();
        (self.filled > 0).then(|| bytes * 8 / 1000 / self.filled as u64)
    }

    fn per_second(&self) -> Option<f64> {
        let frames: u32 = self.past[..self.filled]
            .iter()
            .map(|(_, frames)| frames)
            .sum();
        (self.filled > 1).then(|| f64::from(frames) / self.filled as f64)
    }
}

#[derive(Debug)]
struct Track {
    codec: Option<Codec>,
    last_frame: Instant,
    last_timestamp: u32,
    advanced: Instant,
    meter: Meter,
}

/// A track without a frame for so long has no rate.
const QUIET: Duration = Duration::from_secs(3);

impl Track {
    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_frame) >= QUIET
    }
}

/// The watch over one source. See the module.
#[derive(Debug)]
pub struct Progress {
    born: Instant,
    video: Option<Track>,
    audio: Option<Track>,
    size: Option<h264::SpsInfo>,
    last_keyframe: Option<u32>,
    gop_ms: Option<u32>,
    bytes: u64,
    /// Since when media flows without a stall.
    flowing_since: Option<Instant>,
}

impl Progress {
    /// A watch over a source that begins now.
    pub fn new(now: Instant) -> Self {
        Self {
            born: now,
            video: None,
            audio: None,
            size: None,
            last_keyframe: None,
            gop_ms: None,
            bytes: 0,
            flowing_since: None,
        }
    }

    /// The clock of what follows is another one: distances over the seam mean nothing.
    pub fn resume(&mut self) {
        self.last_keyframe = None;
    }

    /// Takes in one unit.
    pub fn observe(&mut self, unit: &Unit, now: Instant) {
        self.bytes += unit.payload.len() as u64;
        if let (Lane::Video, Content::Header { .. }) = (unit.lane, unit.content) {
            self.size = h264::from_sequence_header(&unit.payload);
        }
        if !unit.is_frame() {
            return;
        }
        self.flowing_since.get_or_insert(now);
        if unit.content == Content::Keyframe {
            let former = self.last_keyframe.replace(unit.timestamp);
            self.gop_ms = former
                .map(|former| unit.timestamp.wrapping_sub(former))
                .or(self.gop_ms);
        }
        let second = now.duration_since(self.born).as_secs();
        let track = if unit.lane == Lane::Video {
            &mut self.video
        } else {
            &mut self.audio
        };
        let track = track.get_or_insert_with(|| Track {
            codec: None,
            last_frame: now,
            last_timestamp: unit.timestamp.wrapping_sub(1),
            advanced: now,
            meter: Meter {
                second,
                ..Meter::default()
            },
        });
        track.codec = unit.codec.or(track.codec);
        track.last_frame = now;
        track.meter.count(second, unit.payload.len());
        if unit.timestamp != track.last_timestamp {
            track.last_timestamp = unit.timestamp;
            track.advanced = now;
        }
    }

    /// How media has stopped for longer than `limit`, if it has. `None` before the first frame.
    pub fn stall(&self, now: Instant, limit: Duration) -> Option<Stall> {
        let quiet = |track: &Track| now.saturating_duration_since(track.last_frame) >= limit;
        let frozen = |track: &Track| now.saturating_duration_since(track.advanced) >= limit;
        match (&self.video, &self.audio) {
            (None, None) => None,
            (Some(video), Some(audio)) => match (quiet(video), quiet(audio)) {
                (true, true) => Some(Stall::Nothing),
                (true, false) => Some(Stall::AudioOnly),
                (false, true) => Some(Stall::VideoOnly),
                (false, false) => {
                    (frozen(video) || frozen(audio)).then_some(Stall::FrozenTimestamps)
                }
            },
            (Some(track), None) | (None, Some(track)) if quiet(track) => Some(Stall::Nothing),
            (Some(track), None) | (None, Some(track)) => {
                frozen(track).then_some(Stall::FrozenTimestamps)
            }
        }
    }

    /// When a stall of this length would be noticed at the earliest.
    pub fn stall_due(&self, limit: Duration) -> Option<Instant> {
        let due = |track: &Track| track.last_frame.min(track.advanced) + limit;
        [&self.video, &self.audio]
            .into_iter()
            .flatten()
            .map(due)
            .min()
    }

    /// Media bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Since when frames have come.
    pub fn flowing_since(&self) -> Option<Instant> {
        self.flowing_since
    }

    /// Whether a video frame was ever seen.
    pub fn has_video(&self) -> bool {
        self.video.is_some()
    }

    /// Time since the last frame of a lane.
    pub fn age(&self, lane: Lane, now: Instant) -> Option<Duration> {
        let track = if lane == Lane::Video {
            &self.video
        } else {
            &self.audio
        };
        track
            .as_ref()
            .map(|track| now.saturating_duration_since(track.last_frame))
    }

    /// What is known of the video. Rates are zero while nothing comes.
    pub fn video(&self, now: Instant) -> Option<VideoFacts> {
        let track = self.video.as_ref()?;
        let quiet = track.is_quiet(now);
        Some(VideoFacts {
            codec: track.codec.map_or("other", |codec| codec.name()),
            width: self.size.as_ref().map(|size| size.width),
            height: self.size.as_ref().map(|size| size.height),
            fps: if quiet {
                Some(0.0)
            } else {
                track
                    .meter
                    .per_second()
                    .or(self.size.as_ref().and_then(|size| size.fps))
            },
            kbps: if quiet { Some(0) } else { track.meter.kbps() },
        })
    }

    /// What is known of the audio. The rate is zero while nothing comes.
    pub fn audio(&self, now: Instant) -> Option<AudioFacts> {
        let track = self.audio.as_ref()?;
        Some(AudioFacts {
            codec: track.codec.map_or("other", |codec| codec.name()),
            kbps: if track.is_quiet(now) {
                Some(0)
            } else {
                track.meter.kbps()
            },
        })
    }

    /// Distance of the last two keyframes.
    pub fn gop(&self) -> Option<Duration> {
        self.gop_ms.map(|ms| Duration::from_millis(ms.into()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(2_500);

    fn frame(lane: Lane, timestamp: u32) -> Unit {
        Unit {
            timestamp,
            lane,
            content: Content::Frame,
            codec: None,
            payload: Bytes::from_static(&[0; 125]),
        }
    }

    /// Feeds frames every 40 ms for a while and tells what is found at the end.
    fn run(millis: u64, mut units: impl FnMut(u64) -> Vec<Unit>) -> (Option<Stall>, Progress) {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        for at in (0..millis).step_by(40) {
            let now = start + Duration::from_millis(at);
            units(at)
                .iter()
                .for_each(|unit| progress.observe(unit, now));
        }
        (
            progress.stall(start + Duration::from_millis(millis), LIMIT),
            progress,
        )
    }

    #[test]
    fn each_kind_of_stall_is_told_apart() {
        let both = |at: u64| vec![frame(Lane::Video, at as u32), frame(Lane::Audio, at as u32)];
        assert_eq!(run(5_000, both).0, None);
        assert_eq!(
            run(5_000, |at| if at < 2_000 { both(at) } else { vec![] }).0,
            Some(Stall::Nothing)
        );
        let audio_goes_on = |at: u64| {
            if at < 2_000 {
                both(at)
            } else {
                vec![frame(Lane::Audio, at as u32)]
            }
        };
        assert_eq!(run(5_000, audio_goes_on).0, Some(Stall::AudioOnly));
        let video_goes_on = |at: u64| {
            if at < 2_000 {
                both(at)
            } else {
                vec![frame(Lane::Video, at as u32)]
            }
        };
        assert_eq!(run(5_000, video_goes_on).0, Some(Stall::VideoOnly));
        let frozen = |at: u64| both(at.min(2_000));
        assert_eq!(run(5_000, frozen).0, Some(Stall::FrozenTimestamps));
    }

    #[test]
    fn nothing_stalls_before_the_first_frame() {
        assert_eq!(run(60_000, |_| vec![]).0, None);
    }

    #[test]
    fn a_source_without_audio_is_not_stalled_for_lack_of_it() {
        assert_eq!(run(5_000, |at| vec![frame(Lane::Video, at as u32)]).0, None);
    }

    #[test]
    fn rates_are_measured() {
        let (_, progress) = run(6_000, |at| vec![frame(Lane::Video, at as u32)]);
        let video = progress
            .video(progress.born + Duration::from_secs(6))
            .expect("video came");
        let later = progress
            .video(progress.born + Duration::from_secs(9))
            .expect("video came");
        assert_eq!((later.fps, later.kbps), (Some(0.0), Some(0)));
        assert_eq!((video.fps, video.kbps), (Some(25.0), Some(25)));
    }
}
