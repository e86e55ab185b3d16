//! Restreamers: the running things that carry out provisions.
//!
//! One task per restreamer runs its policy again and again as traps, hand-overs
//! and changed types want it. The supervisor starts, changes and stops them and
//! tells how they are; it is told what should run and does not ask why.

pub mod board;
pub mod host;
pub mod hosts;
pub mod inbox;
pub mod session;
pub mod source;
pub mod task;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{Instrument, info, info_span, warn};

pub use board::{Incident, Phase};

use crate::drain::Drain;
use crate::flv::MediaDir;
use crate::id::{ProvisionGuid, RestreamType, StreamGuid};
use crate::plugin::Plugins;
use crate::rtmp::policy::Policy;
use crate::stream::{Stream, Streams};
use host::Properties;
use hosts::Hosts;
use session::Shared;

/// What a restreamer is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The provision it carries out.
    pub provision: ProvisionGuid,
    /// The stream of it.
    pub stream: StreamGuid,
    /// The type.
    pub kind: RestreamType,
    /// The type's properties.
    pub properties: Properties,
    /// Of the assignment; later ones are greater.
    pub epoch: u64,
}

/// What the API tells of a restreamer.
#[derive(Clone, Debug)]
#[allow(
    missing_docs,
    reason = "the fields are those of the status element, see the API's documentation"
)]
pub struct Status {
    pub phase: Phase,
    pub since: jiff::Timestamp,
    pub source: Option<String>,
    pub attempt: u64,
    pub next_attempt: Option<Duration>,
    pub error: Option<String>,
    pub history: Vec<Incident>,
    pub plugin: Option<(String, String)>,
    pub epoch: u64,
}

#[derive(Debug)]
struct Running {
    assigned: Assigned,
    shared: Arc<Shared>,
    /// Version of the build it runs on.
    version: Arc<Mutex<Option<String>>>,
}

/// The bounds of each restreamer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sources open at a time.
    pub sources: usize,
    /// Lines of log a second.
    pub log_lines: u32,
}

#[derive(Debug)]
struct Inner {
    plugins: Plugins,
    streams: Streams,
    hosts: Arc<Hosts>,
    media: MediaDir,
    limits: Limits,
    drain: Drain,
    running: Mutex<HashMap<(ProvisionGuid, StreamGuid), Running>>,
}

/// The supervisor. A cheap handle.
#[derive(Clone, Debug)]
pub struct Restreamers(Arc<Inner>);

