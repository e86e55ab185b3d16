//! How much of the machine a plugin may use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use wasmtime::ResourceLimiter;

use crate::id::RestreamType;

/// The clock of CPU time: a guest yields at each tick.
pub const TICK: Duration = Duration::from_millis(10);
/// `describe` and `check` end within this.
pub const CALL: Duration = Duration::from_secs(2);
/// Instances, memories and tables of one component: Python guests hold 40.
const CORE_INSTANCES: usize = 64;
/// Elements of all tables of one instance; a large language runtime has 20,000.
const TABLE_ELEMENTS: usize = 100_000;
/// Handles the component model keeps for a store.
pub const COMPONENT_HANDLES: usize = 1_000;

/// The bounds of one plugin's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// MiB of memory of one instance.
    pub memory_mib: usize,
    /// Ticks of 10 ms without waiting or using a source after which an instance is interrupted.
    pub ticks: u32,
    /// Resource handles of one instance.
    pub handles: usize,
    /// Bytes one call may hand to the host.
    pub call_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 16,
            ticks: 10,
            handles: 64,
            call_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// For wasmtime. A guest that wants more traps.
    pub(super) fn store(&self) -> Budget {
        Budget {
            memory: self.memory_mib << 20,
            elements: TABLE_ELEMENTS,
        }
    }
}

/// Wanted more memory than was left of [`Limits::memory_mib`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more memory than the instance may have")]
pub(super) struct OutOfMemory;

/// What is left of an instance's memory and tables, over all of its memories and tables:
/// a component may have dozens of each.
#[derive(Debug)]
pub(super) struct Budget {
    memory: usize,
    elements: usize,
}

/// What is left when something grows; none when it cannot.
fn grown(left: usize, current: usize, desired: usize) -> Option<usize> {
    left.checked_sub(desired.saturating_sub(current))
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory = grown(self.memory, current, desired).ok_or(OutOfMemory)?;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.elements = grown(self.elements, current, desired).ok_or(OutOfMemory)?;
        Ok(true)
    }

    /// The budget is spent all the same: a guest whose host is out of memory is best ended.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES
    }

    fn memories(&self) -> usize {
        CORE_INSTANCES
    }
}

/// The `[plugins]` table of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Other names of types.
    pub aliases: BTreeMap<RestreamType, RestreamType>,
    /// Built-in types that a file of the plugin directory may replace.
    pub replace: Vec<RestreamType>,
    /// The bounds of every plugin.
    pub limits: Limits,
    /// The bounds of single plugins.
    pub overrides: BTreeMap<RestreamType, Limits>,
    /// Whether running restreamers move to a reloaded build.
    pub hand_over: HandOver,
    /// Where plugins lie; set by `plugin_dir`.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
}

/// What becomes of running restreamers when their plugin is reloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandOver {
    /// They hand their sources over to the new build.
    #[default]
    Always,
    /// They stay on the build they run on.
    NewOnly,
}

impl Config {
    /// The bounds of a type.
    pub fn limits_of(&self, kind: &RestreamType) -> Limits {
        self.overrides.get(kind).copied().unwrap_or(self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_memories_share_one_budget() {
        let mut budget = Limits::default().store();
        let mib = |n: usize| n << 20;
        assert!(matches!(budget.memory_growing(0, mib(6), None), Ok(true)));
        assert!(matches!(budget.memory_growing(0, mib(6), None), Ok(true)));
        // Its own maximum is no reason to trap, and costs nothing.
        let refused = budget.memory_growing(mib(6), mib(10), Some(mib(8)));
        assert!(matches!(refused, Ok(false)));
        let third = budget.memory_growing(0, mib(6), None);
        assert!(third.is_err_and(|error| error.is::<OutOfMemory>()));
        assert!(matches!(
            budget.memory_growing(mib(6), mib(10), None),
            Ok(true)
        ));
        assert!(budget.memory_growing(mib(6), mib(6) + 1, None).is_err());
    }

    #[test]
    fn many_small_tables_share_one_budget() {
        let mut budget = Limits::default().store();
        let half = TABLE_ELEMENTS / 2;
        assert!(matches!(budget.table_growing(0, half, None), Ok(true)));
        assert!(matches!(budget.table_growing(0, half, None), Ok(true)));
        assert!(budget.table_growing(half, half + 1, None).is_err());
    }
}
