//! Who calls: what a handler asks for says who may call it.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;

use super::config::StreamRoutes;
use super::error::Error;
use crate::auth::{Auth, Errand, TokenError};

/// An admin. A handler that takes one is closed to everyone else; take it first, so that nothing else is said.
pub(super) struct Admin;

impl<S> FromRequestParts<S> for Admin
where
    S: Send + Sync,
    Auth: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let token = bearer(parts)
            .ok_or_else(|| Error::unauthorized("Bearer", "a bearer token is required"))?;
        Auth::from_ref(state).verify_admin(token)?;
        Ok(Self)
    }
}

/// Another node of the cluster.
pub(super) struct Peer;

impl<S> FromRequestParts<S> for Peer
where
    S: Send + Sync,
    Auth: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let token = bearer(parts)
            .ok_or_else(|| Error::unauthorized("Bearer", "a node's token is required"))?;
        Auth::from_ref(state).verify_node(token, Errand::Figures)?;
        Ok(Self)
    }
}

/// Anyone, unless the stream routes are closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Viewer {
    /// May see everything.
    Admin,
    /// May see nothing that could hold a secret.
    Anonymous,
}

impl<S> FromRequestParts<S> for Viewer
where
    S: Send + Sync,
    Auth: FromRef<S>,
    StreamRoutes: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        if StreamRoutes::from_ref(state) == StreamRoutes::Jwt {
            return Admin::from_request_parts(parts, state)
                .await
                .map(|_| Self::Admin);
        }
        let auth = Auth::from_ref(state);
        let verified =
            bearer(parts).map_or(Err(TokenError::Invalid), |token| auth.verify_admin(token));
        Ok(if verified.is_ok() {
            Self::Admin
        } else {
            Self::Anonymous
        })
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    credentials(parts, "bearer")
}

/// What follows the scheme in `Authorization`.
pub(super) fn credentials<'a>(parts: &'a Parts, scheme: &str) -> Option<&'a str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (given, rest) = value.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}
