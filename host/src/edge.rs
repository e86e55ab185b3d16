//! Edges: streams that another node has, pulled once for all who want them here.
//!
//! Somebody asks for a stream that nothing here feeds; when another node holds it, a
//! native pull brings it into an ordinary stream of this node, and goes when the last
//! viewer is gone. A stream that this node lost goes on the same way, on its own
//! timeline and with its viewers. Knows neither the store nor provisions: who holds a
//! stream is told by [`Holders`], and only addresses that these name are dialed, outside
//! the policy for guests. Invariants: one pull a stream; an edge is never served from an
//! edge (a node takes media from whoever holds the stream and from nobody else), so
//! there are no loops; every wait ends.

mod course;
mod dials;
mod follow;
mod link;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Instrument, info_span};

use crate::auth::{Auth, Errand};
use crate::drain::Drain;
use crate::id::{NodeId, StreamGuid};
use crate::stream::latency::Latency;
use crate::stream::{Elsewhere, Feeder, Stream, Streams};
use dials::Dials;

/// Who holds a stream, and where it is played from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Which of its memberships; a node that came back is another origin.
    pub instance: String,
    /// Of the claim.
    pub epoch: u64,
    /// Its RTMP listener.
    pub rtmp: SocketAddr,
}

/// Who holds which stream, as far as this node has heard.
pub trait Holders: Send + Sync {
    /// The other node that may feed the stream now.
    fn holder(&self, stream: &StreamGuid) -> Option<Origin>;

    /// Whether there is such a stream on another node, with or without media: somebody
    /// holds it, or is to feed it.
    fn exists(&self, stream: &StreamGuid) -> bool;

    /// How long frames of the stream wait to be sent together, where its provision says.
    fn latency(&self, stream: &StreamGuid) -> Option<Latency>;

    /// Changes whenever a holder or what exists may be another.
    fn changes(&self) -> watch::Receiver<()>;
}

/// How long edges wait.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Without a holder that gives media, a stream that had some ends.
    pub orphan_wait: Duration,
    /// Without a viewer the pull goes.
    pub linger: Duration,
}

/// A stream that is followed.
struct Followed {
    stream: Arc<Stream>,
    /// When somebody asked for it last.
    wanted: Instant,
}

struct Inner {
    me: NodeId,
    streams: Streams,
    holders: Arc<dyn Holders>,
    auth: Auth,
    config: Config,
    drain: Drain,
    dials: Arc<Dials>,
    /// One task each. Locked before the streams are.
    followed: Mutex<HashMap<StreamGuid, Followed>>,
}

/// The edges of this node. A cheap handle.
#[derive(Clone)]
pub struct Edges(Arc<Inner>);

impl std::fmt::Debug for Edges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edges").finish_non_exhaustive()
    }
}

impl Edges {
    /// Begins to bring what viewers of these streams ask for.
    pub fn start(
        me: NodeId,
        streams: &Streams,
        holders: Arc<dyn Holders>,
        auth: Auth,
        config: Config,
        drain: Drain,
    ) -> Self {
        let edges = Self(Arc::new(Inner {
            me,
            streams: streams.clone(),
            holders,
            auth,
            config,
            drain,
            dials: Arc::default(),
            followed: Mutex::default(),
        }));
        streams.set_elsewhere(Arc::new(edges.clone()));
        edges
    }

    /// How many streams are followed.
    pub fn count(&self) -> usize {
        self.0.followed.lock().len()
    }

    fn spawn(&self, followed: &mut HashMap<StreamGuid, Followed>, stream: &Arc<Stream>) {
        let entry = Followed {
            stream: stream.clone(),
            wanted: Instant::now(),
        };
        followed.insert(stream.guid().clone(), entry);
        let span = info_span!("edge", stream = %stream.guid());
        let task = follow::run(self.clone(), stream.clone());
        self.0.drain.spawn(task.instrument(span));
    }

    fn wanted(&self, guid: &StreamGuid) -> Option<Instant> {
        Some(self.0.followed.lock().get(guid)?.wanted)
    }

    /// Nobody watches any more; false when somebody asked for it since.
    fn let_go(&self, stream: &Arc<Stream>) -> bool {
        let mut followed = self.0.followed.lock();
        let wanted = followed.get(stream.guid()).map(|entry| entry.wanted);
        let recent = wanted.is_some_and(|at| at.elapsed() < self.0.config.linger);
        if recent || stream.viewers() > 0 {
            return false;
        }
        followed.remove(stream.guid());
        self.0.streams.end_edge(stream);
        true
    }

    /// Its viewers are told that it is over.
    fn end(&self, stream: &Arc<Stream>) {
        let mut followed = self.0.followed.lock();
        followed.remove(stream.guid());
        self.0.streams.end_edge(stream);
    }

    /// The stream is fed here; false when that is over already.
    fn hand_back(&self, stream: &Arc<Stream>) -> bool {
        let mut followed = self.0.followed.lock();
        if stream.feeder() == Feeder::Edge && !stream.is_ended() {
            return false;
        }
        followed.remove(stream.guid());
        true
    }

    fn token(&self) -> String {
        self.0.auth.node_token(&self.0.me, Errand::Play)
    }
}

impl Elsewhere for Edges {
    fn bring(&self, guid: &StreamGuid) -> Option<Arc<Stream>> {
        let mut followed = self.0.followed.lock();
        if let Some(entry) = followed.get_mut(guid) {
            entry.wanted = Instant::now();
            return Some(entry.stream.clone());
        }
        if self.0.drain.is_started() || !self.0.holders.exists(guid) {
            return None;
        }
        let stream = self.0.streams.edge(guid);
        if stream.feeder() == Feeder::Edge {
            self.spawn(&mut followed, &stream);
        }
        Some(stream)
    }

    fn exists(&self, guid: &StreamGuid) -> bool {
        self.0.holders.exists(guid)
    }

    fn follow(&self, stream: &Arc<Stream>) {
        let mut followed = self.0.followed.lock();
        if stream.feeder() == Feeder::Edge && !followed.contains_key(stream.guid()) {
            self.spawn(&mut followed, stream);
        }
    }
}
