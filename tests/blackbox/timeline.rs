//! One clock over every source, as a real player sees it: ffprobe is attached all the
//! time and tells the decoding time of each packet.

use std::collections::HashMap;

use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::ffmpeg::{self, Packet, Timed};
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Script, Source};
use serde_json::json;

use crate::{SOON, node};

/// Of these, one in five is a switch by PUT, and the others are connections that break.
const SWITCHES: usize = 1_000;
/// A frame of the clip, in milliseconds.
const FRAME: i64 = 1_000 / 30;
/// Streams of one source, so that there is always one whose wait is over.
const NAMES: usize = 8;
/// Frames of a connection that are waited for.
const ENOUGH: usize = 2;

/// A source whose clocks begin at 0, just before the wrap, and elsewhere.
fn source(clip: &Clip) -> Source {
    let bases = vec![0, u32::MAX - 60, 1 << 31, 0, (1 << 24) - 50, 4_000_000_000];
    let script = Script {
        bases,
        ..Script::default()
    };
    Source::scripted(clip, script)
}

fn pull(source: &Source) -> Provision {
    let urls: Vec<String> = (0..NAMES)
        .map(|n| source.url(&format!("live/s{n}")))
        .collect();
    Provision::of_type("rtmp", "switched", "live/pull1")
        .with("rtmpUris", urls.join(","))
        .with("retryMaxMs", 250)
        .with("returnAfterMs", 3_600_000)
}

fn update(api: &Api, provision: &Provision) {
    let body = json!([provision.json()]);
    api.call("PUT", &provision_path(""), Some(&body))
        .expect(200);
}

/// Waits until another connection plays.
fn plays_again(player: &Player, dials: impl Fn() -> usize, before: usize) {
    eventually("it is dialled again", SOON, || {
        when(dials() > before, || format!("{before} dials"))
    });
    player.wait_for_more(ENOUGH, SOON);
}

/// How far the packets are moved against the clip they are of.
struct Places {
    clip: HashMap<Packet, Vec<i64>>,
}

impl Places {
    fn of(clip: &Clip) -> Self {
        let mut probe = ffmpeg::watch(clip.path().to_str().expect("UTF-8"));
        assert!(probe.wait(SOON).success());
        let mut places: HashMap<Packet, Vec<i64>> = HashMap::new();
        for Timed { packet, dts } in ffmpeg::timed(&probe) {
            places.entry(packet).or_default().push(dts);
        }
        Self { clip: places }
    }

    /// All it may be moved by: a clip may hold equal frames.
    fn moved(&self, timed: &Timed) -> Vec<i64> {
        let times = self.clip.get(&timed.packet);
        let times = times.unwrap_or_else(|| panic!("no packet of the source: {timed:?}"));
        times.iter().map(|time| timed.dts - time).collect()
    }

    /// By how much each run of pictures is moved, and at which packet it begins.
    fn runs(&self, played: &[Timed]) -> Vec<(usize, i64)> {
        let mut runs: Vec<(usize, i64)> = Vec::new();
        for (at, picture) in played.iter().enumerate() {
            if picture.packet.kind != "video" {
                continue;
            }
            let moved = self.moved(picture);
            if !runs.last().is_some_and(|(_, run)| moved.contains(run)) {
                runs.push((at, moved[0]));
            }
        }
        runs
    }

    /// The most that sound is moved against the pictures of its run. Where a source
    /// jumps, sound may still be of the run before, or of the one that begins.
    fn drift(&self, played: &[Timed]) -> i64 {
        let runs = self.runs(played);
        let mut most = 0;
        for (at, sound) in played.iter().enumerate() {
            let run = runs.partition_point(|(begin, _)| *begin <= at);
            let near = &runs[run.saturating_sub(2)..(run + 1).min(runs.len())];
            if sound.packet.kind == "audio" {
                let moved = self.moved(sound);
                let off = moved
                    .iter()
                    .flat_map(|m| near.iter().map(move |(_, run)| (m - run).abs()));
                most = most.max(off.min().unwrap_or_default());
            }
        }
        most
    }
}

fn assert_never_back(played: &[Timed], kind: &str) {
    let times: Vec<i64> = played
        .iter()
        .filter(|timed| timed.packet.kind == kind)
        .map(|timed| timed.dts)
        .collect();
    let back = times.windows(2).find(|pair| pair[1] < pair[0]);
    assert!(back.is_none(), "{kind} goes back: {back:?}");
    assert!(times.len() > SWITCHES, "{} of {kind}", times.len());
}

#[test]
fn a_thousand_reconnects_and_switches_are_one_stream_to_ffmpeg() {
    let clip = Clip::with_b_frames();
    let (mut playing, mut other) = (source(&clip), source(&clip));
    let host = node().start();
    let api = host.client();
    api.start(&pull(&playing));
    api.wait_for_state("switched", "LIVE", SOON);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(ENOUGH, SOON);
    let mut watch = ffmpeg::watch(&host.url("live/pull1"));
    eventually("ffprobe is attached", SOON, || {
        let list = api.streams();
        when(list[0]["subscribers"] == 2, || format!("{list:?}"))
    });

    for n in 0..SWITCHES {
        if n % 5 == 4 {
            std::mem::swap(&mut playing, &mut other);
            let before = playing.dials();
            update(&api, &pull(&playing));
            plays_again(&player, || playing.dials(), before);
            eventually("the former source is left", SOON, || {
                when(other.connections() == 0, || "it is still open".to_owned())
            });
        } else {
            let before = playing.dials();
            playing.hang_up();
            plays_again(&player, || playing.dials(), before);
        }
        if n % 25 == 0 {
            playing.jump(3_600_000);
            player.wait_for_more(ENOUGH, SOON);
        }
    }
    player.wait_for_more(60, SOON);
    player.assert_monotonic();
    api.delete("switched");
    assert!(watch.wait(SOON).success(), "{}", watch.stderr.text());

    let played = ffmpeg::timed(&watch);
    assert_never_back(&played, "video");
    assert_never_back(&played, "audio");
    let places = Places::of(&clip);
    let runs = places.runs(&played);
    assert!(runs.len() > SWITCHES, "only {} runs", runs.len());
    let drift = places.drift(&played);
    assert!(drift <= FRAME, "sound is moved by {drift} ms");
}
