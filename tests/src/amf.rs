//! Looks into commands as a peer sent them.

use restreamd_rtmp::amf0::Value;

/// A property of a command's object.
pub fn property<'a>(command: &'a [Value], name: &str) -> Option<&'a Value> {
    command.get(2)?.get(name)
}

/// A text, empty when it is none.
pub fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
