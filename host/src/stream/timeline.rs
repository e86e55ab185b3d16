//! The output clock of a stream.
//!
//! Maps the timestamps of one source after another (32 bits, any base, wrapping,
//! jumping) onto one 64-bit millisecond clock. Pure: no wall clock, no I/O.
//! Invariants: the output of a track never goes back, and all tracks of a stretch of
//! a source are moved by the same offset, so that audio keeps its place beside video.
//!
//! A *stretch* is a run of a source without a jump. Each track follows its own
//! timestamps from frame to frame, whatever the others do and however far behind them
//! it comes; the first track that jumps begins the next stretch, and the others join
//! it as they get there.

/// A frame that is older than its track's newest by more than this is none that came
/// late: reordered pictures (16 at 50 a second at the most) lie within it.
const MAX_BACK_MS: i64 = 500;
/// A frame that is newer by more than this is none that follows a loss; sources that
/// pause for longer than ten seconds are re-dialed as stalled before.
const MAX_FORWARD_MS: i64 = 10_000;
/// A step of a track that needs no other explanation: frames last up to 100 ms, and
/// peers lose one or two.
const USUAL_MS: i64 = 250;
/// A track that comes in joins the stretch of the other when it is no farther from it.
/// Interleaving is within a second, so what is farther has a base of its own.
const JOIN_MS: i64 = 10_000;
/// Late frames in a row after which a track has stepped back for good. Seven B-frames
/// in the order they are shown in are what encoders do at the worst.
const MAX_LATE: u32 = 8;
/// A track that was silent for so long begins anew. Well below the 2^31 ms from where on
/// the distance of two timestamps can be read in two ways.
const SILENT_MS: i64 = 3_600_000;
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

/// A point of a source's clock and where it is on the output.
#[derive(Clone, Copy, Debug)]
struct Point {
    input: u32,
    output: i64,
}

impl Point {
    /// Distance of a timestamp from it, wrap-aware.
    fn distance(&self, input: u32) -> i64 {
        i64::from(input.wrapping_sub(self.input) as i32)
    }

    fn away(&self, input: u32) -> i64 {
        self.distance(input).abs()
    }

    fn output(&self, input: u32) -> i64 {
        self.output + self.distance(input)
    }

    /// The same clock at a later timestamp; at an earlier one it stays.
    fn advance(&mut self, input: u32) {
        if self.distance(input) > 0 {
            *self = Self {
                input,
                output: self.output(input),
            };
        }
    }
}

/// Where a track is.
#[derive(Clone, Copy, Debug)]
struct Track {
    /// Its newest frame.
    newest: Point,
    stretch: u64,
    /// A frame of this stretch went out.
    entered: bool,
    /// Late frames in a row.
    late: u32,
}

impl Track {
    /// Takes a frame in; where it is on the output.
    fn take(&mut self, input: u32) -> i64 {
        self.late = match self.newest.distance(input) {
            0.. => 0,
            _ => self.late + 1,
        };
        let output = self.newest.output(input);
        self.newest.advance(input);
        output
    }

    fn is_usual(&self, input: u32) -> bool {
        (0..=USUAL_MS).contains(&self.newest.distance(input))
    }

    fn goes_on_with(&self, input: u32) -> bool {
        let step = self.newest.distance(input);
        (-MAX_BACK_MS..=MAX_FORWARD_MS).contains(&step) && (step >= 0 || self.late < MAX_LATE)
    }
}

/// The clock. See the module.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Of video and audio; data have none.
    tracks: [[Option<Track>; TRACKS]; 3],
    /// The newest frame of the newest stretch.
    current: Option<Point>,
    /// Stretches begun so far.
    stretches: u64,
    /// The newest output of each track.
    last: [[Option<u64>; TRACKS]; 3],
    /// The newest of audio and video.
    newest: Option<u64>,
}

impl Timeline {
    /// The newest output timestamp of a frame.
    pub fn now(&self) -> u64 {
        self.newest.unwrap_or(0)
    }

    /// A new source takes over: its first frame follows the last one at a seam.
    pub fn switch_source(&mut self) {
        self.current = None;
        self.tracks = Default::default();
    }

    /// The output timestamp of a frame of the default track.
    #[cfg(test)]
    pub fn map(&mut self, lane: Lane, input: u32) -> Option<u64> {
        self.map_track(lane, 0, input)
    }

    /// The output timestamp of an audio or video frame. `None` for sound that belongs
    /// before what went out already, as at the begin of a source whose sound comes
    /// behind its pictures: moved to another place it would shift all that follows.
    pub fn map_track(&mut self, lane: Lane, track: u8, input: u32) -> Option<u64> {
        let at = usize::from(track).min(TRACKS - 1);
        let mut track = self.place(self.tracks[lane as usize][at], input);
        let output = track.take(input);
        if track.stretch == self.stretches
            && let Some(current) = &mut self.current
        {
            current.advance(input);
        }
        let last = &mut self.last[lane as usize][at];
        let follows = output >= 0 && last.is_none_or(|last| output > last as i64);
        track.entered |= follows || lane == Lane::Video;
        self.tracks[lane as usize][at] = Some(track);
        if !track.entered {
            return None;
        }
        let output = last.unwrap_or(0).max(output.max(0) as u64);
        *last = Some(output);
        self.newest = self.newest.max(Some(output));
        Some(output)
    }

