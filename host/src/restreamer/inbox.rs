//! Where everything a policy waits for arrives.
//!
//! Wakes are folded by kind, so the inbox is bounded by the number of sources and
//! nothing is ever lost. A stop stays: every later wait returns it again.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::host::{Failure, Properties, SourceId, TargetId, Wake};

#[derive(Default)]
struct Pending {
    stop: bool,
    upgrade: bool,
    /// There is a build newer than that of the run, or of the last one.
    newer: bool,
    /// This run was told of an upgrade.
    upgrade_told: bool,
    reconfigured: Option<Properties>,
    ended: VecDeque<(SourceId, Failure)>,
    targets_ended: VecDeque<(TargetId, Failure)>,
    /// Media moves in the stream that is read.
    stream: bool,
    /// What the run is to hear of that: nothing, the last word, or the end of what was
    /// before it and a begin.
    stream_news: VecDeque<bool>,
    facts: VecDeque<SourceId>,
    reachable: bool,
}

/// Properties hold secrets and are not shown.
impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

/// The inbox of one restreamer.
#[derive(Debug, Default)]
pub struct Inbox {
    pending: Mutex<Pending>,
    notify: Notify,
    /// An upgrade is wanted.
    asked: Notify,
    stopped: CancellationToken,
}

impl Inbox {
    /// The restreamer is to stop.
    pub fn stop(&self) {
        self.put(|pending| pending.stop = true);
        self.stopped.cancel();
    }

    /// Whether a stop was wanted.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Resolves when a stop is wanted. Cancel safe.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// A newer build waits: for a run to hand over, if that is wanted, and for one to
    /// begin when there is none.
    pub fn swapped(&self, hand_over: bool) {
        self.put(|pending| {
            pending.newer = true;
            pending.upgrade |= hand_over;
        });
        self.asked.notify_waiters();
    }

    /// Resolves when an upgrade is wanted of the run. Cancel safe.
    pub async fn upgrade_wanted(&self) {
        loop {
            let asked = self.asked.notified();
            {
                let pending = self.pending.lock();
                if pending.upgrade || pending.upgrade_told {
                    return;
                }
            }
            asked.await;
        }
    }

    /// Resolves when the run is to come back to its wait: for a stop, or an upgrade that it
    /// has not heard of yet. Cancel safe.
    pub async fn called_back(&self) {
        let upgrade = async {
            loop {
                let asked = self.asked.notified();
                if self.pending.lock().upgrade {
                    return;
                }
                asked.await;
            }
        };
        tokio::select! {
            () = self.stopped() => {}
            () = upgrade => {}
        }
    }

    /// A run that ended by its own decision is to begin anew.
    pub fn again(&self) {
        self.put(|pending| pending.newer = true);
    }

    /// The provision has other properties now.
    pub fn reconfigure(&self, properties: Properties) {
        self.put(|pending| pending.reconfigured = Some(properties));
    }

    /// A host answers again.
    pub fn reachable(&self) {
        self.put(|pending| pending.reachable = true);
    }

    /// A source has news.
    pub fn facts(&self, id: SourceId) {
        self.put(|pending| {
            if !pending.facts.contains(&id) {
                pending.facts.push_back(id);
            }
        });
    }

    /// A source is over. Told once more, it is told once.
    pub fn ended(&self, id: SourceId, failure: Failure) {
        self.put(|pending| {
            pending.facts.retain(|known| *known != id);
            if pending.ended.iter().all(|(known, _)| *known != id) {
                pending.ended.push_back((id, failure));
            }
        });
    }

    /// A target is over. Told once more, it is told once.
    pub fn target_ended(&self, id: TargetId, failure: Failure) {
        self.put(|pending| {
            pending.facts.retain(|known| *known != id);
            if pending.targets_ended.iter().all(|(known, _)| *known != id) {
                pending.targets_ended.push_back((id, failure));
            }
        });
    }

    /// Media moves in the stream that is read, or no more.
    pub fn stream(&self, moves: bool) {
        self.put(|pending| {
            if std::mem::replace(&mut pending.stream, moves) != moves {
                match pending.stream_news.len() {
                    // A begin nobody has heard of, and its end.
                    2 => drop(pending.stream_news.pop_back()),
                    _ => pending.stream_news.push_back(moves),
                }
            }
        });
    }

    /// A source or target was closed by the policy: it wants to hear no more of it.
    pub fn forget(&self, id: SourceId) {
        let mut pending = self.pending.lock();
        pending.facts.retain(|known| *known != id);
        pending.ended.retain(|(known, _)| *known != id);
        pending.targets_ended.retain(|(known, _)| *known != id);
    }

    /// A run begins: what was meant for the former one only is dropped.
    pub fn begin_run(&self) {
        let mut pending = self.pending.lock();
        (pending.upgrade, pending.upgrade_told) = (false, false);
        pending.newer = false;
        pending.stream_news.clear();
        if pending.stream {
            pending.stream_news.push_back(true);
        }
    }

    /// Whether this run was told of an upgrade.
    pub fn upgrade_was_told(&self) -> bool {
        self.pending.lock().upgrade_told
    }

    /// The next wake. Cancel safe.
    pub async fn next(&self) -> Wake {
        loop {
            let notified = self.notify.notified();
            if let Some(wake) = self.take() {
                return wake;
            }
            notified.await;
        }
    }

