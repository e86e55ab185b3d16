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

    /// The text of a property that must be there and not be empty.
    pub fn text(&self, name: &str) -> Result<&str, Problem> {
        let text = self.get(&[name]).map(str::trim);
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| problem(name, "is required"))
    }

    /// A time in milliseconds within bounds, written as a number of them or with a unit:
    /// `250`, `250ms`, `5s`, `2m`, `1h`. `default` when the property is absent.
    pub fn millis(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> Result<u32, Problem> {
        let Some(text) = self.get(&[name]) else {
            return Ok(default);
        };
        let millis = millis(text.trim()).filter(|millis| bounds.contains(millis));
        millis.ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            problem(
                name,
                &format!("must be a time from {least} to {most} ms, such as 500, 2s or 1m"),
            )
        })
    }

    /// The same, or none for `off`.
    pub fn millis_or_off(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<u32>,
        default: Option<u32>,
    ) -> Result<Option<u32>, Problem> {
        match self.get(&[name]).map(str::trim) {
            None => Ok(default),
            Some("off") => Ok(None),
            Some(_) => {
                let millis = self.millis(name, bounds, 0);
                millis.map(Some).map_err(|wrong| Problem {
                    message: format!("{}, or off", wrong.message),
                    ..wrong
                })
            }
        }
    }

    /// A URL with one of these schemes (`["rtmp", "rtmps"]`), a host and a path behind it,
    /// of which `/` is the shortest; the host checks the rest when it is dialed. None when the property is absent.
    pub fn url(&self, name: &str, schemes: &[&str]) -> Result<Option<&str>, Problem> {
        let Some(text) = self.get(&[name]).map(str::trim) else {
            return Ok(None);
        };
        url(text, schemes)
            .map(Some)
            .map_err(|why| problem(name, &why))
    }

    /// What is between commas, without blanks around it; an empty property is no list.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let parts = self
            .get(&[name])
            .into_iter()
            .flat_map(|text| text.split(','));
        parts
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// The same of URLs, each as [`Properties::url`] wants it; a wrong one is named.
    pub fn urls(&self, name: &str, schemes: &[&str]) -> Result<Vec<&str>, Problem> {
        let numbered = self.list(name).into_iter().zip(1..);
        numbered
            .map(|(text, n): (&str, u32)| {
                url(text, schemes).map_err(|why| problem(name, &format!("number {n} {why}")))
            })
            .collect()
    }

    /// One of several words, or `default` when the property is absent.
    pub fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, Problem> {
        let Some(text) = self.get(&[name]).map(str::trim) else {
            return Ok(default);
        };
        let chosen = choices.iter().find(|(word, _)| *word == text);
        chosen.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            problem(name, &format!("must be one of {}", words.join(", ")))
        })
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

fn problem(key: &str, message: &str) -> Problem {
    Problem {
        key: key.to_owned(),
        message: message.to_owned(),
    }
}

fn millis(text: &str) -> Option<u32> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u32 = match &text[digits.len()..] {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    digits.trim_end().parse::<u32>().ok()?.checked_mul(unit)
}

/// The text is not repeated in what is wrong with it: it may hold a password.
fn url<'a>(text: &'a str, schemes: &[&str]) -> Result<&'a str, String> {
    let scheme = text.split_once("://");
    let known = |scheme: &str| {
        schemes
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    };
    let Some((_, rest)) = scheme.filter(|(scheme, _)| known(scheme)) else {
        let schemes: Vec<String> = schemes.iter().map(|s| format!("{s}://")).collect();
        return Err(format!("must begin with {}", schemes.join(" or ")));
    };
    let (authority, path) = rest
        .split_once('/')
        .map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return Err("has no host".to_owned());
    }
    if path.is_none() || rest.contains(char::is_whitespace) {
        return Err("must be a host and a path without blanks".to_owned());
    }
    Ok(text)
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

    fn message<T: std::fmt::Debug>(read: Result<T, Problem>) -> String {
        read.expect_err("it is wrong").message
    }

    #[test]
    fn times_are_milliseconds_or_have_a_unit() {
        let list = [
            ("a", "250"),
            ("b", "2s"),
            ("c", "1h"),
            ("d", "off"),
            ("e", "2 weeks"),
        ];
        let given = given(&list);
        let read = |name| given.millis(name, 100..=u32::MAX, 7);
        let all = ["a", "b", "c", "absent"].map(|name| read(name).ok());
        assert_eq!(all, [Some(250), Some(2_000), Some(3_600_000), Some(7)]);
        assert!(message(read("e")).contains("such as 500, 2s or 1m"));
        assert!(given.millis("b", 1..=1_999, 7).is_err());
        let off = |name| given.millis_or_off(name, 1..=9_999, Some(5)).ok();
        assert_eq!(
            (off("d"), off("b"), off("absent")),
            (Some(None), Some(Some(2_000)), Some(Some(5)))
        );
        assert!(message(given.millis_or_off("e", 1..=9, None)).ends_with("or off"));
        assert!(
            super::millis("4294967295h").is_none(),
            "too long for a number"
        );
    }

    #[test]
    fn urls_have_a_scheme_a_host_and_a_path() {
        let list = [
            ("good", " RTMPS://user:pass@host:1/app/name?key=1 "),
            ("scheme", "http://host/app"),
            ("host", "rtmp://:1935/app"),
            ("path", "rtmp://secret@host"),
            ("list", "rtmp://a/b/c, ,rtmp://d/e/f,"),
            ("wrong", "rtmp://a/b/c,ftp://secret"),
        ];
        let given = given(&list);
        let read = |name| given.url(name, &["rtmp", "rtmps"]);
        assert_eq!(
            read("good").ok().flatten(),
            Some("RTMPS://user:pass@host:1/app/name?key=1")
        );
        assert_eq!(read("absent").ok().flatten(), None);
        assert_eq!(
            message(read("scheme")),
            "must begin with rtmp:// or rtmps://"
        );
        assert_eq!(message(read("host")), "has no host");
        assert!(!message(read("path")).contains("secret"));
        let urls = |name| given.urls(name, &["rtmp"]);
        assert_eq!(
            urls("list").ok(),
            Some(vec!["rtmp://a/b/c", "rtmp://d/e/f"])
        );
        assert_eq!(message(urls("wrong")), "number 2 must begin with rtmp://");
        assert_eq!(urls("absent").ok(), Some(vec![]));
    }

    #[test]
    fn words_and_texts_are_what_they_must_be() {
        let given = given(&[("mode", "fast"), ("other", "odd"), ("empty", " ")]);
        let choices = [("fast", 1), ("slow", 2)];
        assert_eq!(given.choice("mode", &choices, 2).ok(), Some(1));
        assert_eq!(given.choice("absent", &choices, 2).ok(), Some(2));
        assert_eq!(
            message(given.choice("other", &choices, 2)),
            "must be one of fast, slow"
        );
        assert_eq!(given.text("mode").ok(), Some("fast"));
        assert_eq!(message(given.text("empty")), "is required");
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
