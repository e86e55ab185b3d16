//! Which streams there are on this node, and whose names they are.
//!
//! A name belongs to a feeding provision from its creation to its deletion, or to
//! a publisher while it is connected. Invariant: never to both. Creations and deletions
//! are heard of twice and in any order, from who writes them and from who follows the
//! store, so each hold says since which revision it is: an old deletion ends no new one.
//! A stream that another node has may be here too, as an edge: that gives its name to
//! nobody, and whoever gets the name takes the stream over with its subscribers.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Config;
use super::gate::{Entrance, Gate};
use super::hub::{Feeder, Stream, StreamSnapshot};
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

/// Brings streams that other nodes have.
pub trait Elsewhere: Send + Sync {
    /// Somebody wants a stream that nothing here feeds: the one that another node's media
    /// comes to, from now on, if there is another node that has it.
    fn bring(&self, guid: &StreamGuid) -> Option<Arc<Stream>>;

    /// Whether it would be brought.
    fn exists(&self, guid: &StreamGuid) -> bool;

    /// A stream has lost who fed it here, and keeps its viewers.
    fn follow(&self, stream: &Arc<Stream>);
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

    fn has(&self, stream: &Arc<Stream>) -> bool {
        let current = self.stream.as_ref();
        current.is_some_and(|current| Arc::ptr_eq(current, stream))
    }

    fn hold(&mut self, revision: u64) {
        self.held = self.held.max(Some(revision));
    }
}

/// The streams of this node. A cheap handle.
#[derive(Clone)]
pub struct Streams {
    config: Arc<Config>,
    entries: Arc<Mutex<HashMap<StreamGuid, Entry>>>,
    freed: Arc<Notify>,
    changed: Arc<watch::Sender<()>>,
    /// Of the cluster's membership; `None` when the node is alone.
    gate: Option<Arc<Mutex<Gate>>>,
    elsewhere: Arc<OnceLock<Arc<dyn Elsewhere>>>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams {
    /// No streams yet.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            entries: Arc::default(),
            freed: Arc::default(),
            changed: Arc::default(),
            elsewhere: Arc::default(),
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

    /// Who brings what other nodes have; to be called once. Without, nobody does.
    pub fn set_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        // A second one would find the first at work.
        let _ = self.elsewhere.set(elsewhere);
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
            Some(stream) => match stream.feeder() {
                Feeder::Publisher => Err(NameTaken::Publisher),
                Feeder::Restreamer => Err(NameTaken::Provision),
                Feeder::Edge => {
                    stream.set_feeder(Feeder::Publisher);
                    self.changed.send_replace(());
                    Ok(stream.clone())
                }
            },
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
            match stream.feeder() {
                Feeder::Publisher => return Err(NameTaken::Publisher),
                Feeder::Restreamer => {}
                Feeder::Edge => {
                    stream.set_feeder(Feeder::Restreamer);
                    self.changed.send_replace(());
                    entry.held = entry.held.max(Some(0));
                }
            }
            return Ok(stream.clone());
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

    /// The stream of this name that is here, else one for what another node sends.
    pub fn edge(&self, guid: &StreamGuid) -> Arc<Stream> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(guid.clone()).or_default();
        let stream = entry.stream.get_or_insert_with(|| {
            self.changed.send_replace(());
            let (config, entrance) = (self.config.clone(), self.entrance());
            let stream = Stream::start(guid.clone(), false, config, entrance);
            stream.set_feeder(Feeder::Edge);
            stream
        });
        stream.clone()
    }

    /// Ends a stream. Its name stays with the provision that holds it, if any.
    pub fn end(&self, stream: &Arc<Stream>) {
        self.remove(stream, |_| true);
    }

    /// Ends a publisher's stream, unless it goes on without it.
    pub fn end_published(&self, stream: &Arc<Stream>) {
        self.remove(stream, |feeder| feeder == Feeder::Publisher);
    }

    /// Ends a stream that another node feeds. False when it is fed here by now.
    pub fn end_edge(&self, stream: &Arc<Stream>) -> bool {
        self.remove(stream, |feeder| feeder == Feeder::Edge)
    }

    /// Who fed a stream here does not any more, and another node may: its viewers stay.
    /// Without viewers, or when nothing can be brought from elsewhere, it ends.
    pub fn leave(&self, stream: &Arc<Stream>) {
        let left = {
            let entries = self.entries.lock();
            let entry = entries.get(stream.guid());
            let ours = entry.is_some_and(|entry| entry.has(stream));
            let elsewhere = self.elsewhere.get();
            let left = elsewhere.filter(|_| ours && stream.viewers() > 0);
            if left.is_some() {
                let published = stream.is_published();
                stream.set_feeder(Feeder::Edge);
                self.changed.send_replace(());
                if published && entry.is_some_and(Entry::reserved) {
                    self.freed.notify_one();
                }
            }
            left
        };
        match left {
            Some(elsewhere) => elsewhere.follow(stream),
            None => self.end(stream),
        }
    }

