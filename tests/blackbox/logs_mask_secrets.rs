//! Secrets come back nowhere: not in the log, the API or the metrics.

use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::{ADMIN, JWT_SECRET};
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Behaviour, Gate, Script, Source};
use serde_json::{Value, json};

use crate::{SOON, node};

const USER: &str = "svc-user-7731";
const PASSWORD: &str = "hunter2-of-the-source";
const QUERY: &str = "signed-query-4711";
const EDGE: &str = "signed-for-the-edge-0815";

fn secret_uri(source: &Source, name: &str) -> String {
    format!(
        "rtmp://{USER}:{PASSWORD}@{}/live/{name}?token={QUERY}",
        source.addr()
    )
}

/// # Panics
/// When one of the secrets is in the text.
fn is_clean(what: &str, text: &str) {
    for secret in [USER, PASSWORD, QUERY, EDGE, ADMIN.1, JWT_SECRET] {
        assert!(!text.contains(secret), "{secret} is in {what}: {text}");
    }
}

#[test]
fn secrets_of_a_source_are_masked_everywhere() {
    let source = Source::open(&Clip::small());
    let host = node().set("log.filter", "restreamd=trace,info").start();
    let api = host.client();
    let live = Provision::pull("secret-live", "live/pull1", &secret_uri(&source, "stream1"));
    api.start(&live);
    api.wait_for_state(live.guid(), "LIVE", SOON);
    source.set(Behaviour::NotFound);
    let failing = Provision::pull(
        "secret-failing",
        "live/pull2",
        &secret_uri(&source, "stream2"),
    );
    api.start(&failing);
    api.wait_for(failing.guid(), "a failure is told", SOON, |s| {
        s["history"].as_array().is_some_and(|h| !h.is_empty())
    });
    let player = Player::attach(&format!("{}?token={QUERY}", host.url("live/pull1")));
    player.wait_for_more(30, SOON);
    api.try_login(ADMIN.0, PASSWORD).error(401);

    let status = api.status(live.guid());
    assert_eq!(
        status["source"],
        format!("rtmp://***@{}/live/stream1?***", source.addr()),
        "{status}"
    );
    let token = api.token(ADMIN.0, ADMIN.1);
    for path in [
        provision_path(""),
        provision_path("/secret-live"),
        provision_path("/secret-live?status=true"),
        provision_path("/secret-failing?status=true"),
        "/as/v1/streams/stream/nodegroup1".to_owned(),
        "/metrics".to_owned(),
        "/as/v1/plugins".to_owned(),
        "/as/v1/openapi.json".to_owned(),
    ] {
        let answer = api.get(&path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        is_clean(&path, &answer.text);
    }
    drop(player);
    api.delete(live.guid());
    api.delete(failing.guid());
    let logs = host.logs().join("\n");
    is_clean("the log", &logs);
    assert!(!logs.contains(&token), "a token is in the log: {logs}");
}

#[test]
fn secrets_that_other_servers_repeat_are_masked_too() {
    let clip = Clip::small();
    let (first, edge) = (Source::open(&clip), Source::open(&clip));
    edge.set(Behaviour::NotFound);
    let host = node().set("log.filter", "restreamd=trace,info").start();
    let api = host.client();
    // One that is asked to connect elsewhere, and refused there.
    let asked = Provision::pull("asked-pull", "live/pull1", &secret_uri(&first, "stream1"));
    api.start(&asked);
    api.wait_for_state(asked.guid(), "LIVE", SOON);
    first.ask_to_reconnect(Some(&edge.url(&format!("live?sig={EDGE}"))));
    let refused = || host.logs().iter().any(|l| l.contains("cannot reconnect"));
    eventually("the reconnect is refused", SOON, || {
        when(refused(), || "nothing in the log".to_owned())
    });
    // One that is sent elsewhere, and refused there.
    let to = edge.url(&format!("live/stream1?sig={EDGE}"));
    let script = Script {
        gate: Gate::Redirect(to),
        ..Script::default()
    };
    let balancer = Source::scripted(&clip, script);
    let sent = Provision::pull("sent-pull", "live/pull2", &secret_uri(&balancer, "stream1"));
    api.start(&sent);
    let status = api.wait_for(sent.guid(), "a failure is told", SOON, |s| {
        s["history"][0]["class"] == "not-found"
    });
    is_clean("the status", &status.to_string());
    for guid in [asked.guid(), sent.guid()] {
        is_clean("the status", &api.status(guid).to_string());
        api.delete(guid);
    }
    is_clean("the log", &host.logs().join("\n"));
}

#[test]
fn masked_value_sent_back_keeps_the_secret() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("secret-live", "live/pull1", &secret_uri(&source, "stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let masked = api.get(&provision_path("/secret-live")).expect(200);
    let body = api
        .call("PUT", &provision_path(""), Some(&json!([masked])))
        .expect(200);
    assert_eq!(body, json!({"result": "UPDATED"}));
    source.hang_up();
    api.wait_for(pull.guid(), "dialled again and LIVE", SOON, |s| {
        s["state"] == "LIVE" && source.dials() >= 2
    });
    let new = Provision::pull(
        "other-pull",
        "live/pull2",
        "rtmp://***@127.0.0.1/live/stream1?***",
    );
    let refused = api.try_create(&[&new]).error(400);
    assert_eq!(
        refused["field"], "streams[0].camParams.properties.rtmpUri",
        "{refused}"
    );
}

#[test]
fn callers_without_a_token_do_not_see_where_a_stream_comes_from() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let pull = Provision::pull("private-pull", "live/pull1", &source.url("live/stream1"));
    api.start(&pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
    let element = |api: &Api| {
        api.streams()
            .into_iter()
            .find(|s| s["streamGuid"] == "live/pull1")
            .expect("it is listed")
    };
    let (seen, known) = (element(&api.anonymous()), element(&api));
    for key in ["source", "error", "history", "provisionGuid", "plugin"] {
        assert_eq!(seen.get(key), Some(&Value::Null), "{key} of {seen}");
    }
    assert_eq!(
        (&known["provisionGuid"], &known["plugin"]["name"]),
        (&"private-pull".into(), &"rtmp".into()),
        "{known}"
    );
}
