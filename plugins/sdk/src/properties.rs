//! `camParams.properties` as a policy reads them.
//!
//! Looks values up and says what is wrong with them. It knows nothing of what a
//! value is for.

use crate::{Description, Problem};

/// The properties of a provision, in order, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// Wraps the list that the host gives.
    pub fn new(list: Vec<(String, String)>) -> Self {
        Self(list)
    }

    /// The value of the first property that has one of these names.
    pub fn get(&self, names: &[&str]) -> Option<&str> {
        let named = |key: &str| names.contains(&key);
        self.0
            .iter()
            .find(|(key, _)| named(key))
            .map(|(_, value)| value.as_str())
    }

    /// A whole number within bounds, or `default` when the property is absent.
    pub fn number(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> Result<u32, Problem> {
        let Some(text) = self.get(&[name]) else {
            return Ok(default);
        };
        match text.trim().parse() {
            Ok(value) if bounds.contains(&value) => Ok(value),
            _ => Err(Problem {
                key: name.to_owned(),
                message: format!(
                    "must be a whole number from {} to {}",
                    bounds.start(),
                    bounds.end()
                ),
            }),
        }
    }

    /// `true` or `false`, or `default` when the property is absent.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        match self.get(&[name]).map(str::trim) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(Problem {
                key: name.to_owned(),
                message: "must be true or false".to_owned(),
            }),
        }
    }

    /// Required properties that are missing and properties the type does not know.
    /// `persist` belongs to the host and is always allowed.
    pub fn problems(&self, description: &Description) -> Vec<Problem> {
        let known = |key: &str| {
            key == "persist"
                || description
                    .properties
                    .iter()
                    .any(|p| p.name == key || p.aliases.iter().any(|alias| alias == key))
        };
        let unknown = self
            .0
            .iter()
            .filter(|(key, _)| !known(key))
            .map(|(key, _)| Problem {
                key: key.clone(),
                message: format!(
                    "is not a property of this type; it has {}",
                    names(description)
                ),
            });
        let missing = description
            .properties
            .iter()
            .filter(|p| {
                p.required
                    && !self
                        .0
                        .iter()
                        .any(|(key, _)| *key == p.name || p.aliases.contains(key))
            })
            .map(|p| Problem {
                key: p.name.clone(),
                message: "is required".to_owned(),
            });
        missing.chain(unknown).collect()
    }
}

fn names(description: &Description) -> String {
    let names: Vec<&str> = description
        .properties
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Direction, property};

    fn description() -> Description {
        let mut uri = property("uri", "where from");
        uri.required = true;
        uri.aliases = vec!["url".to_owned()];
        Description {
            doc: String::new(),
            direction: Direction::Feeds,
            properties: vec![uri],
        }
    }

    fn given(list: &[(&str, &str)]) -> Properties {
        Properties::new(
            list.iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn missing_and_unknown_properties_are_named() {
        let problems = given(&[("persist", "true"), ("urll", "x")]).problems(&description());
        let keys: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, ["uri", "urll"]);
        assert!(given(&[("url", "x")]).problems(&description()).is_empty());
    }

    #[test]
    fn numbers_outside_their_bounds_are_refused() {
        let properties = given(&[("n", "7"), ("m", "-1")]);
        assert_eq!(properties.number("n", 1..=9, 3).ok(), Some(7));
        assert_eq!(properties.number("absent", 1..=9, 3).ok(), Some(3));
        assert!(properties.number("m", 1..=9, 3).is_err());
        assert!(properties.number("n", 8..=9, 3).is_err());
    }
}
