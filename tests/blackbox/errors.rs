//! What a caller did wrong: the one error shape, the right code, the field named.

use restreamd_tests::api::{GROUP, provision_path};
use restreamd_tests::curl::curl;
use restreamd_tests::host::{ADMIN, JWT_SECRET};
use restreamd_tests::provision::Provision;
use restreamd_tests::token::{admin_claims, sign, unix_time};
use serde_json::{Value, json};

use crate::node;

fn pull() -> Provision {
    Provision::pull("some-pull", "live/pull1", "rtmp://127.0.0.1:9/live/stream1")
}

#[test]
fn wrong_password_is_401_and_the_right_one_a_token() {
    let host = node().start();
    let api = restreamd_tests::api::Api::new(host.api);
    api.try_login(ADMIN.0, "wrong").error(401);
    api.try_login("nobody", ADMIN.1).error(401);
    api.call("PUT", "/as/v1/auth/login", None).error(401);
    api.with_authorization("Basic %%%")
        .call("PUT", "/as/v1/auth/login", None)
        .error(401);
    api.login(ADMIN.0, ADMIN.1).get(&provision_path("")).list();
}

#[test]
fn repeated_wrong_passwords_are_429() {
    let host = node().announce("login").start();
    let api = restreamd_tests::api::Api::new(host.api);
    let limited = (0..200)
        .map(|_| api.try_login(ADMIN.0, "wrong"))
        .find(|answer| answer.status != 401);
    limited.expect("attempts are limited").error(429);
}

