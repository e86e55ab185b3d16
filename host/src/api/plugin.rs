//! `plugins`: which types are installed, and changing them while everything runs.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Admin;
use super::error::{Error, ErrorBody};
use super::extract::Path;
use crate::plugin::{self, Direction, PluginInfo};

/// An installed plugin.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plugin {
    /// The type it offers.
    #[serde(rename = "type")]
    kind: String,
    version: String,
    /// sha256 of its file.
    digest: String,
    /// The version of the contract it was built against.
    wit_version: String,
    /// `built in` or `file`.
    origin: &'static str,
    /// `ready`, `compiling` (a newer file; a former build may be in use), `rejected` (its newest
    /// file; a former build may be in use), `rolled-back`, `quarantined` (it crashed too often and
    /// nothing new runs on it), or `removed` (its file is gone; its restreamers go on).
    state: &'static str,
    /// Why its newest build is not in use, or why it failed last.
    error: Option<String>,
    /// How many restreamers run on it.
    instances: u64,
    /// How many of them run on builds that are no longer in use.
    former_instances: u64,
    /// Whether restreamers move to a new build: `always`, or `new-only`.
    hand_over: &'static str,
    capabilities: Vec<String>,
    /// What it says of itself; null, as `direction` is, while no build of it is in use.
    doc: Option<String>,
    /// `feeds` its stream or `reads` it.
    direction: Option<&'static str>,
    properties: Vec<Property>,
}

/// A property of a type.
#[derive(Serialize, ToSchema)]
pub(super) struct Property {
    name: String,
    doc: String,
    default: Option<String>,
    required: bool,
    /// Whether it is masked when shown.
    secret: bool,
    aliases: Vec<String>,
}

impl From<&plugin::Property> for Property {
    fn from(property: &plugin::Property) -> Self {
        Self {
            name: property.name.clone(),
            doc: property.doc.clone(),
            default: property.default.clone().filter(|_| !property.secret),
            required: property.required,
            secret: property.secret,
            aliases: property.aliases.clone(),
        }
    }
}

impl From<PluginInfo> for Plugin {
    fn from(info: PluginInfo) -> Self {
        let description = info.description.as_deref();
        let direction = |direction| match direction {
            Direction::Feeds => "feeds",
            Direction::Reads => "reads",
        };
        Self {
            kind: info.kind.to_string(),
            version: info.version,
            digest: info.digest,
            wit_version: info.wit_version,
            origin: info.origin,
            state: info.state,
            error: info.error,
            instances: info.instances,
            former_instances: info.former_instances,
            hand_over: info.hand_over,
            capabilities: info.capabilities,
            doc: description.map(|description| description.doc.clone()),
            direction: description.map(|description| direction(description.direction)),
            properties: description.map_or_else(Vec::new, |description| {
                description.properties.iter().map(Property::from).collect()
            }),
        }
    }
}

/// Lists the installed plugins.
#[utoipa::path(
    get, operation_id = "listPlugins", path = "/as/v1/plugins", tag = "plugins", security(("jwt" = [])),
    responses((status = 200, description = "Done", body = Vec<Plugin>), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn list(_: Admin, State(state): State<super::State>) -> Json<Vec<Plugin>> {
    Json(state.plugins.list().into_iter().map(Plugin::from).collect())
}

/// Shows a plugin.
#[utoipa::path(
    get, operation_id = "getPlugin", path = "/as/v1/plugins/{name}", tag = "plugins", security(("jwt" = [])), params(("name" = String, Path)),
    responses((status = 200, description = "Done", body = Plugin), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn show(
    _: Admin,
    State(state): State<super::State>,
    Path(name): Path<String>,
) -> Result<Json<Plugin>, Error> {
    let info = state
        .plugins
        .info(&name)
        .ok_or_else(|| Error::not_found(format!("there is no plugin {name}")))?;
    Ok(Json(info.into()))
}

/// Loads a plugin's file again.
#[utoipa::path(
    post, operation_id = "reloadPlugin", path = "/as/v1/plugins/{name}/reload", tag = "plugins", security(("jwt" = [])), params(("name" = String, Path)),
    responses((status = 200, description = "Done", body = Plugin), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn reload(
    _: Admin,
    State(state): State<super::State>,
    Path(name): Path<String>,
) -> Result<Json<Plugin>, Error> {
    Ok(Json(state.plugins.reload(&name).await?.into()))
}

/// Goes back to a plugin's former build.
#[utoipa::path(
    post, operation_id = "rollbackPlugin", path = "/as/v1/plugins/{name}/rollback", tag = "plugins", security(("jwt" = [])), params(("name" = String, Path)),
    responses((status = 200, description = "Done", body = Plugin), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn rollback(
    _: Admin,
    State(state): State<super::State>,
    Path(name): Path<String>,
) -> Result<Json<Plugin>, Error> {
    Ok(Json(state.plugins.rollback(&name).await?.into()))
}
