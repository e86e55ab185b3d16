//! Plugins: the installed restream types and their sandbox.
//!
//! The only module that names wasmtime. Finds, admits, offers and swaps builds;
//! a run talks to the rest of the host through `restreamer::host` alone.
//! Invariant: no plugin can stop the process or another plugin's run.

pub mod admission;
pub mod build;
mod cache;
mod clock;
pub mod description;
pub mod engine;
mod folder;
mod follow;
pub mod grants;
pub mod instance;
pub mod limits;
mod offline;
mod quarantine;
mod report;
pub mod scenario;
mod slot;
mod stdio;
#[cfg(test)]
mod tests;
pub mod trust;
mod watch;
pub mod wit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast;
use tracing::{error, info, warn};

pub use build::Build;
pub use description::{Description, Direction, Property};
pub use engine::Runtime;
pub use grants::Grants;
pub use instance::Crash;
pub use limits::{Config, HandOver, Limits};
pub use report::{described, report, report_under};

use admission::{Candidate, Rejected, Terms};
use quarantine::{Record, Verdict};
use slot::{Slot, State};
use trust::Trust;
use watch::Watch;

use crate::id::RestreamType;

/// The built-in pull policy; `plugins/build --update` makes it from source.
const BUILT_IN: &[u8] = include_bytes!("../../plugins/rtmp/rtmp.wasm");

/// Where a build comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Part of this program.
    BuiltIn,
    /// A file of the plugin directory.
    File(PathBuf),
}

/// What a plugin finds wrong with a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The property; empty when it is none in particular.
    pub key: String,
    /// For people.
    pub message: String,
}

/// Why properties were not checked, or not found good.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nobody offers the type.
    #[error("the type is not installed")]
    UnknownType {
        /// What is.
        installed: Vec<RestreamType>,
    },
    /// The plugin says what is wrong.
    #[error("the plugin refuses the properties")]
    Problems(Vec<Problem>),
    /// Too many of its restreamers crashed.
    #[error("the plugin is quarantined: {0}")]
    Quarantined(String),
    /// The plugin itself failed.
    #[error("the plugin failed: {0}")]
    Failed(String),
}

/// Why a plugin was not reloaded or rolled back.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No such plugin.
    #[error("no such plugin")]
    Unknown,
    /// It is part of the program.
    #[error("the plugin is built in and has no file")]
    BuiltIn,
    /// There is no former build to go back to.
    #[error("the plugin has no former build")]
    NoFormer,
    /// The file was not admitted; the former build stays.
    #[error("{0}")]
    Rejected(String),
}

/// What the API tells of a plugin.
#[derive(Clone, Debug)]
#[allow(
    missing_docs,
    reason = "the fields are those of GET plugins, see the API's documentation"
)]
pub struct PluginInfo {
    pub kind: RestreamType,
    pub version: String,
    pub digest: String,
    pub wit_version: String,
    pub origin: &'static str,
    pub state: &'static str,
    pub error: Option<String>,
    pub instances: u64,
    /// Of them, those on builds that are no longer in use.
    pub former_instances: u64,
    pub hand_over: &'static str,
    pub capabilities: Vec<String>,
    pub description: Option<Arc<Description>>,
}

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    config: Config,
    slots: RwLock<BTreeMap<RestreamType, Slot>>,
    watch: Mutex<Watch<Rejected>>,
    /// One small file and one large one are compiled at a time: a large one takes long.
    compilers: [tokio::sync::Mutex<()>; 2],
    swapped: broadcast::Sender<Swap>,
}

/// Another build of a type is in use, or the one there is gets another chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The type.
    pub kind: RestreamType,
    /// Restreamers that run move to it; else only those that run on nothing.
    pub hand_over: bool,
}

/// The installed plugins. A cheap handle.
#[derive(Clone, Debug)]
pub struct Plugins(Arc<Inner>);

