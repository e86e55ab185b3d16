//! `streams/provision/{ng}/probe`: dial a provision's source, look, hang up.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Admin;
use super::element::{Media, media_of, millis};
use super::error::{Code, Error, ErrorBody};
use super::extract::{self, Path, Query};
use super::provision::Body;
use crate::restreamer::{Assigned, Report};

/// Milliseconds a probe may take, and those it takes unasked.
const TIMEOUT_MS: (u64, u64, u64) = (1_000, 30_000, 10_000);

/// What was seen of a source.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProbeReport {
    /// Media came.
    reachable: bool,
    /// The class of the error that ended it, if one did.
    #[schema(example = "refused")]
    class: Option<String>,
    /// The same for people.
    error: Option<String>,
    media: Option<Media>,
    /// From dialing to the server's grant.
    dial_ms: Option<u64>,
    /// From dialing to the first frame.
    first_frame_ms: Option<u64>,
}

impl From<Report> for ProbeReport {
    fn from(report: Report) -> Self {
        Self {
            reachable: report.reachable,
            class: report.class,
            error: report.error,
            media: media_of(report.video, report.audio, report.more, report.gop),
            dial_ms: report.dial.map(millis),
            first_frame_ms: report.first_frame.map(millis),
        }
    }
}

/// Dials a provision's source, looks, and hangs up. Nothing is stored or published.
#[utoipa::path(
    post, operation_id = "probeProvision", path = "/as/v1/streams/provision/{ng}/probe", tag = "provisions", security(("jwt" = [])),
    params(
        ("ng" = String, Path, description = "Node group, or `default`"),
        ("timeoutMs" = Option<u64>, Query, description = "How long to look at most, 1000 to 30000; 10000 unasked"),
    ),
    request_body = Body,
    responses((status = 200, description = "Done, also when the source cannot be reached", body = ProbeReport), (status = "4XX", description = "The request is refused", body = ErrorBody), (status = "5XX", description = "It cannot be done now", body = ErrorBody))
)]
pub(super) async fn probe(
    _: Admin,
    State(state): State<super::State>,
    Path(ng): Path<String>,
    query: Query,
    extract::Json(body): extract::Json,
) -> Result<Json<ProbeReport>, Error> {
    state.group(&ng)?;
    let timeout = timeout(&query)?;
    let (provision, stream) = state.provisions.candidate(&body).await?;
    let assigned = Assigned {
        provision,
        stream: stream.guid,
        kind: stream.kind,
        feeds: stream.feeds,
        properties: stream.properties,
        latency: stream.latency,
        epoch: 0,
        asked: 0,
    };
    let report = state.restreamers.probe(assigned, timeout).await;
    let report = report.map_err(|busy| Error::new(Code::AtLimit, busy.to_string()))?;
    Ok(Json(report.into()))
}

fn timeout(query: &Query) -> Result<Duration, Error> {
    let (least, most, unasked) = TIMEOUT_MS;
    let Some(text) = query.text(&["timeoutMs"]) else {
        return Ok(Duration::from_millis(unasked));
    };
    match text.parse() {
        Ok(ms) if (least..=most).contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => Err(Error::validation(
            "timeoutMs",
            format_args!("must be a whole number from {least} to {most}"),
        )),
    }
}
