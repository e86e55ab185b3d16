//! Who may publish and play: anyone, token holders, whom a webhook lets in, or nobody.
//!
//! Decides for one stream at a time, by the rules of its app or of the node; it knows
//! neither RTMP nor HTTP responses. Invariant: what is not clearly allowed is refused,
//! and a webhook that gives no clear answer in time allows nothing.

mod webhook;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;

pub use crate::auth::Act;
pub use webhook::{Asks, BadSecret, Metrics, Url, Webhook, can_be_sent};

use crate::auth::{Auth, Errand, Secret, TokenError};
use crate::id::{AppName, StreamGuid};

/// Who may publish or play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Anyone.
    Open,
    /// Whoever brings a stream token as `?token=`.
    Token,
    /// Whom the webhook lets in.
    Webhook,
    /// Nobody.
    Off,
}

/// What a peer came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP in the clear.
    Rtmp,
    /// RTMP over TLS.
    Rtmps,
    /// An HTTP-FLV response.
    HttpFlv,
}

impl Protocol {
    /// As the webhook is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Rtmps => "rtmps",
            Self::HttpFlv => "http-flv",
        }
    }
}

/// What somebody wants.
#[derive(Clone)]
pub struct Wish {
    /// To publish or to play.
    pub act: Act,
    /// Which stream.
    pub stream: StreamGuid,
    /// The query of its name as sent, without the question mark.
    pub query: String,
    /// `token` of the query, if it is there.
    pub token: Option<String>,
    /// Where the peer is.
    pub peer: SocketAddr,
    /// What it came by.
    pub protocol: Protocol,
    /// The URL it believes it connects to.
    pub tc_url: Option<String>,
    /// The page its player is on.
    pub page_url: Option<String>,
}

/// Queries and URLs hold tokens and are not shown.
impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wish")
            .field("act", &self.act)
            .field("stream", &self.stream)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody may.
    #[error("not allowed")]
    Off,
    /// Without a good token.
    #[error("not allowed without a valid token")]
    NoToken,
    /// With a token for something else.
    #[error("the token does not allow this")]
    OtherToken,
    /// The webhook said no.
    #[error("not allowed by the webhook")]
    Refused,
    /// The webhook gave no clear answer.
    #[error("the webhook gave no answer")]
    NoAnswer,
    /// Too many wait for the webhook.
    #[error("too many wait for the webhook's answer")]
    Busy,
}

/// A decision, or one to wait for. The wait is bounded.
pub enum Verdict {
    /// Decided.
    Now(Result<(), Denied>),
    /// The webhook is asked when this is polled.
    Later(BoxFuture<'static, Result<(), Denied>>),
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(decided) => f.debug_tuple("Now").field(decided).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

impl Verdict {
    /// Waits for it.
    pub async fn wait(self) -> Result<(), Denied> {
        match self {
            Self::Now(decided) => decided,
            Self::Later(answer) => answer.await,
        }
    }
}

/// The rules of the node or of an app.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who may publish.
    pub publish: Access,
    /// Who may play.
    pub play: Access,
    /// Whom to ask.
    pub webhook: Option<Arc<Webhook>>,
}

/// The rules of all apps, for one listener. A cheap clone.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    node: Rules,
    apps: BTreeMap<AppName, Rules>,
    auth: Auth,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("node", &self.0.node)
            .field("apps", &self.0.apps)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// The node's rules, and those of the apps that have their own.
    pub fn new(node: Rules, apps: BTreeMap<AppName, Rules>, auth: Auth) -> Self {
        Self(Arc::new(Inner { node, apps, auth }))
    }

    /// Whether somebody may do this.
    pub fn judge(&self, wish: Wish) -> Verdict {
        let rules = self.0.apps.get(wish.stream.app_name());
        let rules = rules.unwrap_or(&self.0.node);
        let access = match wish.act {
            Act::Publish => rules.publish,
            Act::Play => rules.play,
        };
        match (access, &rules.webhook) {
            (Access::Open, _) => Verdict::Now(Ok(())),
            (Access::Off, _) => Verdict::Now(Err(Denied::Off)),
            (Access::Token, _) => Verdict::Now(self.token(&wish)),
            (Access::Webhook, Some(webhook)) => {
                let webhook = webhook.clone();
                Verdict::Later(Box::pin(async move { webhook.ask(&wish).await }))
            }
            // The configuration does not allow it.
            (Access::Webhook, None) => Verdict::Now(Err(Denied::NoAnswer)),
        }
    }

    /// Whether it is another node of the cluster that brings this token to play: it has
    /// judged its viewers itself.
    pub fn is_node(&self, token: Option<&str>) -> bool {
        token.is_some_and(|token| self.0.auth.verify_node(token, Errand::Play).is_ok())
    }

    fn token(&self, wish: &Wish) -> Result<(), Denied> {
        let token = wish.token.as_deref().ok_or(Denied::NoToken)?;
        let verified = self.0.auth.verify_stream(token, wish.act, &wish.stream);
        verified.map_err(|error| match error {
            TokenError::Invalid => Denied::NoToken,
            TokenError::Forbidden => Denied::OtherToken,
        })
    }
}
