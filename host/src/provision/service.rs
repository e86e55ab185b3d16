//! Creates, changes, shows and deletes provisions.
//!
//! Every write is one transaction with its preconditions, done in a task of its own: a
//! caller who hangs up cannot leave half of it behind. What a write changed is carried
//! out elsewhere, by whoever watches the store.

use std::sync::Arc;

use restreamd_rtmp::url::RtmpUrl;
use serde_json::Value;
use tracing::Instrument;

use super::change::{Change, Held};
use super::error::{Error, refusal, unexpected};
use super::field::Invalid;
use super::spec::{self, Request, Verb};
use super::types::Types;
use super::{Provision, ProvisionStream, keys, mask};
use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};
use crate::store::{self, Page, Revision, Store};

/// How often a change is tried again because another one came first.
const CONFLICT_TRIES: usize = 5;

/// The names that streams go by, kept for provisions while these are written. Whoever
/// follows the store gives them back.
pub trait Names: Send + Sync {
    /// Keeps publishers off a name while a write is under way. Fine when a provision has it already.
    fn reserve(&self, group: &NodeGroup, guid: &StreamGuid) -> Result<(), NameTaken>;
    /// The write was done at this revision, or not at all.
    fn settle(&self, group: &NodeGroup, guid: &StreamGuid, done: Option<Revision>);
    /// Nobody knows whether the write was done: the store has to be asked, when it answers.
    fn undecided(&self, group: &NodeGroup, guids: Vec<StreamGuid>);
}

/// What was deleted.
#[derive(Debug)]
pub struct Deleted {
    /// Since when it is gone.
    pub revision: Revision,
    /// The streams that it fed; none of one that could not be read.
    pub fed: Vec<StreamGuid>,
}

/// A publisher is live on the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a publisher is live on this name")]
pub struct NameTaken;

/// Tells whether a URL is the given stream on this very node.
pub type IsSelf = Arc<dyn Fn(&str, &StreamGuid) -> bool + Send + Sync>;

/// What a [`Service`] must be told.
#[derive(Clone)]
pub struct Config {
    /// Tells whether a URL is the given stream on this very node.
    pub is_self: IsSelf,
}

/// Creates, changes, shows and deletes provisions. A cheap clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    types: Arc<dyn Types>,
    names: Arc<dyn Names>,
    config: Config,
}