impl Plugins {
    /// Admits what is built in and what lies in the plugin directory. A file that
    /// is not admitted is reported and keeps nothing else from starting; a large one
    /// that was not compiled before is left to [`Plugins::follow`].
    pub async fn load(runtime: Runtime, config: Config) -> anyhow::Result<Self> {
        let runtime = match &config.cache {
            Some(dir) => runtime.with_cache(dir),
            None => runtime,
        };
        let plugins = Self(Arc::new(Inner {
            runtime,
            config,
            slots: RwLock::default(),
            watch: Mutex::default(),
            compilers: Default::default(),
            swapped: broadcast::channel(64).0,
        }));
        let rtmp = Candidate {
            kind: "rtmp".parse()?,
            bytes: BUILT_IN.to_vec(),
            signature: None,
            origin: Origin::BuiltIn,
        };
        plugins.install(rtmp).await?;
        if let Some(dir) = plugins.0.config.dir.clone() {
            plugins.load_dir(&dir).await?;
        }
        Ok(plugins)
    }

    /// Admits a file, and has it in use from then on.
    async fn install(&self, candidate: Candidate) -> Result<(), Rejected> {
        let kind = candidate.kind.clone();
        let terms = self.0.config.terms_of(&kind, &candidate.origin);
        let build = admission::admit_under(&self.0.runtime, candidate, &terms).await?;
        info!(plugin = %kind, version = build.version, digest = build.digest, origin = ?build.origin, "plugin installed");
        if self.with_slot(&kind, |slot| slot.install(Arc::new(build))) {
            self.announce(&kind);
        }
        Ok(())
    }

    fn reject(&self, kind: &RestreamType, origin: &Origin, rejected: &Rejected) -> PluginError {
        let reason = rejected.to_string().replace('\n', " ");
        warn!(plugin = %kind, ?origin, reason, "plugin rejected");
        self.with_slot(kind, |slot| slot.reject(rejected.label(), reason.clone()));
        PluginError::Rejected(reason)
    }

    fn with_slot<T>(&self, kind: &RestreamType, act: impl FnOnce(&mut Slot) -> T) -> T {
        act(self.0.slots.write().entry(kind.clone()).or_default())
    }

    /// Types that were removed go when nothing runs on them any more.
    fn forget(&self) {
        let is_over = self.0.slots.read().values().any(Slot::is_over);
        if is_over {
            self.0.slots.write().retain(|_, slot| !slot.is_over());
        }
    }

    /// Types whose restreamers should run on another build now.
    pub fn swaps(&self) -> broadcast::Receiver<Swap> {
        self.0.swapped.subscribe()
    }

    /// Whoever missed swaps does these.
    pub fn swap_all(&self) -> Vec<Swap> {
        let kinds = self.types().into_iter();
        kinds.map(|kind| self.swap(&kind)).collect()
    }

    fn swap(&self, kind: &RestreamType) -> Swap {
        Swap {
            kind: kind.clone(),
            hand_over: self.0.config.hand_over_of(kind) == HandOver::Always,
        }
    }

    fn announce(&self, kind: &RestreamType) {
        // Nobody listens before the node runs.
        let _ = self.0.swapped.send(self.swap(kind));
    }

    /// Whether a file may be this type.
    fn may_replace(&self, kind: &RestreamType) -> bool {
        let slots = self.0.slots.read();
        let built_in = slots.get(kind).is_some_and(Slot::is_built_in);
        !built_in || self.0.config.replace.contains(kind)
    }

    /// What a type is granted.
    pub fn grants(&self, kind: &RestreamType) -> Grants {
        self.0.config.grants_of(kind)
    }

    /// Lines of log a second that a type's instances may write, if it is said.
    pub fn log_lines(&self, kind: &RestreamType) -> Option<u32> {
        self.0.config.limits_of(kind).log_lines
    }

    /// The type a provision means: its own name, or the one an alias stands for.
    pub fn resolve(&self, kind: &str) -> Option<RestreamType> {
        let kind: RestreamType = kind.parse().ok()?;
        let kind = self.0.config.aliases.get(&kind).cloned().unwrap_or(kind);
        self.build(&kind).map(|_| kind)
    }

    /// The installed types.
    pub fn types(&self) -> Vec<RestreamType> {
        let slots = self.0.slots.read();
        slots
            .iter()
            .filter(|(_, slot)| slot.current().is_some())
            .map(|(kind, _)| kind.clone())
            .collect()
    }

    /// The newest build of a type.
    pub fn build(&self, kind: &RestreamType) -> Option<Arc<Build>> {
        self.0.slots.read().get(kind)?.current().cloned()
    }

