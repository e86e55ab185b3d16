//! `admin/nodegroup`: groups and their nodes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Admin;
use super::error::{Code, Error, ErrorBody};
use super::extract::{Path, Query};
use crate::cluster::Node;
use crate::figures::Counts;
use crate::id::NodeGroup;

/// A node group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    name: String,
    /// The ids of its nodes.
    nodes: Vec<String>,
    sub_groups: Vec<String>,
}

/// A node, in the two halves in which Red5 tells it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeStatus {
    node_event: Option<NodeEvent>,
    scaling_event: Option<ScalingEvent>,
}

/// What a node does.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeEvent {
    node_id: String,
    node_group_name: String,
    node_role_name: String,
    sub_group_name: String,
    public_ip: String,
    private_ip: String,
    parents: Vec<String>,
    /// Publishers and subscribers; null for a node that was not heard of for five seconds.
    client_count: Option<u64>,
    publisher_count: u64,
    /// Null for a node that was not heard of for five seconds.
    subscriber_count: Option<u64>,
    restreamer_count: u64,
    post_processor_count: u64,
    /// Restreamers it may run.
    capacity: u64,
    /// The types it offers, with the digest of the plugin of each.
    plugins: BTreeMap<String, String>,
}

/// What a node is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScalingEvent {
    node_id: String,
    node_group_name: String,
    node_role_name: String,
    sub_group_name: String,
    state: String,
}

/// Lists the names of all groups.
#[utoipa::path(
    get, operation_id = "listNodeGroups", path = "/as/v1/admin/nodegroup", tag = "admin", security(("jwt" = [])),
    responses((status = 200, description = "Done", body = Vec<String>), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn list(_: Admin, State(state): State<super::State>) -> Json<Vec<String>> {
    Json(
        state
            .cluster
            .groups()
            .iter()
            .map(ToString::to_string)
            .collect(),
    )
}

/// Refuses: groups are not made here.
#[utoipa::path(
    post, operation_id = "createNodeGroup", path = "/as/v1/admin/nodegroup", tag = "admin", security(("jwt" = [])),
    responses((status = 501, description = "Not implemented", body = ErrorBody))
)]
pub(super) async fn create(_: Admin) -> Error {
    groups_are_not_made()
}

/// Refuses: groups are not changed here.
#[utoipa::path(
    put, operation_id = "updateNodeGroup", path = "/as/v1/admin/nodegroup", tag = "admin", security(("jwt" = [])),
    responses((status = 501, description = "Not implemented", body = ErrorBody))
)]
pub(super) async fn update(_: Admin) -> Error {
    groups_are_not_made()
}

fn groups_are_not_made() -> Error {
    Error::new(
        Code::NotImplemented,
        "a node group exists because nodes join it; set node_group in their configuration",
    )
}

/// Shows a group.
#[utoipa::path(
    get, operation_id = "getNodeGroup", path = "/as/v1/admin/nodegroup/{name}", tag = "admin", security(("jwt" = [])), params(("name" = String, Path)),
    responses((status = 200, description = "Done", body = Group), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn show(
    _: Admin,
    State(state): State<super::State>,
    Path(name): Path<String>,
) -> Result<Json<Group>, Error> {
    let group = state.group(&name)?;
    let nodes = state.cluster.nodes(&group);
    let mut sub_groups: Vec<String> = nodes.iter().map(|node| node.sub_group.clone()).collect();
    sub_groups.sort();
    sub_groups.dedup();
    Ok(Json(Group {
        name: group.to_string(),
        nodes: nodes.iter().map(|node| node.id.to_string()).collect(),
        sub_groups,
    }))
}

/// Shows the nodes of a group.
#[utoipa::path(
    get, operation_id = "getNodeGroupStatus", path = "/as/v1/admin/nodegroup/status/{ng}", tag = "admin", security(("jwt" = [])),
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("subGroup" = Option<String>, Query), ("role" = Option<String>, Query), ("state" = Option<String>, Query),
        ("includeNode" = Option<bool>, Query), ("includeScaling" = Option<bool>, Query),
    ),
    responses((status = 200, description = "Done", body = Vec<NodeStatus>), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn status(
    _: Admin,
    State(state): State<super::State>,
    Path(ng): Path<String>,
    query: Query,
) -> Result<Json<Vec<NodeStatus>>, Error> {
    let group = state.group(&ng)?;
    let (with_node, with_scaling) = (
        query.flag("includeNode", true)?,
        query.flag("includeScaling", true)?,
    );
    let wanted =
        |names: &[&str], value: &str| query.text(names).is_none_or(|wanted| wanted == value);
    let fits = |node: &Node| {
        wanted(&["subGroup", "subgroup", "region"], &node.sub_group)
            && wanted(&["role"], &node.role)
            && wanted(&["state"], node.state)
    };
    let nodes = state.cluster.nodes(&group);
    let status = |node: &Node| NodeStatus {
        node_event: with_node.then(|| node_event(&group, node, state.counts_of(node))),
        scaling_event: with_scaling.then(|| scaling_event(&group, node)),
    };
    Ok(Json(
        nodes.iter().filter(|node| fits(node)).map(status).collect(),
    ))
}

impl super::State {
    /// How much a node does: this one at first hand, another one as it told lately.
    fn counts_of(&self, node: &Node) -> Option<Counts> {
        match node.id == self.cluster.this_node() {
            true => Some(self.counts()),
            false => self.figures.counts(&node.id),
        }
    }
}

fn node_event(group: &NodeGroup, node: &Node, counts: Option<Counts>) -> NodeEvent {
    NodeEvent {
        node_id: node.id.to_string(),
        node_group_name: group.to_string(),
        node_role_name: node.role.clone(),
        sub_group_name: node.sub_group.clone(),
        public_ip: node.address.clone(),
        private_ip: node.address.clone(),
        parents: Vec::new(),
        client_count: counts.map(|counts| counts.clients()),
        publisher_count: counts.map_or(node.publishers, |counts| counts.publishers),
        subscriber_count: counts.map(|counts| counts.subscribers),
        restreamer_count: counts.map_or(node.restreamers, |counts| counts.restreamers),
        post_processor_count: 0,
        capacity: node.capacity,
        plugins: node
            .plugins
            .iter()
            .map(|(kind, digest)| (kind.to_string(), digest.clone()))
            .collect(),
    }
}

fn scaling_event(group: &NodeGroup, node: &Node) -> ScalingEvent {
    ScalingEvent {
        node_id: node.id.to_string(),
        node_group_name: group.to_string(),
        node_role_name: node.role.clone(),
        sub_group_name: node.sub_group.clone(),
        state: node.state.to_owned(),
    }
}