    /// The same while nothing runs: a newer build is to be run then, handed over to or
    /// not. Cancel safe.
    pub async fn next_at_rest(&self) -> Wake {
        loop {
            let notified = self.notify.notified();
            let newer = std::mem::take(&mut self.pending.lock().newer);
            match self.take() {
                Some(Wake::Stop) => return Wake::Stop,
                _ if newer => return Wake::Upgrade,
                Some(wake) => return wake,
                None => notified.await,
            }
        }
    }

    fn take(&self) -> Option<Wake> {
        let mut pending = self.pending.lock();
        if pending.stop {
            return Some(Wake::Stop);
        }
        if std::mem::take(&mut pending.upgrade) {
            pending.upgrade_told = true;
            return Some(Wake::Upgrade);
        }
        if let Some(properties) = pending.reconfigured.take() {
            return Some(Wake::Reconfigured(properties));
        }
        if let Some((id, failure)) = pending.ended.pop_front() {
            return Some(Wake::SourceEnded(id, failure));
        }
        if let Some((id, failure)) = pending.targets_ended.pop_front() {
            return Some(Wake::TargetEnded(id, failure));
        }
        match pending.stream_news.pop_front() {
            Some(true) => return Some(Wake::StreamBegan),
            Some(false) => return Some(Wake::StreamEnded),
            None => {}
        }
        if let Some(id) = pending.facts.pop_front() {
            return Some(Wake::Facts(id));
        }
        std::mem::take(&mut pending.reachable).then_some(Wake::Reachable)
    }

    fn put(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock());
        self.notify.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::restreamer::host::Class;

    #[tokio::test]
    async fn wakes_are_folded_ordered_and_never_lost() {
        let inbox = Inbox::default();
        for _ in 0..1000 {
            inbox.facts(1);
            inbox.facts(2);
        }
        for _ in 0..1000 {
            inbox.facts(3);
            inbox.target_ended(3, Failure::new(Class::Closed, "gone"));
        }
        inbox.ended(1, Failure::new(Class::Closed, "gone"));
        inbox.reconfigure(vec![]);
        let mut wakes = Vec::new();
        for _ in 0..4 {
            wakes.push(inbox.next().await);
        }
        let ended = Wake::SourceEnded(1, Failure::new(Class::Closed, "gone"));
        let target = Wake::TargetEnded(3, Failure::new(Class::Closed, "gone"));
        assert_eq!(
            wakes,
            [Wake::Reconfigured(vec![]), ended, target, Wake::Facts(2)]
        );
        assert!(inbox.take().is_none());
    }

    #[tokio::test]
    async fn a_newer_build_is_for_a_run_that_hands_over_and_for_one_that_failed() {
        let inbox = Inbox::default();
        inbox.swapped(false);
        assert_eq!(inbox.take(), None, "the run stays on its build");
        let at_rest = || inbox.next_at_rest().now_or_never();
        assert_eq!(at_rest(), Some(Wake::Upgrade));
        assert_eq!(at_rest(), None);
        inbox.swapped(false);
        inbox.begin_run();
        inbox.facts(1);
        assert_eq!(at_rest(), Some(Wake::Facts(1)), "it has run");
        inbox.swapped(true);
        assert_eq!(inbox.take(), Some(Wake::Upgrade));
    }

    #[tokio::test]
    async fn the_stream_that_is_read_is_told_of_in_order_and_folded() {
        let inbox = Inbox::default();
        let told = |inbox: &Inbox| std::iter::from_fn(|| inbox.take()).collect::<Vec<_>>();
        inbox.stream(true);
        inbox.stream(true);
        assert_eq!(told(&inbox), [Wake::StreamBegan]);
        for _ in 0..1_000 {
            inbox.stream(false);
            inbox.stream(true);
        }
        assert_eq!(told(&inbox), [Wake::StreamEnded, Wake::StreamBegan]);
        for _ in 0..1_000 {
            inbox.stream(false);
            inbox.stream(true);
        }
        inbox.stream(false);
        assert_eq!(told(&inbox), [Wake::StreamEnded]);
        inbox.begin_run();
        assert_eq!(told(&inbox), [], "nothing moves");
        inbox.stream(true);
        inbox.begin_run();
        assert_eq!(told(&inbox), [Wake::StreamBegan]);
        inbox.begin_run();
        assert_eq!(told(&inbox), [Wake::StreamBegan], "a new run knows nothing");
    }

    #[tokio::test]
    async fn an_upgrade_is_wanted_until_the_next_run_begins() {
        let inbox = Inbox::default();
        let wanted = || inbox.upgrade_wanted().now_or_never().is_some();
        inbox.swapped(false);
        assert!(!wanted(), "the run stays on its build");
        let (wanted_at_last, ()) = tokio::join!(inbox.upgrade_wanted(), async {
            tokio::task::yield_now().await;
            inbox.swapped(true);
        });
        let () = wanted_at_last;
        assert!(wanted());
        assert_eq!(inbox.take(), Some(Wake::Upgrade));
        assert!(wanted(), "told, and not answered");
        inbox.begin_run();
        assert!(!wanted());
    }

    #[tokio::test]
    async fn a_stop_stays() {
        let inbox = Inbox::default();
        inbox.stop();
        inbox.facts(1);
        assert_eq!(
            (inbox.next().await, inbox.next().await),
            (Wake::Stop, Wake::Stop)
        );
    }
}
