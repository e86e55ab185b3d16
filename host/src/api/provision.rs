//! `streams/provision`: create, change, show, delete.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::caller::{Admin, Viewer};
use super::element::{Place, StreamElement, Subject};
use super::error::{Code, Error, ErrorBody};
use super::extract::{self, Path, Query, provision_guid};
use crate::id::{NodeGroup, ProvisionGuid};
use crate::provision::Deleted;

/// What was done.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    /// `CREATED`, `UPDATED`, `DELETED`, `DRAINING` or `IMPORTED`.
    pub(super) result: &'static str,
}

/// A provision as clients write it. Unknown fields are kept.
#[derive(ToSchema)]
#[schema(as = Provision)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(super) struct Body {
    /// 3 to 256 characters, slashes allowed.
    #[schema(rename = "provisionGuid", example = "rtmppull1")]
    provision_guid: String,
    streams: Vec<BodyStream>,
}

/// One stream of a provision.
#[derive(ToSchema)]
#[schema(as = ProvisionStream)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(super) struct BodyStream {
    /// `app/[room/]name`.
    #[schema(rename = "streamGuid", example = "live/pull1")]
    stream_guid: String,
    #[schema(rename = "abrLevel", example = 0)]
    abr_level: Option<u32>,
    #[schema(rename = "camParams", value_type = Object, example = json!({"properties":
        {"action": "create", "type": "rtmp", "rtmpUri": "rtmp://host/live/stream1", "persist": "false"}}))]
    cam_params: (),
}

