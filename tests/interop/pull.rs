//! Sources that are pulled from.

use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::ffmpeg;
use restreamd_tests::nginx::Nginx;
use restreamd_tests::player::Player;
use restreamd_tests::port;
use restreamd_tests::provision::Provision;

use crate::{SOON, node};

#[test]
fn nginx_rtmp_is_pulled_and_pulled_again_when_its_publisher_returns() {
    let clip = Clip::small();
    let nginx = Nginx::start();
    let mut publisher = ffmpeg::publish(&clip, &nginx.url("stream1"));
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("nginx-pull", "live/pull1", &nginx.url("stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(60, SOON);
    player.assert_unbroken(&clip);
    ffmpeg::decodes(&host.url("live/pull1"), Duration::from_secs(3));

    // nginx says nothing when its publisher leaves: only the missing media tells.
    publisher.kill();
    api.wait_for_state(pull.guid(), "WAIT", Duration::from_secs(3));
    publisher = ffmpeg::publish(&clip, &nginx.url("stream1"));
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    player.wait_for_more(60, SOON);
    player.assert_monotonic();
    assert!(publisher.ended().is_none(), "{}", publisher.stderr.text());
}

#[test]
fn ffmpeg_that_waits_as_a_server_is_pulled() {
    let clip = Clip::small();
    let host = node().start();
    let api = host.client();
    let addr = port::free();
    let url = format!("rtmp://{addr}/live/stream1?key=1");
    let pull = Provision::pull("ffmpeg-pull", "live/pull1", &url);
    api.start(&pull);
    // Nobody is there yet; ffmpeg serves one player, whoever comes first.
    api.wait_for(pull.guid(), "the first dial failed", SOON, |s| {
        s["history"][0]["class"] == "refused"
    });
    let mut server = ffmpeg::serve(&clip, &url);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(200, SOON);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    ffmpeg::decodes(&host.url("live/pull1"), Duration::from_secs(2));

    // The next one is pulled like the first.
    server.kill();
    api.wait_for_state(pull.guid(), "WAIT", SOON);
    let _next = ffmpeg::serve(&clip, &url);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    player.wait_for_more(60, SOON);
    player.assert_monotonic();
}

#[test]
fn restreamd_pulls_from_restreamd() {
    let clip = Clip::small();
    let (origin, edge) = (node().start(), node().start());
    let _publisher = ffmpeg::publish(&clip, &origin.url("live/room/stream1"));
    origin.client().wait_for_stream("live/room/stream1", SOON);
    let api = edge.client();
    let pull = Provision::pull(
        "edge-pull",
        "live/room/pull1",
        &origin.url("live/room/stream1"),
    );
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let player = Player::attach(&edge.url("live/room/pull1"));
    player.wait_for_more(200, SOON);
    player.assert_unbroken(&clip);
    ffmpeg::decodes(&edge.url("live/room/pull1"), Duration::from_secs(2));
}