    /// The output timestamp of what is no frame and does not move the clock: headers go
    /// with what their track had last, since peers stamp them with anything; data have
    /// their own place where the source's clock reaches.
    pub fn beside(&mut self, lane: Lane, track: u8, input: u32) -> u64 {
        let at = usize::from(track).min(TRACKS - 1);
        let (now, last) = (self.now(), &mut self.last[lane as usize][at]);
        if lane != Lane::Data {
            // A header at the begin of the stream leaves the place to the first frame.
            return match self.stretches {
                0 => 0,
                _ => {
                    self.newest.get_or_insert(now);
                    *last.get_or_insert(now)
                }
            };
        }
        let near = |point: &Point| (-JOIN_MS..=0).contains(&point.distance(input));
        let own = self.current.filter(near);
        let place = own.map_or(now, |point| point.output(input).max(0) as u64);
        let output = place.max(last.unwrap_or(0));
        *last = Some(output);
        output
    }

    /// The track as it is when it takes this frame: in its own stretch, in the newest
    /// one when the frame is nearer to that, or at the begin of the next.
    fn place(&mut self, own: Option<Track>, input: u32) -> Track {
        let now = self.now() as i64;
        let own = own.filter(|track| now - track.newest.output < SILENT_MS);
        if let Some(track) = own.filter(|track| track.is_usual(input)) {
            return track;
        }
        let same = own.filter(|track| track.stretch == self.stretches);
        let goes_on = own.filter(|track| track.goes_on_with(input));
        let near = self.current.filter(|newest| {
            let farther = |track: Track| track.newest.away(input) > newest.away(input);
            newest.away(input) <= JOIN_MS && same.or(goes_on).is_none_or(farther)
        });
        if let Some(newest) = near {
            return same.unwrap_or_else(|| self.enter(input, newest.output(input)));
        }
        if let Some(track) = goes_on {
            return track;
        }
        let output = self.begin(input);
        self.enter(input, output)
    }

    fn enter(&self, input: u32, output: i64) -> Track {
        Track {
            newest: Point { input, output },
            stretch: self.stretches,
            entered: false,
            late: 0,
        }
    }

