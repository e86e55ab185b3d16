//! Logs of appends, as nodes write them for tests, and whether two ever appended at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::host::Builder;

/// The environment variable that asks a node for the log.
const VARIABLE: &str = "RESTREAMD_APPEND_LOG";

/// The same builder, with a log of appends in the node's folder.
#[must_use]
pub fn logged(builder: Builder) -> Builder {
    let path = builder.folder().join("appends");
    builder.env(VARIABLE, &path.display().to_string())
}

/// What was appended to a stream under one epoch.
#[derive(Clone, Debug)]
pub struct Reign {
    /// By this node.
    pub node: String,
    /// Under this number.
    pub epoch: u64,
    /// `CLOCK_BOOTTIME` of the first append.
    pub first: Duration,
    /// And of the last.
    pub last: Duration,
}

/// The reigns over each stream, by epoch, out of the logs of all nodes. Logs may be cut by
/// a kill: what was not written then is what came last.
///
/// # Panics
/// When a log cannot be read.
pub fn reigns(logs: &[PathBuf]) -> BTreeMap<String, Vec<Reign>> {
    let mut reigns: BTreeMap<String, BTreeMap<u64, Reign>> = BTreeMap::new();
    for path in logs {
        let text = std::fs::read_to_string(path).expect("a log of appends");
        for line in text.lines().filter_map(|l| serde_json::from_str(l).ok()) {
            let line: Value = line;
            let at = |key: &str| Duration::from_nanos(line[key].as_u64().unwrap_or_default());
            let stream = line["stream"].as_str().unwrap_or_default().to_owned();
            let epoch = line["epoch"].as_u64().unwrap_or_default();
            let node = line["node"].as_str().unwrap_or_default().to_owned();
            let reign = reigns.entry(stream).or_default().entry(epoch);
            let reign = reign.or_insert_with(|| Reign {
                node: node.clone(),
                epoch,
                first: at("first"),
                last: at("last"),
            });
            assert_eq!(reign.node, node, "two nodes append under epoch {epoch}");
            reign.first = reign.first.min(at("first"));
            reign.last = reign.last.max(at("last"));
        }
    }
    let of = |(stream, reigns): (String, BTreeMap<u64, Reign>)| {
        (stream, reigns.into_values().collect::<Vec<_>>())
    };
    reigns.into_iter().map(of).collect()
}

/// No append under an epoch after the first one under a later one.
///
/// # Panics
/// When there was one.
pub fn judge(reigns: &BTreeMap<String, Vec<Reign>>) {
    for (stream, reigns) in reigns {
        for pair in reigns.windows(2) {
            let over = reigns.iter().filter(|reign| reign.epoch <= pair[0].epoch);
            for former in over {
                assert!(
                    former.last < pair[1].first,
                    "{stream}: {former:?} goes on after {:?} began",
                    pair[1]
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign(epoch: u64, first: u64, last: u64) -> Reign {
        Reign {
            node: format!("n{epoch}"),
            epoch,
            first: Duration::from_millis(first),
            last: Duration::from_millis(last),
        }
    }

    #[test]
    fn reigns_one_after_the_other_pass() {
        let reigns = vec![reign(1, 1, 5), reign(2, 6, 9), reign(4, 10, 11)];
        judge(&[("live/a".to_owned(), reigns)].into());
    }

    #[test]
    #[should_panic(expected = "goes on after")]
    fn one_that_goes_on_after_a_later_one_began_does_not() {
        let reigns = vec![reign(1, 1, 5), reign(2, 2, 3), reign(3, 10, 11)];
        judge(&[("live/a".to_owned(), reigns)].into());
    }
}
