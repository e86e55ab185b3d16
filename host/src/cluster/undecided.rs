//! Names of writes of which nobody knows whether they were done.
//!
//! A store that gives no answer may have done what it was asked to all the same. The names
//! stay kept from publishers until it answers again and this node has followed it so far;
//! what it says by then decides: a name that a provision has is held by that, any other is
//! free. One task for all of them.

use std::time::Duration;

use tracing::{Instrument as _, info_span};

use super::Cluster;
use crate::id::StreamGuid;
use crate::store::Revision;

/// Names that wait at a time: past it one is free at once, and falls to its provision, if
/// there is one after all, when the publisher leaves. As many as fit into some 10 MB.
const MOST: usize = 100_000;
/// From one question to a store that does not answer to the next.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a write may be under way within a store that answers others already.
const LATE: Duration = Duration::from_secs(2);

/// The names that wait.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    names: Vec<StreamGuid>,
    /// A task waits for them.
    awaited: bool,
}

impl Undecided {
    /// Whether nothing is waited for.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.awaited
    }

    /// Takes names in, as many as there is room for; answers the others.
    fn add(&mut self, mut names: Vec<StreamGuid>) -> Vec<StreamGuid> {
        let room = MOST.saturating_sub(self.names.len()).min(names.len());
        let over = names.split_off(room);
        self.names.append(&mut names);
        over
    }
}

impl Cluster {
    /// Nobody knows whether writes were done for which names of this node's group were
    /// reserved. What the store says decides, when it can be asked again: in place of
    /// [`Streams::settle`](crate::stream::Streams::settle). Returns at once.
    pub fn undecided(&self, names: Vec<StreamGuid>) {
        let (over, begin) = {
            let mut undecided = self.0.undecided.lock();
            let over = undecided.add(names);
            let begin = !undecided.names.is_empty() && !undecided.awaited;
            undecided.awaited |= begin;
            (over, begin)
        };
        self.give_back(&over);
        if begin {
            let decide = self.clone().decide();
            self.0
                .drain
                .spawn(decide.instrument(info_span!("undecided")));
        }
    }

    async fn decide(self) {
        let drain = self.0.drain.clone();
        let decided = async {
            loop {
                let waited = self.0.undecided.lock().names.len();
                self.follow_up().await;
                let (names, more) = {
                    let mut undecided = self.0.undecided.lock();
                    let names: Vec<StreamGuid> = undecided.names.drain(..waited).collect();
                    // Whoever brings one later begins anew.
                    undecided.awaited = !undecided.names.is_empty();
                    (names, undecided.awaited)
                };
                self.give_back(&names);
                if !more {
                    return;
                }
            }
        };
        tokio::select! {
            () = drain.started() => {}
            () = decided => {}
        }
    }

    fn give_back(&self, names: &[StreamGuid]) {
        let give = |name| self.0.streams.settle(name, None);
        names.iter().for_each(give);
    }

    /// Resolves when the store answers, and this node has carried out all that was written
    /// before.
    async fn follow_up(&self) {
        self.answered().await;
        tokio::time::sleep(LATE).await;
        while !self.applied(self.answered().await).await {}
    }

    async fn answered(&self) -> Revision {
        loop {
            match self.0.store.revision().await {
                Ok(revision) => return revision,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_wait_are_bounded() {
        let mut undecided = Undecided::default();
        let name: StreamGuid = "live/a".parse().expect("legal");
        let over = undecided.add(vec![name.clone(); MOST - 1]);
        assert!(over.is_empty());
        assert_eq!(undecided.add(vec![name.clone(); 3]).len(), 2);
        assert_eq!(undecided.add(vec![name; 1]).len(), 1);
        assert_eq!(undecided.names.len(), MOST);
    }
}