#[test]
fn bad_tokens_are_401_and_a_foreign_role_is_403() {
    let host = node().start();
    let anonymous = restreamd_tests::api::Api::new(host.api);
    let path = provision_path("");
    anonymous.get(&path).error(401);
    let expired = admin_claims(-3600);
    let no_expiry = json!({"sub": "admin", "roles": "ROLE_ADMIN"});
    for (what, token) in [
        ("garbage", "garbage".to_owned()),
        ("of another secret", sign("another secret of at least 32 bytes", &admin_claims(600))),
        ("expired", sign(JWT_SECRET, &expired)),
        ("without an end", sign(JWT_SECRET, &no_expiry)),
        ("of another algorithm", restreamd_tests::token::sign_with(jsonwebtoken::Algorithm::HS512, JWT_SECRET, &admin_claims(600))),
        ("unsigned", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGVzIjoiUk9MRV9BRE1JTiIsImV4cCI6NDEwMjQ0NDgwMH0.".to_owned()),
    ] {
        let answer = anonymous.with_token(&token).get(&path);
        assert_eq!(answer.status, 401, "a token {what}: {answer:?}");
        answer.error(401);
    }
    let viewer = json!({"sub": "v", "roles": "ROLE_VIEWER", "exp": unix_time(600)});
    anonymous
        .with_token(&sign(JWT_SECRET, &viewer))
        .get(&path)
        .error(403);
    anonymous
        .with_token(&sign(JWT_SECRET, &admin_claims(600)))
        .get(&path)
        .list();
}

#[test]
fn unknown_names_are_404() {
    let host = node().start();
    let api = host.client();
    api.get(&provision_path("/none-such")).error(404);
    api.get(&provision_path("/none-such?status=true"))
        .error(404);
    api.call("DELETE", &provision_path("/none-such"), None)
        .error(404);
    api.call("POST", &provision_path("/distribute/none-such"), None)
        .error(404);
    api.call("PUT", &provision_path(""), Some(&json!([pull().json()])))
        .error(404);
    api.get("/as/v1/streams/provision/no-such-group").error(404);
    api.get("/as/v1/streams/stream/no-such-group").error(404);
    api.get(&format!(
        "/as/v1/streams/stream/{GROUP}/subscribe/live/none"
    ))
    .error(404);
    api.get(&format!(
        "/as/v1/streams/stream/{GROUP}/publish/live/none?restream=true"
    ))
    .error(404);
    api.get("/as/v1/no/such/route").error(404);
    api.get("/").error(404);
    // The alias of the only group.
    api.get("/as/v1/streams/provision/default").list();
}

#[test]
fn wrong_method_is_405() {
    let host = node().start();
    host.client()
        .call("DELETE", "/as/v1/auth/login", None)
        .error(405);
}

#[test]
fn taken_names_are_409_and_nothing_is_half_done() {
    let host = node().start();
    let api = host.client();
    api.create(&pull());
    api.try_create(&[&pull()]).error(409);
    let same_stream = Provision::pull("other-pull", "live/pull1", "rtmp://127.0.0.1:9/live/s");
    api.try_create(&[&same_stream]).error(409);
    let fresh = Provision::pull("fresh-pull", "live/fresh", "rtmp://127.0.0.1:9/live/s");
    api.try_create(&[&fresh, &pull()]).error(409);
    api.get(&provision_path("/fresh-pull")).error(404);
    // Twice in one request is the request's own fault.
    api.try_create(&[&fresh, &fresh]).error(400);
    api.get(&provision_path("/fresh-pull")).error(404);
    let moved = Provision::pull("some-pull", "live/moved", "rtmp://127.0.0.1:9/live/s");
    api.call("PUT", &provision_path(""), Some(&json!([moved.json()])))
        .error(409);
}

#[test]
fn bad_bodies_are_400_413_and_415() {
    let host = node().start();
    let api = host.client();
    let path = provision_path("");
    for body in [
        "",
        "{",
        "[{]",
        "null",
        "7",
        "\"x\"",
        "[]",
        "[[]]",
        "[7]",
        "\u{feff}[]",
    ] {
        let answer = api.send("POST", &path, Some(("application/json", body)));
        assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
        answer.error(400);
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    api.send("POST", &path, Some(("application/json", &deep)))
        .error(400);
    let good = json!([pull().json()]).to_string();
    api.send("POST", &path, Some(("text/plain", &good)))
        .error(415);
    api.send(
        "POST",
        &path,
        Some(("application/json; charset=utf-8", &good)),
    )
    .expect(201);
    too_large_a_body_is_413(&host);
}

fn too_large_a_body_is_413(host: &restreamd_tests::host::TestHost) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("large.json");
    std::fs::write(&file, format!("[\"{}\"]", "x".repeat(8 << 20)))
        .expect("the folder is writable");
    let token = host.client().token(ADMIN.0, ADMIN.1);
    let url = format!("http://{}{}", host.api, provision_path(""));
    // curl asks first (Expect: 100-continue), so the answer arrives before the body is thrown at a closed socket.
    let (data, authorization) = (
        format!("@{}", file.display()),
        format!("Authorization: Bearer {token}"),
    );
    let answer = curl([
        "-s",
        "-X",
        "POST",
        "-H",
        "Content-Type: application/json",
        "-H",
        &authorization,
        "--data-binary",
        &data,
        &url,
    ]);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.json()["requestId"].is_string(), "{answer:?}");
}

#[test]
fn too_many_provisions_or_streams_are_400() {
    let host = node().start();
    let api = host.client();
    let many: Vec<_> = (0..33)
        .map(|n| {
            Provision::pull(
                &format!("pull-{n}"),
                &format!("live/pull{n}"),
                "rtmp://127.0.0.1:9/live/s",
            )
        })
        .collect();
    api.try_create(&many.iter().collect::<Vec<_>>()).error(400);
    api.get(&provision_path("/pull-0")).error(404);
    api.try_create(&many[..32].iter().collect::<Vec<_>>())
        .expect(201);
    let mut wide = pull().json();
    let stream = wide["streams"][0].clone();
    let streams = (0..33)
        .map(|n| with(&stream, "/streamGuid", &json!(format!("live/w{n}"))))
        .collect();
    wide["streams"] = Value::Array(streams);
    api.call("POST", &provision_path(""), Some(&json!([wide])))
        .error(400);
}

