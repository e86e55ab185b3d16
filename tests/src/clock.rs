//! The machine's clock, which all its processes share, also those in other namespaces.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the machine started, sleep included (`CLOCK_BOOTTIME`): what nodes log
/// their appends by.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}
