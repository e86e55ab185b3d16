//! A current ffmpeg, of the Python wheel imageio-ffmpeg: Enhanced RTMP as publisher,
//! upstream and player. Debian's knows the classic codecs only.
//!
//! `tests/run tools` installs it. What a player got is compared packet by packet, and
//! each track's sequence header with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::continuity::breaks;
use crate::port;
use crate::proc::Running;

/// Time a player may take beyond the media it was asked for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Frames a second of all samples.
const FPS: f64 = 25.0;

/// Media of some codecs.
#[derive(Debug)]
pub struct Sample {
    /// What is in it.
    pub name: &'static str,
    /// Sides of each picture, in the order of the tracks.
    pictures: &'static [(u32, u32)],
    /// Options of the encoders.
    encoders: &'static str,
    /// What the API calls the codecs of the pictures and of the sound.
    codecs: (&'static [&'static str], &'static str),
}

/// What shows most pulls of cameras.
pub const HEVC_AAC: Sample = Sample {
    name: "hevc-aac",
    pictures: &[(322, 178)],
    encoders: "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:min-keyint=25 -c:a aac",
    codecs: (&["hevc"], "aac"),
};

/// What YouTube takes.
pub const AV1_OPUS: Sample = Sample {
    name: "av1-opus",
    pictures: &[(322, 178)],
    encoders: "-c:v libsvtav1 -preset 11 -g 25 -c:a libopus",
    codecs: (&["av1"], "opus"),
};

/// A codec whose parameter set has no size.
pub const VP9_OPUS: Sample = Sample {
    name: "vp9-opus",
    pictures: &[(322, 178)],
    encoders: "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -c:a libopus",
    codecs: (&["vp9"], "opus"),
};

/// Classic video, enhanced audio.
pub const AVC_FLAC: Sample = Sample {
    name: "avc-flac",
    pictures: &[(322, 178)],
    encoders: "-c:v libx264 -preset ultrafast -g 25 -c:a flac",
    codecs: (&["avc"], "flac"),
};

/// Two video tracks of two codecs.
pub const TWO_VIDEO_AC3: Sample = Sample {
    name: "two-video-ac3",
    pictures: &[(322, 178), (160, 90)],
    encoders: "-c:v:0 libx265 -preset:v:0 ultrafast -x265-params log-level=none:keyint=25:min-keyint=25 \
        -c:v:1 libx264 -preset:v:1 ultrafast -g 25 -c:a ac3",
    codecs: (&["hevc", "avc"], "ac3"),
};

/// Two tracks of what every browser plays.
pub const TWO_AVC_OPUS: Sample = Sample {
    name: "two-avc-opus",
    pictures: &[(322, 178), (160, 90)],
    encoders: "-c:v libx264 -preset ultrafast -g 25 -c:a libopus",
    codecs: (&["avc", "avc"], "opus"),
};

impl Sample {
    /// Three seconds of it in an FLV file, made once.
    ///
    /// # Panics
    /// When the ffmpeg is missing or fails.
    pub fn clip(&self) -> PathBuf {
        let folder = std::env::temp_dir().join("restreamd-tests");
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let path = folder.join(format!("modern-{}.flv", self.name));
        if !path.is_file() {
            // Under names of their own first, so that a parallel test never sees half a clip.
            let draft = || {
                tempfile::Builder::new()
                    .suffix(".flv")
                    .tempfile_in(&folder)
                    .expect("the folder is writable")
            };
            let (coded, copied) = (draft(), draft());
            run(self.encode().arg(coded.path()));
            // A copy is what a copy makes of it, and ends before what encoders say last.
            let mut copy = ffmpeg();
            copy.args(["-y", "-i"]).arg(coded.path());
            copy.args(["-t", "3", "-map", "0", "-c", "copy"]);
            run(copy.args(FLV).args(["-f", "flv"]).arg(copied.path()));
            copied.persist(&path).expect("a rename inside one folder");
        }
        path
    }

