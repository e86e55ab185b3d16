//! Streams: one feed in, any number of subscribers out.
//!
//! A stream owns its timeline and one ring of ready-to-send frames that all
//! subscribers read through cursors. It knows frames; it knows neither sockets
//! nor RTMP sessions nor who decides what feeds it. Invariants: one feed is on
//! air at a time, timestamps never go back, and memory is bounded by the ring,
//! however many subscribers there are and however slow.

mod backlog;
pub mod cadence;
pub mod gate;
pub mod headers;
pub mod hub;
pub mod latency;
pub mod progress;
pub mod pump;
pub mod registry;
pub mod ring;
pub mod subscriber;
#[cfg(test)]
mod tests;
pub mod timeline;
pub mod unit;

pub use gate::{Gate, Permit};
pub use hub::{Feed, FeedId, Feeder, Stream, StreamSnapshot};
pub use latency::Latency;
pub use progress::{AudioFacts, MoreTracks, Stall, VideoFacts};
pub use pump::{Outlet, Tap};
pub use registry::{Elsewhere, NameTaken, Streams};
pub use subscriber::{Audience, Batch, Subscriber};
pub use unit::Unit;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::id::{AppName, StreamGuid};

/// The `[stream]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes a stream's ring holds at most.
    pub ring_bytes: usize,
    /// Milliseconds a stream's ring holds at most.
    pub ring_millis: u64,
    /// How long frames may wait to be sent together, where neither app nor provision says.
    pub latency: Latency,
    /// The same for single apps: `[apps.<app>] latency`.
    #[serde(skip)]
    pub latencies: BTreeMap<AppName, Latency>,
    /// Jumps to a newer keyframe, each within a minute of the last, after which a slow
    /// subscriber is closed.
    pub max_jumps: u32,
    /// A published stream whose media stops for so long is not live.
    pub stall_millis: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            ring_millis: 20_000,
            latency: Latency::default(),
            latencies: BTreeMap::new(),
            max_jumps: 10,
            stall_millis: 2_500,
        }
    }
}

impl Config {
    fn latency_of(&self, guid: &StreamGuid) -> Latency {
        let app = self.latencies.get(guid.app_name());
        app.copied().unwrap_or(self.latency)
    }
}
