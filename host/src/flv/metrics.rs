//! What HTTP-FLV counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum End {
    /// The player left, or takes no bytes.
    Left,
    /// The stream ended.
    Ended,
    /// The player could not keep up.
    TooSlow,
    /// FLV's timestamps were used up.
    Full,
    /// The node drains.
    Drained,
}

impl End {
    /// For the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Left => "the player left",
            Self::Ended => "the stream ended",
            Self::TooSlow => "the player is too slow",
            Self::Full => "the response's timestamps are used up",
            Self::Drained => "the node drains",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    end: End,
}

/// The counters. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    subscribers: Gauge,
    bytes: Counter,
    skipped: Counter,
    ends: Family<Ended, Counter>,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self {
            subscribers,
            bytes,
            skipped,
            ends,
        } = metrics.clone();
        registry.register(
            "flv_subscribers_count",
            "HTTP-FLV responses under way",
            subscribers,
        );
        registry.register("flv_sent_bytes", "Bytes of HTTP-FLV responses", bytes);
        registry.register(
            "flv_skipped_frames",
            "Frames left out of HTTP-FLV responses because players were slow",
            skipped,
        );
        registry.register("flv_responses", "HTTP-FLV responses that ended", ends);
        metrics
    }

    pub(super) fn began(&self) {
        self.subscribers.inc();
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.bytes.inc_by(bytes as u64);
    }

    pub(super) fn ended(&self, end: End, skipped: u64) {
        self.subscribers.dec();
        self.skipped.inc_by(skipped);
        self.ends.get_or_create(&Ended { end }).inc();
    }
}
