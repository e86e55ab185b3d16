//! Streams that have run for hours and weeks: players join before their clock passes
//! what 24, 31 and 32 bits hold, play across it, and join behind it.
//!
//! The clock gets there in seconds, since a stream takes steps of its source of up to
//! ten seconds as they are. A player is attached all the time: unwatched, the stream
//! would begin its clock anew.

use std::path::Path;
use std::time::Duration;

use restreamd_tests::clip::{Clip, Tag, VIDEO};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::ffmpeg;
use restreamd_tests::http_flv::Recorder;
use restreamd_tests::player::Player;
use restreamd_tests::publisher::Publisher;
use restreamd_tests::rtmpdump::Rtmpdump;

use crate::{SOON, node};

/// The longest step that is no jump, in milliseconds.
const STEP: u32 = 10_000;
/// Steps sent at a time.
const STEPS: usize = 500;
/// Who joins before the end of the clock has so long, in milliseconds.
const BEFORE: u32 = 8_000;
/// So long is played in all.
const LASTS: Duration = Duration::from_secs(18);
/// The most that a player misses of it at either end.
const MISSED: i64 = 6_000;

/// Brings the stream's clock to `millis`, keyframe by keyframe.
fn run_ahead(publisher: &mut Publisher, clip: &Clip, millis: u64) {
    let introductions: Vec<&Tag> = clip
        .tags()
        .iter()
        .filter(|tag| tag.kind != VIDEO || tag.is_sequence_header())
        .take_while(|tag| tag.timestamp == 0)
        .collect();
    publisher.send(introductions.into_iter().map(|tag| (0, tag)));
    let keyframe = clip
        .tags()
        .iter()
        .find(|tag| tag.kind == VIDEO && !tag.is_sequence_header());
    let mut keyframe = keyframe.expect("a clip begins with a keyframe").clone();
    // Nobody decodes these.
    keyframe.body = keyframe.body.slice(..32);
    let steps: Vec<u64> = (0..millis).step_by(STEP as usize).chain([millis]).collect();
    for steps in steps.chunks(STEPS) {
        publisher.send(steps.iter().map(|at| (*at as u32, &keyframe)));
    }
}

fn assert_forward(times: &[i64], who: &str) {
    let back = times.windows(2).find(|pair| pair[1] < pair[0]);
    assert!(back.is_none(), "{who} goes back: {back:?}");
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        gap.is_some_and(|gap| gap < 500),
        "{who}: a gap of {gap:?} ms"
    );
    let played = times.last().unwrap_or(&0) - times.first().unwrap_or(&0);
    let all = i64::try_from(LASTS.as_millis()).expect("seconds");
    assert!(played > all - MISSED, "{who}: {played} ms in all");
}

fn file_goes_forward(file: &Path, who: &str) {
    for kind in ["v", "a"] {
        let times = ffmpeg::decoding_times(file, kind);
        let millis: Vec<i64> = times
            .iter()
            .map(|at| (at * 1_000.0).round() as i64)
            .collect();
        assert_forward(&millis, &format!("{who} ({kind})"));
    }
}

fn plays_across(end: u64) {
    let clip = Clip::small();
    let host = node().set("stream.max_jumps", 4_000_000).start();
    let (url, http) = (host.url("live/cam"), host.http("live/cam"));
    let mut publisher = Publisher::connect(&url);
    run_ahead(&mut publisher, &clip, 0);
    let keeper = Player::attach(&url);
    keeper.wait_for_more(1, SOON);
    let begin = end - u64::from(BEFORE);
    run_ahead(&mut publisher, &clip, begin);
    let played = clip.clone();
    let publishing = std::thread::spawn(move || {
        publisher.play(&played, begin as u32, LASTS);
    });
    let clock = || keeper.frames().last().map_or(0, |frame| frame.timestamp);
    let passed = |at: u64| clock().wrapping_sub(at as u32) < 60_000;
    eventually("the clock is near its end", SOON * 4, || {
        let (now, begin) = (clock(), begin as u32);
        when(now.wrapping_sub(begin) < BEFORE, || now.to_string())
    });

    let mut probe = ffmpeg::watch(&url);
    let mut dump = Rtmpdump::record(&url);
    let mut recorder = Recorder::start(&http, &[]);
    eventually("all have joined", SOON, || {
        let list = host.client().streams();
        when(list[0]["subscribers"] == 4, || format!("{list:?}"))
    });
    assert!(!passed(end), "too late: the clock is at {}", clock());
    eventually("the clock has passed it", SOON, || {
        when(passed(end), || format!("{}", clock()))
    });
    for url in [&url, &http] {
        ffmpeg::decodes(url, Duration::from_secs(2));
    }
    publishing.join().expect("the publisher was not cut off");

    assert!(probe.wait(SOON).success(), "{}", probe.stderr.text());
    let packets = ffmpeg::timed(&probe);
    for kind in ["video", "audio"] {
        let times = packets.iter().filter(|timed| timed.packet.kind == kind);
        let times: Vec<i64> = times.map(|timed| timed.dts).collect();
        assert_forward(&times, &format!("ffprobe ({kind})"));
    }
    assert!(recorder.wait(SOON).success());
    file_goes_forward(&recorder.file(), "HTTP-FLV");
    eventually("rtmpdump leaves", SOON, || {
        when(!dump.is_running(), || dump.said())
    });
    file_goes_forward(&dump.file(), "rtmpdump");
}

#[test]
fn ffmpeg_rtmpdump_and_http_flv_play_across_24_bits_of_milliseconds() {
    plays_across(1 << 24);
}

#[test]
fn ffmpeg_rtmpdump_and_http_flv_play_across_31_bits_of_milliseconds() {
    plays_across(1 << 31);
}

#[test]
fn ffmpeg_rtmpdump_and_http_flv_play_across_32_bits_of_milliseconds() {
    plays_across(1 << 32);
}
