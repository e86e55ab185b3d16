//! The whole store as one document, out and in.

use serde_json::{Map, Value, json};

use super::Cluster;
use crate::store::{self, Entry, Page, Txn};

/// The format's version.
const VERSION: u64 = 1;
/// What a snapshot holds: not leases, nodes and claims, which belong to running processes.
const PREFIXES: [&str; 4] = ["provisions/", "names/", "readers/", "assignments/"];
/// Entries that one transaction carries; an import is one transaction.
const MAX_ENTRIES: usize = 128;

/// Why a snapshot was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no snapshot, or does not fit what is there.
    #[error("{0}")]
    Invalid(String),
    /// The store cannot be written.
    #[error("{0}")]
    Unavailable(String),
}

impl Cluster {
    /// Everything that is stored, as of one revision.
    pub async fn export(&self) -> Result<Value, String> {
        for _ in 0..5 {
            let (entries, consistent) = self.read_all().await.map_err(|error| error.to_string())?;
            if consistent {
                let entries: Map<String, Value> = entries.into_iter().filter_map(plain).collect();
                return Ok(json!({ "version": VERSION, "entries": entries }));
            }
        }
        Err("the store changes too fast to be read at one revision".to_owned())
    }

    async fn read_all(&self) -> Result<(Vec<Entry>, bool), store::Error> {
        let mut all = Vec::new();
        let mut revisions = Vec::new();
        let mut page = Page::first();
        loop {
            let listing = self.0.store.list("", page).await?;
            revisions.push(listing.revision);
            let last = listing.entries.last().map(|entry| entry.key.clone());
            all.extend(
                listing
                    .entries
                    .into_iter()
                    .filter(|entry| PREFIXES.iter().any(|p| entry.key.starts_with(p))),
            );
            match last {
                Some(last) if listing.more => page = Page::after(last),
                _ => {
                    let consistent = revisions.iter().all(|revision| *revision == revisions[0]);
                    return Ok((all, consistent));
                }
            }
        }
    }

    /// Takes a snapshot in, all or nothing. None of its entries may exist yet.
    pub async fn import(&self, snapshot: Value) -> Result<store::Revision, ImportError> {
        let invalid = |text: &str| ImportError::Invalid(text.to_owned());
        if snapshot.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(invalid("version: must be 1"));
        }
        let entries = snapshot
            .get("entries")
            .and_then(Value::as_object)
            .ok_or_else(|| invalid("entries: must be an object"))?;
        if entries.len() > MAX_ENTRIES {
            return Err(invalid("entries: at most 128 fit one import"));
        }
        let mut txn = Txn::new();
        for (key, value) in entries {
            if !PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
                return Err(ImportError::Invalid(format!(
                    "entries: {key} is not part of a snapshot"
                )));
            }
            let bytes = raw(value);
            let mut probe = super::mirror::Mirror::default();
            let entry = Entry {
                key: key.clone(),
                value: bytes.clone().into(),
                revision: 0,
            };
            if !key.starts_with("readers/") && probe.load(entry).is_none() {
                return Err(ImportError::Invalid(format!(
                    "entries: {key} cannot be read"
                )));
            }
            txn = txn.absent(key.clone()).put(key.clone(), bytes);
        }
        self.0.store.txn(txn).await.map_err(|error| match error {
            store::Error::Failed { precondition } => {
                ImportError::Invalid(format!("entries: {} exists already", precondition.key()))
            }
            error if error.retryable() => ImportError::Unavailable(error.to_string()),
            error => ImportError::Invalid(error.to_string()),
        })
    }
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
