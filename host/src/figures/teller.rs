//! Tells other nodes the figures of this one.
//!
//! One task looks once a second, and only while somebody listens; all who listen share
//! its lines. Bounded: so many listeners, and none of them is waited for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{Instrument, debug_span};

use super::delta::{Picture, lines};
use crate::drain::Drain;

/// How often it is said what changed.
const TICK: Duration = Duration::from_secs(1);
/// Moments that a listener may be behind.
const BEHIND: usize = 4;
/// Nodes of a group.
const LISTENERS: usize = 100;

type Moment = Arc<[Bytes]>;

#[derive(Debug)]
struct State {
    /// What was said last, while somebody listens.
    said: Option<Picture>,
    moments: broadcast::Sender<Moment>,
}

/// The teller. A cheap handle.
#[derive(Clone, Debug)]
pub struct Teller {
    state: Arc<Mutex<State>>,
    drain: Drain,
}

impl Teller {
    /// Nobody listens yet.
    pub fn new(drain: Drain) -> Self {
        let state = State {
            said: None,
            moments: broadcast::Sender::new(BEHIND),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            drain,
        }
    }

    /// One more listens; `look` takes the picture. None when there are too many.
    pub fn listen(&self, look: impl Fn() -> Picture + Send + 'static) -> Option<Listening> {
        let mut state = self.state.lock();
        if state.moments.receiver_count() >= LISTENERS {
            return None;
        }
        let heard = state.moments.subscribe();
        let said = match state.said.take() {
            Some(said) => said,
            None => {
                let first = look();
                let task = self.clone().tell(look);
                self.drain.spawn(task.instrument(debug_span!("figures")));
                first
            }
        };
        let queue = lines(None, &said).into();
        state.said = Some(said);
        Some(Listening {
            queue,
            heard,
            drain: self.drain.clone(),
        })
    }

    async fn tell(self, look: impl Fn() -> Picture) {
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.drain.started() => return,
            }
            let now = look();
            let mut state = self.state.lock();
            if state.moments.receiver_count() == 0 {
                state.said = None;
                return;
            }
            let moment = lines(state.said.as_ref(), &now).into();
            state.said = Some(now);
            // Somebody listens; and if not, not.
            let _ = state.moments.send(moment);
        }
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Listening {
    queue: VecDeque<Bytes>,
    heard: broadcast::Receiver<Moment>,
    drain: Drain,
}

impl Listening {
    /// The next line; none when it fell behind, or the node leaves. Cancel safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.queue.pop_front() {
                return Some(line);
            }
            let moment = tokio::select! {
                moment = self.heard.recv() => moment,
                () = self.drain.started() => return None,
            };
            match moment {
                Ok(moment) => self.queue.extend(moment.iter().cloned()),
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::delta::Counts;
    use super::*;

    /// Looks that were taken, each of them a picture of its own.
    fn looks() -> (
        Arc<AtomicU64>,
        impl Fn() -> Picture + Send + Clone + 'static,
    ) {
        let taken = Arc::new(AtomicU64::new(0));
        let counting = taken.clone();
        let look = move || Picture {
            counts: Counts {
                publishers: counting.fetch_add(1, Ordering::Relaxed) + 1,
                ..Counts::default()
            },
            ..Picture::default()
        };
        (taken, look)
    }

    fn publishers(line: Option<Bytes>) -> u64 {
        let line: serde_json::Value = serde_json::from_slice(&line.expect("a line")).expect("JSON");
        line["counts"]["publishers"].as_u64().expect("a number")
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_listen_share_one_look_a_second_and_nobody_looks_for_nobody() {
        let teller = Teller::new(Drain::new());
        let (taken, look) = looks();
        let mut first = teller.listen(look.clone()).expect("room");
        assert_eq!(publishers(first.next().await), 1, "at once");
        assert_eq!(publishers(first.next().await), 2);
        let mut second = teller.listen(look.clone()).expect("room");
        assert_eq!(publishers(second.next().await), 2, "what was said last");
        assert_eq!(publishers(second.next().await), 3);
        assert_eq!(publishers(first.next().await), 3);
        drop((first, second));
        tokio::time::sleep(TICK * 10).await;
        assert!(taken.load(Ordering::Relaxed) <= 4);
        let mut anew = teller.listen(look).expect("room");
        let seen = taken.load(Ordering::Relaxed);
        assert_eq!(publishers(anew.next().await), seen, "a look of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_keep_up_hears_no_more_and_costs_nothing() {
        let teller = Teller::new(Drain::new());
        let (_, look) = looks();
        let mut slow = teller.listen(look.clone()).expect("room");
        let mut quick = teller.listen(look).expect("room");
        for _ in 0..BEHIND * 3 {
            assert!(quick.next().await.is_some());
        }
        assert!(slow.next().await.is_some(), "what it had");
        assert_eq!(slow.next().await, None);
        assert!(teller.state.lock().moments.len() <= BEHIND);
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_are_bounded_and_a_drain_ends_them() {
        let drain = Drain::new();
        let teller = Teller::new(drain.clone());
        let (_, look) = looks();
        let mut all: Vec<_> = std::iter::from_fn(|| teller.listen(look.clone())).collect();
        assert_eq!(all.len(), LISTENERS);
        drain.start();
        let mut last = all.pop().expect("many");
        assert!(last.next().await.is_some(), "what it had");
        assert_eq!(last.next().await, None);
        drop((all, last));
        assert!(teller.listen(look).is_some(), "there is room again");
    }
}
