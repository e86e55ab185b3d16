//! A current ffmpeg as publisher, upstream and player of Enhanced RTMP.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use restreamd_tests::api::provision_path;
use restreamd_tests::browser::Browser;
use restreamd_tests::clip::VIDEO;
use restreamd_tests::continuity::{breaks, fingerprint};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::modern::{self, Sample};
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::publisher::Publisher;

use crate::{SOON, node};

/// Longer than the clip, so that its loop is in it.
const VIEW: u32 = 4;
/// A browser decodes in software, beside everything else that runs.
const PLAYS: Duration = Duration::from_secs(30);

/// Publishes a sample, restreams it, and plays it from everywhere: late, bit by bit.
fn travels(sample: &Sample) {
    let clip = sample.clip();
    let (origin, edge) = (node().start(), node().start());
    let (first, second) = (origin.client(), edge.client());
    let _publisher = modern::publish(&clip, &origin.url("live/cam"));
    first.wait_for_stream("live/cam", SOON);
    let source = origin.url("live/cam");
    let pull = Provision::pull("modern-pull", "live/pull1", &source);
    second.start(&pull);
    second.wait_for_state(pull.guid(), "LIVE", SOON);
    // Beyond the first keyframes: these players are late.
    eventually("it has run for a while", SOON, || {
        let durations = [&first, &second].map(|api| api.streams()[0]["durationMs"].as_u64());
        let late = durations.iter().all(|ms| ms.is_some_and(|ms| ms > 1_200));
        when(late, || format!("{durations:?}"))
    });
    let views = [
        source.clone(),
        origin.http("live/cam.flv"),
        edge.url("live/pull1"),
    ]
    .map(|url| modern::view(&url, Some(VIEW)));
    sample.assert_media(&first.streams()[0]["media"]);
    let status = second.status(pull.guid());
    sample.assert_media(&status["media"]);
    let body = Provision::pull("probed-pull", "live/probed", &source).json();
    let report = second.call("POST", &provision_path("/probe"), Some(&body));
    sample.assert_media(&report.expect(200)["media"]);
    for view in views {
        sample.assert_unbroken(&view.played());
    }
}

#[test]
fn hevc_and_aac_travel_bit_by_bit() {
    travels(&modern::HEVC_AAC);
}

#[test]
fn av1_and_opus_travel_bit_by_bit() {
    travels(&modern::AV1_OPUS);
}

#[test]
fn vp9_and_opus_travel_bit_by_bit() {
    travels(&modern::VP9_OPUS);
}

#[test]
fn flac_travels_bit_by_bit() {
    travels(&modern::AVC_FLAC);
}

#[test]
fn two_video_tracks_and_ac3_travel_bit_by_bit() {
    travels(&modern::TWO_VIDEO_AC3);
}

#[test]
fn a_current_ffmpeg_is_pulled_from() {
    let host = node().start();
    let api = host.client();
    let samples = [
        modern::HEVC_AAC,
        modern::AV1_OPUS,
        modern::VP9_OPUS,
        modern::AVC_FLAC,
        modern::TWO_VIDEO_AC3,
    ];
    let pulls: Vec<_> = samples
        .iter()
        .map(|sample| {
            let (server, url) = modern::serve(&sample.clip());
            let stream = format!("live/{}", sample.name);
            let pull = Provision::pull(sample.name, &stream, &url);
            api.start(&pull);
            (sample, server, pull)
        })
        .collect();
    let views: Vec<_> = pulls
        .iter()
        .map(|(sample, _, pull)| {
            api.wait_for_state(pull.guid(), "LIVE", Duration::from_secs(30));
            (*sample, modern::view(&host.url(pull.stream()), Some(VIEW)))
        })
        .collect();
    for (sample, view) in views {
        sample.assert_unbroken(&view.played());
        let status = api.status(sample.name);
        sample.assert_media(&status["media"]);
    }
}

