//! `cluster/figures`: what this node tells the other nodes of its group.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::caller::Peer;
use super::element::{Place, Subject};
use super::error::{Code, Error, ErrorBody};
use crate::figures::{self, Counts, Listening, Picture};

/// Tells another node of the cluster how the streams of this one are doing, once a second what has changed. For nodes
/// only: the token is one that they make for each other, and the lines are theirs to read.
#[utoipa::path(
    get, operation_id = "followFigures", path = "/as/v1/cluster/figures", tag = "service", security(("node" = [])),
    responses((status = 200, description = "Lines of JSON without an end", body = String, content_type = "application/x-ndjson"), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn follow(_: Peer, State(state): State<super::State>) -> Result<Response, Error> {
    let teller = state.teller.clone();
    let listening = teller.listen(move || picture(&state));
    let listening =
        listening.ok_or_else(|| Error::new(Code::AtLimit, "too many nodes follow this one"))?;
    let lines = futures_util::stream::unfold(listening, |mut listening: Listening| async move {
        let line = listening.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), listening))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

impl super::State {
    /// How much this node does.
    pub(super) fn counts(&self) -> Counts {
        let streams = self.streams.snapshots();
        Counts {
            publishers: streams.iter().filter(|stream| stream.published).count() as u64,
            subscribers: streams.iter().map(|stream| stream.subscribers).sum(),
            restreamers: self.restreamers.count() as u64,
        }
    }
}

/// What this node knows at first hand: the streams of provisions that were given to it, those of its publishers,
/// and those that it has from other nodes.
fn picture(state: &super::State) -> Picture {
    let this = state.cluster.this_node();
    let assigned = state.cluster.assigned_streams(&state.cluster.this_group());
    let assigned = assigned.iter().filter(|assigned| assigned.node == this);
    let assigned = assigned.map(|assigned| {
        let subject = Subject {
            stream: &assigned.stream,
            provision: Some((&assigned.provision, &assigned.kind)),
            feeds: state.feeds(&assigned.kind),
            place: Place::Nowhere,
        };
        (key(&subject), state.figure(&subject))
    });
    let snapshots = state.streams.snapshots();
    let others = snapshots
        .iter()
        .filter(|stream| stream.published || stream.edge);
    let others = others.map(|stream| {
        let subject = Subject {
            stream: &stream.guid,
            provision: None,
            feeds: true,
            place: Place::Nowhere,
        };
        (key(&subject), state.figure(&subject))
    });
    Picture {
        counts: state.counts(),
        streams: assigned.chain(others).collect(),
    }
}

fn key(subject: &Subject<'_>) -> figures::Subject {
    figures::Subject {
        stream: subject.stream.clone(),
        provision: subject.provision.map(|(guid, _)| guid.clone()),
    }
}