    fn remove(&self, stream: &Arc<Stream>, may: impl FnOnce(Feeder) -> bool) -> bool {
        let mut entries = self.entries.lock();
        let feeder = stream.feeder();
        if !may(feeder) {
            return false;
        }
        // First of all, so that nobody takes over what ends.
        let entry = entries.get_mut(stream.guid());
        if let Some(entry) = entry.filter(|entry| entry.has(stream)) {
            entry.stream = None;
            self.changed.send_replace(());
            if !entry.reserved() {
                entries.remove(stream.guid());
            } else if feeder == Feeder::Publisher {
                self.freed.notify_one();
            }
        }
        drop(entries);
        stream.end();
        true
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

    /// The stream of this name for a viewer, also when another node has it.
    pub fn play(&self, guid: &StreamGuid) -> Option<Arc<Stream>> {
        let found = self.find(guid);
        if found.as_ref().is_some_and(|s| s.feeder() != Feeder::Edge) {
            return found;
        }
        let elsewhere = self.elsewhere.get();
        elsewhere
            .and_then(|elsewhere| elsewhere.bring(guid))
            .or(found)
    }

    /// Whether there is a stream of this name, here or on another node.
    pub fn exists(&self, guid: &StreamGuid) -> bool {
        let elsewhere = || self.elsewhere.get();
        self.find(guid).is_some() || elsewhere().is_some_and(|elsewhere| elsewhere.exists(guid))
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
    use crate::stream::Subscriber;

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

    /// Brings nothing, and notes what it is to follow.
    #[derive(Default)]
    struct Elsewhere(Mutex<Vec<StreamGuid>>);

    impl super::Elsewhere for Elsewhere {
        fn bring(&self, _: &StreamGuid) -> Option<Arc<Stream>> {
            None
        }

        fn exists(&self, guid: &StreamGuid) -> bool {
            guid.name() == "far"
        }

        fn follow(&self, stream: &Arc<Stream>) {
            self.0.lock().push(stream.guid().clone());
        }
    }

    fn with_elsewhere() -> (Streams, Arc<Elsewhere>) {
        let (streams, elsewhere) = (Streams::new(Config::default()), Arc::default());
        streams.set_elsewhere(Arc::clone(&elsewhere) as Arc<dyn super::Elsewhere>);
        (streams, elsewhere)
    }

    #[tokio::test]
    async fn whoever_gets_the_name_of_an_edge_takes_it_over_with_its_viewers() {
        let streams = Streams::new(Config::default());
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let edge = streams.edge(&guid);
        assert_eq!(edge.feeder(), Feeder::Edge);
        assert!(Arc::ptr_eq(&edge, &streams.edge(&guid)), "one for all");
        let viewer = Subscriber::new(edge.clone());
        let published = streams.publish(&guid).expect("an edge holds no name");
        assert!(Arc::ptr_eq(&edge, &published) && edge.is_published());
        assert!(!streams.end_edge(&edge), "it is a publisher's now");
        assert_eq!(edge.viewers(), 1);
        streams.end(&published);
        let edge = streams.edge(&guid);
        let pulled = streams.open(&guid).expect("free");
        assert!(Arc::ptr_eq(&edge, &pulled) && edge.feeder() == Feeder::Restreamer);
        assert_eq!(streams.publish(&guid).err(), Some(NameTaken::Provision));
        assert!(!pulled.is_ended());
        drop(viewer);
    }

    #[tokio::test]
    async fn an_edge_that_ends_leaves_nothing_behind() {
        let streams = Streams::new(Config::default());
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let edge = streams.edge(&guid);
        assert!(streams.end_edge(&edge) && edge.is_ended());
        assert!(streams.entries.lock().is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_was_left_keeps_its_viewers_only_when_it_can_be_followed() {
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let alone = Streams::new(Config::default());
        let stream = alone.open(&guid).expect("free");
        let _viewer = Subscriber::new(stream.clone());
        alone.leave(&stream);
        assert!(stream.is_ended(), "there is no other node");
        let (streams, elsewhere) = with_elsewhere();
        let stream = streams.open(&guid).expect("free");
        let node = Subscriber::attach(stream.clone(), crate::stream::Audience::Edge);
        streams.leave(&stream);
        assert!(stream.is_ended(), "nodes look for themselves");
        drop(node);
        let stream = streams.open(&guid).expect("free");
        let _viewer = Subscriber::new(stream.clone());
        streams.leave(&stream);
        assert!(!stream.is_ended() && stream.feeder() == Feeder::Edge);
        assert_eq!(*elsewhere.0.lock(), std::slice::from_ref(&guid));
        let taken = streams.open(&guid).expect("it is back");
        assert!(Arc::ptr_eq(&taken, &stream));
    }

    #[tokio::test]
    async fn a_name_that_a_provision_waits_for_is_free_when_its_publisher_leaves_the_stream() {
        let (streams, _elsewhere) = with_elsewhere();
        let guid: StreamGuid = "live/a".parse().expect("legal");
        let published = streams.publish(&guid).expect("free");
        let _viewer = Subscriber::new(published.clone());
        assert_eq!(streams.hold(&guid, 1), Err(NameTaken::Publisher));
        streams.leave(&published);
        streams.freed().await;
        assert!(streams.open(&guid).is_ok());
    }

    #[test]
    fn streams_of_other_nodes_exist_too() {
        let (streams, _elsewhere) = with_elsewhere();
        assert!(streams.exists(&"live/far".parse().expect("legal")));
        assert!(!streams.exists(&"live/none".parse().expect("legal")));
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
