//! curl as the player of an HTTP-FLV stream: it records, and tells how the response ended.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

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

    /// Waits for the end of the response; 0 when it was complete.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        self.running.wait(within)
    }
}
