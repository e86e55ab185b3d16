//! Which streams there are on this node, and whose names they are.
//!
//! A name belongs to a feeding provision from its creation to its deletion, or to
//! a publisher while it is connected. Invariant: never to both.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Config;
use super::hub::{Stream, StreamSnapshot};
use crate::id::StreamGuid;

/// The name is in use by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameTaken {
    /// A provision holds it.
    #[error("the name belongs to a provision")]
    Provision,
    /// A publisher is live on it.
    #[error("a publisher is live on the name")]
    Publisher,
}

#[derive(Debug, Default)]
struct Entry {
    reserved: bool,
    stream: Option<Arc<Stream>>,
}

/// The streams of this node. A cheap handle.
#[derive(Clone, Debug)]
pub struct Streams {
    config: Arc<Config>,
    entries: Arc<Mutex<HashMap<StreamGuid, Entry>>>,
}

impl Streams {
    /// No streams yet.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            entries: Arc::default(),
        }
    }

    /// How streams are kept.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Keeps a name for a provision.
    pub fn reserve(&self, guid: &StreamGuid) -> Result<(), NameTaken> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(guid.clone()).or_default();
        if entry
            .stream
            .as_ref()
            .is_some_and(|stream| stream.is_published())
        {
            return Err(NameTaken::Publisher);
        }
        entry.reserved = true;
        Ok(())
    }

    /// Gives a provision's name back.
    pub fn release(&self, guid: &StreamGuid) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(guid) {
            entry.reserved = false;
            if entry.stream.is_none() {
                entries.remove(guid);
            }
        }
    }

    /// Begins a publisher's stream.
    pub fn publish(&self, guid: &StreamGuid) -> Result<Arc<Stream>, NameTaken> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(guid.clone()).or_default();
        if entry.reserved {
            return Err(NameTaken::Provision);
        }
        match &entry.stream {
            Some(stream) if stream.is_published() => Err(NameTaken::Publisher),
            Some(_) => Err(NameTaken::Provision),
            None => Ok(entry
                .stream
                .insert(Stream::start(guid.clone(), true, self.config.clone()))
                .clone()),
        }
    }

    /// The stream of a distributed provision: it exists from now on, with or without media.
    pub fn open(&self, guid: &StreamGuid) -> Result<Arc<Stream>, NameTaken> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(guid.clone()).or_default();
        if let Some(stream) = &entry.stream {
            let free = !stream.is_published();
            return free.then(|| stream.clone()).ok_or(NameTaken::Publisher);
        }
        entry.reserved = true;
        Ok(entry
            .stream
            .insert(Stream::start(guid.clone(), false, self.config.clone()))
            .clone())
    }

    /// Ends a stream. Its name stays with the provision that holds it, if any.
    pub fn end(&self, stream: &Arc<Stream>) {
        stream.end();
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(stream.guid()) else {
            return;
        };
        if entry
            .stream
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, stream))
        {
            entry.stream = None;
            if !entry.reserved {
                entries.remove(stream.guid());
            }
        }
    }

    /// The stream of this name, with or without media.
    pub fn find(&self, guid: &StreamGuid) -> Option<Arc<Stream>> {
        self.entries.lock().get(guid)?.stream.clone()
    }

    /// What the API tells of one stream.
    pub fn snapshot(&self, guid: &StreamGuid) -> Option<StreamSnapshot> {
        self.find(guid).map(|stream| stream.snapshot())
    }

    /// What the API tells of all streams, by name.
    pub fn snapshots(&self) -> Vec<StreamSnapshot> {
        let streams: Vec<Arc<Stream>> = self
            .entries
            .lock()
            .values()
            .filter_map(|entry| entry.stream.clone())
            .collect();
        let mut snapshots: Vec<StreamSnapshot> =
            streams.iter().map(|stream| stream.snapshot()).collect();
        snapshots.sort_by(|a, b| a.guid.cmp(&b.guid));
        snapshots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_never_a_provisions_and_a_publishers_at_once() {
        let streams = Streams::new(Config::default());
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let published = streams.publish(&guid).expect("free");
        assert_eq!(streams.reserve(&guid), Err(NameTaken::Publisher));
        assert_eq!(streams.publish(&guid).err(), Some(NameTaken::Publisher));
        streams.end(&published);
        assert_eq!(streams.reserve(&guid), Ok(()));
        assert_eq!(streams.publish(&guid).err(), Some(NameTaken::Provision));
        let pulled = streams.open(&guid).expect("ours");
        streams.end(&pulled);
        assert_eq!(
            streams.publish(&guid).err(),
            Some(NameTaken::Provision),
            "still provisioned"
        );
        streams.release(&guid);
        assert!(streams.publish(&guid).is_ok());
    }
}
