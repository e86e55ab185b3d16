//! The scripted world as a policy's host: what outlives an instance is shared, as it
//! is on a node.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::stage::{Next, Stage};
use crate::restreamer::host::{
    Claim, ConnectOptions, Facts, Failure, FetchFuture, FileOptions, Host, Level, PublishOptions,
    Request, SourceId, TargetFacts, TargetId, WaitFuture, Wake,
};

/// Why an instance was dropped in the middle of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It traps here, says the scenario.
    Trap,
    /// It does what no policy may.
    Cut,
}

/// A handle on the world.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) stage: Arc<Mutex<Stage>>,
    dropped: Arc<Mutex<Option<Dropped>>>,
    drop_me: Arc<Notify>,
}

impl Actor {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            stage: Arc::new(Mutex::new(stage)),
            dropped: Arc::default(),
            drop_me: Arc::default(),
        }
    }

    /// Resolves when the instance is to be dropped.
    pub(super) async fn dropped(&self) -> Dropped {
        loop {
            if let Some(why) = self.dropped.lock().take() {
                return why;
            }
            self.drop_me.notified().await;
        }
    }

    fn to_be_dropped(&self, why: Dropped) {
        *self.dropped.lock() = Some(why);
        self.drop_me.notify_one();
    }

    fn drop_instance(&self, why: Dropped) -> WaitFuture<'static> {
        self.to_be_dropped(why);
        Box::pin(std::future::pending())
    }

    fn on<T>(&self, act: impl FnOnce(&mut Stage) -> T) -> T {
        let mut stage = self.stage.lock();
        // What is too much is said by the next wait.
        stage.step();
        act(&mut stage)
    }
}

impl Host for Actor {
    fn connect(&mut self, url: &str, options: ConnectOptions) -> Result<SourceId, Failure> {
        let (timeout, stall) = (options.timeout, options.stall);
        self.on(|stage| stage.dial(url, false, timeout, stall))
    }

    fn publish(&mut self, url: &str, options: PublishOptions) -> Result<TargetId, Failure> {
        let (timeout, stall) = (options.timeout, Some(options.stall));
        self.on(|stage| stage.dial(url, true, timeout, stall))
    }

    fn target_url(&mut self, id: TargetId) -> String {
        self.url(id)
    }

    fn target_facts(&mut self, id: TargetId) -> TargetFacts {
        self.on(|stage| stage.target_facts(id))
    }

    fn close_target(&mut self, id: TargetId) {
        self.close(id);
    }

    fn fetch(&mut self, request: Request) -> FetchFuture<'_> {
        match self.on(|stage| stage.fetch(&request.url, request.timeout)) {
            Some(answered) => Box::pin(std::future::ready(answered)),
            None => {
                self.to_be_dropped(Dropped::Trap);
                Box::pin(std::future::pending())
            }
        }
    }

    fn open_file(&mut self, name: &str, options: FileOptions) -> Result<SourceId, Failure> {
        self.on(|stage| stage.play(name, options.looped))
    }

    fn url(&mut self, id: SourceId) -> String {
        self.on(|stage| stage.url(id))
    }

    fn facts(&mut self, id: SourceId) -> Facts {
        self.on(|stage| stage.facts(id))
    }

    fn attach(&mut self, id: SourceId) -> Result<(), Failure> {
        self.on(|stage| stage.attach(id))
    }

    fn close(&mut self, id: SourceId) {
        self.on(|stage| stage.close(id));
    }

    fn wait(&mut self, timeout: Option<Duration>) -> WaitFuture<'_> {
        let next = self.stage.lock().wait(timeout);
        match next {
            Next::Wake(wake) => wake_now(wake),
            Next::Trap => self.drop_instance(Dropped::Trap),
            Next::Cut => self.drop_instance(Dropped::Cut),
        }
    }

    fn log(&mut self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        self.on(|stage| stage.log(level, message));
    }

    fn now_ms(&mut self) -> u64 {
        self.on(|stage| stage.policy_clock())
    }

    fn random(&mut self) -> u32 {
        self.on(Stage::random)
    }

    fn set_status(&mut self, claim: Claim, text: &str, next_attempt: Option<Duration>) {
        self.on(|stage| stage.claim(claim, text, next_attempt));
    }

    fn checkpoint(&mut self, state: Vec<u8>) {
        self.on(|stage| stage.checkpoint(state));
    }
}

fn wake_now(wake: Wake) -> WaitFuture<'static> {
    Box::pin(std::future::ready(wake))
}
