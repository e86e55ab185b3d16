//! The page that plays a stream in a browser, with mpegts.js.
//!
//! Static: its script reads the stream's name from its own address. The player is
//! mpegts.js 1.8.2 from npm as it was published, less the link to its source map;
//! `web/mpegts.LICENSE` is its licence.

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

const HTML: &str = include_str!("web/watch.html");
const CSS: &str = include_str!("web/watch.css");
const SCRIPT: &str = include_str!("web/watch.js");
const PLAYER: &[u8] = include_bytes!("web/mpegts.js");
const LICENCE: &str = include_str!("web/mpegts.LICENSE");

/// Our own scripts, media of our own origin through Media Source Extensions, nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     media-src blob:; img-src data:; base-uri 'none'; form-action 'none'";

/// Streams have a slash in their names, so one segment below `/watch` is free for files.
pub(super) fn router() -> axum::Router {
    let page = get(watch);
    let css = get(|| async { file("text/css; charset=utf-8", CSS) });
    let script = get(|| async { file("text/javascript; charset=utf-8", SCRIPT) });
    let player = get(|| async { file("text/javascript; charset=utf-8", PLAYER) });
    let licence = get(|| async { file("text/plain; charset=utf-8", LICENCE) });
    axum::Router::new()
        .route("/watch", page.clone())
        .route("/watch/", page.clone())
        .route("/watch/{*guid}", page)
        .route("/watch/watch.css", css)
        .route("/watch/watch.js", script)
        .route("/watch/mpegts.js", player)
        .route("/watch/mpegts.LICENSE", licence)
}

/// A page that plays a stream in a browser.
#[utoipa::path(
    get, operation_id = "watch", path = "/watch/{streamGuid}", tag = "media",
    params(
        ("streamGuid" = String, Path, description = "`app/[room/]name`"),
        ("token" = Option<String>, Query, description = "A stream token, where playing wants one"),
    ),
    responses((status = 200, description = "The page, whether or not there is such a stream", content_type = "text/html"))
)]
pub(super) async fn watch() -> impl IntoResponse {
    (
        [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            // A token may be in the page's address.
            (header::REFERRER_POLICY, "no-referrer"),
        ],
        file("text/html; charset=utf-8", HTML),
    )
}

fn file<T: IntoResponse>(kind: &'static str, body: T) -> impl IntoResponse + use<T> {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        body,
    )
}
