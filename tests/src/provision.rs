//! Provisions as a client writes them.

use serde_json::{Map, Value, json};

/// A provision of one stream, in the shape of the public example.
#[derive(Clone, Debug)]
pub struct Provision {
    guid: String,
    stream: String,
    properties: Map<String, Value>,
}

impl Provision {
    /// A pull by the built-in `rtmp` type.
    pub fn pull(guid: &str, stream: &str, uri: &str) -> Self {
        Self::of_type("rtmp", guid, stream).with("rtmpUri", uri)
    }

    /// A provision of any type, without further properties.
    pub fn of_type(kind: &str, guid: &str, stream: &str) -> Self {
        let mut properties = Map::new();
        properties.insert("action".into(), "create".into());
        properties.insert("type".into(), kind.into());
        Self {
            guid: guid.to_owned(),
            stream: stream.to_owned(),
            properties,
        }
    }

    /// Sets one property.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.properties.insert(key.to_owned(), value.into());
        self
    }

    /// The provision's guid.
    pub fn guid(&self) -> &str {
        &self.guid
    }

    /// The stream's guid.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The JSON object.
    pub fn json(&self) -> Value {
        json!({
            "provisionGuid": self.guid,
            "streams": [{
                "streamGuid": self.stream,
                "abrLevel": 0,
                "camParams": {"properties": self.properties},
            }],
        })
    }
}
