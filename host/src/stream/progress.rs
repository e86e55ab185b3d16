//! Whether media moves: frames, their timestamps and keyframes, track by track.
//!
//! Bytes and control traffic do not count. A source is judged by its default tracks,
//! those with the lowest number of their kind. Pure: the time is an argument.

mod meter;
mod track;

use std::time::{Duration, Instant};

use restreamd_rtmp::flv::Part;

use self::track::{Motion, Track};
use super::headers::MAX_TRACKS;
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
    /// From the parameter sets while the timestamps of the last frames agree, else from
    /// these.
    pub fps: Option<f64>,
    /// Measured over the last seconds.
    pub kbps: Option<u64>,
}

/// Facts of an audio track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudioFacts {
    /// As RTMP names it, lower case.
    pub codec: &'static str,
    /// Samples a second, from the sequence header or a frame.
    pub sample_rate: Option<u32>,
    /// From the sequence header or a frame.
    pub channels: Option<u8>,
    /// Measured over the last seconds.
    pub kbps: Option<u64>,
}

/// Facts of the tracks beside the default ones (E-RTMP), by their number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MoreTracks {
    /// Of video.
    pub video: Vec<(u8, VideoFacts)>,
    /// Of audio.
    pub audio: Vec<(u8, AudioFacts)>,
}

