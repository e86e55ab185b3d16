//! What handlers take from a request, with our errors in place of axum's.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::State;
use super::error::{Code, Error};
use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};

/// How long a body may take to arrive; a caller who dribbles it holds a connection no longer.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The path's parameters, percent-decoded.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|cause| Error::new(Code::Validation, cause.body_text().to_lowercase()))
    }
}

/// A provision's guid in a path.
pub(super) fn provision_guid(text: &str) -> Result<ProvisionGuid, Error> {
    text.parse()
        .map_err(|cause| Error::validation("provisionGuid", cause))
}

/// A stream's guid in a path.
pub(super) fn stream_guid(text: &str) -> Result<StreamGuid, Error> {
    text.parse()
        .map_err(|cause| Error::validation("streamGuid", cause))
}

impl State {
    /// The group a path names, `default` being the only one.
    pub(super) fn group(&self, name: &str) -> Result<NodeGroup, Error> {
        self.cluster
            .resolve_group(name)
            .ok_or_else(|| Error::not_found(format!("there is no node group {name}")))
    }
}

/// The query's parameters. Unknown ones are ignored; of one given twice, the last counts.
pub(super) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let query =
            axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query
            .map(|query| Self(query.0))
            .map_err(|_| Error::new(Code::Validation, "the query cannot be read"))
    }
}

impl Query {
    /// The first of `names` that is given: the ways to spell one parameter, the strongest first.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        let given = |name: &&str| self.0.iter().rev().find(|(key, _)| key == name);
        names
            .iter()
            .find_map(given)
            .map(|(_, value)| value.as_str())
    }

    /// A switch: true, false, 1 or 0.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Error> {
        let Some(text) = self.text(&[name]) else {
            return Ok(default);
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(Error::validation(name, "must be true or false")),
        }
    }

    /// A count of at least one.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, Error> {
        let Some(text) = self.text(&[name]) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(count) if count >= 1 => Ok(Some(count)),
            _ => Err(Error::validation(name, "must be an integer of at least 1")),
        }
    }
}

/// A JSON body's bytes, bounded by the route's limit. Without a `Content-Type` it is taken for JSON.
pub(super) struct Json(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            return Err(Error::new(
                Code::UnsupportedMediaType,
                "Content-Type must be application/json",
            ));
        }
        let body = tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state)).await;
        let body =
            body.map_err(|_| Error::new(Code::Validation, "the body did not arrive in time"))?;
        body.map(Self).map_err(|cause| unread(&cause))
    }
}

fn unread(cause: &BytesRejection) -> Error {
    match cause.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(Code::TooLarge, "the body is larger than this route takes")
        }
        _ => Error::new(Code::Validation, "the body cannot be read"),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let kind = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query(
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn switches_are_read_and_bad_ones_named() {
        let query = query(&[
            ("a", "true"),
            ("b", "0"),
            ("c", "yes"),
            ("d", "FALSE"),
            ("d", "1"),
        ]);
        assert_eq!(query.flag("a", false).ok(), Some(true));
        assert_eq!(query.flag("b", true).ok(), Some(false));
        assert_eq!(query.flag("d", false).ok(), Some(true));
        assert_eq!(query.flag("absent", true).ok(), Some(true));
        assert_eq!(
            query
                .flag("c", true)
                .err()
                .and_then(|error| error.field)
                .as_deref(),
            Some("c")
        );
    }

    #[test]
    fn counts_begin_at_one() {
        let query = query(&[("a", "3"), ("b", "0"), ("c", "-1")]);
        assert_eq!(query.count("a").ok(), Some(Some(3)));
        assert_eq!(query.count("absent").ok(), Some(None));
        assert!(query.count("b").is_err() && query.count("c").is_err());
    }

    #[test]
    fn json_goes_by_more_than_one_name() {
        let is = |kind: &'static str| {
            is_json(
                &[(header::CONTENT_TYPE, kind.parse().expect("value"))]
                    .into_iter()
                    .collect(),
            )
        };
        assert!(
            is("application/json")
                && is("Application/JSON; charset=utf-8")
                && is("application/x+json")
        );
        assert!(!is("text/plain") && !is("application/x-www-form-urlencoded") && !is(""));
        assert!(is_json(&HeaderMap::new()));
    }
}