    fn encode(&self) -> Command {
        let mut command = ffmpeg();
        command.env("SVT_LOG", "0").arg("-y");
        for (width, height) in self.pictures {
            let picture = format!("testsrc2=size={width}x{height}:rate={FPS}");
            command.args(["-f", "lavfi", "-i", &picture]);
        }
        let tone = "sine=frequency=440:sample_rate=48000";
        command.args(["-f", "lavfi", "-i", tone, "-t", "4"]);
        for input in 0..=self.pictures.len() {
            command.args(["-map", &input.to_string()]);
        }
        command.args(self.encoders.split_whitespace());
        command.args(["-ac", "2"]);
        command
    }

    /// # Panics
    /// When what the API tells of a stream's media is not this.
    pub fn assert_media(&self, media: &Value) {
        let (codecs, sound) = self.codecs;
        let tracks = media["moreVideo"].as_array().expect("it is a list");
        assert_eq!(tracks.len() + 1, codecs.len(), "{media}");
        let videos = [&media["video"]].into_iter().chain(tracks);
        for (at, ((video, codec), (width, height))) in
            videos.zip(codecs).zip(self.pictures).enumerate()
        {
            let number = video.get("track").and_then(Value::as_u64);
            assert_eq!(number, (at > 0).then_some(at as u64), "{media}");
            assert_eq!(video["codec"], *codec, "{media}");
            assert_eq!(video["width"], *width, "{media}");
            assert_eq!(video["height"], *height, "{media}");
            let fps = video["fps"].as_f64().unwrap_or_default();
            assert!((fps - FPS).abs() < 0.3, "{media}");
        }
        assert_eq!(media["audio"]["codec"], sound, "{media}");
        assert_eq!(media["audio"]["sampleRate"], 48_000, "{media}");
        assert_eq!(media["audio"]["channels"], 2, "{media}");
        assert_eq!(media["moreAudio"], Value::Array(Vec::new()), "{media}");
    }

    /// # Panics
    /// When a player did not get each track's sequence header, or not each packet.
    pub fn assert_unbroken(&self, played: &Played) {
        let source = view(self.clip().to_str().expect("UTF-8"), None).played();
        assert_eq!(played.codecs, source.codecs, "{}", self.name);
        assert_eq!(played.headers, source.headers, "{}", self.name);
        for (track, (source, played)) in source.tracks.iter().zip(&played.tracks).enumerate() {
            let count = played.len();
            assert!(count >= 50, "{} {track}: {count} packets", self.name);
            let found = breaks(source, played);
            assert_eq!(found, [0_usize; 0], "{} {track}", self.name);
        }
    }
}

/// Neither ends nor lengths: streams have none.
const FLV: [&str; 2] = ["-flvflags", "no_sequence_end+no_duration_filesize"];

/// Publishes a clip over and over, at its own speed, without encoding it again.
pub fn publish(clip: &Path, url: &str) -> Running {
    let mut command = repeat(clip);
    Running::start(command.args(["-f", "flv", url]), WHEEL)
}

/// A server that plays a clip to whoever comes first, as a camera might, and its URL.
pub fn serve(clip: &Path) -> (Running, String) {
    let url = format!("rtmp://{}/live/cam", port::free());
    let mut command = repeat(clip);
    let server = Running::start(command.args(["-listen", "1", "-f", "flv", &url]), WHEEL);
    (server, url)
}

fn repeat(clip: &Path) -> Command {
    let mut command = ffmpeg();
    command.args(["-readrate", "1", "-stream_loop", "-1", "-i"]);
    command.arg(clip).args(["-map", "0", "-c", "copy"]);
    command.args(FLV);
    command
}

/// A player at work.
#[derive(Debug)]
pub struct View {
    input: String,
    running: Running,
}

