//! The host's log lines as JSON, and the gate that lets no unannounced warning pass.

use serde_json::Value;

/// One line of the host's log.
#[derive(Clone, Debug)]
pub struct Line {
    text: String,
    json: Value,
}

impl Line {
    /// Reads one line; `None` when it is not JSON (a panic's text, for one).
    pub fn parse(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        json.is_object().then(|| Self {
            text: text.to_owned(),
            json,
        })
    }

    /// A field of the event, wherever the formatter puts it.
    pub fn field(&self, name: &str) -> Option<&str> {
        let value = self
            .json
            .get(name)
            .or_else(|| self.json.get("fields")?.get(name))?;
        value.as_str()
    }

    /// The message, empty when there is none.
    pub fn message(&self) -> &str {
        self.field("message").unwrap_or_default()
    }

    /// The level as written: `INFO`, `WARN` …
    pub fn level(&self) -> &str {
        self.field("level").unwrap_or_default()
    }

    /// When it was written, in seconds of its day.
    pub fn seconds(&self) -> Option<f64> {
        let (_, time) = self.field("timestamp")?.split_once('T')?;
        let parts = time.trim_end_matches('Z').split(':');
        let parts: Option<Vec<f64>> = parts.map(|part| part.parse().ok()).collect();
        Some(parts?.iter().fold(0.0, |sum, part| sum * 60.0 + part))
    }

    /// The whole line.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The lines no test announced: warnings, errors, and anything that is no JSON.
///
/// An announcement is a part of the line's text.
pub fn unannounced(lines: &[String], announced: &[String]) -> Vec<String> {
    let bad =
        |line: &&String| Line::parse(line).is_none_or(|l| matches!(l.level(), "WARN" | "ERROR"));
    let known = |line: &&String| announced.iter().any(|part| line.contains(part.as_str()));
    lines
        .iter()
        .filter(|l| !l.is_empty())
        .filter(bad)
        .filter(|l| !known(l))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_nested_and_flat() {
        let nested =
            Line::parse(r#"{"level":"INFO","fields":{"message":"listening","service":"api"}}"#)
                .expect("json");
        let flat =
            Line::parse(r#"{"level":"INFO","message":"listening","service":"api"}"#).expect("json");
        for line in [nested, flat] {
            assert_eq!(
                (line.message(), line.field("service"), line.level()),
                ("listening", Some("api"), "INFO")
            );
        }
    }

    #[test]
    fn only_unannounced_warnings_and_foreign_lines_are_caught() {
        let lines = [
            "{\"level\":\"WARN\",\"message\":\"a\"}",
            "{\"level\":\"WARN\",\"message\":\"b\"}",
            "thread panicked",
            "{\"level\":\"INFO\"}",
        ];
        let lines: Vec<String> = lines.map(str::to_owned).to_vec();
        assert_eq!(
            unannounced(&lines, &["\"b\"".to_owned()]),
            [lines[0].as_str(), lines[2].as_str()]
        );
    }
}