/// Creates provisions, all or none.
#[utoipa::path(
    post, operation_id = "createProvisions", path = "/as/v1/streams/provision/{ng}", tag = "provisions", security(("jwt" = [])),
    params(("ng" = String, Path, description = "Node group, or `default`")), request_body = Vec<Body>,
    responses((status = 201, description = "Created", body = Done), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn create(
    _: Admin,
    State(state): State<super::State>,
    Path(ng): Path<String>,
    extract::Json(body): extract::Json,
) -> Result<(StatusCode, Json<Done>), Error> {
    let revision = state.provisions.create(&state.group(&ng)?, &body).await?;
    state.cluster.applied(revision).await;
    Ok((StatusCode::CREATED, Json(Done { result: "CREATED" })))
}

/// Changes provisions, all or none; subscribers stay. A masked secret stands for the stored one.
#[utoipa::path(
    put, operation_id = "updateProvisions", path = "/as/v1/streams/provision/{ng}", tag = "provisions", security(("jwt" = [])),
    params(("ng" = String, Path, description = "Node group, or `default`")), request_body = Vec<Body>,
    responses((status = 200, description = "Done", body = Done), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn update(
    _: Admin,
    State(state): State<super::State>,
    Path(ng): Path<String>,
    extract::Json(body): extract::Json,
) -> Result<Json<Done>, Error> {
    let revision = state.provisions.update(&state.group(&ng)?, &body).await?;
    state.cluster.applied(revision).await;
    Ok(Json(Done { result: "UPDATED" }))
}

/// Lists a group's provisions in the order of their names, secrets masked.
#[utoipa::path(
    get, operation_id = "listProvisions", path = "/as/v1/streams/provision/{ng}", tag = "provisions", security(("jwt" = [])),
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("limit" = Option<usize>, Query, description = "At most so many"),
        ("after" = Option<String>, Query, description = "Only those behind this provisionGuid"),
    ),
    responses((status = 200, description = "Done", body = Vec<Body>), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn list(
    _: Admin,
    State(state): State<super::State>,
    Path(ng): Path<String>,
    query: Query,
) -> Result<Json<Vec<Value>>, Error> {
    let group = state.group(&ng)?;
    let after = query.text(&["after"]).map(str::parse).transpose();
    let after: Option<ProvisionGuid> = after.map_err(|cause| Error::validation("after", cause))?;
    Ok(Json(
        state
            .provisions
            .list(&group, after.as_ref(), query.count("limit")?)
            .await?,
    ))
}

/// Shows a provision, secrets masked; with `status=true` how each of its streams is doing instead.
#[utoipa::path(
    get, operation_id = "getProvision", path = "/as/v1/streams/provision/{ng}/{guid}", tag = "provisions", security(("jwt" = [])),
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("guid" = String, Path, description = "The provision, slashes as they are or as %2F"),
        ("status" = Option<bool>, Query, description = "Answer an array of StreamElement, one per stream"),
    ),
    responses((status = 200, description = "Done", body = inline(Shown)), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn show(
    _: Admin,
    State(state): State<super::State>,
    Path((ng, guid)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Shown>, Error> {
    let (group, guid) = (state.group(&ng)?, provision_guid(&guid)?);
    Ok(Json(match query.flag("status", false)? {
        true => Shown::Status(status(&state, &group, &guid).await?),
        false => Shown::Document(state.provisions.show(&group, &guid).await?),
    }))
}

/// A provision, or its streams' status.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Shown {
    /// As sent, secrets masked.
    #[schema(value_type = Body)]
    Document(Value),
    /// With `status=true`.
    Status(Vec<StreamElement>),
}

async fn status(
    state: &super::State,
    group: &NodeGroup,
    guid: &ProvisionGuid,
) -> Result<Vec<StreamElement>, Error> {
    let provision = state.provisions.get(group, guid).await?;
    let assignment = state.cluster.assignment(group, guid);
    let epoch = assignment.as_ref().map(|assignment| assignment.epoch);
    let element = |stream: &crate::provision::ProvisionStream| {
        // Who holds the stream has it, also while it is to move.
        let holder = assignment.as_ref().filter(|_| stream.feeds);
        let holder = holder.and_then(|_| state.cluster.claimed_by(group, &stream.guid));
        let id = holder.or_else(|| Some(assignment.as_ref()?.node.clone()));
        let node = id.as_ref().and_then(|id| state.node(group, id));
        let place = match (&id, &node) {
            (None, _) => Place::Nowhere,
            (Some(_), Some(node)) => Place::Node(node),
            (Some(_), None) => Place::Gone,
        };
        let subject = Subject {
            stream: &stream.guid,
            provision: Some((guid, &stream.kind)),
            feeds: stream.feeds,
            place,
        };
        state.element(&subject, epoch, Viewer::Admin)
    };
    Ok(provision.streams.iter().map(element).collect())
}

/// Stops a provision everywhere and forgets it. When this answers 200, nothing of it runs; when a node does not let go
/// of it in time the answer is 503, and it is deleted all the same.
#[utoipa::path(
    delete, operation_id = "deleteProvision", path = "/as/v1/streams/provision/{ng}/{guid}", tag = "provisions", security(("jwt" = [])),
    params(("ng" = String, Path), ("guid" = String, Path)),
    responses((status = 200, description = "Done", body = Done), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn delete(
    _: Admin,
    State(state): State<super::State>,
    Path((ng, guid)): Path<(String, String)>,
) -> Result<Json<Done>, Error> {
    let (group, guid) = (state.group(&ng)?, provision_guid(&guid)?);
    let Deleted { revision, fed } = state.provisions.delete(&group, &guid).await?;
    let stopped = state.cluster.stopped(&group, &fed, revision).await;
    stopped.map_err(|why| Error::new(Code::Unavailable, why.to_string()))?;
    Ok(Json(Done { result: "DELETED" }))
}

/// Answers for names that are routes and so no provision's.
pub(super) async fn reserved(_: Admin, uri: Uri) -> Error {
    let name = if uri.path().ends_with("/probe") {
        "probe"
    } else {
        "distribute/…"
    };
    Error::validation(
        "provisionGuid",
        format_args!("{name} is a route and no provision's name"),
    )
}
