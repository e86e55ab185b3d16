//! The whole store as one document, out and in: of a node, or of a store that no node has
//! open.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tracing::Instrument;

use super::mirror::MAX_EPOCH;
use super::{Assignment, Cluster};
use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};
use crate::provision::{Provision, keys};
use crate::store::{self, Entry, Store};

/// The format's version.
const VERSION: u64 = 1;
/// How often a store is read again that forgot a revision while it was read.
const EXPORT_TRIES: usize = 5;
/// What a snapshot holds: not leases, nodes and claims, which belong to running processes.
const PREFIXES: [&str; 4] = ["provisions/", "names/", "readers/", "assignments/"];

/// Why a snapshot was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no snapshot, or does not fit what is there.
    #[error("{0}")]
    Invalid(String),
    /// A publisher is live on a name that it gives to a provision.
    #[error("a publisher is live on {0}")]
    NameLive(StreamGuid),
    /// The store cannot be written.
    #[error("{0}")]
    Unavailable(String),
}

/// Everything that a store holds, as of one revision.
///
/// # Errors
/// Why it cannot be read, as text.
pub async fn export(store: &dyn Store) -> Result<Value, String> {
    for _ in 0..EXPORT_TRIES {
        match store.whole("").await {
            Ok(entries) => {
                let kept = |entry: &Entry| PREFIXES.iter().any(|p| entry.key.starts_with(p));
                let entries = entries.into_iter().filter(kept);
                let entries: Map<String, Value> = entries.filter_map(plain).collect();
                return Ok(json!({ "version": VERSION, "entries": entries }));
            }
            Err(store::Error::Compacted { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("the store forgets its revisions faster than they can be read".to_owned())
}

/// Takes a snapshot in, all or nothing, where no node runs that has names to keep. None
/// of its entries may exist yet.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(store: &dyn Store, snapshot: &Value) -> Result<store::Revision, ImportError> {
    store.import(parse(snapshot)?).await.map_err(refused)
}

impl Cluster {
    /// Everything that is stored, as of one revision.
    pub async fn export(&self) -> Result<Value, String> {
        export(&*self.0.store).await
    }

    /// Takes a snapshot in, all or nothing. None of its entries may exist yet. Goes on to its
    /// end when nobody waits for it any more: half of it helps nobody.
    pub async fn import(&self, snapshot: Value) -> Result<store::Revision, ImportError> {
        let entries = parse(&snapshot)?;
        let this = self.clone();
        let import = async move { this.take_in(entries).await };
        let import = tokio::spawn(import.in_current_span());
        let lost = |error| ImportError::Unavailable(format!("the import was cut: {error}"));
        import.await.map_err(lost)?
    }

    async fn take_in(&self, entries: Vec<(String, Bytes)>) -> Result<store::Revision, ImportError> {
        let prefix = format!("names/{}/", self.0.me.group);
        let names: Vec<StreamGuid> = entries
            .iter()
            .filter_map(|(key, _)| key.strip_prefix(&prefix)?.parse().ok())
            .collect();
        let mut result = Ok(0);
        let mut taken = Vec::new();
        for name in &names {
            // Also of a publisher on another node, as far as this one has heard of it.
            let published = self.is_published(&self.0.me.group, name);
            if published || self.0.streams.reserve(name).is_err() {
                result = Err(ImportError::NameLive(name.clone()));
                break;
            }
            taken.push(name);
        }
        if result.is_ok() {
            result = self.0.store.import(entries).await.map_err(refused);
        }
        // As for a provision that is created: it may have been done all the same.
        if matches!(result, Err(ImportError::Unavailable(_))) {
            self.undecided(taken.into_iter().cloned().collect());
            return result;
        }
        let done = result.as_ref().ok().copied();
        taken
            .iter()
            .for_each(|name| self.0.streams.settle(name, done));
        result
    }
}

fn refused(error: store::Error) -> ImportError {
    match error {
        store::Error::Failed { precondition } => {
            ImportError::Invalid(format!("entries: {} exists already", precondition.key()))
        }
        error if error.retryable() => ImportError::Unavailable(error.to_string()),
        error => ImportError::Invalid(format!("entries: {error}")),
    }
}

/// Reads every entry as those will who use it, and checks that they belong together.
fn parse(snapshot: &Value) -> Result<Vec<(String, Bytes)>, ImportError> {
    let invalid = |text: &str| ImportError::Invalid(text.to_owned());
    if snapshot.get("version").and_then(Value::as_u64) != Some(VERSION) {
        return Err(invalid("version: must be 1"));
    }
    let entries = snapshot
        .get("entries")
        .and_then(Value::as_object)
        .ok_or_else(|| invalid("entries: must be an object"))?;
    let entries: BTreeMap<String, Bytes> = entries
        .iter()
        .map(|(key, value)| (key.clone(), raw(value).into()))
        .collect();
    for (key, value) in &entries {
        let judged = judge(key, value, &entries);
        judged.map_err(|why| ImportError::Invalid(format!("entries: {key} {why}")))?;
    }
    Ok(entries.into_iter().collect())
}

/// What is wrong with an entry. The text repeats no value, which may be a secret.
fn judge(key: &str, value: &[u8], all: &BTreeMap<String, Bytes>) -> Result<(), String> {
    let mut parts = key.splitn(3, '/');
    let (Some(kind), Some(group), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("is not part of a snapshot".to_owned());
    };
    if !PREFIXES.contains(&format!("{kind}/").as_str()) {
        return Err("is not part of a snapshot".to_owned());
    }
    let group: NodeGroup = group
        .parse()
        .map_err(|why| format!("has a group that {why}"))?;
    match kind {
        "provisions" => {
            for index in indexed(&group, &provision(rest, value)?) {
                if all.get(&index).map(Bytes::as_ref) != Some(rest.as_bytes()) {
                    return Err(format!("is not named by an entry {index}"));
                }
            }
            Ok(())
        }
        "assignments" => {
            let assignment = serde_json::from_slice::<Assignment>(value)
                .map_err(|_| "is no assignment".to_owned())?;
            if assignment.epoch > MAX_EPOCH {
                return Err("has an epoch that is too large".to_owned());
            }
            named(&group, rest.as_bytes(), all).map(drop)
        }
        // A name or a reader: the value is the guid of the provision that has it.
        _ => {
            let provision = named(&group, value, all)?;
            match indexed(&group, &provision).iter().any(|index| index == key) {
                true => Ok(()),
                false => Err("names a provision that has no such stream".to_owned()),
            }
        }
    }
}

fn provision(guid: &str, value: &[u8]) -> Result<Provision, String> {
    let provision = Provision::from_document(value)
        .map_err(|why| format!("holds no provision that can be read: {why}"))?;
    match provision.guid.as_str() == guid {
        true => Ok(provision),
        false => Err("holds a provision of another provisionGuid".to_owned()),
    }
}

fn named(
    group: &NodeGroup,
    guid: &[u8],
    all: &BTreeMap<String, Bytes>,
) -> Result<Provision, String> {
    let guid = std::str::from_utf8(guid).ok();
    let guid: Option<ProvisionGuid> = guid.and_then(|guid| guid.parse().ok());
    let guid = guid.ok_or("names no provision")?;
    let document = all.get(&keys::provision(group, &guid));
    let document = document.ok_or("names a provision that is not in the snapshot")?;
    provision(guid.as_str(), document)
}

/// The keys a provision is found by.
fn indexed(group: &NodeGroup, provision: &Provision) -> Vec<String> {
    let streams = provision.streams.iter();
    let key = |stream: &crate::provision::ProvisionStream| match stream.feeds {
        true => keys::name(group, &stream.guid),
        false => keys::reader(group, &stream.guid, &provision.guid),
    };
    streams.map(key).collect()
}

/// Values are JSON, or a name as plain text.
fn plain(entry: Entry) -> Option<(String, Value)> {
    let value = match serde_json::from_slice(&entry.value) {
        Ok(value @ Value::Object(_)) => value,
        _ => Value::String(String::from_utf8(entry.value.to_vec()).ok()?),
    };
    Some((entry.key, value))
}

fn raw(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        value => value.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, document};
    use super::*;

    fn whole(guid: &str, stream: &str) -> Map<String, Value> {
        let document: Value = serde_json::from_str(&document(guid, stream)).expect("JSON");
        let entries = json!({
            format!("provisions/nodegroup1/{guid}"): document,
            format!("names/nodegroup1/{stream}"): guid,
            format!("assignments/nodegroup1/{guid}"): {"node": "node1", "epoch": 1},
        });
        entries.as_object().cloned().expect("an object")
    }

    fn snapshot(entries: Map<String, Value>) -> Value {
        json!({ "version": 1, "entries": entries })
    }

    #[test]
    fn every_entry_is_read_before_anything_is_written() {
        assert!(parse(&snapshot(whole("p-1", "live/a"))).is_ok());
        let bad = [
            (
                "provisions/nodegroup1/p-1",
                Some(json!({"document": {}, "streams": []})),
            ),
            (
                "provisions/nodegroup1/p-1",
                Some(whole("p-2", "live/a")["provisions/nodegroup1/p-2"].clone()),
            ),
            ("provisions/nodegroup1/p-1", Some(json!("text"))),
            ("provisions/nodegroup1/p-3", Some(json!({}))),
            ("provisions/no group/p-3", Some(json!({}))),
            ("names/nodegroup1/live/a", Some(json!("p-2"))),
            ("names/nodegroup1/live/a", Some(json!({"x": 1}))),
            ("names/nodegroup1/live/b", Some(json!("p-1"))),
            ("names/nodegroup1/x", Some(json!("p-1"))),
            ("readers/nodegroup1/live/a//p-1", Some(json!("p-1"))),
            (
                "assignments/nodegroup1/p-1",
                Some(json!({"node": "../x", "epoch": 1})),
            ),
            (
                "assignments/nodegroup1/p-1",
                Some(json!({"node": "n", "epoch": MAX_EPOCH + 1})),
            ),
            (
                "assignments/nodegroup1/p-9",
                Some(json!({"node": "n", "epoch": 1})),
            ),
            ("leases/nodegroup1/x", Some(json!("x"))),
            ("provisions", Some(json!("x"))),
        ];
        for (key, value) in bad {
            let mut entries = whole("p-1", "live/a");
            entries.insert(key.to_owned(), value.clone().unwrap_or_default());
            let refused = parse(&snapshot(entries)).expect_err(key).to_string();
            assert!(refused.starts_with("entries: "), "{refused}");
            let part = key.rsplit('/').next().unwrap_or_default();
            assert!(refused.contains(part) || part == "a", "{key}: {refused}");
        }
        let mut nameless = whole("p-1", "live/a");
        nameless.remove("names/nodegroup1/live/a");
        assert!(
            parse(&snapshot(nameless)).is_err(),
            "publishers could take it"
        );
    }

    #[tokio::test]
    async fn thousands_of_entries_come_in_as_one() {
        let bench = Bench::new(9).await;
        let mut entries = Map::new();
        for n in 0..3_000 {
            let (guid, stream) = (format!("p-{n}"), format!("live/{n}"));
            let mut one = whole(&guid, &stream);
            one.remove(&format!("assignments/nodegroup1/{guid}"));
            entries.extend(one);
        }
        let revision = bench.cluster.import(snapshot(entries.clone())).await;
        assert_eq!(revision.expect("taken in"), 1);
        let exported = bench.cluster.export().await.expect("exports");
        assert_eq!(exported, snapshot(entries));
        let refused = bench.cluster.import(exported).await;
        assert!(
            matches!(refused, Err(ImportError::Invalid(_))),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn an_import_takes_its_names_or_is_refused() {
        let bench = Bench::new(9).await;
        let name: StreamGuid = "live/a".parse().expect("legal");
        let published = bench.streams.publish(&name).expect("free");
        let import = || bench.cluster.import(snapshot(whole("p-1", "live/a")));
        let refused = import().await;
        assert!(
            matches!(refused, Err(ImportError::NameLive(_))),
            "{refused:?}"
        );
        bench.streams.end(&published);
        import().await.expect("now it is free");
        assert!(
            bench.streams.publish(&name).is_err(),
            "it is the provision's"
        );
    }
}
