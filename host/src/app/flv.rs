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
use crate::auth::{self, Auth, TokenError};
use crate::config::Config;
use crate::drain::Drain;
use crate::flv::{self, Refused};
use crate::rtmp::Access;
use crate::stream::Streams;

/// Its routes, for whichever listener; none when it is turned off.
pub(super) fn router(
    config: &Config,
    streams: &Streams,
    auth: &Auth,
    drain: &Drain,
    registry: &mut Registry,
) -> axum::Router {
    if !config.flv.enabled {
        return axum::Router::new();
    }
    let context = flv::Context {
        streams: streams.clone(),
        gate: gate(config.rtmp.play, auth.clone()),
        play_wait: Duration::from_secs(config.rtmp.play_wait_seconds),
        seats: Arc::new(Semaphore::new(config.flv.subscribers)),
        cors: config.flv.cors.clone(),
        drain: drain.clone(),
        metrics: flv::Metrics::register(registry),
    };
    flv::router(context).layer(middleware::map_response(explained))
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

fn gate(play: Access, auth: Auth) -> flv::Gate {
    Arc::new(move |token, stream| match (play, token) {
        (Access::Open, _) => Ok(()),
        (Access::Off, _) => Err(Refused::Forbidden),
        (Access::Token, None) => Err(Refused::Unauthorized),
        (Access::Token, Some(token)) => {
            auth.verify_stream(token, auth::Act::Play, stream)
                .map_err(|error| match error {
                    TokenError::Invalid => Refused::Unauthorized,
                    TokenError::Forbidden => Refused::Forbidden,
                })
        }
    })
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
        Refused::Unauthorized => api::Error::new(api::Code::Unauthorized, text),
        Refused::Forbidden => api::Error::new(api::Code::Forbidden, text),
        Refused::NotFound | Refused::NoMedia => api::Error::new(api::Code::NotFound, text),
        Refused::AtLimit => api::Error::new(api::Code::AtLimit, text),
        Refused::Draining => api::Error::new(api::Code::NotReady, text),
    };
    response.extensions_mut().insert(error);
    response
}
