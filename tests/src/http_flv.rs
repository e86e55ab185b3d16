//! curl as the player of an HTTP-FLV stream: it records, and tells how the response ended.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use restreamd_rtmp::flv::Reader;
use restreamd_rtmp::message::Message;
use tempfile::TempDir;

use crate::clip::{AUDIO, VIDEO};
use crate::eventually::eventually;
use crate::proc::Running;

/// A recording curl.
#[derive(Debug)]
pub struct Recorder {
    running: Running,
    folder: TempDir,
}

impl Recorder {
    /// Starts to record a response, with these options of curl's.
    pub fn start(url: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let mut command = Command::new("curl");
        command.args(["-sSN", "--fail", url]).args(options);
        command.arg("-D").arg(folder.path().join("head.txt"));
        command.arg("-o").arg(folder.path().join("record.flv"));
        Self {
            running: Running::start(&mut command, "curl"),
            folder,
        }
    }

    /// The recording.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("record.flv")
    }

    /// Status line and headers of the response, in lower case.
    pub fn head(&self) -> String {
        let head = fs::read_to_string(self.folder.path().join("head.txt"));
        head.unwrap_or_default().to_ascii_lowercase()
    }

    /// Bytes recorded so far.
    pub fn size(&self) -> u64 {
        fs::metadata(self.file()).map_or(0, |m| m.len())
    }

    /// Whether the response goes on.
    pub fn is_running(&mut self) -> bool {
        self.running.ended().is_none()
    }

    /// Stops it in its tracks: its socket stays open and is not read.
    pub fn freeze(&mut self) {
        self.running.freeze();
    }

    /// Waits until `more` bytes came on top of those there are.
    ///
    /// # Panics
    /// When the response ended or the time is over.
    pub fn wait_for_more(&mut self, more: u64, within: Duration) {
        let goal = self.size() + more;
        eventually("curl gets media", within, || {
            let size = self.size();
            if size >= goal {
                return Ok(());
            }
            assert!(
                self.is_running(),
                "it ended: {}",
                self.running.stderr.text()
            );
            Err(format!("{size} of {goal} bytes"))
        });
    }

    /// What was recorded so far.
    ///
    /// # Panics
    /// When that is no FLV file.
    pub fn messages(&self) -> Vec<Message> {
        self.read().1
    }

    /// # Panics
    /// When the recording is no file from its header to the end of its last tag.
    pub fn assert_whole(&self) {
        let (reader, messages) = self.read();
        assert!(!messages.is_empty(), "nothing was recorded");
        reader.finish().expect("the last tag is whole");
    }

    /// # Panics
    /// When a timestamp of a track goes back, or there are none at all.
    pub fn assert_monotonic(&self) {
        let messages = self.messages();
        for kind in [AUDIO, VIDEO] {
            let times = messages.iter().filter(|one| one.type_id == kind);
            let times: Vec<u32> = times.map(|one| one.timestamp).collect();
            assert!(!times.is_empty(), "no frames of kind {kind}");
            let back = times.windows(2).find(|pair| pair[0] > pair[1]);
            assert_eq!(back, None, "timestamps of kind {kind} go back");
        }
    }

    fn read(&self) -> (Reader, Vec<Message>) {
        let mut reader = Reader::new();
        let file = fs::read(self.file()).unwrap_or_default();
        reader.buffer().extend_from_slice(&file);
        let next = || reader.poll().expect("it is an FLV file");
        let messages = std::iter::from_fn(next).collect();
        (reader, messages)
    }

    /// Waits for the end of the response; 0 when it was complete.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        self.running.wait(within)
    }
}
