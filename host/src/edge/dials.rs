//! How many dials of one node may be under way at a time.
//!
//! When a node comes back, or many viewers arrive at once, its streams are all wanted in
//! the same moment; their dials wait for each other then. Knows nothing of streams.
//! Invariants: at most [`AT_ONCE`] turns a node, each over after [`TURN`] at the latest,
//! so that a node that answers nobody holds up no dial for good; what is kept is bounded
//! by the nodes that are dialed now.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rtmp::dial::Moments;

/// A handshake and a grant cost both nodes a millisecond or two: so many at once keep them
/// busy, and leave the other one's listener free for its own players.
pub(super) const AT_ONCE: usize = 32;
/// Who is not granted within this has reached a stream without media, or nobody.
pub(super) const TURN: Duration = Duration::from_secs(1);

/// The dials of a node, by where they lead.
#[derive(Debug, Default)]
pub(super) struct Dials {
    nodes: Mutex<HashMap<SocketAddr, Weak<Semaphore>>>,
    moments: Moments,
}

/// The right to dial. Dropping it lets the next one.
#[derive(Debug)]
pub(super) struct Turn(Option<OwnedSemaphorePermit>);

impl Dials {
    /// Where what was dialed waits to be read.
    pub(super) fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Waits for a turn, first come, first served. Cancel safe.
    pub(super) async fn turn(&self, to: SocketAddr) -> Turn {
        // It is never closed.
        Turn(self.of(to).acquire_owned().await.ok())
    }

    fn of(&self, to: SocketAddr) -> Arc<Semaphore> {
        let mut dials = self.nodes.lock();
        if let Some(known) = dials.get(&to).and_then(Weak::upgrade) {
            return known;
        }
        dials.retain(|_, dials| dials.strong_count() > 0);
        let new = Arc::new(Semaphore::new(AT_ONCE));
        dials.insert(to, Arc::downgrade(&new));
        new
    }
}

impl Turn {
    /// Dials, and gives the turn back when that is done or takes long.
    pub(super) async fn take<T>(mut self, dial: impl Future<Output = T>) -> T {
        let mut dial = std::pin::pin!(dial);
        if let Ok(done) = tokio::time::timeout(TURN, &mut dial).await {
            return done;
        }
        self.0 = None;
        dial.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    fn node(n: u8) -> SocketAddr {
        ([127, 0, 0, n], 1935).into()
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_dial_a_node_at_a_time_and_all_of_them_do() {
        let (dials, now, most) = <(Arc<Dials>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let mut all = JoinSet::new();
        for _ in 0..1_000 {
            let (dials, now, most) = (dials.clone(), now.clone(), most.clone());
            all.spawn(async move {
                let turn = dials.turn(node(1)).await;
                let dial = async {
                    most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    tokio::time::sleep(TURN / 2).await;
                    now.fetch_sub(1, Ordering::Relaxed);
                };
                turn.take(dial).await;
            });
        }
        let done = all.join_all().await;
        assert_eq!((done.len(), most.load(Ordering::Relaxed)), (1_000, AT_ONCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_answers_nobody_holds_up_its_own_dials_for_a_turn_and_no_others() {
        let dials = Dials::default();
        let begin = Instant::now();
        let mut silent = JoinSet::new();
        for _ in 0..AT_ONCE {
            silent.spawn(dials.turn(node(1)).await.take(std::future::pending::<()>()));
        }
        drop(dials.turn(node(2)).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        drop(dials.turn(node(1)).await);
        assert_eq!(begin.elapsed().as_secs(), TURN.as_secs());
    }

    #[tokio::test]
    async fn nodes_that_are_not_dialed_are_forgotten() {
        let dials = Dials::default();
        for n in 0..200 {
            drop(dials.turn(node(n)).await);
        }
        assert_eq!(dials.nodes.lock().len(), 1);
    }
}
