//! The page that plays a stream, in a real browser.

use std::time::Duration;

use restreamd_tests::api::Api;
use restreamd_tests::browser::Browser;
use restreamd_tests::clip::{Clip, SMALL};
use restreamd_tests::curl::curl;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::JWT_SECRET;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use restreamd_tests::token::{sign, stream_claims};
use serde_json::Value;

use crate::{SOON, node};

/// A browser decodes in software, beside everything else that runs.
const PLAYS: Duration = Duration::from_secs(30);

const LOOK: &str = "const v = document.getElementById('video'); \
    return {at: v.currentTime, width: v.videoWidth, height: v.videoHeight, frames: \
    v.getVideoPlaybackQuality().totalVideoFrames, state: document.getElementById('state').value}";

fn number(look: &Value, key: &str) -> f64 {
    look[key].as_f64().unwrap_or_default()
}

/// Waits until the picture has moved on by `seconds`.
fn plays(browser: &Browser, seconds: f64) {
    let begin = browser.run(LOOK);
    eventually("the page plays", PLAYS, || {
        let now = browser.run(LOOK);
        let moved = number(&now, "at") - number(&begin, "at") >= seconds;
        let shown = number(&now, "frames") > number(&begin, "frames");
        let live = now["state"] == "live";
        when(moved && shown && live, || {
            format!("{now}, {:?}", browser.console())
        })
    });
}

/// Waits until the picture stands still.
fn stands(browser: &Browser) {
    let mut last = browser.run(LOOK);
    eventually("the page runs out of media", PLAYS, || {
        let now = browser.run(LOOK);
        let still = now["at"] == last["at"] && now["state"] != "live";
        last = now;
        when(still, || last.to_string())
    });
}

#[test]
fn the_page_plays_and_goes_on_after_its_source_was_killed() {
    let mut source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("watched", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let browser = Browser::start();
    browser.open(&format!("{}/watch/live/pull1", api.origin()));
    plays(&browser, 2.0);
    let look = browser.run(LOOK);
    let (width, height) = SMALL.size;
    assert_eq!(number(&look, "width"), f64::from(width), "{look}");
    assert_eq!(number(&look, "height"), f64::from(height), "{look}");

    for _ in 0..2 {
        source.go_away();
        api.wait_for_state(pull.guid(), "WAIT", SOON);
        stands(&browser);
        source.come_back();
        api.wait_for_state(pull.guid(), "LIVE", SOON);
        plays(&browser, 2.0);
    }
    assert_eq!(browser.console(), [""; 0], "the console is clean");
    // The same response all the time: it was never asked for again.
    assert!((api.counter("restreamd_flv_responses_total") - 0.0).abs() < 0.1);
}

#[test]
fn the_page_comes_back_to_a_stream_that_ended_and_began_again() {
    let clip = Clip::small();
    let host = node().set("rtmp.play", "token").start();
    let api = host.client();
    let token = sign(JWT_SECRET, &stream_claims("play", "live/*", 600));
    let mut publisher = restreamd_tests::ffmpeg::publish(&clip, &host.url("live/cam"));
    api.wait_for_stream("live/cam", SOON);
    let browser = Browser::start();
    let page = format!("{}/watch?stream=live/cam&token={token}", api.origin());
    browser.open(&page);
    plays(&browser, 1.0);
    publisher.interrupt();
    eventually("the page tells that it waits", PLAYS, || {
        let look = browser.run(LOOK);
        let told = look["state"].as_str().unwrap_or_default().to_owned();
        when(told.contains("trying again"), || told.clone())
    });
    let _again = restreamd_tests::ffmpeg::publish(&clip, &host.url("live/cam"));
    api.wait_for_stream("live/cam", SOON);
    eventually("the page plays again", PLAYS, || {
        let look = browser.run(LOOK);
        when(look["state"] == "live", || look.to_string())
    });
    plays(&browser, 1.0);
}

#[test]
fn the_page_and_its_files_say_what_they_are() {
    let host = node().start();
    let api = Api::new(host.api);
    for (path, kind) in [
        ("/watch/live/a", "text/html"),
        ("/watch?stream=live/a", "text/html"),
        ("/watch/watch.js", "text/javascript"),
        ("/watch/mpegts.js", "text/javascript"),
        ("/watch/watch.css", "text/css"),
        ("/watch/mpegts.LICENSE", "text/plain"),
    ] {
        let answer = api.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.content_type.starts_with(kind), "{path}: {answer:?}");
    }
    let head = curl(["-s", "-I", &format!("{}/watch/live/a", api.origin())]).body;
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-security-policy: default-src 'none'"));
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}
