//! Follows the figures of every other node.
//!
//! A connection each, for as long as the node is there; dialed again when it ends, at
//! most every few hundred milliseconds. Bounded: a line at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, info, info_span, warn};

use super::delta::Refused;
use super::lines::{Lines, TooLong};
use super::{FRESH, Figures, PATH, Peer, Peers};
use crate::auth::{Auth, Errand};
use crate::config::host_of;
use crate::drain::Drain;
use crate::id::NodeId;
use crate::rtmp::dial::{self, Class, Failure, reach_at};
use crate::rtmp::policy::Policy;

/// Before a node is dialed again, first so long and then twice as long each time, …
const RETRY: Duration = Duration::from_millis(250);
/// … up to this.
const MOST_RETRY: Duration = Duration::from_secs(4);
/// The answer's head comes within this time, and so does each next line.
const ANSWER: Duration = FRESH;
/// Bytes of the answer's head; hyper's least is 8 KiB.
const HEAD: usize = 16 * 1024;

/// How the certificates of other nodes are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Against the machine's roots, for the address that a node advertises.
    #[default]
    Verify,
    /// Not at all.
    Skip,
}

/// Why a node is not heard any more.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("{0}")]
    Dial(#[from] Failure),
    #[error("the connection failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("it is silent")]
    Silent,
    #[error("it ended")]
    Ended,
    #[error("{0}")]
    Said(#[from] Refused),
    #[error("{0}")]
    TooLong(#[from] TooLong),
}

impl Over {
    /// Whether somebody has to do something about it: secrets, certificates or builds do
    /// not fit.
    fn can_be_mended(&self) -> bool {
        let refused = |status: &StatusCode| {
            matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        };
        match self {
            Self::Status(status) => refused(status),
            Self::Dial(failure) => failure.class == Class::Tls,
            Self::Said(_) | Self::TooLong(_) => true,
            Self::Http(_) | Self::Silent | Self::Ended => false,
        }
    }
}

/// Follows all nodes until the drain starts.
pub async fn run(
    me: NodeId,
    figures: Figures,
    peers: Arc<dyn Peers>,
    auth: Auth,
    trust: Trust,
    drain: Drain,
) {
    let mut changes = peers.changes();
    let mut followed: HashMap<NodeId, (Peer, AbortOnDropHandle<()>)> = HashMap::new();
    loop {
        changes.mark_unchanged();
        let now = peers.peers();
        followed.retain(|node, (peer, _)| {
            let stays = now.contains(peer);
            if !stays {
                figures.forget(node);
            }
            stays
        });
        for peer in now {
            if followed.contains_key(&peer.node) {
                continue;
            }
            figures.listen_to(peer.clone());
            let follower = Follower {
                me: me.clone(),
                peer: peer.clone(),
                figures: figures.clone(),
                auth: auth.clone(),
                trust,
            };
            let span = info_span!("figures", node = %peer.node);
            let task = tokio::spawn(Box::pin(follower.run()).instrument(span));
            followed.insert(peer.node.clone(), (peer, AbortOnDropHandle::new(task)));
        }
        if !next(&mut changes, &drain).await {
            return;
        }
    }
}

async fn next(changes: &mut watch::Receiver<()>, drain: &Drain) -> bool {
    tokio::select! {
        changed = changes.changed() => changed.is_ok(),
        () = drain.started() => false,
    }
}

struct Follower {
    me: NodeId,
    peer: Peer,
    figures: Figures,
    auth: Auth,
    trust: Trust,
}

impl Follower {
    async fn run(self) {
        let mut retry = RETRY;
        // One line for each time that it goes wrong, not for each attempt.
        let mut told = false;
        loop {
            let mut heard = false;
            let over = match self.follow(&mut heard).await {
                Err(over) => over,
                Ok(()) => Over::Ended,
            };
            if heard {
                (retry, told) = (RETRY, false);
            }
            match over {
                over if told => debug!(reason = %over, "the figures of a node are not followed"),
                over if over.can_be_mended() => {
                    warn!(reason = %over, "the figures of a node cannot be followed");
                }
                over => info!(reason = %over, "the figures of a node are not followed"),
            }
            told = true;
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(MOST_RETRY);
        }
    }

    async fn follow(&self, heard: &mut bool) -> Result<(), Over> {
        let name = self.peer.tls.as_deref().map(host_of);
        let trust = match self.trust {
            Trust::Verify => dial::Trust::Verify,
            Trust::Skip => dial::Trust::Skip,
        };
        let tls = name.map(|name| (name, trust));
        let policy = Policy::only(self.peer.api);
        let io = reach_at(self.peer.api, tls, &policy).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD);
        let (mut sender, connection) = builder.handshake(TokioIo::new(io)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let answer = timeout(ANSWER, sender.send_request(self.request())).await;
        let answer = answer.map_err(|_| Over::Silent)??;
        if answer.status() != StatusCode::OK {
            return Err(Over::Status(answer.status()));
        }
        let mut body = answer.into_body();
        let mut lines = Lines::default();
        loop {
            let frame = timeout(ANSWER, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Over::Silent)? else {
                return Ok(());
            };
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            lines.push(&data);
            while let Some(line) = lines.next()? {
                self.figures.hear(&self.peer, &line)?;
                *heard = true;
            }
        }
    }

    fn request(&self) -> Request<Empty<bytes::Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = hyper::Uri::from_static(PATH);
        let token = self.auth.node_token(&self.me, Errand::Figures);
        let headers = request.headers_mut();
        let value = |text: String| HeaderValue::try_from(text).expect("plain ASCII");
        headers.insert(HOST, value(self.peer.api.to_string()));
        let mut bearer = value(format!("Bearer {token}"));
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        request
    }
}