/// The watch over one source. See the module.
#[derive(Debug)]
pub struct Progress {
    born: Instant,
    /// In the order of their numbers, [`MAX_TRACKS`] of a kind at most.
    tracks: Vec<Track>,
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
            tracks: Vec::new(),
            last_keyframe: None,
            gop_ms: None,
            bytes: 0,
            flowing_since: None,
        }
    }

    /// The clock of what follows is another one: distances over the seam mean nothing,
    /// and it may have other tracks.
    pub fn resume(&mut self) {
        self.last_keyframe = None;
        let defaults = [Lane::Video, Lane::Audio].map(|lane| self.default(lane).map(|t| t.number));
        let [video, audio] = defaults;
        self.tracks.retain(|track| {
            let default = if track.lane == Lane::Video {
                video
            } else {
                audio
            };
            default == Some(track.number)
        });
    }

    /// Takes in one unit.
    pub fn observe(&mut self, unit: &Unit, now: Instant) {
        self.bytes += unit.payload.len() as u64;
        let is_header = matches!(unit.content, Content::Header { .. });
        if unit.is_frame() {
            self.flowing_since.get_or_insert(now);
        } else if !is_header {
            return;
        }
        if unit.content == Content::Keyframe {
            let former = self.last_keyframe.replace(unit.timestamp);
            self.gop_ms = former
                .map(|former| unit.timestamp.wrapping_sub(former))
                .or(self.gop_ms);
        }
        let second = now.duration_since(self.born).as_secs();
        let mut parts = unit.parts();
        let first = parts.next();
        let next = parts.next();
        // Of one track it is the message that counts, of several each has its share.
        let alone = next.is_none();
        let mut take = |part: Option<&Part<'_>>| {
            let number = part.map_or(0, |part| part.track);
            let Some(track) = self.track(unit.lane, number) else {
                return;
            };
            if is_header {
                return track.header(part);
            }
            let share = part.filter(|_| !alone);
            let codec = share.map(|part| part.codec).or(unit.codec);
            let bytes = share.map_or(unit.payload.len(), |part| part.data.len());
            track.frame(codec, part, (unit.timestamp, bytes), (second, now));
        };
        take(first.as_ref());
        for part in next.into_iter().chain(parts).take(MAX_TRACKS) {
            take(Some(&part));
        }
    }

    /// The track of this number, made when there is room.
    fn track(&mut self, lane: Lane, number: u8) -> Option<&mut Track> {
        let known = |track: &Track| (track.lane, track.number) == (lane, number);
        if let Some(at) = self.tracks.iter().position(known) {
            return self.tracks.get_mut(at);
        }
        let of_lane = self.tracks.iter().filter(|track| track.lane == lane);
        if of_lane.count() >= MAX_TRACKS {
            return None;
        }
        let at = self.tracks.partition_point(|track| track.number < number);
        self.tracks.insert(at, Track::new(lane, number));
        self.tracks.get_mut(at)
    }

    /// The tracks of a kind that have had a frame, the default one first.
    fn moving(&self, lane: Lane) -> impl Iterator<Item = &Track> {
        let tracks = self.tracks.iter();
        tracks.filter(move |track| track.lane == lane && track.motion.is_some())
    }

    fn default(&self, lane: Lane) -> Option<&Track> {
        self.moving(lane).next()
    }

    fn motion(&self, lane: Lane) -> Option<&Motion> {
        self.default(lane)?.motion.as_ref()
    }

    /// How media has stopped for longer than `limit`, if it has. `None` before the first frame.
    pub fn stall(&self, now: Instant, limit: Duration) -> Option<Stall> {
        let quiet = |track: &Motion| now.saturating_duration_since(track.last_frame) >= limit;
        let frozen = |track: &Motion| now.saturating_duration_since(track.advanced) >= limit;
        match (self.motion(Lane::Video), self.motion(Lane::Audio)) {
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
        let due = |track: &Motion| track.last_frame.min(track.advanced) + limit;
        let lanes = [Lane::Video, Lane::Audio].into_iter();
        lanes.filter_map(|lane| self.motion(lane)).map(due).min()
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
        self.default(Lane::Video).is_some()
    }

    /// Time since the last frame of a lane.
    pub fn age(&self, lane: Lane, now: Instant) -> Option<Duration> {
        let motion = self.motion(lane)?;
        Some(now.saturating_duration_since(motion.last_frame))
    }

    /// What is known of the video. Rates are zero while nothing comes.
    pub fn video(&self, now: Instant) -> Option<VideoFacts> {
        self.default(Lane::Video)?.video(now)
    }

    /// What is known of the audio. The rate is zero while nothing comes.
    pub fn audio(&self, now: Instant) -> Option<AudioFacts> {
        self.default(Lane::Audio)?.audio(now)
    }

    /// What is known of the other tracks.
    pub fn more(&self, now: Instant) -> MoreTracks {
        let video = self.moving(Lane::Video).skip(1);
        let audio = self.moving(Lane::Audio).skip(1);
        MoreTracks {
            video: video
                .filter_map(|t| Some((t.number, t.video(now)?)))
                .collect(),
            audio: audio
                .filter_map(|t| Some((t.number, t.audio(now)?)))
                .collect(),
        }
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

    fn message(lane: Lane, timestamp: u32, payload: &[u8]) -> Unit {
        let media = restreamd_rtmp::session::Media {
            kind: match lane {
                Lane::Video => restreamd_rtmp::session::MediaKind::Video,
                _ => restreamd_rtmp::session::MediaKind::Audio,
            },
            timestamp,
            payload: Bytes::copy_from_slice(payload),
        };
        Unit::classify(media).expect("it is legal")
    }

    #[test]
    fn each_track_has_facts_of_its_own() {
        let (_, progress) = run(6_000, |at| {
            let at = at as u32;
            let opus = b"\x90OpusOpusHead\x01\x02\0\0\0\0\0\0\0\0\0";
            let headers = vec![
                message(Lane::Audio, at, opus),
                message(Lane::Audio, at, b"\x95\x00mp4a\x01\x11\x88"),
            ];
            let both = b"\x96\x13vp08\0\0\0\x7d".to_vec();
            let keyframe = b"\x10\0\0\x9d\x01\x2a\x40\x01\xb4\0";
            let both = [&both[..], keyframe, &[0; 115], b"\x05\0\0\x0a", keyframe].concat();
            let frames = vec![
                message(Lane::Video, at, &both),
                message(Lane::Audio, at, &[b"\x91Opus", &[0; 120][..]].concat()),
                message(Lane::Audio, at, b"\x95\x01mp4a\x01abc"),
            ];
            if at == 0 { headers } else { frames }
        });
        let now = progress.born + Duration::from_secs(6);
        let video = |kbps| VideoFacts {
            codec: "vp8",
            width: Some(320),
            height: Some(180),
            fps: Some(25.0),
            kbps: Some(kbps),
        };
        assert_eq!(progress.video(now), Some(video(25)));
        let more = progress.more(now);
        assert_eq!(more.video, [(5, video(2))]);
        let audio = |codec, sample_rate, channels, kbps| AudioFacts {
            codec,
            sample_rate: Some(sample_rate),
            channels: Some(channels),
            kbps: Some(kbps),
        };
        assert_eq!(progress.audio(now), Some(audio("opus", 48_000, 2, 25)));
        assert_eq!(more.audio, [(1, audio("aac", 48_000, 1, 2))]);
    }

    #[test]
    fn the_default_track_is_what_a_stall_is_judged_by() {
        let other = |at: u64| message(Lane::Video, at as u32, b"\x96\x03hvc1\x01x");
        let default = |at: u64| message(Lane::Video, at as u32, b"\xA3hvc1x");
        let (stall, _) = run(5_000, |at| match at {
            ..2_000 => vec![other(at), default(at)],
            _ => vec![other(at)],
        });
        assert_eq!(stall, Some(Stall::Nothing));
        let (stall, _) = run(5_000, |at| match at {
            ..2_000 => vec![other(at), default(at)],
            _ => vec![default(at)],
        });
        assert_eq!(stall, None);
    }

    #[test]
    fn a_parameter_set_is_believed_while_the_timestamps_agree() {
        // x264 at 29.97 fps.
        let header = b"\x17\0\0\0\0\x01\xf4\0\x28\xff\xe1\0\x1a\x67\xf4\0\x28\x91\x9b\x28\x0f\0\x44\
            \xfc\x4e\x02\x20\0\0\x7d\x20\0\x1d\x4c\x01\xe3\x06\x32\xc0\x01\0\x06\x68\xeb\xe3\xc4\x48\x44";
        for (step, expected) in [(33, 30_000.0 / 1_001.0), (100, 10.0)] {
            let mut timestamp = 0;
            let (_, progress) = run(2_000, |at| {
                timestamp += step;
                match at {
                    0 => vec![message(Lane::Video, 0, header)],
                    _ => vec![message(Lane::Video, timestamp, b"\x27\x01\0\0\0x")],
                }
            });
            let video = progress.video(progress.born + Duration::from_secs(2));
            let video = video.expect("video came");
            assert_eq!((video.width, video.fps), (Some(1_920), Some(expected)));
        }
    }

    #[test]
    fn a_rate_is_known_after_a_few_frames() {
        let (_, progress) = run(320, |at| vec![frame(Lane::Video, at as u32)]);
        let now = progress.born + Duration::from_millis(320);
        let video = progress.video(now).expect("video came");
        assert_eq!((video.fps, video.kbps), (Some(25.0), None));
    }

    #[test]
    fn tracks_are_bounded_and_those_of_a_former_connection_go() {
        let (_, mut progress) = run(10_240, |at| {
            let track = (at / 40) as u8;
            let head = [0xA6, 0x03, b'a', b'v', b'0', b'1', track, 1];
            vec![message(Lane::Video, at as u32, &head)]
        });
        let now = progress.born + Duration::from_secs(11);
        assert_eq!(progress.more(now).video.len(), MAX_TRACKS - 1);
        progress.resume();
        assert_eq!(progress.more(now), MoreTracks::default());
        assert!(progress.video(now).is_some());
    }
}
