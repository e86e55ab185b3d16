//! The REST API: Red5 Stream Manager 2.0's routes for restreamers, and our own beside them.
//!
//! Handlers parse, call one service and map what it says; nothing is decided here. Knows
//! neither the store nor RTMP. Invariants: every answer that is no success has the one
//! error shape, every answer has a request id, and what a route says to a caller without
//! a token holds no secret.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::routing::{get, post, put};
use axum::{Extension, middleware};
use prometheus_client::registry::Registry;

use self::attempts::Attempts;
use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::figures::{Figures, Teller};
use crate::plugin::Plugins;
use crate::provision::Service;
use crate::restreamer::Restreamers;
use crate::stream::Streams;

mod admin;
mod answer;
mod attempts;
mod caller;
mod config;
mod distribute;
mod element;
mod error;
mod extract;
mod figures;
mod group;
mod health;
mod login;
mod metrics;
mod openapi;
mod plugin;
mod probe;
mod provision;
mod room;
mod stream;
mod wishes;

pub use config::{Config, StreamRoutes};
pub(crate) use error::{Code, Error};
pub use metrics::Metrics;
pub use openapi::document;
pub use room::Room;

/// A request's body; 32 provisions of 32 KiB each.
const MAX_BODY: usize = 1024 * 1024;
/// A snapshot of the whole store: tens of thousands of provisions.
const MAX_SNAPSHOT: usize = 64 * 1024 * 1024;

/// What the handlers call. A cheap clone.
#[derive(Clone)]
pub struct State {
    /// The installed plugins.
    pub plugins: Plugins,
    /// What this node's restreamers are doing.
    pub restreamers: Restreamers,
    /// This node's streams.
    pub streams: Streams,
    /// Nodes, groups and assignments.
    pub cluster: Cluster,
    /// How the streams of other nodes are doing.
    pub figures: Figures,
    /// Tells other nodes how those of this one are.
    pub teller: Teller,
    /// The stored provisions.
    pub provisions: Service,
    /// Logins and tokens.
    pub auth: Auth,
    /// The `[api]` table.
    pub config: Arc<Config>,
    /// What `openapi.json` says.
    pub document: Bytes,
    /// Everything `/metrics` shows.
    pub registry: Arc<Registry>,
    /// What the API itself counts.
    pub metrics: Metrics,
}

impl FromRef<State> for Auth {
    fn from_ref(state: &State) -> Self {
        state.auth.clone()
    }
}

impl FromRef<State> for StreamRoutes {
    fn from_ref(state: &State) -> Self {
        state.config.stream_routes
    }
}

/// All routes, and those that are served `beside` them. Serve it with the peer's address as connect info
/// (`into_make_service_with_connect_info`): failed logins are counted by it.
pub fn router(state: State, beside: axum::Router) -> axum::Router {
    let metrics = state.metrics.clone();
    let attempts = Attempts::new(
        state.config.login_attempts_per_address,
        state.config.login_attempts_total,
    );
    let routes = axum::Router::new()
        .nest("/as/v1", base(Arc::new(attempts)))
        .route("/openapi.json", get(openapi::show))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .fallback(error::unknown_route)
        .with_state(state)
        .merge(beside);
    answered(routes, metrics)
}

/// Routes of another module alone, for an address of their own: with our request ids, error shape and counts.
pub fn alone(routes: axum::Router, metrics: Metrics) -> axum::Router {
    answered(routes.fallback(error::unknown_route), metrics)
}

/// `/metrics` alone, for an address of its own.
pub fn metrics_router(registry: Arc<Registry>, metrics: Metrics) -> axum::Router {
    let routes = axum::Router::new()
        .route("/metrics", get(metrics::show_alone))
        .fallback(error::unknown_route);
    answered(routes.with_state(registry), metrics)
}

/// The routes below the base path.
fn base(attempts: Arc<Attempts>) -> axum::Router<State> {
    axum::Router::new()
        .route("/auth/login", put(login::login).layer(Extension(attempts)))
        .route("/openapi.json", get(openapi::show))
        .nest("/streams/provision/{ng}", provisions())
        .nest("/streams/stream/{ng}", streams())
        .route(
            "/admin/nodegroup",
            get(group::list).post(group::create).put(group::update),
        )
        .route("/admin/nodegroup/{name}", get(group::show))
        .route("/admin/nodegroup/status/{ng}", get(group::status))
        .route("/admin/drain", post(admin::drain))
        .route(
            "/admin/store",
            get(admin::export)
                .put(admin::import)
                .layer(DefaultBodyLimit::max(MAX_SNAPSHOT)),
        )
        .route("/cluster/figures", get(figures::follow))
        .route("/plugins", get(plugin::list))
        .route("/plugins/{name}", get(plugin::show))
        .route("/plugins/{name}/reload", post(plugin::reload))
        .route("/plugins/{name}/rollback", post(plugin::rollback))
}

fn provisions() -> axum::Router<State> {
    let reserved = get(provision::reserved).delete(provision::reserved);
    axum::Router::new()
        .route(
            "/",
            get(provision::list)
                .post(provision::create)
                .put(provision::update),
        )
        .route("/probe", reserved.clone().post(probe::probe))
        .route("/distribute/{*guid}", reserved.post(distribute::distribute))
        .route("/{*guid}", get(provision::show).delete(provision::delete))
}

fn streams() -> axum::Router<State> {
    axum::Router::new()
        .route("/", get(stream::list))
        .route("/stream/{*guid}", get(stream::show))
        .route("/publish/{*guid}", get(distribute::publish))
        .route("/subscribe/{*guid}", get(distribute::subscribe))
}

/// What every answer goes through.
fn answered(routes: axum::Router, metrics: Metrics) -> axum::Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(room::or_refuse))
        .layer(middleware::from_fn_with_state(metrics, answer::finish))
}