impl Service {
    /// Over a store, the installed plugins and the node's names.
    pub fn new(
        store: Arc<dyn Store>,
        types: Arc<dyn Types>,
        names: Arc<dyn Names>,
        config: Config,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            types,
            names,
            config,
        }))
    }

    /// Creates all provisions of a body, or none.
    pub async fn create(&self, group: &NodeGroup, body: &[u8]) -> Result<Revision, Error> {
        let mut paths = Vec::new();
        let mut provisions = Vec::new();
        for Request { path, document } in spec::requests(body)? {
            provisions.push(spec::provision(
                document,
                &path,
                Verb::Create,
                &|_, name| self.0.types.kind_of(name),
            )?);
            paths.push(path);
        }
        spec::together(&provisions, &paths)?;
        self.0.judge(&provisions, &paths).await?;
        let mut change = Change::default();
        for provision in provisions {
            change.put(group, provision, None)?;
        }
        self.write(group, change).await
    }

    /// Changes all provisions of a body, or none. Masked secrets stand for the stored ones.
    pub async fn update(&self, group: &NodeGroup, body: &[u8]) -> Result<Revision, Error> {
        for _ in 0..CONFLICT_TRIES {
            match self.try_update(group, body).await {
                Err(Error::Busy) => {}
                done => return done,
            }
        }
        Err(Error::Busy)
    }

    async fn try_update(&self, group: &NodeGroup, body: &[u8]) -> Result<Revision, Error> {
        let (mut paths, mut provisions, mut before) = (Vec::new(), Vec::new(), Vec::new());
        for Request { path, mut document } in spec::requests(body)? {
            let guid = spec::guid(&document, &path)?;
            let held = self.0.held(group, &guid).await?;
            mask::restore(&mut document, &held.provision, &*self.0.types);
            provisions.push(spec::provision(
                document,
                &path,
                Verb::Update,
                &|_, name| self.0.types.kind_of(name),
            )?);
            before.push(held);
            paths.push(path);
        }
        spec::together(&provisions, &paths)?;
        self.0.judge(&provisions, &paths).await?;
        let mut change = Change::default();
        for (provision, held) in provisions.into_iter().zip(before) {
            change.put(group, provision, Some(held))?;
        }
        self.write(group, change).await
    }

    /// Deletes a provision, its names and its assignment at once. Needs not be able to read it.
    pub async fn delete(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Result<Deleted, Error> {
        for _ in 0..CONFLICT_TRIES {
            let (change, fed) = match self.0.held(group, guid).await {
                Ok(held) => {
                    let streams = held.provision.streams.iter();
                    let fed = streams.filter(|stream| stream.feeds);
                    let fed = fed.map(|stream| stream.guid.clone()).collect();
                    (Change::delete(group, held), fed)
                }
                Err(Error::Broken(_)) => {
                    let change = self.0.delete_unreadable(group, guid).await?;
                    (change, Vec::new())
                }
                Err(error) => return Err(error),
            };
            match self.write(group, change).await {
                Err(Error::Busy) => {}
                done => return done.map(|revision| Deleted { revision, fed }),
            }
        }
        Err(Error::Busy)
    }

    /// The provisions of a group in the order of their names, secrets masked; all of them without a limit.
    pub async fn list(
        &self,
        group: &NodeGroup,
        after: Option<&ProvisionGuid>,
        limit: Option<usize>,
    ) -> Result<Vec<Value>, Error> {
        let prefix = keys::provisions(group);
        let mut page = Page {
            after: after.map(|guid| keys::provision(group, guid)),
            ..Page::first()
        };
        let mut shown = Vec::new();
        loop {
            page.limit = limit.map_or(store::MAX_PAGE, |limit| {
                limit.saturating_sub(shown.len()).min(store::MAX_PAGE)
            });
            if page.limit == 0 {
                return Ok(shown);
            }
            let listing = self
                .0
                .store
                .list(&prefix, page.clone())
                .await
                .map_err(unexpected)?;
            for entry in &listing.entries {
                // One that cannot be read is there to be deleted; it hides no other.
                match read_entry(entry) {
                    Ok(provision) => shown.push(mask::shown(&provision, &*self.0.types)),
                    Err(why) => tracing::error!(key = entry.key, %why, "left out of a list"),
                }
            }
            match listing.entries.into_iter().next_back() {
                Some(last) if listing.more => page.after = Some(last.key),
                _ => return Ok(shown),
            }
        }
    }

    /// A provision's document, secrets masked.
    pub async fn show(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Result<Value, Error> {
        Ok(mask::shown(&self.get(group, guid).await?, &*self.0.types))
    }

    /// A provision, secrets and all.
    pub async fn get(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Result<Provision, Error> {
        Ok(self.0.held(group, guid).await?.provision)
    }

    /// The provisions about a stream: the one that feeds it first, then those that read it.
    pub async fn matching(
        &self,
        group: &NodeGroup,
        stream: &StreamGuid,
    ) -> Result<Vec<ProvisionGuid>, Error> {
        if keys::readers(group, stream).len() > store::MAX_KEY {
            return Ok(Vec::new());
        }
        let feeder = self
            .0
            .store
            .get(&keys::name(group, stream))
            .await
            .map_err(unexpected)?;
        let readers = self
            .0
            .store
            .list(&keys::readers(group, stream), Page::first())
            .await
            .map_err(unexpected)?;
        let guid = |entry: store::Entry| {
            let text = std::str::from_utf8(&entry.value)
                .ok()
                .and_then(|text| text.parse().ok());
            text.ok_or_else(|| Error::Broken(format!("{} names no provision", entry.key)))
        };
        feeder
            .into_iter()
            .chain(readers.entries)
            .map(guid)
            .collect()
    }

    /// Judges a body of one provision with one stream that is fed, and stores nothing.
    pub async fn candidate(&self, body: &[u8]) -> Result<(ProvisionGuid, ProvisionStream), Error> {
        let mut requests = spec::requests(body)?;
        let (Some(Request { path, document }), true) = (requests.pop(), requests.is_empty()) else {
            return Err(Invalid::whole("must be one provision").into());
        };
        let kind_of = |_, name: &str| self.0.types.kind_of(name);
        let provision = spec::provision(document, &path, Verb::Create, &kind_of)?;
        let judged = [provision];
        self.0.judge(&judged, &[path]).await?;
        let [provision] = judged;
        let mut streams = provision.streams.into_iter();
        match (streams.next(), streams.next()) {
            (Some(stream), None) if stream.feeds => Ok((provision.guid, stream)),
            (Some(_), None) => Err(Invalid::at(
                "streams[0].camParams.properties.type",
                "reads a stream: there is no source to look at",
            )
            .into()),
            _ => Err(Invalid::at("streams", "must hold one stream").into()),
        }
    }

    async fn write(&self, group: &NodeGroup, change: Change) -> Result<Revision, Error> {
        let (inner, group) = (Arc::clone(&self.0), group.clone());
        let write = async move { inner.write(&group, change).await };
        let task = tokio::spawn(write.in_current_span());
        task.await
            .unwrap_or_else(|cause| Err(Error::Broken(cause.to_string())))
    }
}

impl Inner {
    /// What only a plugin or the node itself can say about provisions that are otherwise right.
    async fn judge(&self, provisions: &[Provision], paths: &[String]) -> Result<(), Error> {
        for (provision, path) in provisions.iter().zip(paths) {
            mask::refuse(provision, path, &*self.types)?;
            for (index, stream) in provision.streams.iter().enumerate() {
                let at =
                    super::field::join(path, &format!("streams[{index}].camParams.properties"));
                for (key, value) in &stream.properties {
                    if mask::urls(value).any(|url| (self.config.is_self)(url, &stream.guid)) {
                        return Err(Invalid::at(
                            format!("{at}.{key}"),
                            "is this very stream on this node",
                        )
                        .into());
                    }
                }
                let checked = self.types.check(&stream.kind, &stream.properties).await;
                checked.map_err(|cause| refusal(cause, stream.kind.as_str(), &at, stream.feeds))?;
                dialable(&stream.properties, &at)?;
            }
        }
        Ok(())
    }

    async fn held(&self, group: &NodeGroup, guid: &ProvisionGuid) -> Result<Held, Error> {
        let entry = self
            .store
            .get(&keys::provision(group, guid))
            .await
            .map_err(unexpected)?;
        let entry = entry.ok_or_else(|| Error::Unknown(guid.clone()))?;
        Ok(Held {
            provision: read_entry(&entry)?,
            revision: entry.revision,
        })
    }

    /// Deletes what is under a provision's key, and what points to it, by the keys alone.
    async fn delete_unreadable(
        &self,
        group: &NodeGroup,
        guid: &ProvisionGuid,
    ) -> Result<Change, Error> {
        let entry = self.store.get(&keys::provision(group, guid)).await;
        let entry = entry.map_err(unexpected)?;
        let entry = entry.ok_or_else(|| Error::Unknown(guid.clone()))?;
        let mut index = Vec::new();
        for prefix in keys::indexes(group) {
            let mut page = Page::first();
            loop {
                let listing = self.store.list(&prefix, page).await.map_err(unexpected)?;
                let last = listing.entries.last().map(|entry| entry.key.clone());
                let of_it = |entry: &store::Entry| entry.value == guid.as_str().as_bytes();
                let found = listing.entries.into_iter().filter(of_it);
                index.extend(found.map(|entry| entry.key));
                match last {
                    Some(last) if listing.more => page = Page::after(last),
                    _ => break,
                }
            }
        }
        Ok(Change::delete_unreadable(
            group,
            guid,
            entry.revision,
            index,
        ))
    }

    async fn write(&self, group: &NodeGroup, change: Change) -> Result<Revision, Error> {
        let mut taken = Vec::new();
        let mut result = Ok(0);
        for name in &change.claimed {
            if self.names.reserve(group, name).is_err() {
                result = Err(Error::NameLive(name.clone()));
                break;
            }
            taken.push(name);
        }
        if result.is_ok() {
            result = self
                .store
                .txn(change.txn.clone())
                .await
                .map_err(|cause| change.refusal(group, cause));
        }
        // It may have been done all the same: who follows the store will know.
        if matches!(result, Err(Error::Unavailable(_))) {
            let taken = taken.into_iter().cloned().collect();
            self.names.undecided(group, taken);
            return result;
        }
        let done = result.as_ref().ok().copied();
        taken
            .iter()
            .for_each(|name| self.names.settle(group, name, done));
        result
    }
}

/// What says that it is an RTMP URL, or several with commas between them, has to be: a plugin
/// may look at no more than the beginning.
fn dialable(properties: &[(String, String)], at: &str) -> Result<(), Invalid> {
    let rtmp = |text: &&str| {
        let scheme = |scheme: &str| {
            text.get(..scheme.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        };
        scheme("rtmp://") || scheme("rtmps://")
    };
    for (key, value) in properties.iter().filter(|(_, value)| rtmp(&value.trim())) {
        // What follows a comma and is no URL is a part of the one before.
        for url in value.split(',').map(str::trim).filter(rtmp) {
            let parsed = RtmpUrl::parse(url);
            parsed.map_err(|why| Invalid::at(format!("{at}.{key}"), why.to_string()))?;
        }
    }
    Ok(())
}

fn read_entry(entry: &store::Entry) -> Result<Provision, Error> {
    let provision = Provision::from_document(&entry.value)
        .map_err(|cause| Error::Broken(format!("a stored provision is unreadable: {cause}")))?;
    match entry.key.splitn(3, '/').nth(2) == Some(provision.guid.as_str()) {
        true => Ok(provision),
        false => Err(Error::Broken(
            "a stored provision is under another's key".into(),
        )),
    }
}
