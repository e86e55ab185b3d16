//! What a process and the machine used, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use restreamd_tests::proc::Footprint;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// CPU time of a process, all its threads, in user and kernel mode.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The name in brackets may hold anything; utime and stime are the 12th and 13th after it.
    let (_, fields) = stat.rsplit_once(')').context("a malformed stat")?;
    let ticks: Option<u64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(from_ticks(ticks.context("a malformed stat")?))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    Footprint::of(pid).resident_kib * 1024
}

/// CPU time the machine spent idle since it started, all cores together.
pub(crate) fn idle() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = stat.split_whitespace().nth(4).context("a malformed stat")?;
    Ok(from_ticks(ticks.parse()?))
}

/// Nanoseconds of the clock that all processes of the machine share.
pub(crate) fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

/// Connections of this machine that failed while they were opened, so far: those
/// that were refused or timed out.
pub(crate) fn failed_connects() -> anyhow::Result<u64> {
    let snmp = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next(), lines.next());
    let (names, values) = names.zip(values).context("no Tcp in /proc/net/snmp")?;
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs
        .find(|(name, _)| *name == "AttemptFails")
        .context("no AttemptFails in /proc/net/snmp")?;
    Ok(value.parse()?)
}
