//! GStreamer: rtmp2sink and rtmp2src are its own RTMP, rtmpsink and rtmpsrc are librtmp.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::clip::{self, Clip};
use crate::proc::Running;

/// The package with rtmp2sink and rtmp2src; gst-launch-1.0 itself is in gstreamer1.0-tools.
const PACKAGE: &str = "gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad";

/// Publishes a clip once, at its own speed.
pub fn publish(clip: &Clip, url: &str) -> Running {
    publish_through("rtmp2sink", clip, url)
}

/// The same with librtmp.
pub fn publish_with_librtmp(clip: &Clip, url: &str) -> Running {
    publish_through("rtmpsink", clip, url)
}

fn publish_through(sink: &str, clip: &Clip, url: &str) -> Running {
    let file = text(clip.path());
    launch(&format!(
        "filesrc location={file} ! flvdemux name=d \
         d.video ! queue ! h264parse ! identity sync=true ! m. \
         d.audio ! queue ! aacparse ! identity sync=true ! m. \
         flvmux name=m streamable=true ! {sink} location={url}"
    ))
}

/// Records `buffers` messages of a stream as an FLV file.
///
/// # Panics
/// When the player fails or is too slow.
pub fn record(url: &str, buffers: u32, file: &Path) {
    record_through("rtmp2src", url, buffers, file);
}

/// The same with librtmp, whose buffers are of 4 KiB; the last tag is cut off.
///
/// # Panics
/// When the player fails or is too slow.
pub fn record_with_librtmp(url: &str, buffers: u32, file: &Path) {
    record_through("rtmpsrc", url, buffers, file);
    clip::trim(file);
}

fn record_through(source: &str, url: &str, buffers: u32, file: &Path) {
    let file = text(file);
    ends_well(&format!(
        "{source} location={url} num-buffers={buffers} ! filesink location={file}"
    ));
}

/// Plays `buffers` buffers of a stream.
///
/// # Panics
/// When the player fails or is too slow.
pub fn plays(url: &str, buffers: u32) {
    ends_well(&format!(
        "rtmp2src location={url} num-buffers={buffers} ! flvdemux name=d d.video ! queue ! fakesink d.audio ! queue ! fakesink"
    ));
}

fn ends_well(pipeline: &str) {
    let mut running = launch(pipeline);
    let status = running.wait(Duration::from_secs(30));
    assert!(
        status.success(),
        "{status}: {} {}",
        running.stdout.text(),
        running.stderr.text()
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn launch(pipeline: &str) -> Running {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(pipeline.split_whitespace());
    Running::start(&mut command, PACKAGE)
}
