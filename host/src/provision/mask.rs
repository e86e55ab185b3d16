//! Showing a provision without its secrets, and taking it back unharmed.
//!
//! Masked are user info and queries of URLs, the properties a type marks as secret, the
//! last path segment of what is pushed to (a stream key), and credentials. A masked
//! value that comes back stands for the stored one only when it is exactly that one's
//! mask: beside another host, a kept password would be sent to that host.

use serde_json::{Map, Value};

use super::field::{Invalid, join};
use super::types::Types;
use super::{Document, Provision};
use crate::id::RestreamType;

/// What stands where a secret was.
pub(super) const MASK: &str = "***";

/// What is secret among a stream's properties.
struct Secrets {
    /// The names the type marks; `None` when the type is gone, and then everything is.
    keys: Option<Vec<String>>,
    /// Whether the last path segment of a URL is a key, as it is where media is pushed to.
    hide_last: bool,
}

impl Secrets {
    fn of(types: &dyn Types, kind: &RestreamType, feeds: bool) -> Self {
        let keys = types.describe(kind).map(|description| {
            let secret = description
                .properties
                .iter()
                .filter(|property| property.secret);
            secret
                .flat_map(|property| property.aliases.iter().chain([&property.name]).cloned())
                .collect()
        });
        Self {
            keys,
            hide_last: !feeds,
        }
    }

    fn holds(&self, key: &str) -> bool {
        match &self.keys {
            Some(keys) => keys.iter().any(|secret| secret.eq_ignore_ascii_case(key)),
            None => !matches!(key, "action" | "type" | "persist"),
        }
    }

    fn masked(&self, key: &str, value: &Value) -> Value {
        match value {
            _ if self.holds(key) => MASK.into(),
            Value::String(text) => mask_urls(text, self.hide_last).into(),
            other => other.clone(),
        }
    }
}

/// The document as it may be shown, always with a `provisionGuid`.
pub(super) fn shown(provision: &Provision, types: &dyn Types) -> Value {
    let mut object = provision.document.0.clone();
    for_each_secret(
        &mut object,
        "",
        provision,
        types,
        &mut |_, _, value, masked| {
            *value = masked;
            Ok(())
        },
    )
    .expect("masking itself refuses nothing");
    if !object.contains_key("provisionGuid") {
        object.insert("provisionGuid".into(), provision.guid.as_str().into());
    }
    Value::Object(object)
}

/// Puts the stored values back where `document` carries their masks.
pub(super) fn restore(document: &mut Document, stored: &Provision, types: &dyn Types) {
    let mut kept = Vec::new();
    let mut original = stored.document.0.clone();
    for_each_secret(
        &mut original,
        "",
        stored,
        types,
        &mut |place, _, value, masked| {
            if masked != *value {
                kept.push((place.clone(), masked, value.clone()));
            }
            Ok(())
        },
    )
    .expect("collecting refuses nothing");
    for (place, masked, value) in kept {
        if let Some(sent) = place.find(&mut document.0)
            && *sent == masked
        {
            *sent = value;
        }
    }
}

/// Refuses what is still masked: there is nothing it could stand for.
pub(super) fn refuse(provision: &Provision, path: &str, types: &dyn Types) -> Result<(), Invalid> {
    let mut object = provision.document.0.clone();
    for_each_secret(
        &mut object,
        path,
        provision,
        types,
        &mut |_, field, value, masked| {
            let text = value.as_str().unwrap_or_default();
            if *value == masked && (text == MASK || text.contains("://") && text.contains(MASK)) {
                return Err(Invalid::at(
                    field,
                    "is masked and stands for no stored value; send the value itself",
                ));
            }
            Ok(())
        },
    )
}

/// Where a value that may be secret lies. Streams are found by name: a client may reorder them.
#[derive(Clone)]
enum Place {
    Credential(String),
    Property(String, String),
    Destination(String),
}

impl Place {
    fn find<'a>(&self, object: &'a mut Map<String, Value>) -> Option<&'a mut Value> {
        match self {
            Self::Credential(key) => object.get_mut("credentials")?.get_mut(key),
            Self::Destination(stream) => find_stream(object, stream)?.get_mut("destUri"),
            Self::Property(stream, key) => find_stream(object, stream)?
                .get_mut("camParams")?
                .get_mut("properties")?
                .get_mut(key),
        }
    }
}

fn find_stream<'a>(object: &'a mut Map<String, Value>, guid: &str) -> Option<&'a mut Value> {
    let streams = object.get_mut("streams")?.as_array_mut()?;
    streams
        .iter_mut()
        .find(|stream| stream.get("streamGuid").and_then(Value::as_str) == Some(guid))
}

type Visit<'v> = &'v mut dyn FnMut(&Place, String, &mut Value, Value) -> Result<(), Invalid>;

/// Visits every value that may be secret with its place, path, and what it looks like masked.
fn for_each_secret(
    object: &mut Map<String, Value>,
    path: &str,
    provision: &Provision,
    types: &dyn Types,
    visit: Visit<'_>,
) -> Result<(), Invalid> {
    if let Some(Value::Object(credentials)) = object.get_mut("credentials") {
        for (key, value) in credentials.iter_mut().filter(|(_, value)| !value.is_null()) {
            let field = join(path, &format!("credentials.{key}"));
            visit(&Place::Credential(key.clone()), field, value, MASK.into())?;
        }
    }
    for (index, stream) in provision.streams.iter().enumerate() {
        let at = join(path, &format!("streams[{index}]"));
        let guid = stream.guid.to_string();
        let uri = Place::Destination(guid.clone());
        if let Some(value) = uri.find(object).filter(|value| value.is_string()) {
            let masked = mask_urls(value.as_str().unwrap_or_default(), true).into();
            visit(&uri, format!("{at}.destUri"), value, masked)?;
        }
        let secrets = Secrets::of(types, &stream.kind, stream.feeds);
        let keys = stream.properties.iter().map(|(key, _)| key);
        for key in keys {
            let place = Place::Property(guid.clone(), key.clone());
            if let Some(value) = place.find(object) {
                let masked = secrets.masked(key, value);
                visit(
                    &place,
                    format!("{at}.camParams.properties.{key}"),
                    value,
                    masked,
                )?;
            }
        }
    }
    Ok(())
}

