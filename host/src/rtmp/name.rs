//! Which stream a client means by its app and name.

use crate::id::{InvalidName, StreamGuid};

/// A stream as a client addressed it.
#[derive(Clone)]
pub struct Addressed {
    /// The stream.
    pub guid: StreamGuid,
    /// The query of its name, else of its app, without the question mark. Holds secrets.
    pub query: String,
    /// `token` of either query, if there.
    pub token: Option<String>,
}

/// Joins app and name as RTMP clients send them: either may carry a query, apps a
/// trailing slash, names a container prefix (`mp4:`, `flv:`).
pub fn resolve(app: &str, name: &str) -> Result<Addressed, InvalidName> {
    let (app, app_query) = split_query(app);
    let (name, name_query) = split_query(name);
    let name = ["mp4:", "flv:", "mp3:"]
        .iter()
        .find_map(|p| name.strip_prefix(p))
        .unwrap_or(name);
    let app = app.trim_matches('/');
    let name = name.trim_matches('/');
    let guid = format!("{app}/{name}").parse()?;
    let token = token(name_query)
        .or_else(|| token(app_query))
        .map(str::to_owned);
    let query = match name_query {
        "" => app_query,
        query => query,
    };
    let query = query.to_owned();
    Ok(Addressed { guid, query, token })
}

/// What may be logged of an app or a name.
pub fn without_query(text: &str) -> &str {
    split_query(text).0
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

fn token(query: &str) -> Option<&str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_queries_and_prefixes_are_understood() {
        let cases = [
            ("live", "a", "live/a", None, ""),
            ("live/room/", "a", "live/room/a", None, ""),
            (
                "live?x=1",
                "mp4:a?token=abc&y=2",
                "live/a",
                Some("abc"),
                "token=abc&y=2",
            ),
            (
                "live?token=t",
                "room/a",
                "live/room/a",
                Some("t"),
                "token=t",
            ),
        ];
        for (app, name, guid, token, query) in cases {
            let addressed = resolve(app, name).expect("legal");
            assert_eq!(
                (addressed.guid.as_str(), addressed.token.as_deref()),
                (guid, token)
            );
            assert_eq!(addressed.query, query);
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for (app, name) in [
            ("", "a"),
            ("live", ""),
            ("live", "../a"),
            ("live", "?token=1"),
            ("l", "a\u{7}"),
        ] {
            assert!(resolve(app, name).is_err(), "{app:?} {name:?}");
        }
    }
}
