//! The REST contract as a whole: what is served is described, and what is closed stays closed.

use restreamd_tests::clip::Clip;
use restreamd_tests::host::TestHost;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;

use crate::{SOON, node};

/// Routes that need no token, by the end of their path.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "openapi.json"];
/// Open as in the public example, unless the configuration closes them.
const STREAM_ROUTES: &str = "/streams/stream/";
/// Answers to another authentication.
const LOGIN: &str = "/auth/login";

/// Media, and the page that plays it: open as playing over RTMP is.
const MEDIA: [&str; 2] = ["/flv/", "/watch/"];

/// Every row of the contract: method and path below /as/v1.
const ROWS: [(&str, &str); 26] = [
    ("put", "/auth/login"),
    ("post", "/streams/provision/{ng}"),
    ("put", "/streams/provision/{ng}"),
    ("get", "/streams/provision/{ng}"),
    ("get", "/streams/provision/{ng}/{guid}"),
    ("delete", "/streams/provision/{ng}/{guid}"),
    ("post", "/streams/provision/{ng}/distribute/{guid}"),
    ("post", "/streams/provision/{ng}/probe"),
    ("get", "/streams/stream/{ng}"),
    ("get", "/streams/stream/{ng}/stream/{guid}"),
    ("get", "/streams/stream/{ng}/publish/{guid}"),
    ("get", "/streams/stream/{ng}/subscribe/{guid}"),
    ("get", "/admin/nodegroup"),
    ("get", "/admin/nodegroup/{name}"),
    ("get", "/admin/nodegroup/status/{ng}"),
    ("post", "/admin/nodegroup"),
    ("put", "/admin/nodegroup"),
    ("post", "/admin/drain"),
    ("get", "/admin/store"),
    ("put", "/admin/store"),
    ("get", "/plugins"),
    ("get", "/plugins/{name}"),
    ("post", "/plugins/{name}/reload"),
    ("post", "/plugins/{name}/rollback"),
    ("get", "/flv/{guid}"),
    ("get", "/watch/{guid}"),
];

fn document(host: &TestHost) -> Value {
    let api = restreamd_tests::api::Api::new(host.api);
    let document = api.get("/as/v1/openapi.json").expect(200);
    assert_eq!(document, api.get("/openapi.json").expect(200));
    document
}

/// Method and path of every operation described.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = ["get", "put", "post", "delete", "patch"];
    let all = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path item");
        item.keys()
            .filter(|k| methods.contains(&k.as_str()))
            .map(move |method| (method.clone(), path.clone()))
    });
    all.collect()
}