#[test]
fn the_page_plays_the_default_track_or_tells_that_the_browser_cannot() {
    let host = node().start();
    let api = host.client();
    // mpegts.js knows neither several tracks nor Opus with a channel map; Debian's
    // Chromium has no HEVC, and its FLAC wants another sequence header than ffmpeg's.
    let samples = [
        (modern::TWO_AVC_OPUS, true),
        (modern::HEVC_AAC, false),
        (modern::VP9_OPUS, false),
        (modern::AVC_FLAC, false),
    ];
    let url = |sample: &Sample| host.url(&format!("live/{}", sample.name));
    let publish = |(sample, _): &(Sample, bool)| modern::publish(&sample.clip(), &url(sample));
    let _publishers = samples.each_ref().map(publish);
    let browser = Browser::start();
    let look = "const v = document.getElementById('video'); return [v.currentTime, v.videoWidth, \
        document.getElementById('state').value]";
    for (sample, plays) in samples {
        let stream = format!("live/{}", sample.name);
        api.wait_for_stream(&stream, SOON);
        browser.open(&format!("{}/watch/{stream}", api.origin()));
        eventually("the page plays, or says why not", PLAYS, || {
            let seen = browser.run(look);
            let state = seen[2].as_str().unwrap_or_default();
            let moves = seen[0].as_f64().is_some_and(|at| at > 1.5) && seen[1] == 322;
            let told = state.starts_with("this browser cannot play the stream's codec");
            let right = if plays {
                moves && state == "live"
            } else {
                told
            };
            when(right, || {
                format!("{stream}: {seen} {:?}", browser.console())
            })
        });
    }
}

#[test]
fn http_flv_has_all_tracks_or_what_simple_players_know() {
    let host = node().start();
    let sample = modern::TWO_AVC_OPUS;
    let _publisher = modern::publish(&sample.clip(), &host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    let url = host.http("live/cam.flv");
    let views = ["", "?tracks=all", "?tracks=one"];
    let [all, same, one] = views.map(|query| modern::view(&format!("{url}{query}"), Some(VIEW)));
    sample.assert_unbroken(&all.played());
    sample.assert_unbroken(&same.played());
    assert_eq!(one.played().codecs(), ["0: h264", "1: opus"]);
    let refused = host.client().get("/flv/live/cam.flv?tracks=two").error(400);
    assert_eq!(refused["field"], "tracks", "{refused}");
}

/// ffmpeg encodes VP8, and neither writes nor reads it as FLV: so far no player does.
#[test]
fn vp8_travels_bit_by_bit_and_its_size_is_told() {
    // The lowest bit of a keyframe's first byte is zero (RFC 6386, 9.1).
    let message = |picture: &Vec<u8>| {
        let kind = if picture[0] & 1 == 0 { 0x91 } else { 0xA1 };
        [&[kind][..], b"vp08", picture].concat()
    };
    let pictures: Vec<Vec<u8>> = modern::vp8(322, 178).iter().map(message).collect();
    let (origin, edge) = (node().start(), node().start());
    let mut publisher = Publisher::connect(&origin.url("live/cam"));
    let (stop, stopped) = mpsc::channel::<()>();
    let sending = pictures.clone();
    let sender = thread::spawn(move || {
        // Version, flags, profile and level, 8 bits 4:2:0, no colours told, no data.
        let header = [&b"\x90vp08"[..], &[1, 0, 0, 0, 0, 10, 0x82, 2, 2, 2, 0, 0]].concat();
        publisher.message(VIDEO, 0, &header);
        for (at, message) in (0..).step_by(40).zip(sending.iter().cycle()) {
            publisher.message(VIDEO, at, message);
            // A picture's time, as an encoder has it.
            if stopped.recv_timeout(Duration::from_millis(40)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    });
    let pull = Provision::pull("vp8-pull", "live/pull1", &origin.url("live/cam"));
    edge.client().start(&pull);
    edge.client().wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&edge.url("live/pull1"));
    // On a machine that is busy encoders are slow, and so is this one.
    player.wait_for_more(2 * pictures.len(), SOON * 4);
    let media = &edge.client().status(pull.guid())["media"];
    assert_eq!(media["video"]["codec"], "vp8", "{media}");
    let size = [&media["video"]["width"], &media["video"]["height"]];
    assert_eq!(size, [322, 178], "{media}");
    let sent: Vec<u64> = pictures.iter().map(|m| fingerprint(m)).collect();
    let frames = player.frames();
    // The header comes first.
    let got: Vec<u64> = frames[1..].iter().map(|frame| frame.hash).collect();
    assert_eq!(breaks(&sent, &got), [0; 0]);
    drop(stop);
    sender.join().expect("it published to its end");
}