fn with(document: &Value, pointer: &str, value: &Value) -> Value {
    let mut document = document.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let parent = document.pointer_mut(parent).expect("the pointer is right");
    match parent {
        Value::Object(map) => drop(map.insert(key.to_owned(), value.clone())),
        other => panic!("no object at {pointer}: {other}"),
    }
    document
}

#[test]
fn bad_values_are_400_naming_the_field() {
    let host = node().start();
    let api = host.client();
    let good = pull().json();
    let properties = "/streams/0/camParams/properties";
    let cases = [
        ("/provisionGuid", json!("a"), "provisionGuid"),
        ("/provisionGuid", json!(7), "provisionGuid"),
        ("/provisionGuid", json!("probe"), "provisionGuid"),
        ("/provisionGuid", json!("distribute/x"), "provisionGuid"),
        ("/provisionGuid", json!("a/../b"), "provisionGuid"),
        ("/provisionGuid", json!("a\u{7}bc"), "provisionGuid"),
        ("/streams", json!([]), "streams"),
        ("/streams", json!({}), "streams"),
        (
            "/streams/0/streamGuid",
            json!("noslash"),
            "streams[0].streamGuid",
        ),
        (
            "/streams/0/streamGuid",
            json!("/live/x"),
            "streams[0].streamGuid",
        ),
        ("/streams/0/camParams", json!("x"), "streams[0].camParams"),
        (properties, json!([]), "streams[0].camParams.properties"),
        (
            &format!("{properties}/type"),
            json!("none-such"),
            "streams[0].camParams.properties.type",
        ),
        (
            &format!("{properties}/action"),
            json!("explode"),
            "streams[0].camParams.properties.action",
        ),
        (
            &format!("{properties}/rtmpUri"),
            json!("http://127.0.0.1/live/s"),
            "streams[0].camParams.properties.rtmpUri",
        ),
        (
            &format!("{properties}/rtmpUri"),
            json!("rtmp://127.0.0.1/"),
            "streams[0].camParams.properties.rtmpUri",
        ),
        (
            &format!("{properties}/rtmpUri"),
            json!({"a": 1}),
            "streams[0].camParams.properties.rtmpUri",
        ),
        (
            &format!("{properties}/stallMs"),
            json!("1"),
            "streams[0].camParams.properties.stallMs",
        ),
        (
            &format!("{properties}/retryMinMs"),
            json!("x"),
            "streams[0].camParams.properties.retryMinMs",
        ),
        (
            &format!("{properties}/latency"),
            json!(1_001),
            "streams[0].camParams.properties.latency",
        ),
        (
            &format!("{properties}/latency"),
            json!("slow"),
            "streams[0].camParams.properties.latency",
        ),
        (
            &format!("{properties}/persist"),
            json!("perhaps"),
            "streams[0].camParams.properties.persist",
        ),
    ];
    for (pointer, value, field) in cases {
        let body = json!([with(&good, pointer, &value)]);
        let answer = api.call("POST", &provision_path(""), Some(&body));
        assert_eq!(answer.status, 400, "{pointer} = {value}: {answer:?}");
        assert_eq!(
            answer.error(400)["field"],
            field,
            "{pointer} = {value}: {answer:?}"
        );
    }
    // Nothing of all that was kept, and the good one still goes in.
    assert!(api.get(&provision_path("")).list().is_empty());
    api.create(&pull());
}

#[test]
fn the_field_of_the_second_provision_has_its_index() {
    let host = node().start();
    let bad = Provision::of_type("rtmp", "bad-pull", "live/pull2");
    let body = host.client().try_create(&[&pull(), &bad]).error(400);
    assert_eq!(
        body["field"], "[1].streams[0].camParams.properties.rtmpUri",
        "{body}"
    );
}

#[test]
fn pulling_a_stream_from_itself_is_400() {
    let host = node().without("dial").start();
    let looped = Provision::pull("looped-pull", "live/pull1", &host.url("live/pull1"));
    let body = host.client().try_create(&[&looped]).error(400);
    assert_eq!(
        body["field"], "streams[0].camParams.properties.rtmpUri",
        "{body}"
    );
}

