//! `admin/drain` and `admin/store`: what the command line's verbs speak to.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::caller::Admin;
use super::error::{Code, Error, ErrorBody};
use super::extract;
use super::provision::Done;

/// Tells the node to hand over what it has and leave. Answers at once.
#[utoipa::path(
    post, operation_id = "drain", path = "/as/v1/admin/drain", tag = "admin", security(("jwt" = [])),
    responses((status = 200, description = "Done", body = Done), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn drain(_: Admin, State(state): State<super::State>) -> Json<Done> {
    state.cluster.drain();
    Json(Done { result: "DRAINING" })
}

/// A consistent snapshot of the store. It holds the provisions' secrets.
#[utoipa::path(
    get, operation_id = "exportStore", path = "/as/v1/admin/store", tag = "admin", security(("jwt" = [])),
    responses((status = 200, description = "Done", body = Object), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn export(
    _: Admin,
    State(state): State<super::State>,
) -> Result<Json<Value>, Error> {
    state
        .cluster
        .export()
        .await
        .map(Json)
        .map_err(|why| Error::new(Code::Unavailable, why))
}

/// Takes a snapshot in, all or nothing.
#[utoipa::path(
    put, operation_id = "importStore", path = "/as/v1/admin/store", tag = "admin", security(("jwt" = [])), request_body = Object,
    responses((status = 200, description = "Done", body = Done), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn import(
    _: Admin,
    State(state): State<super::State>,
    extract::Json(body): extract::Json,
) -> Result<Json<Done>, Error> {
    let snapshot = serde_json::from_slice(&body)
        .map_err(|cause| Error::new(Code::Validation, format!("the body is not JSON: {cause}")))?;
    let revision = state.cluster.import(snapshot).await?;
    state.cluster.applied(revision).await;
    Ok(Json(Done { result: "IMPORTED" }))
}
