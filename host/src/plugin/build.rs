//! One build of a plugin, ready to run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::Engine;

use super::clock::Clock;
use super::description::Description;
use super::instance::{self, Crash, Ctx};
use super::limits::{CALL, Limits};
use super::offline::Offline;
use super::wit::PolicyPre;
use super::{Origin, Problem};
use crate::id::RestreamType;
use crate::restreamer::host::{Handover, Host, Job, Outcome};

/// A build. Shared by its instances.
pub struct Build {
    pub(super) kind: RestreamType,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) wit_version: String,
    pub(super) origin: Origin,
    pub(super) capabilities: Vec<String>,
    pub(super) description: Arc<Description>,
    pub(super) engine: Engine,
    pub(super) clock: Clock,
    pub(super) pre: PolicyPre<Ctx>,
    pub(super) limits: Limits,
    pub(super) instances: AtomicU64,
}

impl std::fmt::Debug for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Build")
            .field("kind", &self.kind)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Build {
    /// Its version, as its metadata has it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it does and takes.
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// Carries out one run in a Store of its own.
    pub async fn run(
        &self,
        job: &Job,
        former: Option<&Handover>,
        host: Box<dyn Host>,
    ) -> Result<Outcome, Crash> {
        let _counted = Counted::new(&self.instances);
        let store = instance::store(&self.engine, host, &self.limits);
        let run = instance::run(&self.pre, store, &self.limits, job, former);
        self.clock.timed(run).await
    }

    /// Asks whether properties make a provision that can run.
    pub async fn check(&self, properties: &[(String, String)]) -> Result<Vec<Problem>, CallError> {
        let mut store = instance::store(&self.engine, Box::new(Offline), &self.limits);
        let properties = properties.to_vec();
        let check = async {
            let policy = self.pre.instantiate_async(&mut store).await?;
            policy
                .restreamd_plugin_restreamer()
                .call_check(&mut store, &properties)
                .await
        };
        let checked = tokio::time::timeout(CALL, self.clock.timed(check))
            .await
            .map_err(|_| CallError::Late)?;
        let problems = checked
            .map_err(|error| CallError::Crashed(instance::Crash::of(&error, &self.limits)))?
            .err()
            .unwrap_or_default();
        let problem = |p: super::wit::export::Problem| Problem {
            key: shorten(p.key),
            message: shorten(p.message),
        };
        Ok(problems.into_iter().take(32).map(problem).collect())
    }
}

/// Why a guest did not answer a call that is not to wait.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It took its time.
    #[error("took longer than {CALL:?}")]
    Late,
    /// It died of it.
    #[error("{0}")]
    Crashed(instance::Crash),
}

fn shorten(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// An instance that exists.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
