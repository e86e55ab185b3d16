//! Which streams there are on this node, and whose names they are.
//!
//! A name belongs to a feeding provision from its creation to its deletion, or to
//! a publisher while it is connected. Invariant: never to both. Creations and deletions
//! are heard of twice and in any order, from who writes them and from who follows the
//! store, so each hold says since which revision it is: an old deletion ends no new one.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Config;
use super::gate::{Entrance, Gate};
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
    /// Writes under way that may give the name to a provision.
    claims: u32,
    /// The revision since which a provision has the name, as far as is known.
    held: Option<u64>,
    stream: Option<Arc<Stream>>,
}

impl Entry {
    fn reserved(&self) -> bool {
        self.claims > 0 || self.held.is_some()
    }

    fn published(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.is_published())
    }

    fn hold(&mut self, revision: u64) {
        self.held = self.held.max(Some(revision));
    }
}

/// The streams of this node. A cheap handle.
#[derive(Clone, Debug)]
pub struct Streams {
    config: Arc<Config>,
    entries: Arc<Mutex<HashMap<StreamGuid, Entry>>>,
    freed: Arc<Notify>,
    changed: Arc<watch::Sender<()>>,
    /// Of the cluster's membership; `None` when the node is alone.
    gate: Option<Arc<Mutex<Gate>>>,
}

impl Streams {
    /// No streams yet.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            entries: Arc::default(),
            freed: Arc::default(),
            changed: Arc::default(),
            gate: None,
        }
    }

    /// The streams of a node of a cluster: media of its own enters a stream only under
    /// [`Stream::admit`], and the node is fenced until [`Streams::join`].
    pub fn of_a_cluster(config: Config) -> Self {
        Self {
            gate: Some(Arc::new(Mutex::new(Gate::shut()))),
            ..Self::new(config)
        }
    }

    /// The node is a member of its cluster as long as this gate is open.
    pub fn join(&self, gate: Gate) {
        if let Some(current) = &self.gate {
            *current.lock() = gate;
        }
    }

    /// Whether the node cannot know that it is a member of its cluster: it begins nothing
    /// that others could have begun, too.
    pub fn fenced(&self) -> bool {
        let gate = self.gate.as_ref();
        gate.is_some_and(|gate| !gate.lock().is_open())
    }

    fn entrance(&self) -> Entrance {
        match self.gate {
            Some(_) => Entrance::Barred,
            None => Entrance::Free,
        }
    }

    /// How streams are kept.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Keeps publishers off a name while a write that gives it to a provision is under
    /// way. Fine when a provision has it already. [`Streams::settle`] must follow.
    pub fn reserve(&self, guid: &StreamGuid) -> Result<(), NameTaken> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(guid.clone()).or_default();
        if entry.published() {
            return Err(NameTaken::Publisher);
        }
        entry.claims += 1;
        Ok(())
    }

    /// A write under way is over: done at a revision, or not at all.
    pub fn settle(&self, guid: &StreamGuid, done: Option<u64>) {
        self.change(guid, |entry| {
            entry.claims = entry.claims.saturating_sub(1);
            if let Some(revision) = done {
                entry.hold(revision);
            }
        });
    }

    /// A provision has the name at this revision. When a publisher is live on it, it falls
    /// to the provision when that one leaves, see [`Streams::freed`].
    pub fn hold(&self, guid: &StreamGuid, revision: u64) -> Result<(), NameTaken> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(guid.clone()).or_default();
        entry.hold(revision);
        match entry.published() {
            true => Err(NameTaken::Publisher),
            false => Ok(()),
        }
    }

    /// No provision has the name at this revision; one that got it later keeps it.
    pub fn release(&self, guid: &StreamGuid, revision: u64) {
        self.change(guid, |entry| {
            entry.held = entry.held.filter(|since| *since > revision);
        });
    }

    /// Resolves when a publisher left a name that a provision has. For one listener.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn change(&self, guid: &StreamGuid, act: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(guid) {
            act(entry);
            if entry.stream.is_none() && !entry.reserved() {
                entries.remove(guid);
            }
        }
    }

    /// Begins a publisher's stream.
    pub fn publish(&self, guid: &StreamGuid) -> Result<Arc<Stream>, NameTaken> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(guid.clone()).or_default();
        if entry.reserved() {
            return Err(match entry.published() {
                true => NameTaken::Publisher,
                false => NameTaken::Provision,
            });
        }
        match &entry.stream {
            Some(stream) if stream.is_published() => Err(NameTaken::Publisher),
            Some(_) => Err(NameTaken::Provision),
            None => {
                self.changed.send_replace(());
                Ok(entry
                    .stream
                    .insert(Stream::start(
                        guid.clone(),
                        true,
                        self.config.clone(),
                        self.entrance(),
                    ))
                    .clone())
            }
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
        self.changed.send_replace(());
        entry.hold(0);
        Ok(entry
            .stream
            .insert(Stream::start(
                guid.clone(),
                false,
                self.config.clone(),
                self.entrance(),
            ))
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
            self.changed.send_replace(());
            if !entry.reserved() {
                entries.remove(stream.guid());
            } else if stream.is_published() {
                self.freed.notify_one();
            }
        }
    }

    /// Changes whenever a stream begins or ends; which one is to be looked up.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The stream of this name, with or without media.
    pub fn find(&self, guid: &StreamGuid) -> Option<Arc<Stream>> {
        self.entries.lock().get(guid)?.stream.clone()
    }

    /// The names of the streams that publishers feed.
    pub fn published(&self) -> Vec<StreamGuid> {
        let entries = self.entries.lock();
        let published = entries.iter().filter(|(_, entry)| entry.published());
        published.map(|(guid, _)| guid.clone()).collect()
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
        streams.settle(&guid, Some(3));
        let pulled = streams.open(&guid).expect("ours");
        streams.end(&pulled);
        assert_eq!(
            streams.publish(&guid).err(),
            Some(NameTaken::Provision),
            "still provisioned"
        );
        streams.release(&guid, 4);
        assert!(streams.publish(&guid).is_ok());
    }

    #[test]
    fn a_late_deletion_frees_no_name_that_was_given_anew() {
        let streams = Streams::new(Config::default());
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let taken = || streams.publish(&guid).err() == Some(NameTaken::Provision);
        streams.hold(&guid, 1).expect("free");
        // Deleted at 2 and given anew at 3, while the deletion is still to be heard of.
        streams.reserve(&guid).expect("a provision's");
        streams.release(&guid, 2);
        assert!(taken(), "a write is under way");
        streams.settle(&guid, Some(3));
        streams.release(&guid, 2);
        assert!(taken(), "it is held since 3");
        // A refused write takes nothing away.
        streams.reserve(&guid).expect("a provision's");
        streams.settle(&guid, None);
        assert!(taken());
        streams.release(&guid, 4);
        assert!(streams.entries.lock().is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn a_name_held_under_a_publisher_falls_to_the_provision() {
        let streams = Streams::new(Config::default());
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let published = streams.publish(&guid).expect("free");
        assert_eq!(streams.hold(&guid, 1), Err(NameTaken::Publisher));
        assert_eq!(streams.publish(&guid).err(), Some(NameTaken::Publisher));
        streams.end(&published);
        streams.freed().await;
        assert_eq!(streams.publish(&guid).err(), Some(NameTaken::Provision));
        assert!(streams.open(&guid).is_ok());
    }
}
