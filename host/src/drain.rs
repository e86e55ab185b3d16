//! Stopping: one signal that everybody hears, and waiting until all are done.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// The signal and the tasks that heed it. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// Nothing drains yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everybody to finish.
    pub fn start(&self) {
        self.token.cancel();
        self.tasks.close();
    }

    /// Whether it was started.
    pub fn is_started(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when it is started.
    pub fn started(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// Starts it at SIGTERM and Ctrl-C; a second one ends the process at once. To be
    /// called once, on a runtime.
    pub fn start_on_signals(&self) -> io::Result<()> {
        let drain = self.clone();
        on_signals(move || drain.start())
    }

    /// Spawns a task that [`Drain::finished`] waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits for all tasks, but not longer than `deadline`. True when all are done.
    pub async fn finished(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_ok()
    }
}

/// Tells of the first SIGTERM or Ctrl-C; the second ends the process at once. What began to
/// leave because somebody asked it to has time for that still when it gets the first. To be
/// called once, on a runtime.
pub fn on_signals(tell: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tell();
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        std::process::exit(1);
    });
    Ok(())
}
