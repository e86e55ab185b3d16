//! Waiting for a condition: polled, with a deadline, told what was seen last.
//!
//! Nothing else in the suites waits, so there is one place that sleeps and no
//! sleep that stands for synchronisation.

use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks: short against every bound the suites prove (1 s and up).
const POLL: Duration = Duration::from_millis(15);

/// Waits until `probe` answers `Ok`, and answers what it found.
///
/// `probe` says in its error what it saw instead.
///
/// # Panics
/// When `within` has passed, with `what` and the last observation.
pub fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() >= within => {
                panic!("not within {within:?}: {what}; last seen: {seen}")
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Watches that `probe` answers `Ok` all through `window`.
///
/// # Panics
/// At the first `Err`, with `what` and the observation.
pub fn holds(what: &str, window: Duration, mut probe: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while start.elapsed() < window {
        if let Err(seen) = probe() {
            panic!(
                "ceased to hold after {:?}: {what}; seen: {seen}",
                start.elapsed()
            );
        }
        thread::sleep(POLL);
    }
}

/// `Ok` when `holds`, else the observation: makes a probe of a comparison.
///
/// # Errors
/// The text of `seen`.
pub fn when(holds: bool, seen: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen()) }
}
