//! What is counted when there is no place.

use std::fmt::Write;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Refused;

/// A limit, by its key in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// RTMP connections.
    Connections,
    /// Connections of an HTTP listener.
    ApiConnections,
    /// Connections of one address.
    ConnectionsPerAddress,
    /// Players, over all protocols.
    Subscribers,
    /// HTTP-FLV responses.
    FlvSubscribers,
    /// Bytes to players.
    BytesPerSecond,
    /// Bytes from publishers.
    PublishBytesPerSecond,
    /// Restreamers.
    Pulls,
}

impl Limit {
    /// Its name, in a label and below `apps.<app>`.
    pub fn as_str(self) -> &'static str {
        self.key().rsplit('.').next().unwrap_or_default()
    }

    /// Its key, where it is the node's.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Connections => "limits.connections",
            Self::ApiConnections => "api.connections",
            Self::ConnectionsPerAddress => "limits.connections_per_address",
            Self::Subscribers => "limits.subscribers",
            Self::FlvSubscribers => "flv.subscribers",
            Self::BytesPerSecond => "limits.bytes_per_second",
            Self::PublishBytesPerSecond => "limits.publish_bytes_per_second",
            Self::Pulls => "limits.pulls",
        }
    }
}

impl EncodeLabelValue for Limit {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.key())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    limit: Limit,
    scope: &'static str,
}

/// Refusals by limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Family<Labels, Counter>);

impl Refusals {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "limits_refusals",
            "Connections, players, publishers and restreamers that found no place, by limit and whose it is",
            self.0.clone(),
        );
    }

    pub(super) fn count(&self, refused: &Refused) {
        // Not the app's name: a label's values are a closed list.
        let scope = if refused.app.is_some() { "app" } else { "node" };
        let labels = Labels {
            limit: refused.limit,
            scope,
        };
        self.0.get_or_create(&labels).inc();
    }
}
