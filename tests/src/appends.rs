//! Logs of appends, as nodes write them for tests, and whether two ever appended at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::host::{Builder, TestHost};

/// The environment variable that asks a node for the log.
const VARIABLE: &str = "RESTREAMD_APPEND_LOG";
/// The log, in the node's folder.
const FILE: &str = "appends";

/// The same builder, with a log of appends in the node's folder.
#[must_use]
pub fn logged(builder: Builder) -> Builder {
    let path = builder.folder().join(FILE);
    builder.env(VARIABLE, &path.display().to_string())
}

/// What was appended to a stream under one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The reigns over each stream, by epoch.
pub type Reigns = BTreeMap<String, Vec<Reign>>;

/// What must not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A reign goes on after the first append of a later one.
    GoesOn {
        /// Over this stream.
        stream: String,
        /// The one that goes on.
        former: Reign,
        /// The one that has begun.
        later: Reign,
    },
    /// Two nodes append under one epoch.
    Shared {
        /// To this stream.
        stream: String,
        /// The one.
        one: Reign,
        /// The other.
        other: Reign,
    },
}

/// Where a node that was [`logged`] writes.
#[must_use]
pub fn log_of(node: &TestHost) -> PathBuf {
    node.folder().join(FILE)
}

/// The reigns over all streams, out of the logs of all nodes. Logs may be cut by a kill:
/// what was not written then is what came last.
///
/// # Panics
/// When a log cannot be read.
pub fn reigns(logs: &[PathBuf]) -> Reigns {
    let mut reigns: BTreeMap<String, BTreeMap<(u64, String), Reign>> = BTreeMap::new();
    for path in logs {
        let text = std::fs::read_to_string(path).expect("a log of appends");
        for line in text.lines().filter_map(|l| serde_json::from_str(l).ok()) {
            let line: Value = line;
            let at = |key: &str| Duration::from_nanos(line[key].as_u64().unwrap_or_default());
            let stream = line["stream"].as_str().unwrap_or_default().to_owned();
            let epoch = line["epoch"].as_u64().unwrap_or_default();
            let node = line["node"].as_str().unwrap_or_default().to_owned();
            let of_stream = reigns.entry(stream).or_default();
            let reign = of_stream.entry((epoch, node.clone()));
            let reign = reign.or_insert_with(|| Reign {
                node,
                epoch,
                first: at("first"),
                last: at("last"),
            });
            reign.first = reign.first.min(at("first"));
            reign.last = reign.last.max(at("last"));
        }
    }
    let of = |(stream, reigns): (String, BTreeMap<(u64, String), Reign>)| {
        (stream, reigns.into_values().collect::<Vec<_>>())
    };
    reigns.into_iter().map(of).collect()
}

/// What breaks the invariant: no append under an epoch after the first one under a later
/// one, and one node to an epoch.
#[must_use]
pub fn judge(reigns: &Reigns) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (stream, reigns) in reigns {
        for (n, later) in reigns.iter().enumerate() {
            for former in &reigns[..n] {
                violations.extend(judge_pair(stream, former, later));
            }
        }
    }
    violations
}

fn judge_pair(stream: &str, former: &Reign, later: &Reign) -> Option<Violation> {
    let (stream, former, later) = (stream.to_owned(), former.clone(), later.clone());
    if former.epoch == later.epoch {
        return Some(Violation::Shared {
            stream,
            one: former,
            other: later,
        });
    }
    (former.last >= later.first).then_some(Violation::GoesOn {
        stream,
        former,
        later,
    })
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

    fn judged(reigns: Vec<Reign>) -> Vec<Violation> {
        judge(&[("live/a".to_owned(), reigns)].into())
    }

    #[test]
    fn reigns_one_after_the_other_pass() {
        let reigns = vec![reign(1, 1, 5), reign(2, 6, 9), reign(4, 10, 11)];
        assert_eq!(judged(reigns), []);
    }

    #[test]
    fn one_that_goes_on_after_a_later_one_began_does_not() {
        let reigns = vec![reign(1, 1, 12), reign(2, 13, 14), reign(3, 10, 11)];
        let found = judged(reigns);
        let goes_on = |epoch| {
            let is = |v: &&Violation| matches!(v, Violation::GoesOn { former, later, .. } if (former.epoch, later.epoch) == (epoch, 3));
            found.iter().filter(is).count()
        };
        assert_eq!((found.len(), goes_on(1), goes_on(2)), (2, 1, 1));
    }

    #[test]
    fn an_epoch_of_two_nodes_does_not_pass() {
        let twin = Reign {
            node: "n9".to_owned(),
            ..reign(1, 6, 7)
        };
        let found = judged(vec![reign(1, 1, 5), twin]);
        assert!(matches!(found[..], [Violation::Shared { .. }]), "{found:?}");
    }

    #[test]
    fn logs_are_read_up_to_where_they_were_cut() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let log = r#"{"node":"n1","stream":"live/a","epoch":2,"first":5,"last":7}
{"node":"n1","stream":"live/a","epoch":2,"first":5,"last":9}
{"node":"n1","stream":"live/a","epoch":2,"first":5,"la"#;
        std::fs::write(file.path(), log).expect("writable");
        let read = reigns(&[file.path().to_owned()]);
        let nanos = Duration::from_nanos;
        let told = &read["live/a"][..];
        assert!(
            matches!(told, [Reign { node, epoch: 2, first, last }]
                if node == "n1" && (*first, *last) == (nanos(5), nanos(9))),
            "{told:?}"
        );
    }
}
