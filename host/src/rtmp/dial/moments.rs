//! The moments at which sources are read, and who waits for them.
//!
//! A timer for each source is in a thousand places of the memory at each moment. Here who
//! waits for the same moment stands in one list, and one timer wakes them all. Invariant: a
//! moment that somebody waits for has its timer.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The moments of a node that are waited for. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Moments(Arc<Mutex<BTreeMap<Instant, Vec<Waker>>>>);

impl Moments {
    /// Waits for a moment.
    pub(super) fn until(&self, at: Instant) -> Until<'_> {
        Until {
            moments: self,
            at,
            waits: None,
        }
    }

    fn wake(&self, at: Instant, waker: Waker) {
        let mut moments = self.0.lock();
        if let Some(waiting) = moments.get_mut(&at) {
            return waiting.push(waker);
        }
        moments.insert(at, vec![waker]);
        drop(moments);
        let moments = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let waiting = moments.0.lock().remove(&at);
            waiting.into_iter().flatten().for_each(Waker::wake);
        });
    }
}

/// See [`Moments::until`].
#[derive(Debug)]
pub(super) struct Until<'a> {
    moments: &'a Moments,
    at: Instant,
    /// Who is woken then.
    waits: Option<Waker>,
}

impl Future for Until<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let known = self.waits.as_ref().map(|w| w.will_wake(cx.waker()));
        if known != Some(true) {
            self.waits = Some(cx.waker().clone());
            self.moments.wake(self.at, cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_at_the_moment_and_not_before() {
        let (moments, begin) = (Moments::default(), Instant::now());
        let waiting = (0..100).map(|n| {
            let (moments, at) = (moments.clone(), begin + (n % 4) * 25 * MS);
            tokio::spawn(async move {
                moments.until(at).await;
                at.elapsed() < 2 * MS
            })
        });
        for waited in waiting.collect::<Vec<_>>() {
            assert!(waited.await.expect("no panic"), "in time");
        }
        assert!(begin.elapsed() >= 75 * MS);
        assert!(moments.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gave_up_is_forgotten_with_the_moment() {
        let (moments, begin) = (Moments::default(), Instant::now());
        for _ in 0..10 {
            let until = moments.until(begin + 100 * MS);
            assert!(tokio::time::timeout(MS, until).await.is_err());
        }
        moments.until(begin + 100 * MS).await;
        tokio::task::yield_now().await;
        assert!(moments.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_moves_to_another_task_is_woken_there() {
        let moments: &'static Moments = Box::leak(Box::default());
        let at = Instant::now() + 100 * MS;
        let mut until = Box::pin(moments.until(at));
        let polled = std::future::poll_fn(|cx| Poll::Ready(until.as_mut().poll(cx)));
        assert!(polled.await.is_pending());
        let moved = tokio::spawn(until);
        let woken = tokio::time::timeout(200 * MS, moved).await;
        woken.expect("it is woken").expect("no panic");
    }
}
