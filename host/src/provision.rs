//! Provisions: what clients want to run, as they said it.
//!
//! Parses a request once into [`Provision`], keeps it in the store together with the
//! names it takes, and shows it again with its secrets masked. Knows neither HTTP nor
//! nodes, and runs nothing. Invariant: a provision and the names it feeds are written
//! and deleted in one transaction.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{ProvisionGuid, RestreamType, StreamGuid};
use crate::stream::latency::Latency;

pub mod keys;
pub mod spec;

mod change;
mod error;
mod field;
mod mask;
mod optional;
mod service;
mod types;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use field::Invalid;
pub use service::{Config, Deleted, IsSelf, NameTaken, Names, Service};
pub use types::Types;

/// The desired state of one or more streams, under the caller's name for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Provision {
    /// The caller's name for it.
    pub guid: ProvisionGuid,
    /// As it was sent, unknown fields included. Holds secrets; [`Service`] shows it masked.
    pub document: Document,
    /// What it runs: one restreamer each.
    pub streams: Vec<ProvisionStream>,
}

/// One stream of a provision: what one restreamer carries out.
#[derive(Clone, PartialEq, Eq)]
pub struct ProvisionStream {
    /// The stream it feeds or reads.
    pub guid: StreamGuid,
    /// The type that carries it out, aliases resolved.
    pub kind: RestreamType,
    /// Whether the type feeds the stream (pull, listen) or reads it (push).
    pub feeds: bool,
    /// `camParams.properties` in order, every scalar as text, without `action`, `type` and `latency`.
    pub properties: Vec<(String, String)>,
    /// How long the stream's frames may wait to be sent together, if it says.
    pub latency: Option<Latency>,
    /// Whether another node takes over when its node is gone.
    pub persist: bool,
    /// Red5's quality level; 1 is the best, 0 stands for a stream without levels.
    pub abr_level: u32,
}

/// Values may be secrets, so only their names are shown.
impl std::fmt::Debug for ProvisionStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&str> = self
            .properties
            .iter()
            .map(|(key, _)| key.as_str())
            .collect();
        f.debug_struct("ProvisionStream")
            .field("guid", &self.guid)
            .field("kind", &self.kind)
            .field("properties", &keys)
            .finish_non_exhaustive()
    }
}

/// A provision's JSON object, secrets included, hence without a `Debug` that shows it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(Map<String, Value>);

impl Document {
    /// The object.
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Document(***)")
    }
}

/// What the store keeps: the document, and what its type names meant when it came in. So a stored provision
/// reads the same when its plugin is gone or an alias has moved.
#[derive(Serialize, Deserialize)]
struct Stored<D> {
    document: D,
    streams: Vec<spec::Kind>,
}

impl Provision {
    /// Reads what [`Provision::to_document`] wrote.
    pub fn from_document(bytes: &[u8]) -> Result<Self, Invalid> {
        let stored: Stored<Document> = serde_json::from_slice(bytes).map_err(|cause| {
            // Not the cause itself: it may repeat a value, which may be a secret.
            Invalid::whole(format!(
                "is no stored provision from column {} on",
                cause.column()
            ))
        })?;
        let kinds = stored.streams;
        let kind_of = |stream: usize, _: &str| {
            kinds
                .get(stream)
                .cloned()
                .ok_or_else(|| "has no stored type".to_owned())
        };
        spec::provision(stored.document, "", spec::Verb::Update, &kind_of)
    }

    /// What the store keeps of it.
    pub fn to_document(&self) -> Vec<u8> {
        let kinds = self.streams.iter().map(|stream| spec::Kind {
            kind: stream.kind.clone(),
            feeds: stream.feeds,
        });
        let stored = Stored {
            document: &self.document,
            streams: kinds.collect(),
        };
        serde_json::to_vec(&stored).expect("JSON values and names are serialisable")
    }

    /// Whether another node takes over when its node is gone: when any of its streams asks for it.
    pub fn persist(&self) -> bool {
        self.streams.iter().any(|stream| stream.persist)
    }
}
