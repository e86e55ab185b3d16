//! How much of the machine a plugin may use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use wasmtime::{StoreLimits, StoreLimitsBuilder};

use crate::id::RestreamType;

/// The clock of CPU time: a guest yields at each tick.
pub const TICK: Duration = Duration::from_millis(10);
/// `describe` and `check` end within this.
pub const CALL: Duration = Duration::from_secs(2);
/// Instances, memories and tables of one component: Python guests hold 40.
const CORE_INSTANCES: usize = 64;
/// Elements of a table; a large language runtime has 20,000.
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
    pub(super) fn store(&self) -> StoreLimits {
        StoreLimitsBuilder::new()
            .memory_size(self.memory_mib << 20)
            .table_elements(TABLE_ELEMENTS)
            .instances(CORE_INSTANCES)
            .memories(CORE_INSTANCES)
            .tables(CORE_INSTANCES)
            .trap_on_grow_failure(true)
            .build()
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
