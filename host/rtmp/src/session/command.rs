//! The shape of commands: name, transaction, command object, arguments.
//!
//! It does not know what commands mean. Invariant: a command that was decoded
//! has a name; missing parts read as transaction 0 and null.

use bytes::Bytes;

use super::{SessionError, without_amf3_prefix};
use crate::amf0::{self, Value};
use crate::message::{Message, type_id};

/// A decoded command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) transaction: f64,
    pub(super) object: Value,
    pub(super) arguments: Vec<Value>,
    pub(super) stream_id: u32,
}

impl Command {
    pub(super) fn decode(message: &Message) -> Result<Command, SessionError> {
        let payload: Bytes = match message.type_id {
            type_id::COMMAND_AMF3 => without_amf3_prefix(&message.payload),
            _ => message.payload.clone(),
        };
        let mut values = amf0::decode(&payload)?.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(SessionError::protocol("command without a name"));
        };
        Ok(Command {
            name,
            transaction: values.next().and_then(|v| v.as_f64()).unwrap_or(0.0),
            object: values.next().unwrap_or(Value::Null),
            arguments: values.collect(),
            stream_id: message.stream_id,
        })
    }

    /// The text argument at a position.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }

    /// The stream id argument at a position.
    pub(super) fn stream(&self, index: usize) -> Option<u32> {
        stream_id(self.arguments.get(index)?)
    }

    /// The information object of a reply: after the command object, but some
    /// servers put it in its place.
    pub(super) fn information(&self) -> Option<&Value> {
        let object = |value: &&Value| value.properties().is_some();
        let argument = self.arguments.iter().find(object);
        argument.or(Some(&self.object).filter(object))
    }
}

/// A stream id as AMF0 has it: a number without a fraction.
pub(super) fn stream_id(value: &Value) -> Option<u32> {
    let number = value.as_f64()?;
    let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and in range"
    )]
    whole.then_some(number as u32)
}

/// An information object.
pub(super) fn information(level: &str, code: &str, description: &str) -> Value {
    Value::object([
        ("level", Value::from(level)),
        ("code", Value::from(code)),
        ("description", Value::from(description)),
    ])
}

/// The values of an `onStatus` command.
pub(super) fn on_status(level: &str, code: &str, description: &str) -> [Value; 4] {
    [
        Value::from("onStatus"),
        Value::Number(0.0),
        Value::Null,
        information(level, code, description),
    ]
}
