//! Plugins: the installed restream types and their sandbox.
//!
//! The only module that names wasmtime. Finds, admits, offers and swaps builds;
//! a run talks to the rest of the host through `restreamer::host` alone.
//! Invariant: no plugin can stop the process or another plugin's run.

pub mod admission;
pub mod build;
pub mod description;
pub mod engine;
pub mod instance;
pub mod limits;
mod offline;
mod quarantine;
pub mod scenario;
mod stdio;
#[cfg(test)]
mod tests;
pub mod wit;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::RwLock;
use tokio::sync::broadcast;
use tracing::{error, info, warn};

pub use build::Build;
pub use description::{Description, Direction, Property};
pub use engine::Runtime;
pub use instance::Crash;
pub use limits::{Config, HandOver, Limits};

use quarantine::{Record, Verdict};

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
    pub capabilities: Vec<String>,
    pub description: Option<Arc<Description>>,
}

#[derive(Debug, Default)]
struct Slot {
    current: Option<Arc<Build>>,
    former: Option<Arc<Build>>,
    state: &'static str,
    error: Option<String>,
    crashes: AtomicU64,
    record: Record,
    /// Builds that were taken out of use because they crashed.
    withdrawn: u64,
}

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    config: Config,
    slots: RwLock<BTreeMap<RestreamType, Slot>>,
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
    /// is not admitted is reported and keeps nothing else from starting.
    pub async fn load(runtime: Runtime, config: Config) -> anyhow::Result<Self> {
        let plugins = Self(Arc::new(Inner {
            runtime,
            config,
            slots: RwLock::default(),
            swapped: broadcast::channel(64).0,
        }));
        let rtmp: RestreamType = "rtmp".parse()?;
        plugins
            .install(&rtmp, BUILT_IN.to_vec(), Origin::BuiltIn)
            .await?;
        if let Some(dir) = plugins.0.config.dir.clone() {
            plugins.load_dir(&dir).await?;
        }
        Ok(plugins)
    }

    async fn load_dir(&self, dir: &Path) -> anyhow::Result<()> {
        let unreadable =
            |error: io::Error| anyhow::anyhow!("plugin_dir {}: {error}", dir.display());
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .map_err(unreadable)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        });
        files.sort();
        for path in files {
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            let Ok(kind) = stem.parse::<RestreamType>() else {
                warn!(file = %path.display(), "not a plugin: its stem must be 1 to 32 of a-z 0-9 -");
                continue;
            };
            if self.is_built_in(&kind) && !self.0.config.replace.contains(&kind) {
                warn!(file = %path.display(), "not loaded: the type is built in and plugins.replace does not name it");
                continue;
            }
            // The reason is in the log and in GET plugins.
            let _ = self.install_file(&kind, &path).await;
        }
        Ok(())
    }

    async fn install_file(&self, kind: &RestreamType, path: &Path) -> Result<(), PluginError> {
        let read = path.to_owned();
        let bytes = tokio::task::spawn_blocking(move || read_whole(&read)).await;
        let bytes = bytes.unwrap_or_else(|_| Err(io::Error::other("reading failed")));
        match bytes {
            Ok(bytes) => {
                self.install(kind, bytes, Origin::File(path.to_owned()))
                    .await
            }
            Err(error) => {
                Err(self.reject(kind, &Origin::File(path.to_owned()), &error.to_string()))
            }
        }
    }

    async fn install(
        &self,
        kind: &RestreamType,
        bytes: Vec<u8>,
        origin: Origin,
    ) -> Result<(), PluginError> {
        let limits = self.0.config.limits_of(kind);
        let build =
            match admission::admit(&self.0.runtime, kind, bytes, origin.clone(), limits).await {
                Ok(build) => Arc::new(build),
                Err(error) => return Err(self.reject(kind, &origin, &error.to_string())),
            };
        info!(plugin = %kind, version = build.version, digest = build.digest, ?origin, "plugin installed");
        let mut slots = self.0.slots.write();
        let slot = slots.entry(kind.clone()).or_default();
        let unchanged = slot
            .current
            .as_ref()
            .is_some_and(|current| current.digest == build.digest);
        (slot.state, slot.error) = ("ready", None);
        // A build that was quarantined gets another chance when it is asked for.
        let again = slot.record.quarantined().is_some();
        if !unchanged {
            slot.former = slot.current.replace(build);
        }
        if !unchanged || again {
            slot.record = Record::default();
            drop(slots);
            self.announce(kind);
        }
        Ok(())
    }

    fn reject(&self, kind: &RestreamType, origin: &Origin, reason: &str) -> PluginError {
        warn!(plugin = %kind, ?origin, reason, "plugin rejected");
        let mut slots = self.0.slots.write();
        let slot = slots.entry(kind.clone()).or_default();
        // What is in use is no better for it: while it is quarantined, that is shown.
        if slot.record.quarantined().is_none() {
            slot.state = "rejected";
        }
        slot.error = Some(reason.to_owned());
        PluginError::Rejected(reason.to_owned())
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
            hand_over: self.0.config.hand_over == HandOver::Always,
        }
    }

    fn announce(&self, kind: &RestreamType) {
        // Nobody listens before the node runs.
        let _ = self.0.swapped.send(self.swap(kind));
    }

    fn is_built_in(&self, kind: &RestreamType) -> bool {
        let slots = self.0.slots.read();
        let current = slots.get(kind).and_then(|slot| slot.current.as_ref());
        current.is_some_and(|build| build.origin == Origin::BuiltIn)
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
            .filter(|(_, slot)| slot.current.is_some())
            .map(|(kind, _)| kind.clone())
            .collect()
    }

    /// The newest build of a type.
    pub fn build(&self, kind: &RestreamType) -> Option<Arc<Build>> {
        self.0.slots.read().get(kind)?.current.clone()
    }

    /// The build that a restreamer is to run on; else why there is none.
    pub fn runnable(&self, kind: &RestreamType) -> Result<Arc<Build>, String> {
        if let Some(why) = self.quarantined(kind) {
            return Err(format!("the plugin is quarantined: {why}"));
        }
        self.build(kind)
            .ok_or_else(|| format!("the type {kind} is not installed on this node"))
    }

    fn quarantined(&self, kind: &RestreamType) -> Option<String> {
        let slots = self.0.slots.read();
        slots.get(kind)?.record.quarantined().map(str::to_owned)
    }

    /// The types that new restreamers can have: installed and not quarantined.
    pub fn offered(&self) -> Vec<RestreamType> {
        let slots = self.0.slots.read();
        let offered = slots
            .iter()
            .filter(|(_, slot)| slot.current.is_some() && slot.record.quarantined().is_none());
        offered.map(|(kind, _)| kind.clone()).collect()
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
            Err(text) => Err(CheckError::Failed(text)),
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
                reason = withdrawn.why, state = withdrawn.state, "plugin build withdrawn");
            if withdrawn.state == "rolled-back" {
                self.announce(&build.kind);
            }
        }
    }

    /// Builds taken out of use because they crashed, by type.
    pub fn withdrawn(&self) -> Vec<(RestreamType, u64)> {
        let slots = self.0.slots.read();
        slots
            .iter()
            .map(|(kind, slot)| (kind.clone(), slot.withdrawn))
            .collect()
    }

    /// Crashes so far, by type.
    pub fn crashes(&self) -> Vec<(RestreamType, u64)> {
        let slots = self.0.slots.read();
        slots
            .iter()
            .map(|(kind, slot)| (kind.clone(), slot.crashes.load(Ordering::Relaxed)))
            .collect()
    }

    /// All plugins, by type.
    pub fn list(&self) -> Vec<PluginInfo> {
        self.0
            .slots
            .read()
            .iter()
            .map(|(kind, slot)| slot.info(kind))
            .collect()
    }

    /// One plugin.
    pub fn info(&self, name: &str) -> Option<PluginInfo> {
        self.0
            .slots
            .read()
            .get_key_value(name)
            .map(|(kind, slot)| slot.info(kind))
    }

    /// Reads a plugin's file again. A file that is not admitted changes nothing.
    pub async fn reload(&self, name: &str) -> Result<PluginInfo, PluginError> {
        let kind: RestreamType = name.parse().map_err(|_| PluginError::Unknown)?;
        if self.is_built_in(&kind) {
            return Err(PluginError::BuiltIn);
        }
        let dir = self.0.config.dir.clone().ok_or(PluginError::Unknown)?;
        let path = dir.join(format!("{kind}.wasm"));
        if !path.is_file() && self.build(&kind).is_none() {
            return Err(PluginError::Unknown);
        }
        self.install_file(&kind, &path).await?;
        self.info(name).ok_or(PluginError::Unknown)
    }

    /// Goes back to the build before.
    pub async fn rollback(&self, name: &str) -> Result<PluginInfo, PluginError> {
        let kind: RestreamType = name.parse().map_err(|_| PluginError::Unknown)?;
        {
            let mut slots = self.0.slots.write();
            let slot = slots.get_mut(&kind).ok_or(PluginError::Unknown)?;
            let former = slot.former.take().ok_or(PluginError::NoFormer)?;
            slot.former = slot.current.replace(former);
            slot.record = Record::default();
            (slot.state, slot.error) = ("rolled-back", None);
        }
        info!(plugin = %kind, "plugin rolled back");
        self.announce(&kind);
        self.info(name).ok_or(PluginError::Unknown)
    }
}

