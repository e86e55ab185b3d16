//! Restreamers: the running things that carry out provisions.
//!
//! One task per restreamer runs its policy again and again as traps, hand-overs
//! and changed types want it. The supervisor starts, changes and stops them and
//! tells how they are; it is told what should run and does not ask why.

pub mod board;
mod fetch;
mod granted;
pub mod host;
pub mod hosts;
pub mod inbox;
pub mod origin;
pub mod probe;
mod reading;
pub mod scrub;
pub mod session;
pub mod source;
mod successor;
pub mod target;
pub mod task;
mod traps;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::{Instrument, info, info_span, warn};

pub use board::{Incident, Phase, is_own_decision};
pub use probe::{Report, TooManyProbes};

use crate::drain::Drain;
use crate::flv::MediaDir;
use crate::id::{ProvisionGuid, RestreamType, StreamGuid};
use crate::plugin::{Plugins, Swap};
use crate::rtmp::dial::OwnPulls;
use crate::rtmp::policy::Policy;
use crate::stream::{Latency, NameTaken, Stream, Streams};
pub use host::{TargetFacts, TargetState};

use host::Properties;
use hosts::Hosts;
use session::{Asking, Local, Shared};

/// What a restreamer is to do.
#[derive(Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The provision it carries out.
    pub provision: ProvisionGuid,
    /// The stream of it.
    pub stream: StreamGuid,
    /// The type.
    pub kind: RestreamType,
    /// Whether it feeds its stream; else it reads it, and the stream is somebody else's.
    pub feeds: bool,
    /// The type's properties.
    pub properties: Properties,
    /// How long the stream's frames may wait to be sent together, if it says.
    pub latency: Option<Latency>,
    /// Of the assignment; later ones are greater.
    pub epoch: u64,
    /// How often somebody asked for what gave up to begin anew.
    pub asked: u64,
}

impl Assigned {
    /// The plugin needs not hear of it then.
    fn is_the_same_to_its_plugin(&self, other: &Self) -> bool {
        let alike = Self {
            latency: other.latency,
            epoch: other.epoch,
            asked: other.asked,
            ..self.clone()
        };
        alike == *other
    }
}

/// Properties hold secrets and are not shown.
impl std::fmt::Debug for Assigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assigned")
            .field("provision", &self.provision)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
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
    /// What the policy says of its wait.
    pub text: Option<String>,
    pub error: Option<String>,
    pub history: Vec<Incident>,
    /// Where media goes to, without secrets.
    pub targets: Vec<(String, TargetFacts)>,
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

impl Running {
    /// If its policy returned by its own decision.
    fn begin_anew(&self) {
        if self.shared.board.lock().may_begin_anew() {
            self.shared.inbox.again();
        }
    }

    /// Subscribers stay. One that reads its stream has nothing to say here.
    fn retime(&self, assigned: &Assigned) {
        if let Some(stream) = &self.shared.local.feeds
            && self.assigned.latency != assigned.latency
        {
            stream.set_latency(assigned.latency);
        }
    }
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
    probes: Arc<Semaphore>,
    running: Mutex<HashMap<Key, Running>>,
    /// What could not be started. Locked after `running`.
    blocked: Mutex<HashMap<Key, Blocked>>,
}

type Key = (ProvisionGuid, StreamGuid);

/// A restreamer that should run and cannot yet.
#[derive(Debug)]
struct Blocked {
    assigned: Assigned,
    incident: Incident,
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
            probes: Arc::new(Semaphore::new(probe::PROBES)),
            running: Mutex::default(),
            blocked: Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    /// Makes what runs match what is assigned: starts it, or changes it in place. What
    /// cannot start is `failed` until [`Restreamers::retry`].
    pub fn ensure(&self, assigned: Assigned) {
        let key = (assigned.provision.clone(), assigned.stream.clone());
        let mut running = self.0.running.lock();
        match running.get_mut(&key) {
            None => {
                let mut blocked = self.0.blocked.lock();
                match self.start(&assigned) {
                    Ok(started) => {
                        blocked.remove(&key);
                        running.insert(key, started);
                    }
                    Err(taken) => drop(blocked.insert(key, Blocked::by(assigned, taken))),
                }
            }
            Some(current) if current.assigned == assigned => {}
            Some(current) if current.assigned.kind == assigned.kind => {
                current.retime(&assigned);
                if !current.assigned.is_the_same_to_its_plugin(&assigned) {
                    current.shared.reconfigure(assigned.properties.clone());
                }
                if assigned.asked > current.assigned.asked {
                    current.begin_anew();
                }
                current.assigned = assigned;
            }
            Some(current) if current.assigned.feeds == assigned.feeds => {
                self.change_type(current, assigned);
            }
            Some(current) => {
                self.0.end(&current.shared);
                running.remove(&key);
                drop(running);
                self.ensure(assigned);
            }
        }
    }

