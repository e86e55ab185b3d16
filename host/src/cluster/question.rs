//! What the cluster's machines want of the store, and what they hear of it.
//!
//! The machines ask and go on; whoever drives them carries questions out, at the same
//! time and in any order, and brings the answers back. Invariant: every question is
//! answered once, be it with [`Error::Unavailable`] because nobody knows.

use std::sync::Arc;
use std::time::Duration;

use crate::id::{ProvisionGuid, StreamGuid};
use crate::store::{Entry, Error, LeaseId, Revision, Store, Txn};

/// A question nobody answered for so long was not answered. Stores give up sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Grant(Duration),
    KeepAlive(LeaseId),
    Get(String),
    Txn(Txn),
    Revoke(LeaseId),
}

/// What it is about, for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// A new lease.
    Lease,
    /// That this one lives on.
    Renewal(LeaseId),
    /// Who has the node's name.
    Look,
    /// The node's record.
    Enter,
    /// The end of a lease.
    Farewell,
    /// A claim that is to be made; counted, so that an answer is told from that to a later
    /// question.
    Claim(StreamGuid, u64),
    /// A claim that is to be given up, counted too.
    Release(StreamGuid, u64),
    /// That this node could begin with a stream.
    Ready(StreamGuid),
    /// A provision that is to be moved.
    Move(ProvisionGuid),
}

/// A question. When it was asked is counted from before it is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) topic: Topic,
    pub(super) ask: Ask,
    pub(super) at: Duration,
}

/// What a store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Granted(LeaseId),
    /// How long the lease lasts, counted from when that was asked.
    Alive(Duration),
    Found(Option<Entry>),
    Written(Revision),
    Revoked,
}

/// A question with its answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) topic: Topic,
    pub(super) at: Duration,
    pub(super) answer: Result<Said, Error>,
}

impl Question {
    /// Asks a store.
    pub(super) async fn put(self, store: Arc<dyn Store>) -> Answered {
        let Self { topic, ask, at } = self;
        let asked = tokio::time::timeout(PATIENCE, ask.put(&*store)).await;
        let answer = asked.unwrap_or_else(|late| Err(Error::Unavailable(Arc::new(late))));
        Answered { topic, at, answer }
    }
}

impl Ask {
    async fn put(self, store: &dyn Store) -> Result<Said, Error> {
        Ok(match self {
            Self::Grant(ttl) => Said::Granted(store.lease(ttl).await?),
            Self::KeepAlive(lease) => Said::Alive(store.keep_alive(lease).await?),
            Self::Get(key) => Said::Found(store.get(&key).await?),
            Self::Txn(txn) => Said::Written(store.txn(txn).await?),
            Self::Revoke(lease) => {
                store.revoke(lease).await?;
                Said::Revoked
            }
        })
    }
}
