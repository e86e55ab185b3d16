//! The output clock of a stream.
//!
//! Maps the timestamps of one source after another (32 bits, any base, wrapping,
//! jumping) onto one 64-bit millisecond clock. Pure: no wall clock, no I/O.
//! Invariant: the output of a track never goes back, and all tracks of a source
//! are moved by the same offset, so that audio keeps its place beside video.

/// A step back by more than this, or forward by more than [`MAX_FORWARD_MS`], is a
/// new base and not a late or a lost frame. Encoders interleave tracks within a
/// few hundred milliseconds; sources that pause for longer than ten seconds are
/// re-dialed as stalled before.
const MAX_BACK_MS: i64 = 1_000;
/// See [`MAX_BACK_MS`].
const MAX_FORWARD_MS: i64 = 10_000;
/// The step over a seam: one frame at 25 fps, close to two AAC frames.
const SEAM_MS: u64 = 40;

/// Tracks of a kind that are kept monotonic each for itself; those beyond share a place.
const TRACKS: usize = 16;

/// Kinds of tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Video messages.
    Video,
    /// Audio messages.
    Audio,
    /// Metadata and other data messages.
    Data,
}

/// How one stretch of a source's clock maps onto the output.
#[derive(Clone, Copy, Debug)]
struct Base {
    /// The newest input timestamp of this stretch.
    input: u32,
    /// Where that one is on the output.
    output: i64,
}

impl Base {
    /// Distance of a timestamp from the newest one, wrap-aware.
    fn distance(&self, input: u32) -> i64 {
        i64::from(input.wrapping_sub(self.input) as i32)
    }

    fn holds(&self, input: u32) -> bool {
        (-MAX_BACK_MS..=MAX_FORWARD_MS).contains(&self.distance(input))
    }
}

/// The clock. See the module.
#[derive(Debug, Default)]
pub struct Timeline {
    current: Option<Base>,
    /// The stretch before a jump: the other track's stragglers still belong to it.
    former: Option<Base>,
    last: [[u64; TRACKS]; 3],
    started: bool,
}

impl Timeline {
    /// The newest output timestamp of all tracks.
    pub fn now(&self) -> u64 {
        self.last.as_flattened().iter().copied().max().unwrap_or(0)
    }

    /// A new source takes over: its first frame follows the last one at a seam.
    pub fn switch_source(&mut self) {
        self.current = None;
        self.former = None;
    }

    /// The output timestamp of a frame of the default track.
    pub fn map(&mut self, lane: Lane, input: u32) -> u64 {
        self.map_track(lane, 0, input)
    }

    /// The output timestamp of a frame: tracks of a kind come in any order (E-RTMP).
    pub fn map_track(&mut self, lane: Lane, track: u8, input: u32) -> u64 {
        let output = self.place(input).max(0) as u64;
        let last = &mut self.last[lane as usize][usize::from(track).min(TRACKS - 1)];
        *last = output.max(*last);
        *last
    }

    fn place(&mut self, input: u32) -> i64 {
        if let Some(base) = self.current.as_mut().filter(|base| base.holds(input)) {
            let distance = base.distance(input);
            let output = base.output + distance;
            if distance > 0 {
                *base = Base { input, output };
            }
            return output;
        }
        if let Some(former) = self.former.filter(|base| base.holds(input)) {
            return former.output + former.distance(input);
        }
        let output = if self.started {
            self.now() + SEAM_MS
        } else {
            0
        };
        self.started = true;
        self.former = self.current;
        self.current = Some(Base {
            input,
            output: output as i64,
        });
        output as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stream_starts_at_zero_wherever_its_source_is() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.map(Lane::Video, 4_000_000_000), 0);
        assert_eq!(timeline.map(Lane::Audio, 4_000_000_010), 10);
    }

    #[test]
    fn the_wrap_of_thirty_two_bits_is_one_more_step() {
        let mut timeline = Timeline::default();
        timeline.map(Lane::Video, u32::MAX - 19);
        assert_eq!(timeline.map(Lane::Video, 20), 40);
    }

    #[test]
    fn a_source_that_restarts_at_zero_goes_on_where_the_stream_was() {
        let mut timeline = Timeline::default();
        timeline.map(Lane::Video, 50_000);
        timeline.map(Lane::Video, 50_040);
        timeline.switch_source();
        assert_eq!(timeline.map(Lane::Video, 0), 80);
        assert_eq!(timeline.map(Lane::Audio, 10), 90);
    }

    #[test]
    fn a_jump_moves_all_tracks_and_stragglers_keep_their_place() {
        let mut timeline = Timeline::default();
        timeline.map(Lane::Video, 1_000);
        timeline.map(Lane::Audio, 1_005);
        let jumped = timeline.map(Lane::Video, 900_000);
        assert_eq!(
            timeline.map(Lane::Audio, 1_026),
            26,
            "still of the old stretch"
        );
        assert_eq!(timeline.map(Lane::Audio, 900_007), jumped + 7);
    }

    #[test]
    fn a_track_that_lags_behind_another_of_its_kind_keeps_its_times() {
        let mut timeline = Timeline::default();
        for ts in (0..1000).step_by(40) {
            assert_eq!(timeline.map(Lane::Video, 500 + ts), u64::from(ts));
            let lagging = timeline.map_track(Lane::Video, 1, 500 + ts - ts.min(15));
            assert_eq!(lagging, u64::from(ts - ts.min(15)));
        }
        // Those beyond the bound share a place, and go back no more than any other.
        let high = timeline.map_track(Lane::Video, 200, 1_500);
        assert_eq!(timeline.map_track(Lane::Video, u8::MAX, 1_400), high);
    }

    #[test]
    fn audio_and_video_keep_their_offset_over_a_switch() {
        let mut timeline = Timeline::default();
        for ts in (0..1000).step_by(40) {
            timeline.map(Lane::Video, ts);
            timeline.map(Lane::Audio, ts + 15);
        }
        timeline.switch_source();
        let video = timeline.map(Lane::Video, 77_000);
        assert_eq!(timeline.map(Lane::Audio, 77_015) - video, 15);
    }

    proptest! {
        #[test]
        fn no_track_ever_goes_back(steps in proptest::collection::vec((0u8..3, any::<u32>(), 0u8..20), 1..300)) {
            let mut timeline = Timeline::default();
            let mut last = [0u64; 3];
            let mut input = 0u32;
            for (lane, random, kind) in steps {
                match kind {
                    0 => timeline.switch_source(),
                    1 => input = random,
                    _ => input = input.wrapping_add(random % 60),
                }
                let lane = [Lane::Video, Lane::Audio, Lane::Data][usize::from(lane)];
                let output = timeline.map(lane, input);
                prop_assert!(output >= last[lane as usize]);
                last[lane as usize] = output;
            }
        }

        #[test]
        fn a_thousand_reconnects_move_audio_against_video_by_nothing(bases in proptest::collection::vec(any::<u32>(), 1..50)) {
            let mut timeline = Timeline::default();
            for base in bases {
                timeline.switch_source();
                let mut offset = None;
                for frame in 0..25u32 {
                    let video = timeline.map(Lane::Video, base.wrapping_add(frame * 40));
                    let audio = timeline.map(Lane::Audio, base.wrapping_add(frame * 40 + 12));
                    prop_assert_eq!(*offset.get_or_insert(audio - video), audio - video);
                }
            }
        }
    }
}
