//! `/healthz` and `/readyz`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Code, Error, ErrorBody};

/// How the node is.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// The process runs and answers.
#[utoipa::path(get, operation_id = "isAlive", path = "/healthz", tag = "service", responses((status = 200, description = "Done", body = Health)))]
pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The node takes work; 503 with the reason while it starts, is fenced or drains.
#[utoipa::path(get, operation_id = "isReady", path = "/readyz", tag = "service", responses((status = 200, description = "Done", body = Health), (status = 503, description = "Not ready", body = ErrorBody)))]
pub(super) async fn ready(State(state): State<super::State>) -> Result<Json<Health>, Error> {
    state
        .cluster
        .ready()
        .map_err(|why| Error::new(Code::NotReady, why))?;
    Ok(Json(Health { status: "ready" }))
}
