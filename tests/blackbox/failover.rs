//! Ordered sources: the next one plays when one fails, and the better one returns.

use std::time::{Duration, Instant};

use restreamd_tests::api::Api;
use restreamd_tests::clip::{Clip, SMALL, Shape};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Behaviour, Source};

use crate::{SOON, node};

/// A pull of two sources, best first.
fn pull(guid: &str, sources: [&Source; 2]) -> Provision {
    let [first, second] = sources.map(|source| source.url("live/stream1"));
    Provision::of_type("rtmp", guid, "live/pull1").with("rtmpUris", format!("{first},{second}"))
}

fn wait_for_source(api: &Api, guid: &str, source: &Source) {
    let url = source.url("live/stream1");
    api.wait_for(guid, "the source is on air", SOON, |s| {
        s["state"] == "LIVE" && s["source"] == url.as_str()
    });
}

#[test]
fn the_next_source_plays_under_the_same_player_and_the_better_one_returns() {
    let clip = Clip::small();
    let (mut first, second) = (Source::open(&clip), Source::open(&clip));
    let host = node().start();
    let api = host.client();
    api.start(&pull("two-sources", [&first, &second]).with("returnAfterMs", 1_500));
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    assert_eq!(second.dials(), 0, "no standby was wanted");

    let failed = Instant::now();
    first.go_away();
    wait_for_source(&api, "two-sources", &second);
    player.wait_for_more(60, SOON);
    assert!(
        player.longest_gap(failed - Duration::from_secs(1)) < Duration::from_secs(2),
        "the player waited {:?}",
        player.longest_gap(failed - Duration::from_secs(1))
    );

    let back = Instant::now();
    first.come_back();
    wait_for_source(&api, "two-sources", &first);
    assert!(
        back.elapsed() >= Duration::from_millis(1_500),
        "it held first"
    );
    player.wait_for_more(60, SOON);
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn the_failover_type_plays_a_file_while_its_stream_is_gone() {
    let clip = Clip::small();
    let mut source = Source::open(&clip);
    let builder = node().plugin("failover");
    let media = builder.folder().join("media");
    std::fs::create_dir(&media).expect("writable");
    std::fs::copy(clip.path(), media.join("back-soon.flv")).expect("writable");
    let host = builder
        .set("media_dir", media.to_str().expect("UTF-8"))
        .start();
    let api = host.client();
    let uri = source.url("live/stream1");
    let list = format!("{uri}, file:back-soon.flv");
    let show = Provision::of_type("failover", "show", "live/pull1")
        .with("sources", list)
        .with("returnAfterMs", 1_000);
    api.start(&show);
    wait_for_source(&api, "show", &source);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    source.go_away();
    api.wait_for("show", "the file plays", SOON, |s| {
        s["state"] == "LIVE" && s["source"] == "file:back-soon.flv"
    });
    player.wait_for_more(60, SOON);
    source.come_back();
    wait_for_source(&api, "show", &source);
    player.wait_for_more(60, SOON);
    player.assert_attached();
    player.assert_monotonic();
    for (sources, key) in [("", "sources"), ("rtmp://h/a/b,http://h", "sources")] {
        let bad = Provision::of_type("failover", "bad", "live/bad").with("sources", sources);
        let body = api.try_create(&[&bad]).error(400);
        let field = format!("streams[0].camParams.properties.{key}");
        assert_eq!(body["field"], field, "{body}");
    }
}

#[test]
fn a_standby_takes_over_without_a_dial_when_the_first_source_stalls() {
    let clip = Clip::of(Shape { gop: 60, ..SMALL });
    let (first, second) = (Source::open(&clip), Source::open(&clip));
    let host = node().start();
    let api = host.client();
    let provision = pull("warm-sources", [&first, &second])
        .with("standby", "true")
        .with("stallMs", 500);
    api.start(&provision);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    eventually("the standby is connected", SOON, || {
        match second.connections() {
            1 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    });
    // Long enough for the standby to have a group of pictures, and at a time when its next
    // one is far away when the stall shows: two seconds from one to the next.
    player.wait_for_more(200, SOON);
    let dialed = second.dial_times()[0];
    eventually("it is early in a group", SOON, || {
        let at = dialed.elapsed().as_millis() % 2_000;
        when((1_700..1_850).contains(&at), || format!("{at} ms"))
    });

    let dials = second.dials();
    // With the last frames of the first source.
    let begin = Instant::now() - Duration::from_secs(1);
    first.set(Behaviour::Silent);
    player.wait_for_more(120, SOON);
    wait_for_source(&api, "warm-sources", &second);
    assert_eq!(second.dials(), dials, "it was connected already");
    assert!(
        player.longest_gap(begin) < Duration::from_millis(1_200),
        "a stall of 500 ms cost {:?}",
        player.longest_gap(begin)
    );
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn a_source_whose_picture_never_comes_leaves_the_air_to_the_next() {
    let clip = Clip::small();
    let (first, second) = (Source::open(&clip), Source::open(&clip));
    // As servers do that keep the headers of a camera that died.
    first.set(Behaviour::HeadersAndSound);
    let host = node().start();
    let api = host.client();
    api.start(&pull("half-dead", [&first, &second]).with("returnAfterMs", 1_000));
    wait_for_source(&api, "half-dead", &second);
    // It is waited for, and not put on air.
    assert_eq!(first.connections(), 1);
    first.set(Behaviour::Play);
    first.hang_up();
    wait_for_source(&api, "half-dead", &first);
}