    fn begin(&mut self, input: u32) -> i64 {
        let output = self.newest.map_or(0, |now| now + SEAM_MS) as i64;
        self.stretches += 1;
        self.current = Some(Point { input, output });
        output
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_out(timeline: &mut Timeline, lane: Lane, input: u32) -> u64 {
        timeline.map(lane, input).expect("it has a place")
    }

    #[test]
    fn a_stream_starts_at_zero_wherever_its_source_is() {
        let mut timeline = Timeline::default();
        assert_eq!(goes_out(&mut timeline, Lane::Video, 4_000_000_000), 0);
        assert_eq!(goes_out(&mut timeline, Lane::Audio, 4_000_000_010), 10);
    }

    #[test]
    fn the_wrap_of_thirty_two_bits_is_one_more_step() {
        let mut timeline = Timeline::default();
        goes_out(&mut timeline, Lane::Video, u32::MAX - 19);
        assert_eq!(goes_out(&mut timeline, Lane::Video, 20), 40);
    }

    #[test]
    fn a_source_that_restarts_at_zero_goes_on_where_the_stream_was() {
        let mut timeline = Timeline::default();
        goes_out(&mut timeline, Lane::Video, 50_000);
        goes_out(&mut timeline, Lane::Video, 50_040);
        timeline.switch_source();
        assert_eq!(goes_out(&mut timeline, Lane::Video, 0), 80);
        assert_eq!(goes_out(&mut timeline, Lane::Audio, 10), 90);
    }

    #[test]
    fn a_jump_moves_all_tracks_and_stragglers_keep_their_place() {
        let mut timeline = Timeline::default();
        goes_out(&mut timeline, Lane::Video, 1_000);
        goes_out(&mut timeline, Lane::Audio, 1_005);
        let jumped = goes_out(&mut timeline, Lane::Video, 900_000);
        assert_eq!(
            goes_out(&mut timeline, Lane::Audio, 1_026),
            26,
            "still of the old stretch"
        );
        assert_eq!(goes_out(&mut timeline, Lane::Audio, 900_007), jumped + 7);
    }

    #[test]
    fn a_track_that_lags_behind_another_of_its_kind_keeps_its_times() {
        let mut timeline = Timeline::default();
        let at = |track, input, timeline: &mut Timeline| {
            let at = timeline.map_track(Lane::Video, track, input);
            at.expect("it has a place")
        };
        for ts in (0..1000).step_by(40) {
            assert_eq!(at(0, 500 + ts, &mut timeline), u64::from(ts));
            let lagging = at(1, 500 + ts - ts.min(15), &mut timeline);
            assert_eq!(lagging, u64::from(ts - ts.min(15)));
        }
        // Those beyond the bound share a place, and go back no more than any other.
        let high = at(200, 1_500, &mut timeline);
        assert_eq!(at(u8::MAX, 1_400, &mut timeline), high);
    }

    #[test]
    fn audio_and_video_keep_their_offset_over_a_switch() {
        let mut timeline = Timeline::default();
        for ts in (0..1000).step_by(40) {
            goes_out(&mut timeline, Lane::Video, ts);
            goes_out(&mut timeline, Lane::Audio, ts + 15);
        }
        timeline.switch_source();
        let video = goes_out(&mut timeline, Lane::Video, 77_000);
        assert_eq!(goes_out(&mut timeline, Lane::Audio, 77_015) - video, 15);
    }

    #[test]
    fn sound_from_before_the_first_picture_of_a_source_is_left_out() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.map(Lane::Video, 1_000), Some(0));
        assert_eq!(timeline.map(Lane::Audio, 990), None);
        assert_eq!(timeline.map(Lane::Audio, 1_013), Some(13));
        timeline.switch_source();
        assert_eq!(timeline.map(Lane::Video, 7_000), Some(53));
        assert_eq!(
            timeline.map(Lane::Audio, 6_960),
            None,
            "it would be at 13 again"
        );
        assert_eq!(timeline.map(Lane::Audio, 6_983), Some(36));
    }

    #[test]
    fn tracks_that_come_seconds_apart_are_no_jumps() {
        let mut timeline = Timeline::default();
        for n in 0..200 {
            assert_eq!(
                timeline.map(Lane::Video, 5_000 + n * 40),
                Some(u64::from(n) * 40)
            );
            let sound = timeline.map(Lane::Audio, 2_000 + n * 40);
            assert_eq!(sound, (n >= 75).then(|| u64::from(n) * 40 - 3_000));
        }
    }

    #[test]
    fn a_track_that_comes_back_after_weeks_joins_the_clock_of_the_other() {
        for weeks in [1u64 << 31, (1 << 32) - 8_000, 1 << 32, (1 << 32) + 5_000] {
            let mut timeline = Timeline::default();
            goes_out(&mut timeline, Lane::Video, 0);
            goes_out(&mut timeline, Lane::Audio, 10);
            for at in (0..weeks).step_by(10_000).chain([weeks]) {
                assert_eq!(goes_out(&mut timeline, Lane::Video, at as u32), at);
            }
            let back = weeks + 23;
            assert_eq!(goes_out(&mut timeline, Lane::Audio, back as u32), back);
        }
    }

    #[test]
    fn tracks_with_clocks_of_their_own_run_beside_each_other() {
        let mut timeline = Timeline::default();
        for n in 0..1_000 {
            goes_out(&mut timeline, Lane::Video, 4_000_000_000 + n * 40);
            let sound = goes_out(&mut timeline, Lane::Audio, n * 40);
            assert_eq!(sound, u64::from(n) * 40 + SEAM_MS);
        }
    }

    #[test]
    fn a_short_step_back_freezes_the_clock_for_a_few_frames_only() {
        let mut timeline = Timeline::default();
        let mut last = 0;
        // A clip of 400 ms in a loop, without a clock that goes on.
        for n in 0..100 {
            last = goes_out(&mut timeline, Lane::Video, n % 10 * 40);
        }
        assert!(last > 400, "{last}");
    }

    #[test]
    fn headers_and_data_move_no_clock_whatever_their_timestamp() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.beside(Lane::Video, 0, 77), 0);
        assert_eq!(goes_out(&mut timeline, Lane::Video, 500_000), 0);
        assert_eq!(goes_out(&mut timeline, Lane::Audio, 500_010), 10);
        for stamp in [0, 500_040, 2_000_000, u32::MAX] {
            assert_eq!(timeline.beside(Lane::Video, 0, stamp), 0);
            assert_eq!(timeline.beside(Lane::Data, 0, stamp), 10);
        }
        assert_eq!(goes_out(&mut timeline, Lane::Video, 500_040), 40);
        assert_eq!(timeline.beside(Lane::Data, 0, 500_022), 22);
    }

    #[test]
    fn pictures_stamped_in_the_order_they_are_shown_in_do_not_go_back() {
        let mut timeline = Timeline::default();
        let order = [0, 160, 80, 40, 120, 320, 240, 200, 280, 480];
        let went = order.map(|at| goes_out(&mut timeline, Lane::Video, at));
        assert_eq!(went, [0, 160, 160, 160, 160, 320, 320, 320, 320, 480]);
    }
}
