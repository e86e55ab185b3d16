//! A bound on how long a player may leave a response alone.
//!
//! Over HTTP/1 the socket tells who takes nothing. Over HTTP/2 many responses share it,
//! and one whose window is closed is just not asked for: neither an error nor a wait is
//! seen anywhere. Invariant: what such a response holds is dropped soon after
//! [`NO_PROGRESS`].

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::body::TooSlow;

/// A response nobody asks for so long is given up; the same as for other connections.
const NO_PROGRESS: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2_500);

type Inner = Pin<Box<dyn Stream<Item = Result<Bytes, TooSlow>> + Send>>;

/// A body that is dropped when nobody asks for more of it.
pub(super) struct Watched(Arc<Mutex<Held>>);

struct Held {
    /// Gone when it was given up.
    inner: Option<Inner>,
    /// Since when it is the other side's turn to ask.
    unasked: Option<Instant>,
    /// Who waits for more of it.
    waker: Option<Waker>,
}

impl Watched {
    /// Watches from now on.
    pub(super) fn new(inner: impl Stream<Item = Result<Bytes, TooSlow>> + Send + 'static) -> Self {
        let held = Arc::new(Mutex::new(Held {
            inner: Some(Box::pin(inner)),
            unasked: Some(Instant::now()),
            waker: None,
        }));
        tokio::spawn(watch(Arc::downgrade(&held)));
        Self(held)
    }
}

impl Stream for Watched {
    type Item = Result<Bytes, TooSlow>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut held = self.0.lock();
        let Some(inner) = &mut held.inner else {
            return Poll::Ready(Some(Err(TooSlow)));
        };
        let next = inner.as_mut().poll_next(context);
        held.unasked = next.is_ready().then(Instant::now);
        held.waker = next.is_pending().then(|| context.waker().clone());
        next
    }
}

async fn watch(held: Weak<Mutex<Held>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(held) = held.upgrade() else {
            return;
        };
        if held.lock().is_over(Instant::now()) {
            return;
        }
    }
}

impl Held {
    fn is_over(&mut self, now: Instant) -> bool {
        match self.unasked {
            Some(since) if now.saturating_duration_since(since) >= NO_PROGRESS => {
                self.inner = None;
                true
            }
            Some(_) => false,
            None => {
                // Nothing was there: is it still waited for?
                self.unasked = Some(now);
                self.waker.take().into_iter().for_each(Waker::wake);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};
    use tokio::sync::Semaphore;

    use super::*;

    /// A response that holds a seat, gives so many bytes and then waits for ever.
    fn response(seats: &Arc<Semaphore>, bytes: usize) -> Watched {
        let seat = seats.clone().try_acquire_owned().expect("free");
        let bytes = vec![Ok(Bytes::from_static(b"x")); bytes];
        let inner = stream::iter(bytes).chain(stream::pending());
        Watched::new(inner.map(move |bytes| {
            let _ = &seat;
            bytes
        }))
    }

    async fn is_free_within(seats: &Semaphore, seconds: u64) -> bool {
        let freed = seats.acquire();
        let freed = tokio::time::timeout(Duration::from_secs(seconds), freed).await;
        freed.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_nobody_asks_for_gives_its_seat_back() {
        for asked in [0, 1, 3] {
            let seats = Arc::new(Semaphore::new(1));
            let mut response = response(&seats, 3);
            for _ in 0..asked {
                assert!(response.next().await.is_some());
            }
            assert!(is_free_within(&seats, 15).await, "asked {asked} times");
            assert!(response.next().await.is_some_and(|end| end.is_err()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_waits_for_media_is_asked_whether_it_is_wanted() {
        let seats = Arc::new(Semaphore::new(1));
        let mut wanted = response(&seats, 0);
        tokio::select! {
            _ = wanted.next() => panic!("there is nothing"),
            free = is_free_within(&seats, 120) => assert!(!free, "somebody waits"),
        }
        drop(wanted);
        let mut left = response(&seats, 0);
        assert!(left.next().now_or_never().is_none());
        assert!(is_free_within(&seats, 20).await, "nobody came back");
    }
}
