//! A log of appends, for tests that judge whether two nodes ever appended at a time.
//!
//! Asked for by the environment variable [`VARIABLE`]; else nothing is noted. One line of
//! JSON for each stream and epoch with appends since the last one: the first and the last
//! append in nanoseconds of `CLOCK_BOOTTIME`, which all processes of a machine share.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tracing::warn;

use crate::id::{NodeId, StreamGuid};
use crate::stream::gate::Appends;

/// The environment variable that names the file. It is not part of the configuration.
pub const VARIABLE: &str = "RESTREAMD_APPEND_LOG";
/// How often it is written: more often than a test wants to know.
const EVERY: Duration = Duration::from_millis(20);

/// A log that is being written. A cheap handle.
#[derive(Clone, Debug)]
pub struct Proof(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    file: Mutex<File>,
    watched: Mutex<Vec<Watched>>,
}

#[derive(Debug)]
struct Watched {
    stream: StreamGuid,
    epoch: u64,
    appends: Arc<Appends>,
    told: Duration,
}

impl Proof {
    /// Begins a log, behind what the file holds already.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, node: NodeId) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let inner = Inner {
            node,
            file: Mutex::new(file),
            watched: Mutex::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Where appends to a stream under an epoch are noted from now on.
    pub(super) fn watch(&self, stream: &StreamGuid, epoch: u64) -> Arc<Appends> {
        let appends = Arc::<Appends>::default();
        self.0.watched.lock().push(Watched {
            stream: stream.clone(),
            epoch,
            appends: appends.clone(),
            told: Duration::ZERO,
        });
        appends
    }

    /// Writes until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.flush();
        }
    }

    /// Writes what was noted since.
    pub(super) fn flush(&self) {
        if let Err(error) = self.write() {
            warn!(%error, "the log of appends cannot be written");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let mut lines = Vec::new();
        self.0.watched.lock().retain_mut(|one| {
            // Looked at first: what is noted after it is told, too.
            let over = Arc::strong_count(&one.appends) == 1;
            let seen = one.appends.seen();
            if let Some((first, last)) = seen.filter(|(_, last)| *last > one.told) {
                one.told = last;
                let line = json!({
                    "node": self.0.node, "stream": one.stream, "epoch": one.epoch,
                    "first": nanos(first), "last": nanos(last),
                });
                lines.extend(line.to_string().into_bytes());
                lines.push(b'\n');
            }
            !over
        });
        if lines.is_empty() {
            return Ok(());
        }
        self.0.file.lock().write_all(&lines)
    }
}

fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_told_until_its_permit_is_gone() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let proof = Proof::open(file.path(), "n1".parse().expect("legal")).expect("opens");
        let appends = proof.watch(&"live/a".parse().expect("legal"), 3);
        let lines = || {
            proof.write().expect("writable");
            let text = std::fs::read_to_string(file.path()).expect("readable");
            let line = |line: &str| serde_json::from_str(line).expect("JSON");
            text.lines().map(line).collect::<Vec<serde_json::Value>>()
        };
        assert!(lines().is_empty(), "nothing was appended");
        appends.note_now();
        assert_eq!(lines().len(), 1);
        assert_eq!(lines().len(), 1, "nothing new");
        appends.note_now();
        drop(appends);
        let told = lines();
        assert_eq!(told.len(), 2);
        assert_eq!(
            (&told[1]["epoch"], &told[1]["node"]),
            (&3.into(), &"n1".into())
        );
        assert!(told[1]["first"].as_u64() < told[1]["last"].as_u64());
        assert!(proof.0.watched.lock().is_empty());
    }
}