#[test]
fn what_no_node_can_take_is_422() {
    let host = node().start();
    let api = host.client();
    api.create(&pull());
    api.call(
        "POST",
        &provision_path("/distribute/some-pull?subgroup=mars&strict=true"),
        None,
    )
    .error(422);
    api.call(
        "POST",
        &provision_path("/distribute/some-pull?endpoints=0"),
        None,
    )
    .error(400);
    api.get(&format!(
        "/as/v1/streams/stream/{GROUP}/publish/live/pull1?restream=true&endpoints=0"
    ))
    .error(400);
    api.get(&format!(
        "/as/v1/streams/stream/{GROUP}/publish/live/pull1?restream=perhaps"
    ))
    .error(400);
    let placed = api
        .call("POST", &provision_path("/distribute/some-pull"), None)
        .list();
    assert_eq!(placed.len(), 1, "{placed:?}");
}

#[test]
fn what_does_not_exist_yet_is_501() {
    let host = node().start();
    let api = host.client();
    api.call(
        "POST",
        "/as/v1/admin/nodegroup",
        Some(&json!({"name": "x"})),
    )
    .error(501);
}

#[test]
fn scalars_are_coerced_single_objects_accepted_and_unknown_fields_kept() {
    let host = node().start();
    let api = host.client();
    let mut document = pull().with("persist", true).with("stallMs", 2500).json();
    document["comment"] = json!({"ours": [1, 2]});
    api.call("POST", &provision_path(""), Some(&document))
        .expect(201);
    assert_eq!(api.get(&provision_path("/some-pull")).expect(200), document);
    // The same guid, its slash escaped or not.
    api.create(&Provision::pull(
        "with/slash",
        "live/slash",
        "rtmp://127.0.0.1:9/live/s",
    ));
    assert_eq!(
        api.get(&provision_path("/with/slash")).expect(200),
        api.get(&provision_path("/with%2Fslash")).expect(200)
    );
}

#[test]
fn provisions_are_listed_page_by_page() {
    let host = node().start();
    let api = host.client();
    let all: Vec<_> = (0..7)
        .map(|n| {
            Provision::pull(
                &format!("pull-{n}"),
                &format!("live/pull{n}"),
                "rtmp://127.0.0.1:9/live/s",
            )
        })
        .collect();
    api.try_create(&all.iter().collect::<Vec<_>>()).expect(201);
    let names = |query: &str| -> Vec<String> {
        let list = api.get(&provision_path(query)).list();
        list.iter()
            .map(|p| p["provisionGuid"].as_str().expect("a guid").to_owned())
            .collect()
    };
    assert_eq!(names("?limit=3"), ["pull-0", "pull-1", "pull-2"]);
    assert_eq!(
        names("?limit=3&after=pull-2"),
        ["pull-3", "pull-4", "pull-5"]
    );
    assert_eq!(names("?limit=3&after=pull-5"), ["pull-6"]);
    api.get(&provision_path("?limit=x")).error(400);
}

#[test]
fn live_publisher_and_feeding_provision_exclude_each_other() {
    let clip = restreamd_tests::clip::Clip::small();
    let host = node().start();
    let api = host.client();
    let _publisher = restreamd_tests::ffmpeg::publish(&clip, &host.url("live/taken"));
    api.wait_for_stream("live/taken", crate::SOON);
    api.try_create(&[&Provision::pull(
        "late-pull",
        "live/taken",
        "rtmp://127.0.0.1:9/live/s",
    )])
    .error(409);
    api.get(&format!("/as/v1/streams/stream/{GROUP}/publish/live/taken"))
        .error(409);
    api.create(&pull());
    let mut second = restreamd_tests::ffmpeg::publish(&clip, &host.url("live/pull1"));
    let refused = second.wait(crate::SOON);
    assert!(
        !refused.success(),
        "a name that a provision holds was given to a publisher"
    );
}
