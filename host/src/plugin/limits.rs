//! How much of the machine a plugin may use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use wasmtime::ResourceLimiter;

use super::grants::Grants;
use crate::id::RestreamType;

/// The clock of CPU time: a guest yields at each tick.
pub const TICK: Duration = Duration::from_millis(10);
/// `describe` and `check` end within this.
pub const CALL: Duration = Duration::from_secs(2);
/// A larger file brings a language's runtime along, such as JavaScript's (1.1 MB) or
/// Python's (18 MB): compilers of guests name it nowhere, and Rust and C stay far below.
pub const RUNTIME: usize = 512 << 10;
/// Handles the component model keeps for a store.
pub const COMPONENT_HANDLES: usize = 1_000;

/// The bounds of one plugin's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// MiB of memory of one instance.
    pub memory_mib: usize,
    /// The same of a file that brings a language's runtime along, see [`RUNTIME`].
    pub runtime_memory_mib: usize,
    /// Ticks of 10 ms without waiting after which an instance is interrupted.
    pub ticks: u32,
    /// Resource handles of one instance.
    pub handles: usize,
    /// Bytes one call may hand to the host.
    pub call_bytes: usize,
    /// Elements of all tables of one instance; a large language runtime has 20,000.
    pub table_elements: usize,
    /// Core instances, and memories, and tables, of one component; Python guests hold 40.
    pub core_instances: usize,
    /// Lines of log a second; by default `limits.guest_log_lines`.
    pub log_lines: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 16,
            runtime_memory_mib: 64,
            ticks: 10,
            handles: 64,
            call_bytes: 1 << 20,
            table_elements: 100_000,
            core_instances: 64,
            log_lines: None,
        }
    }
}

impl Limits {
    /// Those of a file of so many bytes.
    pub(super) fn of_size(self, bytes: usize) -> Self {
        Self {
            memory_mib: match bytes > RUNTIME {
                true => self.runtime_memory_mib,
                false => self.memory_mib,
            },
            ..self
        }
    }

    /// For wasmtime. A guest that wants more traps.
    pub(super) fn store(&self) -> Budget {
        Budget {
            memory: self.memory_mib << 20,
            elements: self.table_elements,
            instances: self.core_instances,
        }
    }
}

/// Wanted more memory than was left of [`Limits::memory_mib`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more memory than the instance may have")]
pub(super) struct OutOfMemory;

/// Wanted more elements of tables than were left of [`Limits::table_elements`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more table elements than the instance may have")]
pub(super) struct OutOfTable;

/// What is left of an instance's memory and tables, over all of its memories and tables:
/// a component may have dozens of each.
#[derive(Debug)]
pub(super) struct Budget {
    memory: usize,
    elements: usize,
    instances: usize,
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
        self.elements = grown(self.elements, current, desired).ok_or(OutOfTable)?;
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
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

/// The `[plugins]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the plugin directory is watched; else files are read when asked for.
    pub watch: bool,
    /// Other names of types.
    pub aliases: BTreeMap<RestreamType, RestreamType>,
    /// Built-in types that a file of the plugin directory may replace.
    pub replace: Vec<RestreamType>,
    /// Ed25519 keys: when there are any, a file must be signed by one of them, or be pinned.
    pub keys: Vec<PublicKey>,
    /// Whether every file must be pinned by its `sha256`.
    pub require_pin: bool,
    /// The bounds of every plugin.
    pub limits: Limits,
    /// What is different for single plugins.
    pub overrides: BTreeMap<RestreamType, Override>,
    /// Whether running restreamers move to a reloaded build.
    pub hand_over: HandOver,
    /// Where plugins lie; set by `plugin_dir`.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// Where compiled code is kept; set by the node, absent on one that forgets.
    #[serde(skip)]
    pub cache: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            watch: true,
            aliases: BTreeMap::new(),
            replace: Vec::new(),
            keys: Vec::new(),
            require_pin: false,
            limits: Limits::default(),
            overrides: BTreeMap::new(),
            hand_over: HandOver::default(),
            dir: None,
            cache: None,
        }
    }
}

/// The `[plugins.overrides.<type>]` table. What is absent is as for every plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the bounds are those of Limits")]
pub struct Override {
    pub memory_mib: Option<usize>,
    pub ticks: Option<u32>,
    pub handles: Option<usize>,
    pub call_bytes: Option<usize>,
    pub table_elements: Option<usize>,
    pub core_instances: Option<usize>,
    pub log_lines: Option<u32>,
    /// The one file that may be this plugin, by its digest.
    pub sha256: Option<Pin>,
    pub hand_over: Option<HandOver>,
    /// Where it may dial, and what it may import.
    pub grants: Grants,
}

/// A sha256 in hex, kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pin(String);

impl Pin {
    /// 64 lower-case hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pin {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| Self(text.to_ascii_lowercase()))
            .ok_or("must be 64 hex digits")
    }
}

/// An ed25519 key of somebody whose plugins are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicKey(pub(super) [u8; 32]);

impl TryFrom<String> for PublicKey {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        unhex(&text).map(Self).ok_or("must be 64 hex digits")
    }
}

/// Bytes of as many pairs of hex digits.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        // A sign is no digit, though a number may begin with it.
        let digits = text.get(at..at + 2).filter(|d| !d.contains('+'))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

/// What becomes of running restreamers when their plugin is reloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandOver {
    /// They hand their sources over to the new build.
    #[default]
    #[serde(alias = "hand-over")]
    Always,
    /// They stay on the build they run on.
    NewOnly,
}

impl HandOver {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::NewOnly => "new-only",
        }
    }
}

