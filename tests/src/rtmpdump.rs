//! rtmpdump: the librtmp player, which leaves after 30 s of silence.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::eventually::eventually;
use crate::proc::Running;

/// A recording rtmpdump.
#[derive(Debug)]
pub struct Rtmpdump {
    running: Running,
    folder: TempDir,
}

impl Rtmpdump {
    /// Starts to record a live stream.
    pub fn record(url: &str) -> Self {
        Self::with(&["--live", "-r", url])
    }

    /// Starts to record with these arguments.
    pub fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let mut command = Command::new("rtmpdump");
        command
            .args(arguments)
            .arg("-o")
            .arg(folder.path().join("record.flv"));
        Self {
            running: Running::start(&mut command, "rtmpdump"),
            folder,
        }
    }

    /// The recording.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("record.flv")
    }

    /// Bytes recorded so far.
    pub fn size(&self) -> u64 {
        fs::metadata(self.file()).map_or(0, |m| m.len())
    }

    /// What it said.
    pub fn said(&self) -> String {
        self.running.stderr.text()
    }

    /// Whether it still is at it.
    pub fn is_running(&mut self) -> bool {
        self.running.ended().is_none()
    }

    /// Waits until `more` bytes came on top of those there are.
    ///
    /// # Panics
    /// When it left or the time is over.
    pub fn wait_for_more(&mut self, more: u64, within: Duration) {
        let goal = self.size() + more;
        eventually("rtmpdump gets media", within, || {
            assert!(self.is_running(), "rtmpdump left: {}", self.said());
            let size = self.size();
            if size >= goal {
                Ok(())
            } else {
                Err(format!("{size} of {goal} bytes"))
            }
        });
    }

    /// Asks it to stop, and waits until the file is written.
    pub fn finish(&mut self) {
        self.running.interrupt();
        self.running.wait(Duration::from_secs(10));
    }
}
