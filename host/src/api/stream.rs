//! `streams/stream`: which streams there are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;

use super::caller::Viewer;
use super::element::{Place, StreamElement, Subject};
use super::error::{Error, ErrorBody};
use super::extract::{Path, Query, stream_guid};
use crate::cluster::{AssignedStream, Node};
use crate::id::{NodeGroup, NodeId, RestreamType, StreamGuid};
use crate::plugin::Direction;

/// The query of both routes.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(
    dead_code,
    reason = "declared for the description; the values are read one by one"
)]
struct Listing {
    /// With figures; they always are
    stats: Option<bool>,
    /// true: each stream once, where it is fed, with the viewers of all nodes; false: on every node that has it, with
    /// those there
    aggregate: Option<bool>,
}

impl Listing {
    /// Whether each stream is shown once.
    fn aggregate(query: &Query) -> Result<bool, Error> {
        query.flag("stats", false)?;
        query.flag("aggregate", true)
    }
}

/// Lists a group's streams: those that are fed now, and those that a distributed provision will feed.
#[utoipa::path(
    get, operation_id = "listStreams", path = "/as/v1/streams/stream/{ng}", tag = "streams",
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        Listing,
    ),
    responses((status = 200, description = "Done", body = Vec<StreamElement>), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn list(
    viewer: Viewer,
    State(state): State<super::State>,
    Path(ng): Path<String>,
    query: Query,
) -> Result<Json<Vec<StreamElement>>, Error> {
    let group = state.group(&ng)?;
    let aggregate = Listing::aggregate(&query)?;
    let streams = Streams::of(&state, &group);
    let guids = streams.streams.keys();
    Ok(Json(
        guids
            .flat_map(|guid| streams.shown(&state, guid, aggregate, viewer))
            .collect(),
    ))
}

/// Shows one stream.
#[utoipa::path(
    get, operation_id = "getStream", path = "/as/v1/streams/stream/{ng}/stream/{streamGuid}", tag = "streams",
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("streamGuid" = String, Path, description = "`app/[room/]name`"),
        Listing,
    ),
    responses((status = 200, description = "Done", body = Vec<StreamElement>), (status = "4XX", description = "The request is refused", body = ErrorBody))
)]
pub(super) async fn show(
    viewer: Viewer,
    State(state): State<super::State>,
    Path((ng, guid)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Vec<StreamElement>>, Error> {
    let (group, guid) = (state.group(&ng)?, stream_guid(&guid)?);
    let aggregate = Listing::aggregate(&query)?;
    let streams = Streams::of(&state, &group);
    streams.known(&guid)?;
    Ok(Json(streams.shown(&state, &guid, aggregate, viewer)))
}

/// The streams of a group that exist: fed by a publisher, or by a provision that was given to a node.
pub(super) struct Streams {
    nodes: Vec<Node>,
    streams: BTreeMap<StreamGuid, Fed>,
    /// Nodes that have a stream from another one.
    edges: BTreeMap<StreamGuid, Vec<(NodeId, StreamElement)>>,
}

/// Who feeds a stream, and where.
struct Fed {
    /// The provision, if one does.
    assigned: Option<AssignedStream>,
    node: NodeId,
}

impl Streams {
    pub(super) fn of(state: &super::State, group: &NodeGroup) -> Self {
        let this = state.cluster.this_node();
        let nodes = state.cluster.nodes(group);
        let ours = *group == state.cluster.this_group();
        let snapshots = state.streams.snapshots();
        // What is published here is known before the store says so.
        let here = snapshots.iter().filter(|stream| ours && stream.published);
        let here = here.map(|stream| (stream.guid.clone(), this.clone()));
        let published = state.cluster.published(group).into_iter().chain(here);
        let mut streams: BTreeMap<StreamGuid, Fed> = published
            .map(|(guid, node)| {
                let assigned = None;
                (guid, Fed { assigned, node })
            })
            .collect();
        let assigned = state.cluster.assigned_streams(group).into_iter();
        for assigned in assigned.filter(|assigned| state.feeds(&assigned.kind)) {
            // Who holds it has it, also while it is to move.
            let holder = state.cluster.claimed_by(group, &assigned.stream);
            let fed = Fed {
                node: holder.unwrap_or_else(|| assigned.node.clone()),
                assigned: Some(assigned.clone()),
            };
            streams.insert(assigned.stream, fed);
        }
        let edges = if ours {
            edges(state, &streams)
        } else {
            BTreeMap::new()
        };
        Self {
            nodes,
            streams,
            edges,
        }
    }

    /// The node that has the stream; `None` when the stream does not exist or its node is gone.
    pub(super) fn node_of(&self, guid: &StreamGuid) -> Option<&Node> {
        let fed = self.streams.get(guid)?;
        self.nodes.iter().find(|node| node.id == fed.node)
    }

    /// The element of a stream where it is fed, or 404.
    pub(super) fn one(
        &self,
        state: &super::State,
        guid: &StreamGuid,
        viewer: Viewer,
    ) -> Result<StreamElement, Error> {
        let fed = self.known(guid)?;
        Ok(self.element(state, guid, fed, viewer))
    }

    fn known(&self, guid: &StreamGuid) -> Result<&Fed, Error> {
        let fed = self.streams.get(guid);
        fed.ok_or_else(|| Error::not_found(format!("there is no stream {guid}")))
    }

    /// A stream as it is listed: once with all its viewers, or on each node that has it.
    fn shown(
        &self,
        state: &super::State,
        guid: &StreamGuid,
        aggregate: bool,
        viewer: Viewer,
    ) -> Vec<StreamElement> {
        let Some(fed) = self.streams.get(guid) else {
            return Vec::new();
        };
        let origin = self.element(state, guid, fed, viewer);
        let edges = self.edges.get(guid).into_iter().flatten();
        if aggregate {
            return vec![edges.fold(origin, |origin, (_, edge)| origin.with_viewers_of(edge))];
        }
        let edges = edges.filter_map(|(id, edge)| {
            let node = self.nodes.iter().find(|node| node.id == *id)?;
            Some(edge.clone().at_edge(guid, node, viewer))
        });
        std::iter::once(origin).chain(edges).collect()
    }

    fn element(
        &self,
        state: &super::State,
        stream: &StreamGuid,
        fed: &Fed,
        viewer: Viewer,
    ) -> StreamElement {
        let assigned = fed.assigned.as_ref();
        let place = self.node_of(stream).map_or(Place::Gone, Place::Node);
        let provision = assigned.map(|assigned| (&assigned.provision, &assigned.kind));
        let subject = Subject {
            stream,
            provision,
            feeds: true,
            place,
        };
        state.element(&subject, assigned.map(|assigned| assigned.epoch), viewer)
    }
}

/// Streams that nodes have from where they are fed.
fn edges(
    state: &super::State,
    streams: &BTreeMap<StreamGuid, Fed>,
) -> BTreeMap<StreamGuid, Vec<(NodeId, StreamElement)>> {
    let this = state.cluster.this_node();
    let here = state.streams.snapshots().into_iter();
    let here = here.filter(|stream| stream.edge).map(|stream| {
        let subject = Subject {
            stream: &stream.guid,
            provision: None,
            feeds: true,
            place: Place::Nowhere,
        };
        let element = state.element(&subject, None, Viewer::Admin);
        (this.clone(), stream.guid, element)
    });
    let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (node, guid, element) in here.chain(state.figures.unprovisioned()) {
        if streams.get(&guid).is_some_and(|fed| fed.node != node) {
            edges.entry(guid).or_default().push((node, element));
        }
    }
    edges
}

impl super::State {
    /// Whether a type feeds its stream.
    pub(super) fn feeds(&self, kind: &RestreamType) -> bool {
        // A type that is no longer installed feeds what it fed.
        self.plugins
            .describe(kind)
            .is_none_or(|description| matches!(description.direction, Direction::Feeds))
    }
}
