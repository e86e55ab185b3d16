//! Players over HTTP.

use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::continuity::breaks;
use restreamd_tests::ffmpeg;

use crate::{SOON, node};

#[test]
fn ffmpeg_decodes_and_ffprobe_sees_the_packets_that_were_published() {
    let clip = Clip::small();
    let host = node().start();
    let _publisher = ffmpeg::publish(&clip, &host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    let url = host.http("live/cam.flv");
    assert_eq!(ffmpeg::picture(&url), "h264,320,180");
    ffmpeg::decodes(&url, Duration::from_secs(3));
    let source = ffmpeg::packets(clip.path().to_str().expect("UTF-8"), 60);
    // Longer than the clip, so that its loop is in it.
    let played = ffmpeg::packets(&url, 12);
    for kind in ["video", "audio"] {
        let (source, played) = (
            ffmpeg::of_kind(&source, kind),
            ffmpeg::of_kind(&played, kind),
        );
        assert!(played.len() > 200, "only {} {kind} packets", played.len());
        assert_eq!(breaks(&source, &played), [0_usize; 0], "{kind}");
    }
}

#[test]
fn ffmpeg_leaves_when_the_stream_ends() {
    let host = node().start();
    let api = host.client();
    let mut publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    api.wait_for_stream("live/cam", SOON);
    let mut player = ffmpeg::player(&host.http("live/cam"));
    restreamd_tests::eventually::eventually("the player is counted", SOON, || {
        let list = api.streams();
        if list[0]["subscribers"] == 1 {
            Ok(())
        } else {
            Err(format!("{list:?}"))
        }
    });
    publisher.interrupt();
    assert!(player.wait(SOON).success(), "{}", player.stderr.text());
}