impl Limits {
    /// The key of a bound with which nothing could run, or the machine would be gone.
    fn out_of_bounds(&self) -> Option<&'static str> {
        let bounds = [
            ("memory_mib", (1..=4_096).contains(&self.memory_mib)),
            (
                "runtime_memory_mib",
                (1..=4_096).contains(&self.runtime_memory_mib),
            ),
            ("ticks", (1..=6_000).contains(&self.ticks)),
            ("handles", (1..=100_000).contains(&self.handles)),
            ("call_bytes", (1 << 10..=1 << 30).contains(&self.call_bytes)),
            ("table_elements", self.table_elements <= 10_000_000),
            (
                "core_instances",
                (1..=10_000).contains(&self.core_instances),
            ),
        ];
        bounds.iter().find(|(_, good)| !good).map(|(key, _)| *key)
    }
}

impl Config {
    /// The key of the first bound that is none.
    pub fn out_of_bounds(&self) -> Option<String> {
        let all = self.limits.out_of_bounds();
        let all = all.map(|key| format!("plugins.limits.{key}"));
        let own = self.overrides.keys().find_map(|kind| {
            let key = self.limits_of(kind).out_of_bounds()?;
            Some(format!("plugins.overrides.{kind}.{key}"))
        });
        all.or(own)
    }

    /// The bounds of a type.
    pub fn limits_of(&self, kind: &RestreamType) -> Limits {
        let all = self.limits;
        let Some(own) = self.overrides.get(kind) else {
            return all;
        };
        Limits {
            memory_mib: own.memory_mib.unwrap_or(all.memory_mib),
            // Who names one plugin means that plugin, whatever it brings along.
            runtime_memory_mib: own.memory_mib.unwrap_or(all.runtime_memory_mib),
            ticks: own.ticks.unwrap_or(all.ticks),
            handles: own.handles.unwrap_or(all.handles),
            call_bytes: own.call_bytes.unwrap_or(all.call_bytes),
            table_elements: own.table_elements.unwrap_or(all.table_elements),
            core_instances: own.core_instances.unwrap_or(all.core_instances),
            log_lines: own.log_lines.or(all.log_lines),
        }
    }

    /// Whether running restreamers of a type move to a new build.
    pub fn hand_over_of(&self, kind: &RestreamType) -> HandOver {
        let own = self.overrides.get(kind).and_then(|own| own.hand_over);
        own.unwrap_or(self.hand_over)
    }

    /// What a type is granted.
    pub fn grants_of(&self, kind: &RestreamType) -> Grants {
        let own = self.overrides.get(kind);
        own.map(|own| own.grants.clone()).unwrap_or_default()
    }

    /// The one digest a type's file may have, if there is one.
    pub fn pin_of(&self, kind: &RestreamType) -> Option<&Pin> {
        self.overrides.get(kind)?.sha256.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_runtime_has_more_memory_unless_its_plugin_is_told_otherwise() {
        let mut config = Config::default();
        let kind: RestreamType = "py".parse().expect("legal");
        let mib = |config: &Config, bytes| config.limits_of(&kind).of_size(bytes).memory_mib;
        assert_eq!((mib(&config, RUNTIME), mib(&config, RUNTIME + 1)), (16, 64));
        let own = Override {
            memory_mib: Some(20),
            ..Override::default()
        };
        config.overrides.insert(kind.clone(), own);
        assert_eq!((mib(&config, 1), mib(&config, RUNTIME + 1)), (20, 20));
    }

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
        let half = Limits::default().table_elements / 2;
        assert!(matches!(budget.table_growing(0, half, None), Ok(true)));
        assert!(matches!(budget.table_growing(0, half, None), Ok(true)));
        assert!(budget.table_growing(half, half + 1, None).is_err());
    }

    #[test]
    fn an_override_changes_what_it_names_and_nothing_else() {
        let text = "[limits]\nhandles = 7\n[overrides.slow]\nticks = 20\nhand_over = \"new-only\"";
        let config: Config = toml::from_str(text).expect("legal");
        let slow: RestreamType = "slow".parse().expect("legal");
        let other: RestreamType = "other".parse().expect("legal");
        let limits = config.limits_of(&slow);
        assert_eq!(
            (limits.ticks, limits.handles, limits.memory_mib),
            (20, 7, 16)
        );
        assert_eq!(config.limits_of(&other).ticks, 10);
        assert_eq!(config.hand_over_of(&slow), HandOver::NewOnly);
        assert_eq!(config.hand_over_of(&other), HandOver::Always);
        let same: Config = toml::from_str("hand_over = \"hand-over\"").expect("its other name");
        assert_eq!(same.hand_over_of(&other), HandOver::Always);
    }

    #[test]
    fn keys_and_pins_are_hex_of_their_length() {
        assert_eq!(unhex::<2>("0aFf"), Some([0x0a, 0xff]));
        for bad in ["0aF", "0aFfe", "+a0f", "0g00", "é0a"] {
            assert_eq!(unhex::<2>(bad), None, "{bad}");
        }
        let key = "ab".repeat(32);
        let good = format!(
            "keys = [\"{key}\"]\n[overrides.a]\nsha256 = \"{}\"",
            key.to_uppercase()
        );
        let config: Config = toml::from_str(&good).expect("legal");
        let kind: RestreamType = "a".parse().expect("legal");
        assert_eq!(config.pin_of(&kind).map(Pin::as_str), Some(key.as_str()));
        for bad in ["keys = [\"ab\"]", "[overrides.a]\nsha256 = \"zz\""] {
            assert!(toml::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
