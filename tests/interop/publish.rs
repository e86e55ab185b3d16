//! Publishers.

use std::time::Duration;

use restreamd_tests::nginx::Nginx;

use restreamd_tests::clip::{Clip, SMALL, Shape};
use restreamd_tests::eventually::{eventually, when};
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

/// GStreamer plays a clip once, so one that outlasts the test.
fn long() -> Clip {
    Clip::of(Shape {
        seconds: 60,
        ..SMALL
    })
}

#[test]
fn gstreamer_publishes_and_leaves_well() {
    let clip = long();
    publishes(
        |url| gst::publish(&clip, url),
        |publisher| {
            publisher.interrupt();
            publisher.wait(SOON);
        },
    );
}

#[test]
fn gstreamer_publishes_and_is_killed() {
    let clip = long();
    publishes(|url| gst::publish(&clip, url), Running::kill);
}

#[test]
fn librtmp_publishes_and_is_killed() {
    let clip = long();
    publishes(|url| gst::publish_with_librtmp(&clip, url), Running::kill);
}

/// What a publisher sends comes out packet for packet; nothing else is its like.
fn passes_bit_exact(clip: &Clip, publish: impl Fn(&Clip, &str) -> Running) {
    let host = node().start();
    let api = host.client();
    let url = host.url("live/cam");
    let _publisher = publish(clip, &url);
    api.wait_for_stream("live/cam", SOON);
    ffmpeg::plays_the_clip(clip, &url, 5, 80);
}

#[test]
fn packets_of_gstreamer_come_out_as_they_went_in() {
    passes_bit_exact(&long(), gst::publish);
}

#[test]
fn packets_of_librtmp_come_out_as_they_went_in() {
    passes_bit_exact(&long(), gst::publish_with_librtmp);
}

#[test]
fn names_and_queries_of_publishers_are_taken_apart_as_players_write_them() {
    let clip = Clip::small();
    let host = node().start();
    let api = host.client();
    for (index, (published, stream)) in [
        ("live/cam-1_x.y~z?key=a,b&c==", "live/cam-1_x.y~z"),
        ("live/room/inner/cam2?token=%2F", "live/room/inner/cam2"),
        ("live/mp4:cam3", "live/cam3"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut publisher = ffmpeg::publish(&clip, &host.url(published));
        let live = || api.streams().iter().any(|s| s["streamGuid"] == stream);
        ffmpeg::wait_until_publishing(&mut publisher, live, SOON);
        ffmpeg::decodes(&host.url(published), Duration::from_secs(1));
        assert_eq!(api.streams().len(), 1, "{index}");
        publisher.interrupt();
        publisher.wait(SOON);
        eventually("the stream is gone", SOON, || {
            let left = api.streams();
            when(left.is_empty(), || format!("{left:?}"))
        });
    }
}

#[test]
fn nginx_pushes_what_is_published_to_it() {
    let clip = Clip::small();
    let host = node().start();
    let api = host.client();
    let nginx = Nginx::with(&format!("push rtmp://{}/live;", host.rtmp));
    let mut publisher = ffmpeg::publish(&clip, &nginx.url("cam"));
    api.wait_for_stream("live/cam", SOON);
    let player = Player::attach(&host.url("live/cam"));
    player.wait_for_more(200, SOON);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    ffmpeg::decodes(&host.url("live/cam"), Duration::from_secs(2));
    publisher.interrupt();
    eventually("the stream ends with its publisher", SOON, || {
        let left = api.streams();
        when(left.is_empty(), || format!("{left:?}"))
    });
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
