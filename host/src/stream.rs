//! Streams: one feed in, any number of subscribers out.
//!
//! A stream owns its timeline and one ring of ready-to-send frames that all
//! subscribers read through cursors. It knows frames; it knows neither sockets
//! nor RTMP sessions nor who decides what feeds it. Invariants: one feed is on
//! air at a time, timestamps never go back, and memory is bounded by the ring,
//! however many subscribers there are and however slow.

mod backlog;
pub mod headers;
pub mod hub;
pub mod progress;
pub mod registry;
pub mod ring;
pub mod subscriber;
pub mod timeline;
pub mod unit;

pub use hub::{Feed, FeedId, Stream, StreamSnapshot};
pub use progress::{AudioFacts, MoreTracks, Stall, VideoFacts};
pub use registry::{NameTaken, Streams};
pub use subscriber::{Batch, Subscriber};
pub use unit::Unit;

use std::time::Duration;

use serde::Deserialize;

/// The `[stream]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes a stream's ring holds at most.
    pub ring_bytes: usize,
    /// Milliseconds a stream's ring holds at most.
    pub ring_millis: u64,
    /// Subscribers are woken at most once in so many milliseconds; 0 wakes them for every frame.
    pub window_millis: u64,
    /// Jumps to a newer keyframe within a minute after which a slow subscriber is closed.
    pub max_jumps: u32,
    /// A published stream whose media stops for so long is not live.
    pub stall_millis: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            ring_millis: 20_000,
            window_millis: 20,
            max_jumps: 10,
            stall_millis: 2_500,
        }
    }
}

impl Config {
    fn window(&self) -> Duration {
        Duration::from_millis(self.window_millis)
    }
}
