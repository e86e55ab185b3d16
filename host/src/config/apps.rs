//! The `[apps.<app>]` tables: what is different for the streams of one app.

use serde::Deserialize;

use crate::stream::Latency;

/// An app's own settings. What is absent is as for the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct App {
    /// How long frames may wait to be sent together.
    pub latency: Option<Latency>,
}