    /// Tries again to start what could not be started: a name may be free now.
    pub fn retry(&self) {
        let blocked: Vec<Assigned> = {
            let blocked = self.0.blocked.lock();
            blocked.values().map(|one| one.assigned.clone()).collect()
        };
        blocked
            .into_iter()
            .for_each(|assigned| self.ensure(assigned));
    }

    /// A provision's policies that gave up, or were finished, begin anew: somebody asks for
    /// them again.
    pub fn again(&self, provision: &ProvisionGuid) {
        let running = self.0.running.lock();
        let of_it = running.iter().filter(|((of, _), _)| of == provision);
        of_it.for_each(|(_, current)| current.begin_anew());
    }

    /// Stops a restreamer. Its sources and its stream are closed when this returns;
    /// its guest is told and gets two seconds.
    pub fn stop(&self, provision: &ProvisionGuid, stream: &StreamGuid) {
        if let Some(stopped) = self.take(provision, stream) {
            self.0.end(&stopped.shared);
        }
    }

    /// The same, but another node is to go on: viewers of the stream stay.
    pub fn leave(&self, provision: &ProvisionGuid, stream: &StreamGuid) {
        if let Some(left) = self.take(provision, stream) {
            self.0.leave(&left.shared);
        }
    }

    fn take(&self, provision: &ProvisionGuid, stream: &StreamGuid) -> Option<Running> {
        let key = (provision.clone(), stream.clone());
        let mut running = self.0.running.lock();
        self.0.blocked.lock().remove(&key);
        running.remove(&key)
    }

    /// What is assigned here, for finding what is not any more.
    pub fn assigned(&self) -> Vec<(ProvisionGuid, StreamGuid)> {
        let (running, blocked) = (self.0.running.lock(), self.0.blocked.lock());
        running.keys().chain(blocked.keys()).cloned().collect()
    }

    /// The streams of a provision that are assigned here.
    pub fn of(&self, provision: &ProvisionGuid) -> Vec<StreamGuid> {
        let (running, blocked) = (self.0.running.lock(), self.0.blocked.lock());
        let keys = running.keys().chain(blocked.keys());
        keys.filter(|(of, _)| of == provision)
            .map(|(_, stream)| stream.clone())
            .collect()
    }

    /// The types this node can carry out.
    pub fn types(&self) -> Vec<RestreamType> {
        self.0.plugins.offered()
    }

    /// The same, with the digest of the plugin of each.
    pub fn offers(&self) -> BTreeMap<RestreamType, String> {
        let types = self.0.plugins.offered().into_iter();
        types
            .map(|kind| (self.0.plugins.digest(&kind), kind))
            .map(|(digest, kind)| (kind, digest.unwrap_or_default()))
            .collect()
    }

    /// The pulls of this node from itself, for its listeners.
    pub fn own_pulls(&self) -> OwnPulls {
        self.0.hosts.own_pulls().clone()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.0.running.lock().len()
    }