/// What became of a build that crashed too often.
struct Withdrawn {
    state: &'static str,
    why: String,
}

impl Slot {
    /// Crashes of builds that are no longer in use tell nothing of the one that is.
    fn judge(
        &mut self,
        build: &Arc<Build>,
        judge: impl FnOnce(&mut Record) -> Option<Verdict>,
    ) -> Option<Withdrawn> {
        let current = self.current.as_ref();
        if !current.is_some_and(|current| Arc::ptr_eq(current, build)) {
            return None;
        }
        let verdict = judge(&mut self.record)?;
        let why = verdict.to_string();
        self.state = match (self.former.take(), verdict) {
            (Some(former), _) => {
                self.current = Some(former);
                self.record = Record::default();
                "rolled-back"
            }
            (None, Verdict::Unsound(_)) => {
                self.record.quarantine(why.clone());
                "quarantined"
            }
            // All there is, and one of its restreamers only, for all that is known.
            (None, Verdict::Stillborn(_)) => return None,
        };
        self.withdrawn += 1;
        self.error = Some(why.clone());
        Some(Withdrawn {
            state: self.state,
            why,
        })
    }

    fn info(&self, kind: &RestreamType) -> PluginInfo {
        let build = self.current.as_ref();
        let text = |get: fn(&Build) -> &str| build.map_or("", |build| get(build)).to_owned();
        PluginInfo {
            kind: kind.clone(),
            version: text(|build| &build.version),
            digest: text(|build| &build.digest),
            wit_version: text(|build| &build.wit_version),
            origin: match build.map(|build| &build.origin) {
                Some(Origin::BuiltIn) => "built in",
                _ => "file",
            },
            state: self.state,
            error: self.error.clone(),
            instances: build.map_or(0, |build| build.instances.load(Ordering::Relaxed)),
            capabilities: build
                .map(|build| build.capabilities.clone())
                .unwrap_or_default(),
            description: build.map(|build| build.description.clone()),
        }
    }
}

