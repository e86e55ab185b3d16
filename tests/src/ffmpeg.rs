//! ffmpeg as publisher and player, ffprobe as judge of what is played.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::clip::Clip;
use crate::continuity::breaks;
use crate::eventually::eventually;
use crate::proc::Running;

/// Time a player may take beyond the media it was asked for: connect, probe, join.
const PATIENCE: Duration = Duration::from_secs(20);

/// Publishes a clip in an endless loop, at its own speed, without encoding it again.
pub fn publish(clip: &Clip, url: &str) -> Running {
    publish_at(clip, url, 1)
}

/// The same at a multiple of its speed.
pub fn publish_at(clip: &Clip, url: &str, speed: u32) -> Running {
    let mut command = ffmpeg();
    command
        .args(["-readrate", &speed.to_string()])
        .args(["-stream_loop", "-1", "-i"])
        .arg(clip.path());
    command.args([
        "-c",
        "copy",
        "-flvflags",
        "no_sequence_end+no_duration_filesize",
        "-f",
        "flv",
        url,
    ]);
    Running::start(&mut command, "ffmpeg")
}

/// Waits as a server at `url` for one player, and plays a clip to it in an endless loop.
pub fn serve(clip: &Clip, url: &str) -> Running {
    let mut command = ffmpeg();
    command.args(["-re", "-stream_loop", "-1", "-i"]);
    command.arg(clip.path()).args(["-c", "copy"]);
    command.args(["-flvflags", "no_sequence_end+no_duration_filesize"]);
    command.args(["-f", "flv", "-listen", "1", url]);
    Running::start(&mut command, "ffmpeg")
}

/// Publishes a clip once and leaves.
pub fn publish_once(clip: &Clip, url: &str) -> Running {
    let mut command = ffmpeg();
    command
        .args(["-re", "-i"])
        .arg(clip.path())
        .args(["-c", "copy", "-f", "flv", url]);
    Running::start(&mut command, "ffmpeg")
}

/// Encodes a test picture and a tone as they are published, as a camera would.
pub fn publish_live(url: &str) -> Running {
    let mut command = ffmpeg();
    command.args(["-re", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25"]);
    command.args([
        "-re",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:sample_rate=44100",
    ]);
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "25",
        "-pix_fmt",
        "yuv420p",
    ]);
    command.args(["-c:a", "aac", "-b:a", "64k", "-f", "flv", url]);
    Running::start(&mut command, "ffmpeg")
}

/// Plays and decodes `media` of a stream.
///
/// # Panics
/// When the player fails, decodes nothing, or has any error to report.
pub fn decodes(url: &str, media: Duration) {
    let mut command = ffmpeg();
    command.args(["-xerror", "-i", url, "-t", &media.as_secs_f64().to_string()]);
    command.args(["-stats", "-f", "null", "-"]);
    let mut running = Running::start(&mut command, "ffmpeg");
    let status = running.wait(media + PATIENCE);
    let said = running.stderr.text();
    assert!(status.success(), "{url}: {status}: {said}");
    // The statistics line is rewritten in place with carriage returns.
    let lines: Vec<_> = said
        .split(['\n', '\r'])
        .filter(|line| !line.is_empty())
        .collect();
    let (stats, errors): (Vec<_>, Vec<_>) = lines
        .into_iter()
        .partition(|line| line.starts_with("frame="));
    assert!(
        errors.is_empty(),
        "{url} does not decode cleanly: {errors:?}"
    );
    let last = stats
        .last()
        .unwrap_or_else(|| panic!("{url}: nothing was decoded"));
    let frames = last
        .trim_start_matches("frame=")
        .split_whitespace()
        .next()
        .and_then(|n| n.parse::<u32>().ok());
    assert!(frames.is_some_and(|n| n > 0), "{url}: {last}");
}

/// Tells whether a player gets media from `url` at once.
pub fn plays(url: &str) -> bool {
    let mut command = ffmpeg();
    command.args(["-i", url, "-frames:v", "1", "-f", "null", "-"]);
    Running::start(&mut command, "ffmpeg")
        .wait(PATIENCE)
        .success()
}

/// A player that stays until it is stopped, decoding all it gets.
pub fn player(url: &str) -> Running {
    let mut command = ffmpeg();
    command.args(["-i", url, "-f", "null", "-"]);
    Running::start(&mut command, "ffmpeg")
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error"]);
    command
}

/// A coded packet: its kind and a hash of its data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// `video` or `audio`.
    pub kind: String,
    /// Hash of the data.
    pub hash: String,
}

