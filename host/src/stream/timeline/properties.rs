//! Sources as they are, whatever the clock: every base, frame rates, tracks that come
//! one behind the other, B-frames, jumps and wraps; and switches between them.

use proptest::prelude::*;

use super::*;

/// A jump of a source's clock: at this media time it goes on so much later or earlier.
type Jump = (i64, i64);

/// A source: an encoder with a clock, and a network that delays a track.
#[derive(Clone, Debug)]
struct Source {
    /// Its clock when it begins.
    base: u32,
    /// Milliseconds a picture lasts, in thousandths.
    picture_us: i64,
    sound_us: i64,
    /// When sound arrives after pictures of the same time; negative is before.
    behind_ms: i64,
    /// Sound arrives so many frames at a time.
    burst: i64,
    jumps: Vec<Jump>,
    /// How long it lasts before the next one takes over.
    millis: i64,
}

/// A frame: its track, its timestamp, and its time by a clock that knows no jumps.
#[derive(Clone, Copy, Debug)]
struct Sent {
    lane: Lane,
    input: u32,
    media: i64,
}

impl Source {
    /// What arrives, from its first picture on.
    fn sent(&self) -> Vec<Sent> {
        let mut arrivals = Vec::new();
        for n in 0..self.millis * 1_000 / self.picture_us {
            let media = n * self.picture_us / 1_000;
            arrivals.push((media, self.frame(Lane::Video, media)));
        }
        for n in 0..self.millis * 1_000 / self.sound_us {
            let media = n * self.sound_us / 1_000;
            let together = n / self.burst * self.burst + self.burst - 1;
            let arrives = together * self.sound_us / 1_000 + self.behind_ms;
            arrivals.push((arrives, self.frame(Lane::Audio, media)));
        }
        arrivals.sort_by_key(|(at, _)| *at);
        let sent = arrivals.into_iter().map(|(_, sent)| sent);
        sent.skip_while(|sent| sent.lane != Lane::Video).collect()
    }

    fn frame(&self, lane: Lane, media: i64) -> Sent {
        let jumped: i64 = self.jumps_before(media).map(|(_, by)| by).sum();
        Sent {
            lane,
            input: self.base.wrapping_add((media + jumped) as u32),
            media,
        }
    }

    /// Jumps forward by less than [`MAX_FORWARD_MS`] stay.
    fn longest_gap(&self) -> u64 {
        let forward = self.jumps.iter().map(|(_, by)| *by);
        let gaps = forward.filter(|by| (0..=MAX_FORWARD_MS).contains(by));
        gaps.max().unwrap_or(0) as u64
    }

    fn jumps_before(&self, media: i64) -> impl Iterator<Item = &Jump> {
        self.jumps.iter().filter(move |(at, _)| *at <= media)
    }
}

/// Anywhere, with the places where 32 bits and 24 bits end more often than not.
fn base() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0),
        any::<u32>(),
        (0u32..3_000).prop_map(|before| u32::MAX - before),
        (0u32..3_000).prop_map(|before| (1 << 24) - before),
        (0u32..3_000).prop_map(|before| (1 << 31) - before),
    ]
}

/// By seconds, minutes or weeks, either way.
fn jump() -> impl Strategy<Value = i64> {
    // By less, less a picture, it is no more than a late frame.
    let least = MAX_BACK_MS + 101;
    let far = prop_oneof![
        least..2_000i64,
        MAX_FORWARD_MS - 200..MAX_FORWARD_MS + 200,
        10_000..600_000i64,
        600_000..2_000_000_000i64
    ];
    // Forward by less than [`MAX_FORWARD_MS`] is a gap, and no jump.
    (any::<bool>(), far).prop_map(|(back, by)| match by {
        ..8_000 => -by,
        _ if back => -by,
        _ => by,
    })
}

fn source() -> impl Strategy<Value = Source> {
    let picture = prop_oneof![
        Just(16_667i64),
        Just(20_000),
        Just(33_367),
        Just(40_000),
        Just(100_000)
    ];
    let sound = prop_oneof![Just(21_333i64), Just(23_220), Just(26_122)];
    // Not before both tracks are there: then nobody can tell.
    let jumps = proptest::collection::vec((1_500i64..6_000, jump()), 0..3);
    (
        base(),
        picture,
        sound,
        -900i64..900,
        1i64..6,
        jumps,
        300i64..8_000,
    )
        .prop_map(
            |(base, picture_us, sound_us, behind_ms, burst, mut jumps, millis)| {
                jumps.sort_unstable();
                // Two jumps within the distance of the tracks are nobody's to tell apart.
                jumps.dedup_by_key(|(at, _)| *at / 2_500);
                if let [(first, _), (second, _)] = &mut jumps[..] {
                    *second = (*second).max(*first + 2_500);
                }
                Source {
                    base,
                    picture_us,
                    sound_us,
                    behind_ms,
                    burst,
                    jumps,
                    millis,
                }
            },
        )
}

