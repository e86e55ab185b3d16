//! A place in a JSON document that knows its own path.
//!
//! Reading a value and naming the field that was wrong are the same step, so an error
//! cannot name another field than the one it is about. Messages never repeat values.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// What is wrong with a request, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", .field.as_deref().unwrap_or("the body"), if .field.is_some() { ": " } else { " " })]
pub struct Invalid {
    /// The path of the field, as `streams[0].streamGuid`; `None` when it is the body as a whole.
    pub field: Option<String>,
    /// What is wrong, in lower case.
    pub message: String,
}

impl Invalid {
    /// About the body as a whole.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self {
            field: None,
            message: message.into(),
        }
    }

    /// About one field.
    pub(super) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: Some(path.into()),
            message: message.into(),
        }
    }
}

/// A value and its path.
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Field<'a> {
    /// `key` of `object`, which lies at `path`. A `null` is as good as absent.
    pub(super) fn of(path: &str, object: &'a Map<String, Value>, key: &str) -> Option<Self> {
        let value = object.get(key).filter(|value| !value.is_null())?;
        Some(Self {
            path: join(path, key),
            value,
        })
    }

    /// Like [`Field::of`], for what must be there.
    pub(super) fn needed(
        path: &str,
        object: &'a Map<String, Value>,
        key: &str,
    ) -> Result<Self, Invalid> {
        Self::of(path, object, key).ok_or_else(|| Invalid::at(join(path, key), "is required"))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Self>, Invalid> {
        Ok(Self::of(&self.path, self.object()?, key))
    }

    pub(super) fn need(&self, key: &str) -> Result<Self, Invalid> {
        Self::needed(&self.path, self.object()?, key)
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, Invalid> {
        self.value
            .as_object()
            .ok_or_else(|| self.invalid("must be an object"))
    }

    /// The elements of an array of at least one.
    pub(super) fn items(&self) -> Result<Vec<Self>, Invalid> {
        let items = self
            .value
            .as_array()
            .ok_or_else(|| self.invalid("must be an array"))?;
        if items.is_empty() {
            return Err(self.invalid("must not be empty"));
        }
        let item = |(index, value)| Self {
            path: format!("{}[{index}]", self.path),
            value,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, Invalid> {
        self.value
            .as_str()
            .ok_or_else(|| self.invalid("must be text"))
    }

    /// Text of so many characters.
    pub(super) fn text_of(&self, length: RangeInclusive<usize>) -> Result<&'a str, Invalid> {
        let text = self.text()?;
        if !length.contains(&text.chars().count()) {
            let (min, max) = length.into_inner();
            return Err(self.invalid(format!("must be {min} to {max} characters long")));
        }
        Ok(text)
    }

    /// Text that parses as a name.
    pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Display>>(&self) -> Result<T, Invalid> {
        self.text()?
            .parse()
            .map_err(|cause: T::Err| self.invalid(cause.to_string()))
    }

    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Result<i64, Invalid> {
        let number = self.value.as_i64().filter(|number| range.contains(number));
        let (min, max) = range.into_inner();
        number.ok_or_else(|| self.invalid(format!("must be an integer from {min} to {max}")))
    }

    pub(super) fn one_of(&self, choices: &[&str]) -> Result<&'a str, Invalid> {
        let text = self.value.as_str().filter(|text| choices.contains(text));
        text.ok_or_else(|| self.invalid(format!("must be one of {}", choices.join(", "))))
    }

    /// Any scalar, as text: `true` and `"true"` are the same.
    pub(super) fn scalar(&self) -> Result<String, Invalid> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Bool(_) | Value::Number(_) => Ok(self.value.to_string()),
            _ => Err(self.invalid("must be text, a number, true or false")),
        }
    }

    pub(super) fn invalid(&self, message: impl Into<String>) -> Invalid {
        Invalid::at(self.path.as_str(), message)
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
