//! HTTP-FLV: who gets what, when a response begins, when it ends, and when it must not.

use std::time::{Duration, Instant};

use restreamd_tests::clip::Clip;
use restreamd_tests::closed_window::ClosedWindow;
use restreamd_tests::curl::curl;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::{JWT_SECRET, TestHost};
use restreamd_tests::http_flv::Recorder;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use restreamd_tests::token::{admin_claims, sign, stream_claims};
use restreamd_tests::{api::Api, ffmpeg};

use crate::{RETRY, SOON, node};

/// A client that takes nothing is given up after so long.
const NO_PROGRESS: Duration = Duration::from_secs(10);

fn wait_for_subscribers(api: &Api, count: u64, within: Duration) {
    eventually(&format!("{count} subscribers"), within, || {
        let list = api.streams();
        when(list.iter().any(|s| s["subscribers"] == count), || {
            format!("{list:?}")
        })
    });
}

fn assert_decodes(player: &Recorder) {
    let file = player.file();
    ffmpeg::decodes(file.to_str().expect("UTF-8"), Duration::from_secs(60));
}

/// The media type, CORS, and no way to compress or to keep it.
fn assert_head(head: &str, version: &str, cors: &str) {
    assert!(head.starts_with(&format!("{version} 200")), "{head}");
    for line in [
        "content-type: video/x-flv",
        &format!("access-control-allow-origin: {cors}"),
        "cache-control: no-store",
    ] {
        assert!(head.contains(line), "{line} is missing: {head}");
    }
    assert!(!head.contains("content-encoding"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
}

#[test]
fn curl_gets_a_stream_with_and_without_the_suffix_over_both_versions_of_http() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("flv-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let mut players = vec![
        Recorder::start(&host.http("live/pull1"), &[]),
        Recorder::start(&host.http("live%2Fpull1.flv"), &["--compressed"]),
        Recorder::start(&host.http("live/pull1.flv"), &["--http2-prior-knowledge"]),
    ];
    for player in &mut players {
        player.wait_for_more(60_000, SOON);
    }
    assert_head(&players[0].head(), "http/1.1", "*");
    assert!(players[0].head().contains("transfer-encoding: chunked"));
    assert_head(&players[1].head(), "http/1.1", "*");
    assert_head(&players[2].head(), "http/2", "*");
    wait_for_subscribers(&api, 3, SOON);
    assert!((api.gauge("restreamd_flv_subscribers_count") - 3.0).abs() < 0.1);

    // The stream's end is the response's.
    api.delete(pull.guid());
    for player in &mut players {
        let status = player.wait(SOON);
        assert!(status.success(), "{status}");
        assert_decodes(player);
    }
    let ended = api.counter("restreamd_flv_responses_total");
    assert!((ended - 3.0).abs() < 0.1, "{ended}");
}

#[test]
fn head_and_preflights_are_answered_and_other_methods_refused() {
    let source = Source::open(&Clip::small());
    let host = node().set("flv.cors", "https://player.example").start();
    let api = host.client();
    let pull = Provision::pull("flv-head", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let url = host.http("live/pull1.flv");
    let asked = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let options = ["-s", "-i", "-X", "OPTIONS", "-H", &origin];
        let asks = ["-H", "Access-Control-Request-Method: GET", &url];
        curl(options.into_iter().chain(asks))
            .body
            .to_ascii_lowercase()
    };
    let allowed = asked("https://player.example");
    assert!(allowed.contains("access-control-allow-origin: https://player.example"));
    assert!(
        allowed.contains("access-control-allow-methods: get"),
        "{allowed}"
    );
    let foreign = asked("https://elsewhere.example");
    assert!(
        !foreign.contains("access-control-allow-origin: "),
        "{foreign}"
    );

    let head = curl(["-s", "-I", &url]);
    assert_eq!(head.status, 200);
    assert!(head.body.contains("video/x-flv"), "{}", head.body);
    wait_for_subscribers(&api, 0, SOON);

    let anonymous = api.anonymous();
    anonymous.send("POST", "/flv/live/pull1", None).error(405);
    anonymous.get("/flv/live/none").error(404);
    anonymous.get("/flv/live/none.flv").error(404);
    let bad = anonymous.get("/flv/nameless").error(400);
    assert_eq!(bad["field"], "streamGuid");
}

#[test]
fn a_distributed_stream_is_waited_for_and_no_longer_than_play_wait() {
    let mut source = Source::open(&Clip::small());
    source.go_away();
    let host = node().set("rtmp.play_wait_seconds", 2).start();
    let api = host.client();
    let pull = Provision::pull("flv-wait", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let begin = Instant::now();
    let told = api.anonymous().get("/flv/live/pull1.flv").error(404);
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(2), "{waited:?}: {told}");
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    assert_eq!(told["code"], "not-found");

    let mut player = Recorder::start(&host.http("live/pull1"), &[]);
    source.come_back();
    player.wait_for_more(30_000, SOON + RETRY);
}

#[test]
fn a_response_goes_on_over_the_gaps_of_a_source() {
    let mut source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("flv-gap", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    let mut player = Recorder::start(&host.http("live/pull1"), &[]);
    player.wait_for_more(40_000, SOON);
    for _ in 0..3 {
        source.go_away();
        api.wait_for_state(pull.guid(), "WAIT", SOON);
        source.come_back();
        api.wait_for_state(pull.guid(), "LIVE", SOON);
        player.wait_for_more(40_000, SOON);
    }
    api.delete(pull.guid());
    assert!(player.wait(SOON).success());
    for kind in ["v", "a"] {
        let times = ffmpeg::decoding_times(&player.file(), kind);
        assert!(times.len() > 60, "only {} packets of {kind}", times.len());
        assert!(times[0] < 0.1, "{kind} begins at {}", times[0]);
        let back = times.windows(2).find(|pair| pair[1] < pair[0]);
        assert!(back.is_none(), "timestamps of {kind} go back: {back:?}");
    }
}

#[test]
fn a_late_response_begins_at_0_with_a_keyframe() {
    let clip = Clip::small();
    let host = node().start();
    let _publisher = ffmpeg::publish_at(&clip, &host.url("live/cam"), 10);
    host.client().wait_for_stream("live/cam", SOON);
    let mut early = Recorder::start(&host.http("live/cam"), &[]);
    early.wait_for_more(1_000_000, SOON * 2);
    let mut late = Recorder::start(&host.http("live/cam"), &[]);
    late.wait_for_more(300_000, SOON);
    for kind in ["v", "a"] {
        let times = ffmpeg::decoding_times(&late.file(), kind);
        assert!(times[0] < 0.1, "{kind} begins at {}", times[0]);
    }
}

#[test]
fn a_player_that_stops_reading_is_closed_and_the_others_are_not() {
    let host = node().start();
    let api = host.client();
    // Fast, so that what kernel and server may hold for one player is soon full.
    let _publisher = ffmpeg::publish_at(&Clip::small(), &host.url("live/cam"), 20);
    api.wait_for_stream("live/cam", SOON);
    let mut good = Recorder::start(&host.http("live/cam"), &[]);
    good.wait_for_more(60_000, SOON);
    let mut stuck = Recorder::start(&host.http("live/cam"), &[]);
    stuck.wait_for_more(60_000, SOON);
    wait_for_subscribers(&api, 2, SOON);
    stuck.freeze();
    // The buffers of the kernel take a few seconds of media first.
    wait_for_subscribers(&api, 1, NO_PROGRESS + SOON * 3);
    good.wait_for_more(60_000, SOON);
}

#[test]
fn playing_asks_for_a_token_when_rtmp_does() {
    let host = node().set("rtmp.play", "token").start();
    let api = host.client();
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    api.wait_for_stream("live/cam", SOON);
    let with = |claims: &serde_json::Value| {
        format!("/flv/live/cam.flv?token={}", sign(JWT_SECRET, claims))
    };
    let anonymous = api.anonymous();
    anonymous.get("/flv/live/cam.flv").error(401);
    anonymous.get("/flv/live/cam.flv?token=x").error(401);
    for (claims, status) in [
        (stream_claims("play", "live/*", -60), 401),
        (stream_claims("publish", "live/*", 60), 403),
        (stream_claims("play", "other/*", 60), 403),
        (admin_claims(60), 403),
    ] {
        anonymous.get(&with(&claims)).error(status);
    }
    let good = with(&stream_claims("play", "live/*", 60));
    let mut player = Recorder::start(&format!("http://{}{good}", host.api), &[]);
    player.wait_for_more(30_000, SOON);
    let token = good.split_once("token=").expect("it has one").1;
    assert!(!host.logs().iter().any(|line| line.contains(token)));
}

#[test]
fn at_the_limit_more_responses_are_503() {
    let host = node().set("flv.subscribers", 1).start();
    let api = host.client();
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    api.wait_for_stream("live/cam", SOON);
    let mut player = Recorder::start(&host.http("live/cam"), &[]);
    player.wait_for_more(20_000, SOON);
    let told = api.anonymous().get("/flv/live/cam").error(503);
    assert_eq!(told["code"], "at-limit");
    drop(player);
    wait_for_subscribers(&api, 0, SOON);
    let mut next = Recorder::start(&host.http("live/cam"), &[]);
    next.wait_for_more(20_000, SOON);
}

#[test]
fn a_drain_completes_the_responses() {
    let mut host = node().start();
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    let mut player = Recorder::start(&host.http("live/cam"), &[]);
    player.wait_for_more(20_000, SOON);
    assert!(host.drain().success());
    assert!(player.wait(SOON).success(), "it was cut off");
}

fn assert_not_served(host: &TestHost) {
    let api = host.client().anonymous();
    api.get("/flv/live/cam").error(404);
    api.get("/watch/live/cam").error(404);
}

#[test]
fn it_has_a_listener_of_its_own_when_told_so_and_none_when_turned_off() {
    let host = node().set("flv.listen", "127.0.0.1:0").start();
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    assert_not_served(&host);
    let own = host.service("flv");
    let mut player = Recorder::start(&format!("http://{own}/flv/live/cam.flv"), &[]);
    player.wait_for_more(20_000, SOON);
    let there = Api::new(own);
    assert_eq!(there.get("/watch/live/cam").status, 200);
    there.get("/flv/live/none").error(404);
    there.get("/as/v1/plugins").error(404);
    drop(player);

    assert_not_served(&node().set("flv.enabled", false).start());
}

#[test]
fn an_http2_player_whose_window_is_closed_loses_its_seat() {
    let source = Source::open(&Clip::small());
    let host = node().set("flv.subscribers", 1).start();
    let api = host.client();
    let pull = Provision::pull("flv-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let _player = ClosedWindow::get(host.api, "/flv/live/pull1");
    wait_for_subscribers(&api, 1, SOON);
    // Before the connection ends for its unanswered ping, after 20 s.
    wait_for_subscribers(&api, 0, NO_PROGRESS + Duration::from_secs(6));
    let mut next = Recorder::start(&host.http("live/pull1"), &[]);
    next.wait_for_more(60_000, SOON);
}
