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
use crate::id::{NodeGroup, StreamGuid};
use crate::plugin::Direction;

/// The query of both routes. Its switches change nothing on one node.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(
    dead_code,
    reason = "declared for the description; the values are not used"
)]
struct Listing {
    /// With figures; they always are
    stats: Option<bool>,
    /// false: every stream on every node; true: origins only
    aggregate: Option<bool>,
}

impl Listing {
    /// Refuses what is no switch.
    fn check(query: &Query) -> Result<(), Error> {
        query.flag("stats", false)?;
        query.flag("aggregate", true)?;
        Ok(())
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
    Listing::check(&query)?;
    Ok(Json(Streams::of(&state, &group).elements(&state, viewer)))
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
    Listing::check(&query)?;
    Ok(Json(vec![
        Streams::of(&state, &group).one(&state, &guid, viewer)?,
    ]))
}

/// The streams of a group that exist: fed by a publisher, or by a provision that was given to a node.
pub(super) struct Streams {
    nodes: Vec<Node>,
    /// This node, if it is in the group.
    here: Option<Node>,
    /// Streams with their feeding provision, if one feeds them.
    streams: BTreeMap<StreamGuid, Option<AssignedStream>>,
}

impl Streams {
    pub(super) fn of(state: &super::State, group: &NodeGroup) -> Self {
        let nodes = state.cluster.nodes(group);
        let this = state.cluster.this_node();
        let here = nodes.iter().find(|node| node.id == this).cloned();
        let published = state
            .streams
            .snapshots()
            .into_iter()
            .filter(|stream| stream.live || stream.published);
        let mut streams: BTreeMap<_, _> = published
            .filter(|_| here.is_some())
            .map(|stream| (stream.guid, None))
            .collect();
        let feeds = |assigned: &AssignedStream| {
            // A type that is no longer installed feeds what it fed.
            state
                .plugins
                .describe(&assigned.kind)
                .is_none_or(|description| matches!(description.direction, Direction::Feeds))
        };
        let assigned = state
            .cluster
            .assigned_streams(group)
            .into_iter()
            .filter(feeds);
        streams.extend(assigned.map(|assigned| (assigned.stream.clone(), Some(assigned))));
        Self {
            nodes,
            here,
            streams,
        }
    }

    /// The node that has the stream; `None` when the stream does not exist or its node is gone.
    pub(super) fn node_of(&self, guid: &StreamGuid) -> Option<&Node> {
        match self.streams.get(guid)? {
            Some(assigned) => self.nodes.iter().find(|node| node.id == assigned.node),
            None => self.here.as_ref(),
        }
    }

    /// The element of a stream, or 404.
    pub(super) fn one(
        &self,
        state: &super::State,
        guid: &StreamGuid,
        viewer: Viewer,
    ) -> Result<StreamElement, Error> {
        let assigned = self
            .streams
            .get(guid)
            .ok_or_else(|| Error::not_found(format!("there is no stream {guid}")))?;
        Ok(self.element(state, guid, assigned.as_ref(), viewer))
    }

    fn elements(&self, state: &super::State, viewer: Viewer) -> Vec<StreamElement> {
        self.streams
            .iter()
            .map(|(guid, assigned)| self.element(state, guid, assigned.as_ref(), viewer))
            .collect()
    }

    fn element(
        &self,
        state: &super::State,
        stream: &StreamGuid,
        assigned: Option<&AssignedStream>,
        viewer: Viewer,
    ) -> StreamElement {
        let place = match (self.node_of(stream), assigned) {
            (Some(node), _) => Place::Node(node),
            (None, Some(_)) => Place::Gone,
            (None, None) => Place::Nowhere,
        };
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
