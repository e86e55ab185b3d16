//! GStreamer's own RTMP elements: rtmp2sink publishes, rtmp2src plays.

use std::process::Command;
use std::time::Duration;

use crate::clip::Clip;
use crate::proc::Running;

/// The package with rtmp2sink and rtmp2src; gst-launch-1.0 itself is in gstreamer1.0-tools.
const PACKAGE: &str = "gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad";

/// Publishes a clip once, at its own speed.
pub fn publish(clip: &Clip, url: &str) -> Running {
    let file = clip.path().to_str().expect("temporary paths are UTF-8");
    let pipeline = format!(
        "filesrc location={file} ! flvdemux name=d \
         d.video ! queue ! h264parse ! identity sync=true ! m. \
         d.audio ! queue ! aacparse ! identity sync=true ! m. \
         flvmux name=m streamable=true ! rtmp2sink location={url}"
    );
    launch(&pipeline)
}

/// Plays `buffers` buffers of a stream.
///
/// # Panics
/// When the player fails or is too slow.
pub fn plays(url: &str, buffers: u32) {
    let pipeline = format!(
        "rtmp2src location={url} num-buffers={buffers} ! flvdemux name=d d.video ! queue ! fakesink d.audio ! queue ! fakesink"
    );
    let mut running = launch(&pipeline);
    let status = running.wait(Duration::from_secs(30));
    assert!(
        status.success(),
        "{status}: {} {}",
        running.stdout.text(),
        running.stderr.text()
    );
}

fn launch(pipeline: &str) -> Running {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(pipeline.split_whitespace());
    Running::start(&mut command, PACKAGE)
}
