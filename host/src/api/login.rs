//! `auth/login`: a password for a token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use axum::{Extension, Json};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

use super::attempts::Attempts;
use super::caller::credentials;
use super::error::{Error, ErrorBody};
use crate::auth::{Denied, Secret};

/// Longer than any user or password; bounds what is hashed.
const MAX_CREDENTIALS: usize = 2048;

/// The answer to a login.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    /// Goes into `Authorization: Bearer …`.
    token: String,
}

/// User and password from `Authorization: Basic …`.
pub(super) struct Basic {
    user: String,
    password: Secret,
}

impl<S: Send + Sync> FromRequestParts<S> for Basic {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let given = credentials(parts, "basic").filter(|text| text.len() <= MAX_CREDENTIALS);
        let text = given
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = text
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or(Denied)?;
        Ok(Self {
            user: user.to_owned(),
            password: Secret::new(password),
        })
    }
}

/// The caller's address. Behind a proxy all callers share one.
pub(super) struct Peer(IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(peer.map_or(
            Ipv4Addr::UNSPECIFIED.into(),
            |ConnectInfo(peer)| peer.ip(),
        )))
    }
}

/// Exchanges user and password for an admin's token.
#[utoipa::path(
    put, operation_id = "login", path = "/as/v1/auth/login", tag = "auth", security(("basic" = [])),
    responses((status = 200, description = "Done", body = Token), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn login(
    State(state): State<super::State>,
    Extension(attempts): Extension<Arc<Attempts>>,
    Peer(peer): Peer,
    basic: Basic,
) -> Result<Json<Token>, Error> {
    attempts
        .take(peer, Instant::now())
        .map_err(Error::too_many_logins)?;
    let token = state.auth.login(&basic.user, basic.password).await;
    let token = token.inspect_err(|_| tracing::info!(%peer, "login refused"))?;
    attempts.give_back(peer);
    Ok(Json(Token { token }))
}