/// What a player got.
#[derive(Debug)]
pub struct Played {
    /// Of each track, in ffmpeg's words.
    codecs: Vec<String>,
    /// Size and hash of the sequence headers, with the track's number.
    headers: Vec<String>,
    /// Hashes of the packets of each track.
    tracks: Vec<Vec<String>>,
}

impl Played {
    /// Number and codec of each track, in ffmpeg's words.
    pub fn codecs(&self) -> &[String] {
        &self.codecs
    }
}

/// Begins to play all tracks of a stream for some seconds, or of a file to its end,
/// and to decode them.
pub fn view(input: &str, seconds: Option<u32>) -> View {
    let length = seconds.map(|seconds| ["-t".to_owned(), seconds.to_string()]);
    let mut command = ffmpeg();
    command.args(["-xerror", "-i", input]);
    for output in [
        ["-c", "copy", "-f", "framemd5"],
        ["-threads", "1", "-f", "null"],
    ] {
        command.args(length.iter().flatten());
        command.args(["-map", "0"]).args(output).arg("-");
    }
    View {
        input: input.to_owned(),
        running: Running::start(&mut command, WHEEL),
    }
}

impl View {
    /// Waits for its end.
    ///
    /// # Panics
    /// When it fails or has any error to tell.
    pub fn played(mut self) -> Played {
        let status = self.running.wait(PATIENCE);
        let said = self.running.stderr.text();
        assert!(
            status.success() && said.is_empty(),
            "{}: {status}: {said}",
            self.input
        );
        let mut played = Played {
            codecs: Vec::new(),
            headers: Vec::new(),
            tracks: Vec::new(),
        };
        for line in self.running.stdout.all() {
            if let Some(header) = line.strip_prefix("#extradata ") {
                played.headers.push(header.to_owned());
            } else if let Some(codec) = line.strip_prefix("#codec_id ") {
                played.codecs.push(codec.to_owned());
                played.tracks.push(Vec::new());
            } else if let Some((track, packet)) = line.split_once(',')
                && !track.starts_with('#')
            {
                let track = track
                    .parse()
                    .ok()
                    .and_then(|n: usize| played.tracks.get_mut(n));
                let hash = packet.rsplit(',').next().unwrap_or_default().trim();
                track.expect("announced").push(hash.to_owned());
            }
        }
        played
    }
}

/// Where it comes from, for whoever misses it.
const WHEEL: &str = "imageio-ffmpeg of PyPI (tests/run tools)";

fn ffmpeg() -> Command {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin");
    let mut command = Command::new(tools.join("ffmpeg-current"));
    command.args(["-hide_banner", "-nostdin", "-v", "error"]);
    command
}

fn run(command: &mut Command) {
    let mut running = Running::start(command, WHEEL);
    let status = running.wait(Duration::from_secs(120));
    assert!(status.success(), "ffmpeg: {}", running.stderr.text());
}

/// Two seconds of VP8, a picture each, of this size. ffmpeg has an encoder, but its FLV
/// writer takes no VP8, so that a publisher of our own has to send it.
///
/// # Panics
/// When the ffmpeg is missing or fails.
pub fn vp8(width: u32, height: u32) -> Vec<Vec<u8>> {
    let file = tempfile::NamedTempFile::new().expect("the temporary folder is writable");
    let picture = format!("testsrc2=size={width}x{height}:rate={FPS}");
    let mut command = ffmpeg();
    command.args(["-y", "-f", "lavfi", "-i", &picture, "-t", "2"]);
    command.args(["-c:v", "libvpx", "-deadline", "realtime", "-g", "25"]);
    run(command.args(["-f", "ivf"]).arg(file.path()));
    let bytes = fs::read(file.path()).expect("it was just written");
    // A header of 32 bytes; 12 before each picture begin with its length.
    let mut rest = &bytes[32..];
    let mut pictures = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<12>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        pictures.push(tail[..length].to_vec());
        rest = &tail[length..];
    }
    pictures
}
