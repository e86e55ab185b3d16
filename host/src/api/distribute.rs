//! Which node to go to: distribute a provision, publish a stream, subscribe to one.

use axum::Json;
use axum::extract::State;
use tracing::info;

use super::caller::{Admin, Viewer};
use super::element::{Place, StreamElement, Subject};
use super::error::{Code, Error, ErrorBody, unplaced};
use super::extract::{Path, Query, provision_guid, stream_guid};
use super::stream::Streams;
use super::wishes::Wishes;
use crate::cluster::{Constraints, Node, PlaceError};
use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};
use crate::provision::ProvisionStream;

/// Gives a provision to a node, or says which one has it.
#[utoipa::path(
    post, operation_id = "distributeProvision", path = "/as/v1/streams/provision/{ng}/distribute/{guid}", tag = "provisions", security(("jwt" = [])),
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("guid" = String, Path, description = "The provision"),
        Wishes,
        ("blocking" = Option<bool>, Query, description = "The answer always waits for the node"),
    ),
    responses((status = 200, description = "Done", body = Vec<StreamElement>), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn distribute(
    _: Admin,
    State(state): State<super::State>,
    Path((ng, guid)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Vec<StreamElement>>, Error> {
    let (group, guid) = (state.group(&ng)?, provision_guid(&guid)?);
    let constraints = Wishes::of(&query)?.constraints()?;
    query.flag("blocking", true)?;
    query.flag("restream", true)?;
    let provision = state.provisions.get(&group, &guid).await?;
    let placed = given(&state, &group, &guid, &constraints).await;
    let nodes = placed.map_err(|error| unplaced(error, Code::CannotBePlaced))?;
    let pairs = nodes
        .iter()
        .flat_map(|node| provision.streams.iter().map(move |stream| (node, stream)));
    Ok(Json(
        pairs
            .map(|(node, stream)| located(&state, &group, &guid, stream, node, Viewer::Admin))
            .collect(),
    ))
}

/// Says where to publish a stream. With `restream=true` it gives the stream's provision to a node instead, and says
/// which.
#[utoipa::path(
    get, operation_id = "getServerForPublish", path = "/as/v1/streams/stream/{ng}/publish/{streamGuid}", tag = "streams",
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("streamGuid" = String, Path, description = "`app/[room/]name`"),
        ("restream" = Option<bool>, Query, description = "Distribute the provision about this stream"),
        ("distribute" = Option<bool>, Query, description = "With restream=true, false only asks who has it"),
        Wishes,
    ),
    responses((status = 200, description = "Done", body = Vec<StreamElement>), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn publish(
    viewer: Viewer,
    State(state): State<super::State>,
    Path((ng, guid)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Vec<StreamElement>>, Error> {
    let (group, stream) = (state.group(&ng)?, stream_guid(&guid)?);
    let constraints = Wishes::of(&query)?.constraints()?;
    let (restream, distribute) = (
        query.flag("restream", false)?,
        query.flag("distribute", true)?,
    );
    if restream {
        return restreamed(&state, &group, &stream, distribute, &constraints, viewer)
            .await
            .map(Json);
    }
    let nodes = state.cluster.for_publisher(&group, &stream, &constraints);
    let nodes = nodes.map_err(|error| unplaced(error, Code::NotFound))?;
    let element = |node: &Node| {
        let subject = Subject {
            stream: &stream,
            provision: None,
            feeds: true,
            place: Place::Node(node),
        };
        state.element(&subject, None, viewer)
    };
    Ok(Json(nodes.iter().map(element).collect()))
}

/// Gives a provision to a node. One that has it already begins anew when its policy gave up; another node is asked
/// for that only when it told that it did, so that asking again and again writes nothing.
async fn given(
    state: &super::State,
    group: &NodeGroup,
    guid: &ProvisionGuid,
    constraints: &Constraints,
) -> Result<Vec<Node>, PlaceError> {
    let nodes = state.cluster.distribute(group, guid, constraints).await?;
    let this = state.cluster.this_node();
    let mut others = nodes.iter().filter(|node| node.id != this);
    let streams = state.cluster.streams_of(group, guid);
    if others.any(|node| streams.iter().any(|of| state.has_given_up(node, guid, of))) {
        state.cluster.ask_anew(group, guid).await?;
    }
    Ok(nodes)
}

/// Distributes every provision about the stream and says where the first of them is: the one that feeds it. What reads
/// the stream and finds no place does not keep that one from being told.
async fn restreamed(
    state: &super::State,
    group: &NodeGroup,
    stream: &StreamGuid,
    distribute: bool,
    constraints: &Constraints,
    viewer: Viewer,
) -> Result<Vec<StreamElement>, Error> {
    let mut answer = None;
    for guid in state.provisions.matching(group, stream).await? {
        let first = answer.is_none();
        let nodes = match distribute {
            true => given(state, group, &guid, constraints)
                .await
                .inspect_err(|why| {
                    if !first {
                        info!(provision = %guid, %why, "reads the stream and is not placed");
                    }
                })
                .map_err(|error| unplaced(error, Code::NotFound)),
            false => assigned(state, group, &guid),
        };
        match nodes {
            Ok(nodes) => drop(answer.get_or_insert((guid, nodes))),
            Err(error) if first => return Err(error),
            Err(_) => {}
        }
    }
    let (guid, nodes) =
        answer.ok_or_else(|| Error::not_found(format!("no provision is about {stream}")))?;
    let provision = state.provisions.get(group, &guid).await?;
    let streams = provision
        .streams
        .iter()
        .filter(|candidate| candidate.guid == *stream);
    let pairs = streams.flat_map(|stream| nodes.iter().map(move |node| (node, stream)));
    Ok(pairs
        .map(|(node, stream)| located(state, group, &guid, stream, node, viewer))
        .collect())
}

/// The node that has the provision already.
fn assigned(
    state: &super::State,
    group: &NodeGroup,
    guid: &ProvisionGuid,
) -> Result<Vec<Node>, Error> {
    let assignment = state.cluster.assignment(group, guid);
    let node = assignment.and_then(|assignment| state.node(group, &assignment.node));
    node.map(|node| vec![node]).ok_or_else(|| {
        Error::not_found("the provision is on no node; ask without distribute=false")
    })
}

/// Says where to subscribe to a stream. It need not be live yet.
#[utoipa::path(
    get, operation_id = "getServerForSubscribe", path = "/as/v1/streams/stream/{ng}/subscribe/{streamGuid}", tag = "streams",
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("streamGuid" = String, Path, description = "`app/[room/]name`"),
        Wishes,
    ),
    responses((status = 200, description = "Done", body = Vec<StreamElement>), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn subscribe(
    viewer: Viewer,
    State(state): State<super::State>,
    Path((ng, guid)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Vec<StreamElement>>, Error> {
    let (group, guid) = (state.group(&ng)?, stream_guid(&guid)?);
    let constraints = Wishes::of(&query)?.constraints()?;
    let streams = Streams::of(&state, &group);
    let element = streams.one(&state, &guid, viewer)?;
    let node = streams
        .node_of(&guid)
        .ok_or_else(|| Error::not_found(format!("the node that had {guid} is gone")))?;
    let elsewhere = constraints
        .sub_group
        .as_ref()
        .is_some_and(|wanted| *wanted != node.sub_group);
    if constraints.strict && (elsewhere || constraints.endpoints > 1) {
        return Err(Error::not_found(format!("no other node has {guid}")));
    }
    Ok(Json(vec![element]))
}

fn located(
    state: &super::State,
    group: &NodeGroup,
    guid: &ProvisionGuid,
    stream: &ProvisionStream,
    node: &Node,
    viewer: Viewer,
) -> StreamElement {
    let subject = Subject {
        stream: &stream.guid,
        provision: Some((guid, &stream.kind)),
        feeds: stream.feeds,
        place: Place::Node(node),
    };
    let epoch = state
        .cluster
        .assignment(group, guid)
        .map(|assignment| assignment.epoch);
    state.element(&subject, epoch, viewer)
}
