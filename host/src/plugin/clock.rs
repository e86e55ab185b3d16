//! The clock of the guests' CPU time.
//!
//! A thread moves the engine's epoch on once a tick while any guest computes; when none
//! does, it only looks now and then whether one has begun. A thousand parked guests would
//! else cost as much as those that work. Invariant: a guest that computes is seen within
//! [`IDLE`], and hears of every tick from then on.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wasmtime::Engine;

use super::limits::TICK;

/// From one look to the next while no guest computes: the first tick is late by as much.
const IDLE: Duration = Duration::from_millis(40);

/// A cheap handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    computing: Arc<AtomicUsize>,
}

impl Clock {
    /// Starts the thread; it ends with the engine's last handle.
    pub(super) fn start(engine: &Engine) -> io::Result<Self> {
        let clock = Self::default();
        let (weak, computing) = (engine.weak(), clock.computing.clone());
        std::thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    let busy = computing.load(Ordering::Relaxed) > 0;
                    if busy {
                        engine.increment_epoch();
                    }
                    drop(engine);
                    std::thread::sleep(if busy { TICK } else { IDLE });
                }
            })?;
        Ok(clock)
    }

    /// Carries a guest's call out under the clock.
    pub(super) async fn timed<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        std::future::poll_fn(|context| {
            let _computing = Computing::begin(&self.computing);
            call.as_mut().poll(context)
        })
        .await
    }
}

/// A guest has the processor, also when it unwinds.
struct Computing<'a>(&'a AtomicUsize);

impl<'a> Computing<'a> {
    fn begin(computing: &'a AtomicUsize) -> Self {
        computing.fetch_add(1, Ordering::Relaxed);
        Self(computing)
    }
}

impl Drop for Computing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_polled_computes() {
        let clock = Clock::default();
        let count = || clock.computing.load(Ordering::Relaxed);
        let (wake, waits) = tokio::sync::oneshot::channel::<()>();
        let call = clock.timed(async {
            assert_eq!(count(), 1);
            let _ = waits.await;
            count()
        });
        let mut call = pin!(call);
        let waits = futures_util::poll!(call.as_mut());
        assert!(waits.is_pending() && count() == 0, "it is parked");
        drop(wake);
        assert_eq!((call.await, count()), (1, 0));
    }

    #[tokio::test]
    async fn a_call_that_panics_computes_no_more() {
        let clock = Clock::default();
        let computing = clock.computing.clone();
        let failed = tokio::spawn(async move { clock.timed(async { panic!("a bug") }).await });
        assert!(failed.await.is_err_and(|error| error.is_panic()));
        assert_eq!(computing.load(Ordering::Relaxed), 0);
    }
}
