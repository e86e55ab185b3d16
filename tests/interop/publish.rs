//! Publishers.

use std::time::Duration;

use restreamd_tests::clip::{Clip, SMALL, Shape};
use restreamd_tests::eventually::eventually;
use restreamd_tests::player::Player;
use restreamd_tests::proc::Running;
use restreamd_tests::{ffmpeg, gst};

use crate::{SOON, node};

/// Lets `publish` publish the clip and judges what a player gets; `leaves` ends the publisher.
fn publishes(publish: impl Fn(&str) -> Running, leave: impl Fn(&mut Running)) {
    let host = node().start();
    let api = host.client();
    let url = host.url("live/cam");
    let mut publisher = publish(&url);
    let live = || {
        api.streams()
            .iter()
            .any(|s| s["streamGuid"] == "live/cam" && s["state"] == "LIVE")
    };
    ffmpeg::wait_until_publishing(&mut publisher, live, SOON);
    let player = Player::attach(&url);
    ffmpeg::decodes(&url, Duration::from_secs(3));
    assert_eq!(ffmpeg::picture(&url), "h264,320,180");
    player.wait_for_more(60, SOON);
    player.assert_monotonic();

    leave(&mut publisher);
    eventually("the stream is gone", SOON, || {
        if api.streams().is_empty() {
            Ok(())
        } else {
            Err(format!("{:?}", api.streams()))
        }
    });
    let reason = eventually("the player is told", SOON, || {
        player.gone().ok_or_else(|| "attached".to_owned())
    });
    assert!(reason.contains("ended"), "{reason}");
    // The name is free for the next one.
    let mut next = publish(&url);
    ffmpeg::wait_until_publishing(&mut next, live, SOON);
}

#[test]
fn ffmpeg_publishes_and_leaves_well() {
    let clip = Clip::small();
    publishes(
        |url| ffmpeg::publish(&clip, url),
        |publisher| {
            publisher.interrupt();
            publisher.wait(SOON);
        },
    );
}

#[test]
fn ffmpeg_publishes_and_is_killed() {
    let clip = Clip::small();
    publishes(|url| ffmpeg::publish(&clip, url), Running::kill);
}

#[test]
fn ffmpeg_encodes_while_it_publishes() {
    publishes(ffmpeg::publish_live, Running::kill);
}

#[test]
fn gstreamer_publishes() {
    // It plays a clip once, so one that outlasts the test.
    let clip = Clip::of(Shape {
        seconds: 60,
        ..SMALL
    });
    publishes(|url| gst::publish(&clip, url), Running::kill);
}

#[test]
fn second_publisher_of_a_name_is_refused() {
    let clip = Clip::small();
    let host = node().start();
    let api = host.client();
    let url = host.url("live/cam");
    let mut first = ffmpeg::publish(&clip, &url);
    api.wait_for_stream("live/cam", SOON);
    let refused = ffmpeg::publish(&clip, &url).wait(SOON);
    assert!(!refused.success(), "the second one was let in");
    assert!(first.ended().is_none(), "the first one was thrown out");
    ffmpeg::decodes(&url, Duration::from_secs(2));
}