    /// The build that a restreamer is to run on; else why there is none. Of a type that
    /// was removed it is the one it ran on before.
    pub fn runnable(
        &self,
        kind: &RestreamType,
        before: Option<&Arc<Build>>,
    ) -> Result<Arc<Build>, String> {
        if let Some(why) = self.quarantined(kind) {
            return Err(format!("the plugin is quarantined: {why}"));
        }
        self.build(kind)
            .or_else(|| before.filter(|build| build.kind == *kind).cloned())
            .ok_or_else(|| format!("the type {kind} is not installed on this node"))
    }

    fn quarantined(&self, kind: &RestreamType) -> Option<String> {
        let slots = self.0.slots.read();
        slots.get(kind)?.quarantined().map(str::to_owned)
    }

    /// The types that new restreamers can have: installed and not quarantined.
    pub fn offered(&self) -> Vec<RestreamType> {
        let slots = self.0.slots.read();
        let offered = slots
            .iter()
            .filter(|(_, slot)| slot.current().is_some() && slot.quarantined().is_none());
        offered.map(|(kind, _)| kind.clone()).collect()
    }

    /// The digest of what a type runs on now.
    pub fn digest(&self, kind: &RestreamType) -> Option<String> {
        self.info(kind.as_str()).map(|info| info.digest)
    }

    /// What a type does and takes.
    pub fn describe(&self, kind: &RestreamType) -> Option<Arc<Description>> {
        self.build(kind).map(|build| build.description().clone())
    }

    /// Asks a type's plugin whether properties make a provision that can run.
    pub async fn check(
        &self,
        kind: &RestreamType,
        properties: &[(String, String)],
    ) -> Result<(), CheckError> {
        let Some(build) = self.build(kind) else {
            return Err(CheckError::UnknownType {
                installed: self.types(),
            });
        };
        if let Some(why) = self.quarantined(kind) {
            return Err(CheckError::Quarantined(why));
        }
        match build.check(properties).await {
            Ok(problems) if problems.is_empty() => Ok(()),
            Ok(problems) => Err(CheckError::Problems(problems)),
            Err(error) => Err(CheckError::Failed(error.to_string())),
        }
    }

    /// A run on a build crashed. One that is new and crashes again and again makes room
    /// for the build before it.
    pub fn crashed(&self, build: &Arc<Build>, crash: &Crash) {
        if let Some(slot) = self.0.slots.read().get(&build.kind) {
            slot.crashes.fetch_add(1, Ordering::Relaxed);
        }
        self.judge(build, |record| record.crashed(Instant::now(), crash.kind()));
    }

    /// A restreamer, known by a name of its own, failed because its build crashed again
    /// and again. Three of them take the build out of use.
    pub fn failed(&self, build: &Arc<Build>, restreamer: &str) {
        self.judge(build, |record| record.failed(Instant::now(), restreamer));
    }

    fn judge(&self, build: &Arc<Build>, judge: impl FnOnce(&mut Record) -> Option<Verdict>) {
        let mut slots = self.0.slots.write();
        let Some(slot) = slots.get_mut(&build.kind) else {
            return;
        };
        if let Some(withdrawn) = slot.judge(build, judge) {
            drop(slots);
            error!(plugin = %build.kind, version = build.version, digest = build.digest,
                reason = withdrawn.why, state = withdrawn.state.as_str(), "plugin build withdrawn");
            if withdrawn.state == State::RolledBack {
                self.announce(&build.kind);
            }
        }
    }

    /// Builds taken out of use because they crashed, by type and reason.
    pub fn withdrawn(&self) -> Vec<(RestreamType, &'static str, u64)> {
        self.counted(|slot| &slot.withdrawn)
    }

    /// Crashes so far, by type.
    pub fn crashes(&self) -> Vec<(RestreamType, u64)> {
        let slots = self.0.slots.read();
        slots
            .iter()
            .map(|(kind, slot)| (kind.clone(), slot.crashes.load(Ordering::Relaxed)))
            .collect()
    }

