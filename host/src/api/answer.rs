//! What every answer goes through last: a request id, the error shape, the log, the count.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::error::{Code, Error};
use super::metrics::Metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs the request in its span and finishes the answer.
pub(super) async fn finish(
    State(metrics): State<Metrics>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = request_id();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!("request", id, %method, route);
    let mut response = next.run(request).instrument(span.clone()).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        let error = response
            .extensions_mut()
            .remove::<Error>()
            .unwrap_or_else(|| Error::of_status(response.status()));
        span.in_scope(|| log(response.status(), &error));
        write_error(&mut response, &error, &id);
    }
    let headers = response.headers_mut();
    headers.insert(
        REQUEST_ID,
        HeaderValue::from_str(&id).expect("hex digits are a header value"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    metrics.count(&method, route, response.status(), began.elapsed());
    response
}

fn write_error(response: &mut Response, error: &Error, id: &str) {
    let body = serde_json::to_vec(&error.body(id)).expect("text is serialisable");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    *response.body_mut() = Body::from(body);
}

/// Only what an operator can mend is a warning: anyone can make mistakes here, at any rate. Failed logins, limits and
/// not being ready are logged where they arise.
fn log(status: StatusCode, error: &Error) {
    let (code, status, cause) = (error.code, status.as_u16(), error.cause.as_deref());
    if matches!(code, Code::Internal | Code::Plugin | Code::Unavailable) {
        tracing::warn!(status, ?code, error = error.text, cause, "request failed");
    } else {
        tracing::debug!(
            status,
            ?code,
            error = error.text,
            field = error.field,
            "request refused"
        );
    }
}

/// A random version 4 UUID. Not taken from the caller: it goes into the log.
fn request_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is all zeros, which is no reason to refuse the request.
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}