    /// How a restreamer is.
    pub fn status(&self, provision: &ProvisionGuid, stream: &StreamGuid) -> Option<Status> {
        let running = self.0.running.lock();
        let key = (provision.clone(), stream.clone());
        let Some(current) = running.get(&key) else {
            return self.0.blocked.lock().get(&key).map(Blocked::status);
        };
        let (phase, since) = current.shared.phase();
        let (source, targets) = (current.shared.source(), current.shared.targets());
        let board = current.shared.board.lock();
        let version = current.version.lock().clone();
        Some(Status {
            phase,
            since,
            source,
            attempt: board.attempts,
            next_attempt: board.next_attempt(),
            text: board.text(),
            error: board.error.clone(),
            history: board.history.iter().cloned().collect(),
            targets,
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
        let blocked = self.0.blocked.lock().len() as u64;
        if blocked > 0 {
            *phases.entry(Phase::Failed).or_default() += blocked;
        }
        phases
    }

    /// Stops all of them: the node leaves.
    pub fn stop_all(&self) {
        self.0.blocked.lock().clear();
        let all: Vec<Running> = self
            .0
            .running
            .lock()
            .drain()
            .map(|(_, running)| running)
            .collect();
        all.iter().for_each(|running| self.0.end(&running.shared));
    }

    /// Another build of a type is there: its restreamers are asked to hand over, if that
    /// is wanted, and those that failed begin again.
    pub fn swapped(&self, swap: &Swap) {
        let running = self.0.running.lock();
        let of_kind = running.values().filter(|r| r.assigned.kind == swap.kind);
        of_kind.for_each(|current| current.shared.inbox.swapped(swap.hand_over));
    }

    fn start(&self, assigned: &Assigned) -> Result<Running, NameTaken> {
        let feeds = assigned
            .feeds
            .then(|| self.0.streams.open(&assigned.stream));
        let feeds = feeds.transpose().inspect_err(|taken| {
            warn!(provision = %assigned.provision, stream = %assigned.stream, %taken, "cannot start a restreamer");
        })?;
        if let Some(stream) = feeds.as_ref().filter(|_| assigned.latency.is_some()) {
            stream.set_latency(assigned.latency);
        }
        let shared = self.shared(self.local(feeds, assigned), assigned);
        Ok(self.spawn(assigned.clone(), shared))
    }

    fn local(&self, feeds: Option<Arc<Stream>>, assigned: &Assigned) -> Local {
        Local {
            feeds,
            guid: assigned.stream.clone(),
            streams: Some(self.0.streams.clone()),
        }
    }

    /// The new type begins on the same stream; subscribers stay.
    fn change_type(&self, current: &mut Running, assigned: Assigned) {
        let local = current.shared.local.clone();
        current.retime(&assigned);
        current.shared.board.lock().stop();
        current.shared.close();
        current.shared.inbox.stop();
        let shared = self.shared(local, &assigned);
        *current = self.spawn(assigned, shared);
    }

    fn shared(&self, local: Local, assigned: &Assigned) -> Arc<Shared> {
        let grants = self.0.plugins.grants(&assigned.kind);
        let sources = grants.sources.unwrap_or(usize::MAX);
        let asking = Asking {
            grants: grants.clone(),
            policy: self.0.hosts.policy().clone(),
        };
        Arc::new(Shared::new(
            local,
            granted::hosts(&self.0.hosts, &assigned.kind, grants),
            self.0.media.clone(),
            assigned.properties.clone(),
            self.secret_keys(&assigned.kind),
            self.0.limits.sources.min(sources),
            asking,
        ))
    }

    fn secret_keys(&self, kind: &RestreamType) -> Vec<String> {
        let description = self.0.plugins.describe(kind);
        let secret = description
            .iter()
            .flat_map(|d| &d.properties)
            .filter(|p| p.secret);
        secret
            .flat_map(|p| p.aliases.iter().chain([&p.name]))
            .cloned()
            .collect()
    }

    fn spawn(&self, assigned: Assigned, shared: Arc<Shared>) -> Running {
        let version = Arc::new(Mutex::new(None));
        let span = info_span!("restreamer", provision = %assigned.provision, stream = %assigned.stream, kind = %assigned.kind);
        let task = task::Task {
            assigned: assigned.clone(),
            shared: shared.clone(),
            plugins: self.0.plugins.clone(),
            version: version.clone(),
            log_lines: self
                .0
                .plugins
                .log_lines(&assigned.kind)
                .unwrap_or(self.0.limits.log_lines),
        };
        let local = &shared.local;
        let reads = local.streams.clone().filter(|_| local.feeds.is_none());
        let follow =
            reads.map(|streams| reading::follow(streams, local.guid.clone(), shared.inbox.clone()));
        let run = async move {
            info!("restreamer started");
            match follow {
                // Whichever ends, the restreamer stops.
                Some(follow) => drop(tokio::join!(task.run(), follow)),
                None => task.run().await,
            }
        };
        self.0.drain.spawn(run.instrument(span));
        Running {
            assigned,
            shared,
            version,
        }
    }
}

impl Blocked {
    fn by(assigned: Assigned, taken: NameTaken) -> Self {
        let incident = Incident {
            at: jiff::Timestamp::now(),
            class: "name-taken".to_owned(),
            text: taken.to_string(),
        };
        Self { assigned, incident }
    }

    fn status(&self) -> Status {
        let Incident { at, class, text } = &self.incident;
        Status {
            phase: Phase::Failed,
            since: *at,
            source: None,
            attempt: 0,
            next_attempt: None,
            text: None,
            error: Some(format!("{class}: {text}")),
            history: vec![self.incident.clone()],
            targets: Vec::new(),
            plugin: None,
            epoch: self.assigned.epoch,
        }
    }
}

impl Inner {
    fn end(&self, shared: &Arc<Shared>) {
        self.close(shared, |streams, stream| streams.end(stream));
    }

    fn leave(&self, shared: &Arc<Shared>) {
        self.close(shared, |streams, stream| streams.leave(stream));
    }

    fn close(&self, shared: &Arc<Shared>, part: impl FnOnce(&Streams, &Arc<Stream>)) {
        shared.board.lock().stop();
        shared.close();
        if let Some(stream) = &shared.local.feeds {
            part(&self.streams, stream);
        }
        shared.inbox.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{self, Runtime};

    /// Where streams go on; what becomes of them there is not looked at.
    struct Elsewhere;

    impl crate::stream::Elsewhere for Elsewhere {
        fn bring(&self, _: &StreamGuid) -> Option<Arc<Stream>> {
            None
        }

        fn exists(&self, _: &StreamGuid) -> bool {
            true
        }

        fn follow(&self, _: &Arc<Stream>) {}
    }

    async fn bench() -> (Restreamers, Streams, Assigned) {
        let runtime = Runtime::start().expect("the plugin engine starts");
        let plugins = Plugins::load(runtime, plugin::Config::default())
            .await
            .expect("the built-in type is admitted");
        let streams = Streams::new(crate::stream::Config::default());
        let policy = Arc::new(Policy::new(Default::default(), Vec::new()));
        let limits = Limits {
            sources: 1,
            log_lines: 1,
        };
        let restreamers = Restreamers::new(
            plugins,
            streams.clone(),
            policy,
            MediaDir::new(None, 0),
            limits,
            Drain::new(),
        );
        let assigned = Assigned {
            provision: "p-1".parse().expect("legal"),
            stream: "live/a".parse().expect("legal"),
            kind: "rtmp".parse().expect("legal"),
            feeds: true,
            properties: vec![("rtmpUri".into(), "rtmp://127.0.0.1:9/live/s".into())],
            latency: None,
            epoch: 1,
            asked: 0,
        };
        (restreamers, streams, assigned)
    }

    #[tokio::test]
    async fn who_watches_a_stream_that_goes_on_elsewhere_stays() {
        let (restreamers, streams, assigned) = bench().await;
        streams.set_elsewhere(Arc::new(Elsewhere));
        let run = || {
            restreamers.ensure(assigned.clone());
            streams.find(&assigned.stream).expect("it exists")
        };
        let stream = run();
        restreamers.leave(&assigned.provision, &assigned.stream);
        assert!(stream.is_ended(), "nobody watched");
        let stream = run();
        let subscriber = crate::stream::Subscriber::new(stream.clone());
        restreamers.leave(&assigned.provision, &assigned.stream);
        assert!(!stream.is_ended() && restreamers.count() == 0);
        assert!(Arc::ptr_eq(&stream, &run()), "the same when it is back");
        restreamers.stop(&assigned.provision, &assigned.stream);
        assert!(stream.is_ended());
        drop(subscriber);
    }

    #[tokio::test]
    async fn what_cannot_start_is_failed_until_its_name_is_free() {
        let (restreamers, streams, assigned) = bench().await;
        let status = || restreamers.status(&assigned.provision, &assigned.stream);
        let published = streams.publish(&assigned.stream).expect("free");
        restreamers.ensure(assigned.clone());
        let failed = status().expect("it is shown");
        assert_eq!(failed.phase, Phase::Failed);
        assert!(failed.error.is_some_and(|why| why.contains("publisher")));
        assert_eq!(restreamers.count(), 0);
        streams.end(&published);
        restreamers.retry();
        assert_ne!(status().map(|status| status.phase), Some(Phase::Failed));
        assert_eq!(restreamers.count(), 1);
        // One that waits goes with its provision.
        restreamers.stop(&assigned.provision, &assigned.stream);
        let published = streams.publish(&assigned.stream);
        assert!(published.is_err(), "held");
        streams.release(&assigned.stream, 1);
        let _published = streams.publish(&assigned.stream).expect("free");
        restreamers.ensure(assigned.clone());
        assert_eq!(restreamers.assigned().len(), 1);
        restreamers.stop(&assigned.provision, &assigned.stream);
        assert!(restreamers.assigned().is_empty() && status().is_none());
    }
}
