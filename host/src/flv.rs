//! FLV: files as media, and streams as HTTP responses with a page that plays them.
//!
//! HTTP-FLV is one more way to read a stream: a subscriber like those of RTMP, with
//! the same rules for slow ones. Invariant: payloads are slices of the frames that
//! all subscribers share.

pub mod body;
mod config;
pub mod metrics;
pub mod mux;
mod page;
pub mod route;

pub use config::{Config, Cors};
pub use metrics::Metrics;
pub use route::{Context, Gate, Refused, router};

use bytes::Bytes;
use restreamd_rtmp::session::Media;

/// The messages of a clip, over and over, with timestamps that go on.
#[derive(Debug)]
pub struct Looped {
    messages: Vec<Media>,
    next: usize,
    offset: u32,
    /// From one round to the next.
    period: u32,
}

impl Looped {
    /// Reads a whole file.
    pub fn new(file: Bytes) -> anyhow::Result<Self> {
        let messages = read(file)?;
        let end = messages
            .iter()
            .map(|media| media.timestamp)
            .max()
            .unwrap_or(0);
        anyhow::ensure!(end > 0, "the clip has no media");
        let before = messages
            .iter()
            .map(|media| media.timestamp)
            .filter(|at| *at < end)
            .max()
            .unwrap_or(0);
        Ok(Self {
            messages,
            next: 0,
            offset: 0,
            period: end + (end - before),
        })
    }
}

impl Iterator for Looped {
    type Item = Media;

    fn next(&mut self) -> Option<Media> {
        if self.next == self.messages.len() {
            self.next = 0;
            self.offset = self.offset.wrapping_add(self.period);
        }
        let media = self.messages.get(self.next)?;
        self.next += 1;
        Some(Media {
            timestamp: media.timestamp.wrapping_add(self.offset),
            ..media.clone()
        })
    }
}

fn read(file: Bytes) -> anyhow::Result<Vec<Media>> {
    let mut messages = Vec::new();
    for message in restreamd_rtmp::flv::Reader::new(&file) {
        messages.extend(Media::from_message(&message?));
    }
    Ok(messages)
}
