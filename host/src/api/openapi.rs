//! `openapi.json`, made from the handlers themselves.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{
    admin, distribute, figures, group, health, login, metrics, plugin, probe, provision, stream,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "restreamd", description = "Restreamers over REST, as in Red5 Stream Manager 2.0"),
    modifiers(&Schemes),
    paths(
        login::login,
        provision::create, provision::update, provision::list, provision::show, provision::delete, probe::probe,
        distribute::distribute, distribute::publish, distribute::subscribe,
        stream::list, stream::show,
        group::list, group::create, group::update, group::show, group::status,
        admin::drain, admin::export, admin::import,
        figures::follow,
        plugin::list, plugin::show, plugin::reload, plugin::rollback,
        health::alive, health::ready, metrics::show, show,
    )
)]
struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "jwt",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        );
        components.add_security_scheme(
            "node",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        );
        components.add_security_scheme(
            "basic",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)),
        );
    }
}

/// The document: these routes, and those that are served beside them.
pub fn document(beside: utoipa::openapi::OpenApi) -> Bytes {
    let document = Document::openapi().merge_from(beside);
    let text = document.to_json();
    text.expect("the document is made of plain values").into()
}

/// This document.
#[utoipa::path(get, operation_id = "getOpenApi", path = "/openapi.json", tag = "service", responses((status = 200, description = "Done", body = Object)))]
pub(super) async fn show(State(state): State<super::State>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        state.document.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed() -> serde_json::Value {
        let text = document(crate::flv::described());
        serde_json::from_slice(&text).expect("JSON")
    }

    #[test]
    fn the_document_is_openapi_3_1_and_says_where_a_token_is_needed() {
        let document = parsed();
        assert!(
            document["openapi"]
                .as_str()
                .is_some_and(|version| version.starts_with("3.1"))
        );
        let paths = document["paths"].as_object().expect("paths");
        for (path, methods) in paths {
            let closed = ["/provision/", "/admin/", "/plugins"]
                .iter()
                .any(|part| path.contains(part));
            for (method, operation) in methods.as_object().expect("methods") {
                assert_eq!(
                    operation["security"][0]["jwt"].is_array(),
                    closed,
                    "{method} {path}"
                );
            }
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let document = parsed();
        let paths = document["paths"].as_object().expect("paths");
        let operations = paths
            .values()
            .flat_map(|methods| methods.as_object().expect("methods").values());
        let mut ids: Vec<&str> = operations
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }
}
