//! Short clips with picture and sound, made once by ffmpeg, and their FLV tags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;

use crate::continuity::fingerprint;
use crate::proc::Running;

/// FLV tag type of sound; the same number as the RTMP message type.
pub const AUDIO: u8 = 8;
/// FLV tag type of picture.
pub const VIDEO: u8 = 9;

/// What a clip looks like. H.264 and AAC, IDR frames at a fixed distance.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Frames a second.
    pub fps: u32,
    /// Frames from one keyframe to the next.
    pub gop: u32,
    /// Length in seconds.
    pub seconds: u32,
}

/// Small and with a keyframe every half second: quick to join.
pub const SMALL: Shape = Shape {
    size: (320, 180),
    fps: 30,
    gop: 15,
    seconds: 10,
};

/// A media message of a clip.
#[derive(Clone, Debug)]
pub struct Tag {
    /// [`AUDIO`], [`VIDEO`] or 18 for data.
    pub kind: u8,
    /// Milliseconds from the clip's begin.
    pub timestamp: u32,
    /// The body, as it is in an RTMP message.
    pub body: Bytes,
}

impl Tag {
    /// A codec's sequence header (AVC or AAC).
    pub fn is_sequence_header(&self) -> bool {
        matches!(self.kind, AUDIO | VIDEO) && is_sequence_header(self.kind, &self.body)
    }
}

/// A body that configures the codec (AVC or AAC) rather than carrying a frame.
pub fn is_sequence_header(kind: u8, body: &[u8]) -> bool {
    match (kind, body) {
        (VIDEO, [first, 0, ..]) => first & 0x0f == 7,
        (AUDIO, [first, 0, ..]) => first >> 4 == 10,
        _ => false,
    }
}

/// A prepared clip.
#[derive(Clone, Debug)]
pub struct Clip {
    path: PathBuf,
    tags: Vec<Tag>,
}

impl Clip {
    /// The clip of [`SMALL`].
    pub fn small() -> Self {
        Self::of(SMALL)
    }

    /// The clip of [`SMALL`] with pictures that are decoded in another order than they
    /// are shown in.
    ///
    /// # Panics
    /// When ffmpeg is missing or fails.
    pub fn with_b_frames() -> Self {
        Self::made(SMALL, "-bframes", &["-bf", "2"])
    }

    /// Makes the clip, or finds the one made before.
    ///
    /// # Panics
    /// When ffmpeg is missing or fails.
    pub fn of(shape: Shape) -> Self {
        Self::made(shape, "", &["-tune", "zerolatency"])
    }

    fn made(shape: Shape, name: &str, options: &[&str]) -> Self {
        let Shape {
            size: (width, height),
            fps,
            gop,
            seconds,
        } = shape;
        let folder = std::env::temp_dir().join("restreamd-tests");
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let path = folder.join(format!(
            "{width}x{height}-{fps}fps-gop{gop}-{seconds}s{name}.flv"
        ));
        if !path.is_file() {
            // Under a name of its own first, so that a parallel test never sees half a clip.
            let draft = tempfile::Builder::new()
                .suffix(".flv")
                .tempfile_in(&folder)
                .expect("the folder is writable");
            encode(shape, options, draft.path());
            draft.persist(&path).expect("a rename inside one folder");
        }
        let tags = tags(&fs::read(&path).expect("the clip was just made"));
        Self { path, tags }
    }

    /// The FLV file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Milliseconds from one begin of the looped clip to the next: past the last
    /// frame of both tracks.
    pub fn period(&self) -> u32 {
        /// A frame of AAC at 44.1 kHz lasts 23 ms, a picture at 25 fps 40 ms.
        const FRAME: u32 = 40;
        self.tags
            .iter()
            .map(|tag| tag.timestamp)
            .max()
            .unwrap_or_default()
            + FRAME
    }

    /// All its tags in file order.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Fingerprints of its frames of one kind, without sequence headers.
    pub fn frames(&self, kind: u8) -> Vec<u64> {
        let frames = self
            .tags
            .iter()
            .filter(|t| t.kind == kind && !t.is_sequence_header());
        frames.map(|t| fingerprint(&t.body)).collect()
    }
}

/// Cuts a file that a player was writing when it was stopped behind its last whole tag.
///
/// # Panics
/// When the file cannot be read or written.
pub fn trim(path: &Path) {
    let file = fs::read(path).expect("the recording is there");
    let whole: usize = tags(&file).iter().map(|tag| 11 + tag.body.len() + 4).sum();
    let end = file.len().min(9 + 4 + whole);
    fs::write(path, &file[..end]).expect("the recording can be written");
}

fn encode(shape: Shape, options: &[&str], path: &Path) {
    let Shape {
        size: (width, height),
        fps,
        gop,
        seconds,
    } = shape;
    let picture = format!("testsrc=size={width}x{height}:rate={fps}");
    let (gop, seconds) = (gop.to_string(), seconds.to_string());
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-y"]);
    command.args([
        "-f",
        "lavfi",
        "-i",
        &picture,
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440:sample_rate=44100",
    ]);
    command.args(["-t", &seconds, "-c:v", "libx264", "-preset", "ultrafast"]);
    command.args(options);
    command.args([
        "-g",
        &gop,
        "-keyint_min",
        &gop,
        "-sc_threshold",
        "0",
        "-pix_fmt",
        "yuv420p",
        "-b:v",
        "300k",
    ]);
    // The end of sequence would be one tag more that is no frame.
    command
        .args([
            "-c:a",
            "aac",
            "-b:a",
            "64k",
            "-flvflags",
            "no_sequence_end",
            "-f",
            "flv",
        ])
        .arg(path);
    let mut running = Running::start(&mut command, "ffmpeg");
    let status = running.wait(Duration::from_secs(120));
    assert!(status.success(), "ffmpeg: {}", running.stderr.text());
}

/// The tags of an FLV file that ffmpeg wrote; what is cut off at the end is left out.
fn tags(file: &[u8]) -> Vec<Tag> {
    /// File header and the first back pointer.
    const HEAD: usize = 9 + 4;
    let mut rest = file.get(HEAD..).unwrap_or_default();
    let mut tags = Vec::new();
    while let [kind, l0, l1, l2, t0, t1, t2, t3, _, _, _, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
        let Some(body) = after.get(..length) else {
            break;
        };
        let timestamp = u32::from_be_bytes([*t3, *t0, *t1, *t2]);
        tags.push(Tag {
            kind: *kind,
            timestamp,
            body: Bytes::copy_from_slice(body),
        });
        rest = after.get(length + 4..).unwrap_or_default();
    }
    tags
}