impl Restreamers {
    /// Nothing runs yet.
    pub fn new(
        plugins: Plugins,
        streams: Streams,
        policy: Arc<Policy>,
        media: MediaDir,
        limits: Limits,
        drain: Drain,
    ) -> Self {
        let inner = Inner {
            plugins,
            streams,
            hosts: Arc::new(Hosts::new(policy)),
            media,
            limits,
            drain,
            running: Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    /// Makes what runs match what is assigned: starts it, or changes it in place.
    pub fn ensure(&self, assigned: Assigned) {
        let key = (assigned.provision.clone(), assigned.stream.clone());
        let mut running = self.0.running.lock();
        match running.get_mut(&key) {
            None => {
                if let Some(started) = self.start(assigned) {
                    running.insert(key, started);
                }
            }
            Some(current) if current.assigned == assigned => {}
            Some(current) if current.assigned.kind == assigned.kind => {
                current.shared.reconfigure(assigned.properties.clone());
                current.assigned = assigned;
            }
            Some(current) => self.change_type(current, assigned),
        }
    }

    /// Stops a restreamer. Its sources and its stream are closed when this returns;
    /// its guest is told and gets two seconds.
    pub fn stop(&self, provision: &ProvisionGuid, stream: &StreamGuid) {
        let stopped = self
            .0
            .running
            .lock()
            .remove(&(provision.clone(), stream.clone()));
        if let Some(stopped) = stopped {
            self.0.end(&stopped.shared);
        }
    }

    /// What is assigned here, for finding what is not any more.
    pub fn assigned(&self) -> Vec<(ProvisionGuid, StreamGuid)> {
        self.0.running.lock().keys().cloned().collect()
    }

    /// The types this node can carry out.
    pub fn types(&self) -> Vec<RestreamType> {
        self.0.plugins.types()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.0.running.lock().len()
    }

    /// How a restreamer is.
    pub fn status(&self, provision: &ProvisionGuid, stream: &StreamGuid) -> Option<Status> {
        let running = self.0.running.lock();
        let current = running.get(&(provision.clone(), stream.clone()))?;
        let (phase, since) = current.shared.phase();
        let board = current.shared.board.lock();
        let version = current.version.lock().clone();
        Some(Status {
            phase,
            since,
            source: board.source.clone(),
            attempt: board.attempts,
            next_attempt: board.next_attempt(),
            error: board.error.clone(),
            history: board.history.iter().cloned().collect(),
            plugin: version.map(|version| (current.assigned.kind.to_string(), version)),
            epoch: current.assigned.epoch,
        })
    }

    /// How many are in each phase.
    pub fn phases(&self) -> HashMap<Phase, u64> {
        let mut phases = HashMap::new();
        for current in self.0.running.lock().values() {
            *phases.entry(current.shared.phase().0).or_default() += 1;
        }
        phases
    }

    /// Stops all of them: the node leaves.
    pub fn stop_all(&self) {
        let all: Vec<Running> = self
            .0
            .running
            .lock()
            .drain()
            .map(|(_, running)| running)
            .collect();
        all.iter().for_each(|running| self.0.end(&running.shared));
    }

    /// A newer build of a type is there: its restreamers are asked to hand over.
    pub fn upgrade(&self, kind: &RestreamType) {
        for current in self
            .0
            .running
            .lock()
            .values()
            .filter(|current| current.assigned.kind == *kind)
        {
            current.shared.inbox.upgrade();
        }
    }

    fn start(&self, assigned: Assigned) -> Option<Running> {
        let stream = match self.0.streams.open(&assigned.stream) {
            Ok(stream) => stream,
            Err(taken) => {
                warn!(provision = %assigned.provision, stream = %assigned.stream, %taken, "cannot start a restreamer");
                return None;
            }
        };
        let shared = self.shared(stream, &assigned);
        Some(self.spawn(assigned, shared))
    }

    /// The new type begins on the same stream; subscribers stay.
    fn change_type(&self, current: &mut Running, assigned: Assigned) {
        let stream = current.shared.stream.clone();
        current.shared.board.lock().stop();
        current.shared.close();
        current.shared.inbox.stop();
        let shared = self.shared(stream, &assigned);
        *current = self.spawn(assigned, shared);
    }

    fn shared(&self, stream: Arc<Stream>, assigned: &Assigned) -> Arc<Shared> {
        let (hosts, properties) = (self.0.hosts.clone(), assigned.properties.clone());
        Arc::new(Shared::new(
            stream,
            hosts,
            self.0.media.clone(),
            properties,
            self.0.limits.sources,
        ))
    }

    fn spawn(&self, assigned: Assigned, shared: Arc<Shared>) -> Running {
        let version = Arc::new(Mutex::new(None));
        let span = info_span!("restreamer", provision = %assigned.provision, stream = %assigned.stream, kind = %assigned.kind);
        let task = task::Task {
            assigned: assigned.clone(),
            shared: shared.clone(),
            plugins: self.0.plugins.clone(),
            version: version.clone(),
            log_lines: self.0.limits.log_lines,
        };
        let run = async move {
            info!("restreamer started");
            task.run().await;
        };
        self.0.drain.spawn(run.instrument(span));
        Running {
            assigned,
            shared,
            version,
        }
    }
}

impl Inner {
    fn end(&self, shared: &Arc<Shared>) {
        shared.board.lock().stop();
        shared.close();
        self.streams.end(&shared.stream);
        shared.inbox.stop();
    }
}
