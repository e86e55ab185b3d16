//! `/flv/{streamGuid}` and `/watch/{streamGuid}`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, RawQuery, State};
use axum::http::{Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa::OpenApi;

use super::body::{self, Place, Tracks, Viewer};
use super::config::Cors;
use super::idle::Watched;
use super::metrics::Metrics;
use super::page;
use crate::drain::Drain;
use crate::gate::{Act, Denied, Gate, Protocol, Wish};
use crate::id::StreamGuid;
use crate::limits::{self, Limit, Limits};
use crate::stream::{Stream, Streams, Subscriber};

/// How long browsers may remember what a preflight said.
const PREFLIGHT: Duration = Duration::from_secs(24 * 3600);

/// What responses share. A cheap clone.
#[derive(Clone)]
pub struct Context {
    /// The streams of this node.
    pub streams: Streams,
    /// Who may play.
    pub gate: Gate,
    /// How long a distributed stream is waited for.
    pub play_wait: Duration,
    /// A place for each response.
    pub seats: Arc<Semaphore>,
    /// Who finds a place beside them.
    pub limits: Limits,
    /// Pages that may play.
    pub cors: Cors,
    /// Ends all responses.
    pub drain: Drain,
    /// Counts them.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// Why there is no media. Goes along as an extension of the response, for whoever
/// writes the body of errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The path names no stream.
    #[error("the path holds no legal stream name")]
    BadName,
    /// The query asks for tracks in a way nobody knows.
    #[error("tracks is `all` or `one`")]
    BadTracks,
    /// The player may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is none on this node.
    #[error("there is no such stream")]
    NotFound,
    /// There is one, but nothing came in time.
    #[error("the stream has no media")]
    NoMedia,
    /// Every place is taken.
    #[error(transparent)]
    AtLimit(#[from] limits::Refused),
    /// It does not know whether it still is in its cluster.
    #[error("the node has lost touch with its cluster")]
    Fenced,
    /// It is about to stop.
    #[error("the node drains")]
    Draining,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadName | Self::BadTracks => StatusCode::BAD_REQUEST,
            Self::Denied(Denied::NoToken) => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::NoAnswer | Denied::Busy) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Denied(Denied::Off | Denied::OtherToken | Denied::Refused) => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound | Self::NoMedia => StatusCode::NOT_FOUND,
            Self::AtLimit(_) | Self::Fenced | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_string()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The routes. Serve them with the peer's address as connect info.
pub fn router(context: Context) -> axum::Router {
    axum::Router::new()
        .route("/flv/{*guid}", get(play))
        .layer(cors(&context.cors))
        .with_state(context)
        .merge(page::router())
}

#[derive(OpenApi)]
#[openapi(paths(play, page::watch))]
struct Document;

/// What the routes are, for the API's description.
pub fn described() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

fn cors(cors: &Cors) -> CorsLayer {
    let origin = match cors {
        Cors::Any => AllowOrigin::any(),
        Cors::Only(origins) => AllowOrigin::list(origins.clone()),
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers(Any)
        .max_age(PREFLIGHT)
}

#[derive(Deserialize)]
struct Parameters {
    token: Option<String>,
    /// `one`: for players that know one track of each kind.
    tracks: Option<String>,
}

impl Parameters {
    fn tracks(&self) -> Result<Tracks, Refused> {
        match self.tracks.as_deref() {
            None | Some("all") => Ok(Tracks::All),
            Some("one") => Ok(Tracks::One),
            Some(_) => Err(Refused::BadTracks),
        }
    }
}

/// Plays a stream over HTTP, as FLV without an end. A distributed stream that has no media yet is waited for.
#[utoipa::path(
    get, operation_id = "playFlv", path = "/flv/{streamGuid}", tag = "media",
    params(
        ("streamGuid" = String, Path, description = "`app/[room/]name`, with or without a trailing `.flv`"),
        ("token" = Option<String>, Query, description = "A stream token, where playing wants one"),
        ("tracks" = Option<String>, Query, description = "`one` for players that know one track of each kind, else `all`"),
    ),
    responses(
        (status = 200, description = "FLV, from a keyframe on", content_type = "video/x-flv"),
        (status = "4XX", description = "The request is refused", body = ref("#/components/schemas/ErrorBody")),
        (status = "5XX", description = "It cannot be done now", body = ref("#/components/schemas/ErrorBody")),
    )
)]
async fn play(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(path): Path<String>,
    Query(parameters): Query<Parameters>,
    version: Version,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let guid = context.named(&path)?;
    let tracks = parameters.tracks()?;
    let wish = Wish {
        act: Act::Play,
        stream: guid.clone(),
        query: query.unwrap_or_default(),
        token: parameters.token,
        peer,
        protocol: Protocol::HttpFlv,
        tc_url: None,
        page_url: None,
    };
    context.gate.judge(wish).wait().await?;
    if context.streams.fenced() {
        return Err(Refused::Fenced);
    }
    let stream = context.streams.play(&guid).ok_or(Refused::NotFound)?;
    let place = context.place(peer, &guid)?;
    let mut subscriber = Subscriber::new(stream.clone());
    context.media(&stream, &mut subscriber).await?;
    let body = body::stream(Viewer {
        guid,
        peer,
        subscriber,
        tracks,
        place,
        drain: context.drain,
        metrics: context.metrics,
    });
    let headers = [
        (header::CONTENT_TYPE, "video/x-flv"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // nginx in front of us would hold the first seconds back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = match version {
        Version::HTTP_2 => Body::from_stream(Watched::new(body)),
        _ => Body::from_stream(body),
    };
    Ok((headers, body).into_response())
}

impl Context {
    /// The stream a path means: `.flv` at its end is a name's own only when there is such a stream.
    fn named(&self, path: &str) -> Result<StreamGuid, Refused> {
        let whole = path.parse().map_err(|_| Refused::BadName);
        let Some(short) = path.strip_suffix(".flv") else {
            return whole;
        };
        match whole {
            Ok(guid) if self.streams.exists(&guid) => Ok(guid),
            _ => short.parse().map_err(|_| Refused::BadName),
        }
    }

    fn place(&self, peer: SocketAddr, guid: &StreamGuid) -> Result<Place, limits::Refused> {
        let address = self.limits.address(peer.ip())?;
        let permit = self.seats.clone().try_acquire_owned();
        let permit = permit.map_err(|_| self.limits.refused(Limit::FlvSubscribers, None))?;
        let subscriber = self.limits.subscriber(guid)?;
        Ok(Place {
            subscriber,
            among_ours: permit,
            of_address: address,
        })
    }

    /// Waits until the stream can be played.
    async fn media(&self, stream: &Stream, subscriber: &mut Subscriber) -> Result<(), Refused> {
        let until = Instant::now() + self.play_wait;
        while !stream.has_start() {
            if stream.is_ended() {
                return Err(Refused::NoMedia);
            }
            tokio::select! {
                ready = tokio::time::timeout_at(until, subscriber.ready()) => {
                    ready.map_err(|_| Refused::NoMedia)?;
                }
                () = self.drain.started() => return Err(Refused::Draining),
            }
        }
        Ok(())
    }
}