/// The packets of a file or of `seconds` of a stream.
///
/// # Panics
/// When ffprobe fails or reports an error.
pub fn packets(input: &str, seconds: u32) -> Vec<Packet> {
    let mut command = Command::new("ffprobe");
    command.args([
        "-v",
        "error",
        "-read_intervals",
        &format!("%+{seconds}"),
        "-show_data_hash",
        "MD5",
    ]);
    command.args([
        "-show_entries",
        "packet=codec_type,data_hash",
        "-of",
        "csv=p=0",
        input,
    ]);
    let mut running = Running::start(&mut command, "ffmpeg");
    let status = running.wait(Duration::from_secs(seconds.into()) + PATIENCE);
    let errors = running.stderr.text();
    assert!(
        status.success() && errors.is_empty(),
        "{input}: {status}: {errors}"
    );
    let lines = running.stdout.all();
    let rows = lines.iter().filter_map(|line| line.split_once(','));
    rows.map(|(kind, hash)| Packet {
        kind: kind.to_owned(),
        hash: hash.trim_end_matches(',').to_owned(),
    })
    .collect()
}

/// A packet and when it is decoded, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// What it is.
    pub packet: Packet,
    /// Its decoding timestamp.
    pub dts: i64,
}

/// ffprobe, reading a file or a stream to its end, whenever that is; see [`timed`].
pub fn watch(input: &str) -> Running {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_data_hash", "MD5"]);
    let entries = "packet=codec_type,dts,data_hash";
    command.args(["-show_entries", entries, "-of", "csv=p=0", input]);
    Running::start(&mut command, "ffmpeg")
}

/// What a [`watch`] has told.
pub fn timed(watch: &Running) -> Vec<Timed> {
    let rows = watch.stdout.all();
    let timed = rows.iter().filter_map(|row| {
        let mut fields = row.split(',');
        let (kind, dts, hash) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Timed {
            packet: Packet {
                kind: kind.to_owned(),
                hash: hash.to_owned(),
            },
            dts: dts.parse().ok()?,
        })
    });
    timed.collect()
}

/// Packets of one kind.
pub fn of_kind(packets: &[Packet], kind: &str) -> Vec<Packet> {
    packets.iter().filter(|p| p.kind == kind).cloned().collect()
}

/// Asserts that what was played, a file or `seconds` of a stream, is an unbroken run of
/// the looped clip: at least `least` packets of each kind.
///
/// # Panics
/// When it is not.
pub fn plays_the_clip(clip: &Clip, played: &str, seconds: u32, least: usize) {
    let source = packets(clip.path().to_str().expect("UTF-8"), 3_600);
    let played = packets(played, seconds);
    for kind in ["video", "audio"] {
        let (source, played) = (of_kind(&source, kind), of_kind(&played, kind));
        assert!(
            played.len() >= least,
            "only {} {kind} packets",
            played.len()
        );
        let found = breaks(&source, &played);
        assert!(
            found.is_empty(),
            "{kind} packets are missing before {found:?}"
        );
    }
}

/// Codec, width and height of a stream's picture as ffprobe sees it: `h264,320,180`.
pub fn picture(url: &str) -> String {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0"]);
    command.args([
        "-show_entries",
        "stream=codec_name,width,height",
        "-of",
        "csv=p=0",
        url,
    ]);
    let mut running = Running::start(&mut command, "ffmpeg");
    let status = running.wait(PATIENCE);
    assert!(status.success(), "{url}: {}", running.stderr.text());
    running.stdout.text().trim().to_owned()
}

/// Decoding timestamps of a file's packets of one kind, in file order.
///
/// # Panics
/// When ffprobe fails.
pub fn decoding_times(file: &Path, kind: &str) -> Vec<f64> {
    let mut command = Command::new("ffprobe");
    command.args([
        "-v",
        "error",
        "-select_streams",
        kind,
        "-show_entries",
        "packet=dts_time",
        "-of",
        "csv=p=0",
    ]);
    let mut running = Running::start(command.arg(file), "ffmpeg");
    let status = running.wait(PATIENCE);
    assert!(
        status.success(),
        "{}: {}",
        file.display(),
        running.stderr.text()
    );
    running
        .stdout
        .all()
        .iter()
        .filter_map(|line| line.trim_end_matches(',').parse().ok())
        .collect()
}

/// Waits until a publisher is let in: it goes on after its first seconds.
pub fn wait_until_publishing(
    publisher: &mut Running,
    is_live: impl Fn() -> bool,
    within: Duration,
) {
    eventually("the publisher is live", within, || {
        if let Some(status) = publisher.ended() {
            panic!(
                "the publisher ended with {status}: {}",
                publisher.stderr.text()
            );
        }
        if is_live() {
            Ok(())
        } else {
            Err("not live".to_owned())
        }
    });
}
