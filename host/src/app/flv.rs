//! HTTP-FLV as this node offers it: who may play, and errors in the API's shape.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::middleware;
use axum::response::Response;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::api;
use crate::config::Config;
use crate::drain::Drain;
use crate::flv::{self, Refused};
use crate::gate::{Denied, Gate};
use crate::limits::Limits;
use crate::stream::Streams;

/// Its routes, for whichever listener; none when it is turned off.
pub(super) fn router(
    config: &Config,
    streams: &Streams,
    gate: &Gate,
    limits: &Limits,
    drain: &Drain,
    registry: &mut Registry,
) -> axum::Router {
    if !config.flv.enabled {
        return axum::Router::new();
    }
    let context = flv::Context {
        streams: streams.clone(),
        gate: gate.clone(),
        play_wait: Duration::from_secs(config.rtmp.play_wait_seconds),
        seats: Arc::new(Semaphore::new(config.flv.subscribers)),
        limits: limits.clone(),
        cors: config.flv.cors.clone(),
        drain: drain.clone(),
        metrics: flv::Metrics::register(registry),
    };
    flv::router(context).layer(middleware::map_response(explained))
}

/// Its part of the API's description: what the REST listener serves of it.
pub(super) fn described(config: &flv::Config) -> utoipa::openapi::OpenApi {
    match config.enabled && config.listen.is_none() {
        true => flv::described(),
        false => utoipa::openapi::OpenApi::default(),
    }
}

/// Binds the address of its own, if it has one.
pub(super) fn bind(config: &flv::Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(addr) = config.listen.filter(|_| config.enabled) else {
        return Ok(None);
    };
    let listener = TcpListener::bind(addr).with_context(|| format!("flv.listen {addr}"))?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

/// Hands a refusal's words to the API's error shape.
async fn explained(mut response: Response) -> Response {
    let Some(refused) = response.extensions_mut().remove::<Refused>() else {
        return response;
    };
    let text = refused.to_string();
    let error = match refused {
        Refused::BadName => api::Error::validation("streamGuid", text),
        Refused::BadTracks => api::Error::validation("tracks", text),
        Refused::Denied(denied) => api::Error::new(code(denied), text),
        Refused::NotFound | Refused::NoMedia => api::Error::new(api::Code::NotFound, text),
        Refused::AtLimit(_) => api::Error::new(api::Code::AtLimit, text),
        Refused::Fenced | Refused::Draining => api::Error::new(api::Code::NotReady, text),
    };
    response.extensions_mut().insert(error);
    response
}

fn code(denied: Denied) -> api::Code {
    match denied {
        Denied::NoToken => api::Code::Unauthorized,
        Denied::Off | Denied::OtherToken | Denied::Refused => api::Code::Forbidden,
        // Logged by who asked.
        Denied::NoAnswer => api::Code::NotReady,
        Denied::Busy => api::Code::AtLimit,
    }
}