/// A path with its parameters' names taken out, to compare by shape.
fn shape(path: &str) -> String {
    let path = path.strip_prefix("/as/v1").unwrap_or(path);
    path.split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn every_row_of_the_contract_is_described() {
    let document = document(&node().start());
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|v| v.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    let described: Vec<_> = operations(&document)
        .into_iter()
        .map(|(method, path)| (method, shape(&path)))
        .collect();
    for (method, path) in ROWS {
        assert!(
            described.contains(&(method.to_owned(), shape(path))),
            "{method} {path} is not described: {described:?}"
        );
    }
}

#[test]
fn routes_that_are_not_served_here_are_not_described() {
    for host in [
        node().set("flv.enabled", false).start(),
        node().set("flv.listen", "127.0.0.1:0").start(),
    ] {
        let media = |path: &String| MEDIA.iter().any(|begin| path.starts_with(begin));
        let all = operations(&document(&host));
        assert!(!all.iter().any(|(_, path)| media(path)), "{all:?}");
    }
}

#[test]
fn every_closed_route_refuses_without_a_token() {
    let host = node().start();
    let api = restreamd_tests::api::Api::new(host.api);
    let stale = api.with_token("stale.token.here");
    for (method, path) in operations(&document(&host)) {
        let filled = fill(&path);
        let open = OPEN.iter().any(|end| path.ends_with(end))
            || path.contains(STREAM_ROUTES)
            || MEDIA.iter().any(|begin| path.starts_with(begin))
            || path.ends_with(LOGIN);
        for client in [&api, &stale] {
            // A body where one belongs: the refusal must come before it is looked at.
            let body =
                matches!(method.as_str(), "post" | "put").then_some(("application/json", "{"));
            let answer = client.send(&method.to_uppercase(), &filled, body);
            let refused = answer.status == 401;
            assert_eq!(
                refused,
                !open || path.ends_with(LOGIN),
                "{method} {path} without a token: {answer:?}"
            );
            if answer.status >= 400 {
                answer.error(answer.status);
            }
        }
    }
}

fn fill(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{ng}" | "{group}" | "{node_group}" | "{nodeGroup}" => "nodegroup1",
        part if part.starts_with('{') && part.to_lowercase().contains("guid") => "live/some",
        part if part.starts_with('{') => "some",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn no_field_of_a_status_element_is_ever_missing() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let fields = [
        "streamGuid",
        "serverAddress",
        "nodeRole",
        "subGroup",
        "nodeState",
        "subscribers",
        "latencyMs",
        "durationMs",
        "state",
        "provisionGuid",
        "type",
        "phase",
        "since",
        "source",
        "attempt",
        "nextAttemptMs",
        "statusText",
        "error",
        "history",
        "media",
        "bytesIn",
        "targets",
        "plugin",
        "epoch",
    ];
    let complete = |what: &str, element: &Value| {
        for field in fields {
            assert!(
                element.get(field).is_some(),
                "{field} is missing {what}: {element}"
            );
        }
    };
    let pull = Provision::pull("whole-pull", "live/pull1", &source.url("live/stream1"));
    api.create(&pull);
    complete("before distribution", &api.status(pull.guid()));
    let location = api.distribute(&pull);
    complete("in a location", &location);
    assert_eq!(
        api.distribute(&pull)["serverAddress"],
        location["serverAddress"],
        "the same node every time"
    );
    complete("while live", &api.wait_for_state(pull.guid(), "LIVE", SOON));
    for query in [
        "",
        "?aggregate=false",
        "?stats=true",
        "?stats=true&aggregate=false",
    ] {
        let list = api
            .get(&format!("/as/v1/streams/stream/nodegroup1{query}"))
            .list();
        assert_eq!(list.len(), 1, "{query}: {list:?}");
        complete("in the list", &list[0]);
    }
    for route in ["stream", "subscribe"] {
        let list = api
            .get(&format!(
                "/as/v1/streams/stream/nodegroup1/{route}/live/pull1"
            ))
            .list();
        complete(route, &list[0]);
    }
    source.set(restreamd_tests::source::Behaviour::NotFound);
    source.hang_up();
    complete(
        "while waiting",
        &api.wait_for_state(pull.guid(), "WAIT", SOON),
    );
}

#[test]
fn store_snapshot_goes_out_and_comes_back_whole() {
    let host = node().start();
    let api = host.client();
    for n in 0..3 {
        api.create(&Provision::pull(
            &format!("kept-{n}"),
            &format!("live/kept{n}"),
            "rtmp://127.0.0.1:9/live/s",
        ));
    }
    let snapshot = api.get("/as/v1/admin/store").expect(200);
    let other = node().start();
    let fresh = other.client();
    assert_eq!(
        fresh
            .call("PUT", "/as/v1/admin/store", Some(&snapshot))
            .status,
        200
    );
    assert_eq!(
        fresh.get("/as/v1/streams/provision/nodegroup1").expect(200),
        api.get("/as/v1/streams/provision/nodegroup1").expect(200)
    );
    fresh
        .call(
            "PUT",
            "/as/v1/admin/store",
            Some(&serde_json::json!({"not": "a snapshot"})),
        )
        .error(400);
}
