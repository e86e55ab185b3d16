//! The `[flv]` table of the configuration.

use std::net::SocketAddr;

use axum::http::HeaderValue;
use serde::Deserialize;

/// How HTTP-FLV is offered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there are `/flv` and `/watch`.
    pub enabled: bool,
    /// An address of their own; on the REST listener when absent.
    pub listen: Option<SocketAddr>,
    /// Which pages of other origins may play.
    pub cors: Cors,
    /// Responses at a time; more are refused.
    pub subscribers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            cors: Cors::Any,
            // As many as RTMP connections.
            subscribers: 10_000,
        }
    }
}

/// `Access-Control-Allow-Origin`: `*`, origins separated by commas, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Cors {
    /// Every page.
    Any,
    /// Pages of these origins; of none but our own when empty.
    Only(Vec<HeaderValue>),
}

impl TryFrom<String> for Cors {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let origins = text.split(',').map(str::trim).filter(|o| !o.is_empty());
        origins
            .map(origin)
            .collect::<Result<_, _>>()
            .map(Self::Only)
    }
}

/// Scheme and authority, as browsers write them: anything else would never match.
fn origin(text: &str) -> Result<HeaderValue, &'static str> {
    let told = "must be *, or origins such as https://player.example separated by commas";
    let (scheme, authority) = text.split_once("://").ok_or(told)?;
    let bad = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '*' | '?' | '#' | '@');
    if !matches!(scheme, "http" | "https") || authority.is_empty() || authority.contains(bad) {
        return Err(told);
    }
    HeaderValue::from_str(text).map_err(|_| told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_and_what_no_browser_sends_is_refused() {
        let read = |text: &str| Cors::try_from(text.to_owned());
        assert_eq!(read("*"), Ok(Cors::Any));
        assert_eq!(read(""), Ok(Cors::Only(Vec::new())));
        let two = read("https://a.example, http://b.example:8080").expect("legal");
        assert!(matches!(two, Cors::Only(origins) if origins.len() == 2));
        for bad in [
            "a.example",
            "https://",
            "https://a.example/",
            "ftp://a.example",
            "https://a.example,*",
            "https://a.example\u{7}",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
