//! The life of one restreamer: runs its policy, and again after a trap or a
//! hand-over, with the sources that stayed open in between.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Assigned;
use super::host::{Handover, Job, Outcome, Wake};
use super::session::{Session, Shared};
use super::traps::Traps;
use crate::plugin::{Build, Crash, Plugins};

/// How long a guest may take to return after a stop.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long a run may take to hand over after it was told to.
const UPGRADE_GRACE: Duration = Duration::from_secs(2);

/// What the task of a restreamer holds.
pub(super) struct Task {
    pub(super) assigned: Assigned,
    pub(super) shared: Arc<Shared>,
    pub(super) plugins: Plugins,
    pub(super) version: Arc<Mutex<Option<String>>>,
    pub(super) log_lines: u32,
}

/// What follows a run.
enum Next {
    Run(Handover),
    /// Nothing runs until something changes.
    Rest,
    End,
}

impl Task {
    /// Runs until stopped.
    pub(super) async fn run(self) {
        let mut former = None;
        let mut build = None;
        let mut traps = Traps::default();
        loop {
            let next = match self.run_once(former.take(), &mut build).await {
                Some(Ok(Outcome::HandedOver(_))) if !self.shared.inbox.upgrade_was_told() => {
                    // It would be run again at once, for ever.
                    let crash = Crash::unasked();
                    self.after_crash(crash, build.as_ref(), &mut traps).await
                }
                Some(Ok(outcome)) => self.after(outcome),
                Some(Err(crash)) => self.after_crash(crash, build.as_ref(), &mut traps).await,
                None => {
                    warn!("the plugin did not stop in time and was dropped");
                    Next::End
                }
            };
            former = match next {
                Next::Run(handover) => Some(handover),
                Next::Rest => match self.rest().await {
                    Some(handover) => Some(handover),
                    None => break,
                },
                Next::End => break,
            };
        }
        let attempts = self.shared.board.lock().attempts;
        info!(
            attempts,
            bytes = self
                .shared
                .local
                .feeds
                .as_ref()
                .map(|stream| stream.snapshot().bytes_in),
            "restreamer stopped"
        );
    }

    /// One run on the newest build; `None` when it had to be dropped after a stop.
    async fn run_once(
        &self,
        former: Option<Handover>,
        on: &mut Option<Arc<Build>>,
    ) -> Option<Result<Outcome, Crash>> {
        // Before the build is chosen: an upgrade wanted from here on is for this run.
        self.shared.inbox.begin_run();
        if former.is_some() {
            self.shared.repeat_ends();
        }
        let build = match self.plugins.runnable(&self.assigned.kind, on.as_ref()) {
            Ok(build) => on.insert(build).clone(),
            Err(why) => return Some(Ok(Outcome::GaveUp(why))),
        };
        *self.version.lock() = Some(build.version().to_owned());
        let job = Job {
            provision_guid: self.assigned.provision.to_string(),
            stream_guid: self.assigned.stream.to_string(),
            kind: self.assigned.kind.to_string(),
            properties: self.shared.properties(),
        };
        let host = Box::new(Session::new(self.shared.clone(), self.log_lines));
        let run = build.run(&job, former.as_ref(), host);
        tokio::select! {
            ended = run => Some(ended),
            () = self.overdue() => None,
            never = self.report_late_upgrade(&build) => match never {},
        }
    }

    /// Tells of a run that does not answer an upgrade. It stays on its build, and may
    /// still hand over later.
    async fn report_late_upgrade(&self, build: &Arc<Build>) -> std::convert::Infallible {
        self.shared.inbox.upgrade_wanted().await;
        tokio::time::sleep(UPGRADE_GRACE).await;
        if !self.shared.inbox.is_stopped() {
            self.plugins.upgrade_unanswered(build);
            warn!(
                version = build.version(),
                "the plugin did not answer the upgrade and stays on its build"
            );
        }
        std::future::pending().await
    }

    /// Resolves when a stop was wanted and the grace is over.
    async fn overdue(&self) {
        self.shared.inbox.stopped().await;
        tokio::time::sleep(STOP_GRACE).await;
    }

    fn after(&self, outcome: Outcome) -> Next {
        match outcome {
            _ if self.shared.inbox.is_stopped() => Next::End,
            Outcome::HandedOver(handover) => {
                info!(
                    sources = handover.sources.len(),
                    targets = handover.targets.len(),
                    "handed over to the newest build"
                );
                self.shared.keep_only(&handover.sources, &handover.targets);
                Next::Run(handover)
            }
            Outcome::GaveUp(text) => {
                let text = self.shared.scrubbed(&text);
                info!(reason = text, "the policy gave up");
                self.shared.keep_only(&[], &[]);
                self.shared.board.lock().fail("gave-up", &text);
                Next::Rest
            }
            Outcome::Finished | Outcome::Stopped => {
                self.shared.keep_only(&[], &[]);
                self.shared
                    .board
                    .lock()
                    .fail("finished", "the policy finished");
                Next::Rest
            }
        }
    }

    async fn after_crash(
        &self,
        crash: Crash,
        build: Option<&Arc<Build>>,
        traps: &mut Traps,
    ) -> Next {
        if self.shared.inbox.is_stopped() {
            return Next::End;
        }
        if let Some(build) = build {
            self.plugins.crashed(build, &crash);
        }
        let pause = traps.note(Instant::now().into_std(), rand::random());
        // A backtrace names functions of the guest, a panic's message whatever it likes.
        let why = self.shared.scrubbed(&crash.to_string());
        warn!(
            kind = crash.kind(),
            reason = why,
            ?pause,
            "the plugin crashed"
        );
        let Some(pause) = pause else {
            self.shared.keep_only(&[], &[]);
            self.shared.board.lock().fail_crashed(&why);
            if let Some(build) = build {
                let name = format!("{} {}", self.assigned.provision, self.assigned.stream);
                self.plugins.failed(build, &name);
            }
            return Next::Rest;
        };
        self.shared.board.lock().crashed(&why);
        tokio::select! {
            () = tokio::time::sleep(pause) => Next::Run(Handover {
                sources: self.shared.open_sources(),
                targets: self.shared.open_targets(),
                state: self.shared.last_checkpoint(),
            }),
            () = self.shared.inbox.stopped() => Next::End,
        }
    }

    /// Failed or finished: waits for a change of the provision or of the plugin.
    async fn rest(&self) -> Option<Handover> {
        loop {
            match self.shared.inbox.next_at_rest().await {
                Wake::Stop => return None,
                Wake::Reconfigured(_) | Wake::Upgrade => {
                    self.shared.board.lock().revive();
                    return Some(Handover::default());
                }
                Wake::Timer
                | Wake::Facts(_)
                | Wake::SourceEnded(..)
                | Wake::TargetEnded(..)
                | Wake::StreamBegan
                | Wake::StreamEnded
                | Wake::Reachable => {}
            }
        }
    }
}
