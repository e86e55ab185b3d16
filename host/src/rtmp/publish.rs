//! A publisher's side of a connection.

use std::sync::Arc;

use restreamd_rtmp::session::Media;

use crate::id::StreamGuid;
use crate::limits::PublisherPlace;
use crate::stream::{Feed, NameTaken, Stream, Streams, Unit};

/// A stream that a connection publishes. Dropping it ends the stream.
#[derive(Debug)]
pub struct Publication {
    streams: Streams,
    stream: Arc<Stream>,
    feed: Feed,
    place: PublisherPlace,
}

impl Publication {
    /// Begins to publish under a name, if it is free.
    pub fn begin(
        streams: &Streams,
        guid: &StreamGuid,
        place: PublisherPlace,
    ) -> Result<Self, NameTaken> {
        let stream = streams.publish(guid)?;
        let stall = std::time::Duration::from_millis(streams.config().stall_millis);
        let feed = stream.feed(Some(stall));
        feed.attach();
        Ok(Self {
            streams: streams.clone(),
            stream,
            feed,
            place,
        })
    }

    /// One media message. [`Publication::depart`] must follow.
    pub fn push(&mut self, media: Media) {
        if let Some(unit) = Unit::classify(media) {
            self.feed.push(&unit);
        }
    }

    /// No other message is at hand.
    pub fn depart(&self) {
        self.feed.depart();
    }

    /// So many bytes came from the publisher.
    pub fn received(&self, bytes: u64) {
        self.place.received(bytes);
    }

    /// Whether the stream is not this publisher's any more: another node has its name.
    pub fn is_over(&self) -> bool {
        self.stream.is_ended() || !self.stream.is_published()
    }

    /// The stream.
    pub fn guid(&self) -> &StreamGuid {
        self.stream.guid()
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.streams.end_published(&self.stream);
    }
}
