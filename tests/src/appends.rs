//! Judges the logs in which nodes say when they appended media to a stream: under an epoch
//! nobody appends any more once somebody did under a later one.
//!
//! Times are of `CLOCK_BOOTTIME`, which the processes of one machine share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The environment variable that has a node write such a log.
pub const VARIABLE: &str = "RESTREAMD_APPEND_LOG";

/// First and last append of a node under one epoch of a stream, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    node: String,
    first: u64,
    last: u64,
}

/// What all nodes said: for each stream the spans under each epoch.
#[derive(Debug, Default)]
pub struct Appends(BTreeMap<String, BTreeMap<u64, Vec<Span>>>);

/// Where node `n` (from 1) writes its log below a folder.
pub fn file(folder: &Path, n: usize) -> PathBuf {
    folder.join(format!("appends-n{n}.jsonl"))
}

impl Appends {
    /// Reads the logs of nodes 1 to `nodes` in a folder.
    ///
    /// # Panics
    /// When one is missing or no log.
    pub fn read(folder: &Path, nodes: usize) -> Self {
        let mut all = Self::default();
        for n in 1..=nodes {
            let path = file(folder, n);
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            // What was being written when the node died is no line.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                all.note(line);
            }
        }
        all
    }

    fn note(&mut self, line: &str) {
        // Two runs of a node write into one file: the rest of a line that was cut is in front.
        let Some(line) = line.rfind('{').map(|begin| &line[begin..]) else {
            return;
        };
        let said: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let number = |key: &str| {
            said[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key}: {line}"))
        };
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let span = Span {
            node: text("node"),
            first: number("first"),
            last: number("last"),
        };
        let epochs = self.0.entry(text("stream")).or_default();
        let spans = epochs.entry(number("epoch")).or_default();
        match spans.iter_mut().find(|known| known.node == span.node) {
            Some(known) => {
                known.first = known.first.min(span.first);
                known.last = known.last.max(span.last);
            }
            None => spans.push(span),
        }
    }

    /// How often a stream went from one node to another.
    pub fn moves(&self) -> usize {
        let owners = |epochs: &BTreeMap<u64, Vec<Span>>| {
            let nodes: Vec<String> = epochs.values().flatten().map(|s| s.node.clone()).collect();
            nodes.windows(2).filter(|pair| pair[0] != pair[1]).count()
        };
        self.0.values().map(owners).sum()
    }

    /// What breaks the rule, as text.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (stream, epochs) in &self.0 {
            for (epoch, spans) in epochs {
                if spans.len() > 1 {
                    faults.push(format!("{stream}: several nodes under {epoch}: {spans:?}"));
                }
            }
            let ends: Vec<(&u64, &Span)> = epochs
                .iter()
                .flat_map(|(epoch, spans)| spans.iter().map(move |span| (epoch, span)))
                .collect();
            for (epoch, span) in &ends {
                let late = ends
                    .iter()
                    .find(|(later, by)| *later > epoch && by.first <= span.last);
                if let Some((later, by)) = late {
                    faults.push(format!(
                        "{stream}: {span:?} under {epoch} after {by:?} under {later}"
                    ));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appends(lines: &[(&str, u64, u64, u64)]) -> Appends {
        let mut all = Appends::default();
        for (node, epoch, first, last) in lines {
            all.note(&format!(
                r#"{{"node":"{node}","stream":"live/a","epoch":{epoch},"first":{first},"last":{last}}}"#
            ));
        }
        all
    }

    #[test]
    fn an_old_owner_that_goes_on_is_found_out() {
        let good = appends(&[("a", 1, 10, 20), ("a", 1, 10, 30), ("b", 2, 31, 50)]);
        assert!(good.faults().is_empty() && good.moves() == 1);
        // The gate was left open.
        let late = appends(&[("a", 1, 10, 20), ("b", 2, 31, 50), ("a", 1, 10, 32)]);
        assert_eq!(late.faults().len(), 1);
        // The claim was not asked for.
        let both = appends(&[("a", 1, 10, 20), ("b", 1, 30, 40)]);
        assert_eq!(both.faults().len(), 1);
    }
}