/// What a subscriber sees of one source after another.
#[derive(Default)]
struct Watch {
    timeline: Timeline,
    last: [Option<u64>; 2],
    /// Of the source before: a track may not have come to it.
    gap: u64,
    out: usize,
}

impl Watch {
    fn plays(&mut self, source: &Source) -> Result<(), TestCaseError> {
        // How far each stretch of the source is moved, all its tracks alike.
        let mut moved: Vec<Option<i64>> = vec![None; source.jumps.len() + 1];
        let longest = 2_500 + self.gap.max(source.longest_gap());
        self.gap = source.longest_gap();
        for sent in source.sent() {
            let Some(output) = self.timeline.map(sent.lane, sent.input) else {
                prop_assert_eq!(sent.lane, Lane::Audio, "no picture is left out");
                continue;
            };
            self.out += 1;
            let last = &mut self.last[sent.lane as usize];
            if let Some(last) = *last {
                prop_assert!(
                    output >= last,
                    "{:?} went back from {} to {}",
                    sent,
                    last,
                    output
                );
                // A seam is wider by what one track comes behind the other, before and after.
                prop_assert!(
                    output - last <= longest,
                    "{:?}: a gap from {} to {}",
                    sent,
                    last,
                    output
                );
            }
            *last = Some(output);
            let stretch = source.jumps_before(sent.media).count();
            let by = output as i64 - sent.media;
            let expected = *moved[stretch].get_or_insert(by);
            prop_assert_eq!(
                by,
                expected,
                "{:?} of stretch {} lost its place",
                sent,
                stretch
            );
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn one_source_after_another_goes_out_as_one_with_every_track_in_its_place(
        sources in proptest::collection::vec(source(), 1..8),
    ) {
        let mut watch = Watch::default();
        for source in &sources {
            watch.timeline.switch_source();
            watch.plays(source)?;
        }
    }

    #[test]
    fn no_track_ever_goes_back(
        steps in proptest::collection::vec((0u8..3, any::<u32>(), 0u8..20), 1..300),
    ) {
        let mut timeline = Timeline::default();
        let mut last = [0u64; 3];
        let mut input = 0u32;
        for (lane, random, kind) in steps {
            match kind {
                0 => timeline.switch_source(),
                1 => input = random,
                2 => input = input.wrapping_sub(random % 2_000),
                _ => input = input.wrapping_add(random % 60),
            }
            let lane = [Lane::Video, Lane::Audio, Lane::Data][usize::from(lane)];
            let output = match lane {
                Lane::Data => Some(timeline.beside(lane, 0, input)),
                lane => timeline.map(lane, input),
            };
            if let Some(output) = output {
                prop_assert!(output >= last[lane as usize]);
                last[lane as usize] = output;
            }
        }
    }

    #[test]
    fn the_clock_never_runs_ahead_of_its_frames(
        steps in proptest::collection::vec((any::<bool>(), any::<u32>(), 0u8..8), 1..300),
    ) {
        let mut timeline = Timeline::default();
        let mut input = 0u32;
        for (video, random, kind) in steps {
            input = match kind {
                0 => random,
                _ => input.wrapping_add(random % 60),
            };
            let before = timeline.now();
            timeline.map(if video { Lane::Video } else { Lane::Audio }, input);
            let step = timeline.now() - before;
            prop_assert!(step <= MAX_FORWARD_MS as u64, "{} ms at once", step);
        }
    }
}

/// The promise in one number: a thousand switches, not one step back, no drift.
#[test]
fn a_thousand_switches_move_no_track() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut watch = Watch::default();
    for _ in 0..1_000 {
        let source = source().new_tree(&mut runner).expect("a source").current();
        watch.timeline.switch_source();
        watch.plays(&source).expect("every frame in its place");
    }
    assert!(watch.out > 100_000, "{} frames", watch.out);
}
