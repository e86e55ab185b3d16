//! Connections for which there is no room get an answer that says so.

use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::error::{Code, Error};
use crate::limits::Refused;

/// A connection's place on its listener, in the extensions of its requests. The place is
/// free again when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Room {
    refused: Option<Refused>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Room {
    /// It is served.
    pub fn granted(place: OwnedSemaphorePermit) -> Self {
        Self {
            refused: None,
            _place: place.into(),
        }
    }

    /// It is told why not; also that takes a place.
    pub fn refused(refused: Refused, place: OwnedSemaphorePermit) -> Self {
        Self {
            refused: Some(refused),
            _place: place.into(),
        }
    }
}

/// Answers for a connection without room, whatever it wants.
pub(super) async fn or_refuse(request: Request, next: Next) -> Response {
    let room = request.extensions().get::<Room>();
    let Some(refused) = room.and_then(|room| room.refused.as_ref()) else {
        return next.run(request).await;
    };
    let mut response = Error::new(Code::AtLimit, refused.to_string()).into_response();
    // HTTP/2 has no such header; there the time of the connection ends it.
    if request.version() <= Version::HTTP_11 {
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
