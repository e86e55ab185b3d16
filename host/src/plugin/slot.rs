//! What is known of one type: its builds, and what became of them. Pure but for counting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::quarantine::{Record, Verdict};
use super::{Build, HandOver, Origin, PluginInfo};
use crate::id::RestreamType;

/// How a type stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is known of it yet.
    #[default]
    Absent,
    Ready,
    Rejected,
    RolledBack,
    Quarantined,
    Removed,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Ready => "ready",
            Self::Rejected => "rejected",
            Self::RolledBack => "rolled-back",
            Self::Quarantined => "quarantined",
            Self::Removed => "removed",
        }
    }
}

/// One type.
#[derive(Debug, Default)]
pub(super) struct Slot {
    current: Option<Arc<Build>>,
    former: Option<Arc<Build>>,
    /// The one that is part of the program, for when the file in its place is gone.
    built_in: Option<Arc<Build>>,
    state: State,
    /// A newer build is being made.
    compiling: bool,
    error: Option<String>,
    record: Record,
    /// Builds that something may still run on.
    builds: Vec<Weak<Build>>,
    pub(super) crashes: AtomicU64,
    /// Builds that were taken out of use because they crashed, by the label of the verdict.
    pub(super) withdrawn: BTreeMap<&'static str, u64>,
    /// Files that were not admitted, by the label of the reason.
    pub(super) rejections: BTreeMap<&'static str, u64>,
    /// Upgrades that a run did not answer in time.
    pub(super) unanswered: AtomicU64,
}

/// What became of a build that crashed too often.
pub(super) struct Withdrawn {
    pub(super) state: State,
    pub(super) why: String,
}

impl Slot {
    /// The build in use.
    pub(super) fn current(&self) -> Option<&Arc<Build>> {
        self.current.as_ref()
    }

    /// Whether the type is part of the program.
    pub(super) fn is_built_in(&self) -> bool {
        self.built_in.is_some()
    }

    /// Whether the build in use is.
    pub(super) fn runs_built_in(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|build| build.origin == Origin::BuiltIn)
    }

    /// A build is being made.
    pub(super) fn compiling(&mut self, is: bool) {
        self.compiling = is;
    }

    /// A build was admitted. True when there is something for restreamers to move to.
    pub(super) fn install(&mut self, build: Arc<Build>) -> bool {
        self.compiling = false;
        if build.origin == Origin::BuiltIn {
            self.built_in = Some(build.clone());
        }
        let unchanged = self
            .current
            .as_ref()
            .is_some_and(|current| current.digest == build.digest);
        (self.state, self.error) = (State::Ready, None);
        // A build that was quarantined gets another chance when it is asked for.
        let again = self.record.quarantined().is_some();
        if !unchanged {
            self.note(&build);
            self.former = self.current.replace(build);
        }
        let news = !unchanged || again;
        if news {
            self.record = Record::default();
        }
        news
    }

    /// Whoever runs on it is counted from now on.
    fn note(&mut self, build: &Arc<Build>) {
        self.builds.retain(|build| build.strong_count() > 0);
        self.builds.push(Arc::downgrade(build));
    }

    /// A file was not admitted.
    pub(super) fn reject(&mut self, label: &'static str, reason: String) {
        self.compiling = false;
        *self.rejections.entry(label).or_default() += 1;
        // What is in use is no better for it: while it is quarantined, that is shown.
        if self.record.quarantined().is_none() {
            self.state = State::Rejected;
        }
        self.error = Some(reason);
    }

    /// The file is gone. True when another build takes its place.
    pub(super) fn remove(&mut self) -> bool {
        (self.compiling, self.error, self.former) = (false, None, None);
        if self.runs_built_in() {
            self.state = State::Ready;
            return false;
        }
        self.record = Record::default();
        self.current = self.built_in.clone();
        self.state = match self.current {
            Some(_) => State::Ready,
            None => State::Removed,
        };
        self.current.is_some()
    }

    /// Goes back to the build before. False when there is none.
    pub(super) fn roll_back(&mut self) -> bool {
        let Some(former) = self.former.take() else {
            return false;
        };
        self.former = self.current.replace(former);
        self.record = Record::of_known();
        (self.state, self.error) = (State::RolledBack, None);
        true
    }

    /// Why nothing new runs on the build in use, if so.
    pub(super) fn quarantined(&self) -> Option<&str> {
        self.record.quarantined()
    }

    /// Crashes of builds that are no longer in use tell nothing of the one that is.
    pub(super) fn judge(
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
                self.record = Record::of_known();
                State::RolledBack
            }
            (None, Verdict::Unsound(_)) => {
                self.record.quarantine(why.clone());
                State::Quarantined
            }
            // All there is, and one of its restreamers only, for all that is known.
            (None, Verdict::Stillborn(_)) => return None,
        };
        *self.withdrawn.entry(verdict.label()).or_default() += 1;
        self.error = Some(why.clone());
        Some(Withdrawn {
            state: self.state,
            why,
        })
    }

    /// Instances of all builds, and of those that are not in use any more.
    fn instances(&self) -> (u64, u64) {
        let builds = self.builds.iter().filter_map(Weak::upgrade);
        builds.fold((0, 0), |(all, former), build| {
            let count = build.instances.load(Ordering::Relaxed);
            let is_current = self
                .current
                .as_ref()
                .is_some_and(|c| Arc::ptr_eq(c, &build));
            (all + count, former + if is_current { 0 } else { count })
        })
    }

    /// Whether there is nothing to tell of it.
    pub(super) fn is_over(&self) -> bool {
        let gone = matches!(self.state, State::Absent | State::Removed);
        // A restreamer holds its build between two runs, too.
        let used = self.builds.iter().any(|build| build.strong_count() > 0);
        gone && !self.compiling && self.current.is_none() && !used
    }

    /// What the API tells.
    pub(super) fn info(&self, kind: &RestreamType, hand_over: HandOver) -> PluginInfo {
        let build = self.current.as_ref();
        let text = |get: fn(&Build) -> &str| build.map_or("", |build| get(build)).to_owned();
        let (instances, former_instances) = self.instances();
        PluginInfo {
            kind: kind.clone(),
            version: text(|build| &build.version),
            digest: text(|build| &build.digest),
            wit_version: text(|build| &build.wit_version),
            origin: if self.runs_built_in() {
                "built in"
            } else {
                "file"
            },
            state: match self.compiling {
                true => "compiling",
                false => self.state.as_str(),
            },
            error: self.error.clone(),
            instances,
            former_instances,
            hand_over: hand_over.as_str(),
            capabilities: build
                .map(|build| build.capabilities.clone())
                .unwrap_or_default(),
            description: build.map(|build| build.description.clone()),
        }
    }
}