/// Read whole, never mapped: a file that is overwritten while it runs must not matter.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    if size > admission::MAX_FILE {
        return Err(io::Error::other(format!(
            "{size} bytes; at most {} are read",
            admission::MAX_FILE
        )));
    }
    std::fs::read(path)
}

/// Admits a file as a node would, on an engine of its own.
async fn admit_file(file: &Path) -> anyhow::Result<Build> {
    let bytes = read_whole(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let kind: RestreamType = stem
        .parse()
        .map_err(|why| anyhow::anyhow!("the file's stem names the type and {why}"))?;
    let runtime =
        Runtime::start().map_err(|error| anyhow::anyhow!("the plugin engine: {error:#}"))?;
    let origin = Origin::File(file.to_owned());
    Ok(admission::admit(&runtime, &kind, bytes, origin, Limits::default()).await?)
}

/// The type of a file that would be admitted, and what it says of itself.
///
/// # Errors
/// When it would not be admitted.
pub async fn described(file: &Path) -> anyhow::Result<(RestreamType, Arc<Description>)> {
    let build = admit_file(file).await?;
    Ok((build.kind.clone(), build.description.clone()))
}

/// What admission says of a file, for its author.
pub async fn report(file: &Path) -> anyhow::Result<String> {
    use std::fmt::Write as _;
    let build = admit_file(file).await?;
    let (kind, size) = (&build.kind, std::fs::metadata(file)?.len());
    let mut text = String::new();
    let direction = match build.description.direction {
        Direction::Feeds => "feeds its stream",
        Direction::Reads => "reads its stream",
    };
    writeln!(
        text,
        "admitted: type {kind}, version {}, {size} bytes, {direction}",
        build.version
    )?;
    writeln!(text, "contract: restreamd:plugin {}", build.wit_version)?;
    writeln!(text, "sha256:   {}", build.digest)?;
    writeln!(text, "{}", build.description.doc)?;
    for property in &build.description.properties {
        let needed = match (&property.default, property.required) {
            (_, true) => "required".to_owned(),
            (Some(default), _) => format!("default {default}"),
            (None, _) => "optional".to_owned(),
        };
        let secret = if property.secret { ", secret" } else { "" };
        writeln!(
            text,
            "  {} ({needed}{secret}): {}",
            property.name, property.doc
        )?;
    }
    writeln!(text, "imports:  {}", build.capabilities.join(", "))?;
    Ok(text)
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
