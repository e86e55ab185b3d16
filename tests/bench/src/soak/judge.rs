//! What the node holds, and whether it holds more than it did. Pure.

use std::fmt;

/// Resident memory may be larger by so many per cent.
const GROWTH: u64 = 5;
/// Descriptors and tasks may be so many more or fewer.
const MARGIN: u64 = 10;

/// What a node holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) resident_kib: u64,
    pub(crate) files: u64,
    pub(crate) threads: u64,
    pub(crate) tasks: u64,
    pub(crate) streams: u64,
    pub(crate) live: u64,
    pub(crate) subscribers: u64,
}

impl Sample {
    /// What its columns are.
    pub(crate) const HEAD: &str =
        "seconds                RSS KiB  files threads  tasks streams   live subscribers";

    /// Column by column the middle one.
    pub(crate) fn median(looks: &[Self]) -> Option<Self> {
        let middle = |column: fn(&Self) -> u64| {
            let mut column: Vec<u64> = looks.iter().map(column).collect();
            column.sort_unstable();
            column.get(column.len() / 2).copied()
        };
        Some(Self {
            resident_kib: middle(|s| s.resident_kib)?,
            files: middle(|s| s.files)?,
            threads: middle(|s| s.threads)?,
            tasks: middle(|s| s.tasks)?,
            streams: middle(|s| s.streams)?,
            live: middle(|s| s.live)?,
            subscribers: middle(|s| s.subscribers)?,
        })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resident_kib,
            files,
            threads,
            tasks,
            streams,
            live,
            subscribers,
        } = self;
        write!(
            f,
            "{resident_kib:>10} {files:>6} {threads:>7} {tasks:>6} {streams:>7} {live:>6} {subscribers:>11}"
        )
    }
}

/// What is wrong with the end, beside the reference; nothing when all is well.
pub(crate) fn judge(reference: &Sample, end: &Sample) -> Vec<String> {
    let mut faults = Vec::new();
    if end.resident_kib * 100 > reference.resident_kib * (100 + GROWTH) {
        let growth = end.resident_kib as f64 / reference.resident_kib as f64 - 1.0;
        faults.push(format!("resident memory grew by {:.1} %", growth * 100.0));
    }
    let counts = [
        ("file descriptors", reference.files, end.files),
        ("tasks", reference.tasks, end.tasks),
    ];
    for (name, reference, end) in counts {
        if end.abs_diff(reference) > MARGIN {
            faults.push(format!("{reference} {name} became {end}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: Sample = Sample {
        resident_kib: 100_000,
        files: 200,
        threads: 9,
        tasks: 300,
        streams: 60,
        live: 50,
        subscribers: 40,
    };

    fn faults(change: impl FnOnce(&mut Sample)) -> Vec<String> {
        let mut end = REFERENCE;
        change(&mut end);
        judge(&REFERENCE, &end)
    }

    #[test]
    fn a_node_that_holds_what_it_held_passes() {
        assert!(faults(|_| {}).is_empty());
        assert!(faults(|end| (end.files, end.tasks) = (210, 290)).is_empty());
        assert!(faults(|end| end.resident_kib = 105_000).is_empty());
        assert!(
            faults(|end| end.resident_kib = 50_000).is_empty(),
            "less is no fault"
        );
    }

    #[test]
    fn each_kind_of_growth_is_named() {
        assert_eq!(
            faults(|end| end.resident_kib = 105_100),
            ["resident memory grew by 5.1 %"]
        );
        assert_eq!(
            faults(|end| end.files = 211),
            ["200 file descriptors became 211"]
        );
        assert_eq!(faults(|end| end.tasks = 311), ["300 tasks became 311"]);
        assert_eq!(faults(|end| end.tasks = 289), ["300 tasks became 289"]);
        let all = faults(|end| (end.resident_kib, end.files, end.tasks) = (200_000, 0, 999));
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn the_median_leaves_single_peaks_out() {
        let looks = [9, 1_000, 10, 11, 12].map(|files| Sample { files, ..REFERENCE });
        assert_eq!(Sample::median(&looks).map(|s| s.files), Some(11));
        assert_eq!(Sample::median(&[]), None);
    }
}
