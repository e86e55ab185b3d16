//! The `rtmp-push` type: a stream of this node is sent to a remote, and the stream never
//! waits for it.

use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::ffmpeg;
use restreamd_tests::host::Builder;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::receiver::Receiver;
use restreamd_tests::source::Source;

use crate::{SOON, node};

/// A peer that takes nothing is given up after ten seconds; a slow machine takes more.
const LATE: Duration = Duration::from_secs(40);

fn pushing() -> Builder {
    node().plugin("rtmp-push")
}

/// A standing order to push `live/cam`.
fn push(guid: &str, uri: &str) -> Provision {
    Provision::of_type("rtmp-push", guid, "live/cam")
        .with("rtmpUri", uri)
        .with("persist", true)
}

fn wait_for_messages(receiver: &Receiver, connection: usize, least: usize) {
    eventually("messages arrive", SOON, || {
        let came = receiver.of(connection).len();
        when(came >= least, || {
            format!("{came}, {} connections", receiver.connections())
        })
    });
}

#[test]
fn a_published_stream_arrives_whole_at_another_node_and_plays_there() {
    let clip = Clip::small();
    let (far, near) = (node().start(), pushing().start());
    let api = near.client();
    let order = push("push", &far.url("live/copy"));
    api.start(&order);
    let status = api.wait_for_phase(order.guid(), "waiting", SOON);
    assert_eq!(status["state"], "WAIT", "{status}");
    let _publisher = ffmpeg::publish(&clip, &near.url("live/cam"));
    let status = api.wait_for_state(order.guid(), "LIVE", SOON);
    assert_eq!(status["phase"], "live", "{status}");
    let target = &status["targets"][0];
    assert_eq!(target["state"], "flowing", "{status}");
    assert_eq!(target["droppedFrames"], 0, "{status}");
    let player = Player::attach(&far.url("live/copy"));
    player.wait_for_more(4 * 73, LATE);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    ffmpeg::decodes(&far.url("live/copy"), Duration::from_secs(2));
}

#[test]
fn each_connection_begins_with_headers_and_a_keyframe_and_a_lost_one_is_made_again() {
    let source = Source::open(&Clip::small());
    let receiver = Receiver::open();
    let host = pushing().start();
    let api = host.client();
    // What is pushed is pulled here.
    api.start(&Provision::pull(
        "pull",
        "live/cam",
        &source.url("live/stream1"),
    ));
    let order = push("push", &receiver.url("app/key"));
    api.start(&order);
    for connection in 0..3 {
        wait_for_messages(&receiver, connection, 100);
        receiver.assert_begins_well(connection);
        receiver.hang_up();
    }
    wait_for_messages(&receiver, 3, 1);
    let status = api.wait_for_state(order.guid(), "LIVE", SOON);
    assert!(status["attempt"].as_u64() >= Some(4), "{status}");
    assert_eq!(receiver.finished(), 0);
    api.delete(order.guid());
    eventually("it takes leave", SOON, || {
        when(receiver.finished() == 1, || receiver.finished().to_string())
    });
    assert_eq!(source.connections(), 1, "the pull is as it was");
}