/// The URLs in a property's text: one, or several with commas, semicolons or spaces between them.
pub(super) fn urls(text: &str) -> impl Iterator<Item = &str> {
    pieces(text)
        .into_iter()
        .map(|(start, end)| &text[start..end])
}

/// `text` with the user info and query of every URL masked, and its last path segment if asked.
pub(super) fn mask_urls(text: &str, hide_last: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for (start, end) in pieces(text) {
        shown.push_str(&text[done..start]);
        shown.push_str(&mask_url(&text[start..end], hide_last));
        done = end;
    }
    shown.push_str(&text[done..]);
    shown
}

fn separator(c: char) -> bool {
    // Brackets and quotes are those of a JSON array in a text.
    c.is_whitespace() || matches!(c, ',' | ';' | '|' | '[' | ']' | '"' | '\'')
}

/// Where URLs begin and end. One begins with its scheme, at the text's start or after a separator, and goes on to
/// the next: an address inside of a query stays a part of that query.
fn pieces(text: &str) -> Vec<(usize, usize)> {
    let scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let starts: Vec<usize> = text
        .match_indices("://")
        .map(|(at, _)| text[..at].trim_end_matches(scheme).len())
        .filter(|start| text[..*start].chars().next_back().is_none_or(separator))
        .collect();
    let end = |(index, start): (usize, &usize)| {
        let next = starts.get(index + 1).copied().unwrap_or(text.len());
        (
            *start,
            start + text[*start..next].trim_end_matches(separator).len(),
        )
    };
    starts.iter().enumerate().map(end).collect()
}

fn mask_url(url: &str, hide_last: bool) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (place, tail) = rest
        .find(['?', '#'])
        .map_or((rest, ""), |at| rest.split_at(at));
    let (masked_user, place) = split_user(place);
    let mut path = place.to_owned();
    if hide_last
        && let Some(slash) = path
            .trim_end_matches('/')
            .find('/')
            .and(path.trim_end_matches('/').rfind('/'))
    {
        path.truncate(slash + 1);
        path.push_str(MASK);
    }
    let user = if masked_user { "***@" } else { "" };
    let tail = tail
        .chars()
        .next()
        .map(|mark| format!("{mark}{MASK}"))
        .unwrap_or_default();
    format!("{scheme}://{user}{path}{tail}")
}

/// Whether there is user info, and what follows it. A password may hold an unescaped slash; then what looks like
/// the port is none, and everything up to the last `@` is taken as user info.
fn split_user(place: &str) -> (bool, &str) {
    let authority = place.split('/').next().unwrap_or(place);
    if let Some((_, host)) = authority.rsplit_once('@') {
        return (true, &place[authority.len() - host.len()..]);
    }
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|_| !authority.ends_with(']'));
    match place.rsplit_once('@') {
        Some((_, after)) if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit())) => {
            (true, after)
        }
        _ => (false, place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_and_queries_do_not_show() {
        for (url, masked) in [
            ("rtmp://host/live/stream1", "rtmp://host/live/stream1"),
            (
                "rtmp://u:p@host:1935/live/s?key=1&b=2",
                "rtmp://***@host:1935/live/s?***",
            ),
            ("rtmp://u:a@b@host/live/s", "rtmp://***@host/live/s"),
            ("rtmp://u:p/w@host/live/s", "rtmp://***@host/live/s"),
            ("rtmp://[::1]:1935/live/a@b", "rtmp://[::1]:1935/live/a@b"),
            ("https://h/x?next=http://u:p@i/?t", "https://h/x?***"),
            ("h?x=1", "h?x=1"),
            (
                "rtmp://a/b/c?k, rtmp://u@d/e/f",
                "rtmp://a/b/c?***, rtmp://***@d/e/f",
            ),
            (
                r#"["rtmp://u:p@h/a/n?t=1", "rtmp://i/a/n?k=2"]"#,
                r#"["rtmp://***@h/a/n?***", "rtmp://i/a/n?***"]"#,
            ),
            ("rtmp://u:x,y@h/a/b", "rtmp://***@h/a/b"),
            ("rtmp://h/a/b#frag", "rtmp://h/a/b#***"),
            ("://", "://"),
        ] {
            assert_eq!(mask_urls(url, false), masked);
        }
    }

    #[test]
    fn the_stream_key_of_a_push_does_not_show() {
        assert_eq!(mask_urls("rtmp://h/app/key", true), "rtmp://h/app/***");
        assert_eq!(
            mask_urls("rtmp://h/app/key/?k=1", true),
            "rtmp://h/app/***?***"
        );
        assert_eq!(mask_urls("rtmp://h", true), "rtmp://h");
    }

    proptest::proptest! {
        #[test]
        fn masking_never_panics_and_is_stable(text in "\\PC{0,40}(://)?\\PC{0,40}") {
            let once = mask_urls(&text, false);
            proptest::prop_assert_eq!(mask_urls(&once, false), once);
        }
    }
}
