//! The `[apps.<app>]` tables: what is different for the streams of one app.

use std::num::NonZeroU64;

use serde::Deserialize;

use crate::auth::Secret;
use crate::gate::{self, Access};
use crate::limits::Bounds;
use crate::stream::Latency;

/// An app's own settings. What is absent is as for the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct App {
    /// How long frames may wait to be sent together.
    pub latency: Option<Latency>,
    /// Who may publish.
    pub publish: Option<Access>,
    /// Who may play.
    pub play: Option<Access>,
    /// Whom to ask where access is `webhook`.
    pub webhook: Option<gate::Url>,
    /// What shows that webhook that it is us who ask. The node's is not sent there.
    pub webhook_secret: Option<Secret>,
    /// Restreamers on this node whose stream is in the app.
    pub pulls: Option<u64>,
    /// Players at a time, over all protocols.
    pub subscribers: Option<NonZeroU64>,
    /// Bytes a second to players, above which no more are let in.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Bytes a second from publishers, above which no more are let in.
    pub publish_bytes_per_second: Option<NonZeroU64>,
}

impl App {
    /// What the app serves at most.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            subscribers: self.subscribers.map(NonZeroU64::get),
            bytes_per_second: self.bytes_per_second.map(NonZeroU64::get),
            publish_bytes_per_second: self.publish_bytes_per_second.map(NonZeroU64::get),
        }
    }
}