    /// A run did not answer an upgrade in time, and goes on as it is.
    pub fn upgrade_unanswered(&self, build: &Arc<Build>) {
        if let Some(slot) = self.0.slots.read().get(&build.kind) {
            slot.unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Upgrades that runs did not answer in time, by type.
    pub fn unanswered(&self) -> Vec<(RestreamType, u64)> {
        let slots = self.0.slots.read();
        let unanswered = slots
            .iter()
            .map(|(kind, slot)| (kind.clone(), slot.unanswered.load(Ordering::Relaxed)));
        unanswered.collect()
    }

    /// Files that were not admitted, by type and reason.
    pub fn rejections(&self) -> Vec<(RestreamType, &'static str, u64)> {
        self.counted(|slot| &slot.rejections)
    }

    fn counted(
        &self,
        of: impl Fn(&Slot) -> &BTreeMap<&'static str, u64>,
    ) -> Vec<(RestreamType, &'static str, u64)> {
        let slots = self.0.slots.read();
        let each = slots.iter().flat_map(|(kind, slot)| {
            let counts = of(slot).iter();
            counts.map(move |(label, count)| (kind.clone(), *label, *count))
        });
        each.collect()
    }

    /// All plugins, by type.
    pub fn list(&self) -> Vec<PluginInfo> {
        let slots = self.0.slots.read();
        let known = slots.iter().filter(|(_, slot)| !slot.is_over());
        known.map(|(kind, slot)| self.info_of(kind, slot)).collect()
    }

    /// One plugin.
    pub fn info(&self, name: &str) -> Option<PluginInfo> {
        let slots = self.0.slots.read();
        let known = slots
            .get_key_value(name)
            .filter(|(_, slot)| !slot.is_over());
        known.map(|(kind, slot)| self.info_of(kind, slot))
    }

    fn info_of(&self, kind: &RestreamType, slot: &Slot) -> PluginInfo {
        slot.info(kind, self.0.config.hand_over_of(kind))
    }

    /// Reads a plugin's file again. A file that is not admitted changes nothing.
    pub async fn reload(&self, name: &str) -> Result<PluginInfo, PluginError> {
        let kind: RestreamType = name.parse().map_err(|_| PluginError::Unknown)?;
        if !self.may_replace(&kind) {
            return Err(PluginError::BuiltIn);
        }
        let dir = self.0.config.dir.clone().ok_or(PluginError::Unknown)?;
        match folder::stamp(&dir, &kind) {
            Some(stamp) => self.0.watch.lock().known(Instant::now(), &kind, stamp),
            None if self.build(&kind).is_none() => return Err(PluginError::Unknown),
            None => {}
        }
        self.install_file(&dir, &kind).await?;
        self.info(name).ok_or(PluginError::Unknown)
    }

    /// Goes back to the build before.
    pub async fn rollback(&self, name: &str) -> Result<PluginInfo, PluginError> {
        let kind: RestreamType = name.parse().map_err(|_| PluginError::Unknown)?;
        let mut slots = self.0.slots.write();
        let slot = slots.get_mut(&kind).ok_or(PluginError::Unknown)?;
        if !slot.roll_back() {
            return Err(PluginError::NoFormer);
        }
        drop(slots);
        info!(plugin = %kind, "plugin rolled back");
        self.announce(&kind);
        self.info(name).ok_or(PluginError::Unknown)
    }
}

impl Config {
    /// Under which terms a file is admitted as a type.
    fn terms_of(&self, kind: &RestreamType, origin: &Origin) -> Terms {
        let trust = match origin {
            Origin::BuiltIn => Trust::default(),
            Origin::File(_) => Trust {
                pin: self.pin_of(kind).cloned(),
                require_pin: self.require_pin,
                keys: self.keys.clone(),
            },
        };
        Terms {
            limits: self.limits_of(kind),
            trust,
            grants: Some(self.grants_of(kind)),
        }
    }
}

/// Makes a component of a core module, with a version in its metadata.
pub fn component(module: &[u8], version: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let component = admission::component_bytes(module)?;
    let Some(version) = version else {
        return Ok(component);
    };
    let mut metadata = wasm_metadata::AddMetadata::default();
    metadata.version =
        wasm_metadata::AddMetadataField::Set(wasm_metadata::Version::new(version.to_owned()));
    metadata.to_wasm(&component)
}
