//! AMF0 values: reading what peers send, bounded, and writing our own.
//!
//! It does not know commands. Invariant: decoding never recurses deeper than
//! 16 levels and never holds more than 1,024 values, whatever the input says.

mod decode;

use bytes::Bytes;

pub use decode::decode;

/// One AMF0 value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number; AMF0 has no integers.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string, long strings and XML included; invalid UTF-8 is replaced.
    String(String),
    /// An object, typed or not, in the order it was sent.
    Object(Vec<(String, Value)>),
    /// An associative array, in the order it was sent.
    EcmaArray(Vec<(String, Value)>),
    /// An array by position.
    StrictArray(Vec<Value>),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// Milliseconds since 1970, UTC.
    Date(f64),
    /// A reference or a value the sender could not express.
    Unsupported,
}

/// Why bytes are not AMF0 that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Amf0Error {
    /// The bytes end inside a value.
    #[error("amf0 ends inside a value")]
    Truncated,
    /// A marker that is not AMF0, or AMF0 that no peer sends (movie clip).
    #[error("amf0 marker {0:#04x} is not supported")]
    Marker(u8),
    /// The sender switches to AMF3, which nobody announced.
    #[error("amf3 is not spoken")]
    Amf3,
    /// Values are nested too deeply.
    #[error("amf0 is nested more than {} levels", decode::MAX_DEPTH)]
    Depth,
    /// Too many values.
    #[error("amf0 holds more than {} values", decode::MAX_VALUES)]
    Values,
    /// Too many bytes.
    #[error("amf0 is larger than {} bytes", decode::MAX_BYTES)]
    Size,
}

impl Value {
    /// A property of an object or associative array; the last one wins, as in
    /// the players that read it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let named = self.properties()?;
        named.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// All properties of an object or associative array.
    #[must_use]
    pub fn properties(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(named) | Value::EcmaArray(named) => Some(named),
            _ => None,
        }
    }

    /// The number, also of a date.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(number) | Value::Date(number) => Some(*number),
            _ => None,
        }
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Builds an object.
    pub fn object<K: Into<String>>(named: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Object(named.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Boolean(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

/// Writes values one after the other. A property name is cut at 65,535 bytes.
#[must_use]
pub fn encode(values: &[Value]) -> Bytes {
    crate::rml::amf0(values)
}
