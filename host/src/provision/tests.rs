//! Provisions from a request's body to the store and back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::spec::{Kind, Verb};
use super::*;
use crate::id::{NodeGroup, ProvisionGuid, RestreamType, StreamGuid};
use crate::plugin::{CheckError, Description, Direction, Problem, Property};
use crate::store::reach::Reach;
use crate::store::{Memory, Page, Store, Txn};

/// `rtmp` feeds, `rtmp-push` reads; both want an rtmpUri and have a secret called token.
struct TwoTypes;

impl Types for TwoTypes {
    fn kind_of(&self, name: &str) -> Result<Kind, String> {
        match name {
            "rtmp" | "pull" => Ok(Kind {
                kind: name_of("rtmp"),
                feeds: true,
            }),
            "rtmp-push" => Ok(Kind {
                kind: name_of("rtmp-push"),
                feeds: false,
            }),
            _ => Err(super::types::unknown(
                name,
                &[name_of("rtmp"), name_of("rtmp-push")],
            )),
        }
    }

    fn describe(&self, kind: &RestreamType) -> Option<Arc<Description>> {
        let token = Property {
            name: "token".into(),
            doc: String::new(),
            default: None,
            required: false,
            secret: true,
            aliases: vec!["bearer".into()],
        };
        let direction = if kind.as_str() == "rtmp" {
            Direction::Feeds
        } else {
            Direction::Reads
        };
        Some(Arc::new(Description {
            doc: String::new(),
            direction,
            properties: vec![token],
        }))
    }

    fn check<'a>(
        &'a self,
        _: &'a RestreamType,
        properties: &'a [(String, String)],
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        let good = properties
            .iter()
            .any(|(key, value)| key == "rtmpUri" && value.starts_with("rtmp://"));
        let problem = Problem {
            key: "rtmpUri".into(),
            message: "must begin with rtmp://".into(),
        };
        Box::pin(async move {
            if good {
                Ok(())
            } else {
                Err(CheckError::Problems(vec![problem]))
            }
        })
    }
}

#[derive(Default)]
struct NameBook {
    live: BTreeSet<String>,
    under_way: Mutex<Vec<String>>,
    reserved: Mutex<BTreeSet<String>>,
    undecided: Mutex<Vec<String>>,
}

impl Names for NameBook {
    fn reserve(&self, _: &NodeGroup, guid: &StreamGuid) -> Result<(), NameTaken> {
        if self.live.contains(guid.as_str()) {
            return Err(NameTaken);
        }
        self.under_way.lock().push(guid.to_string());
        Ok(())
    }

    fn settle(&self, _: &NodeGroup, guid: &StreamGuid, done: Option<u64>) {
        let mut under_way = self.under_way.lock();
        let at = under_way.iter().position(|name| name == guid.as_str());
        under_way.swap_remove(at.expect("it was reserved"));
        if done.is_some() {
            self.reserved.lock().insert(guid.to_string());
        }
    }

    fn undecided(&self, _: &NodeGroup, guids: Vec<StreamGuid>) {
        let guids = guids.iter().map(StreamGuid::to_string);
        self.undecided.lock().extend(guids);
    }
}

struct Bench {
    service: Service,
    store: Arc<Memory>,
    names: Arc<NameBook>,
    group: NodeGroup,
}

impl Bench {
    fn new() -> Self {
        let names = Arc::new(NameBook {
            live: ["live/taken".to_owned()].into(),
            ..NameBook::default()
        });
        let store = Arc::new(Memory::new());
        let is_self: IsSelf = Arc::new(|url, stream| url == format!("rtmp://localhost/{stream}"));
        let service = Service::new(
            store.clone(),
            Arc::new(TwoTypes),
            names.clone(),
            Config { is_self },
        );
        Self {
            service,
            store,
            names,
            group: name_of("nodegroup1"),
        }
    }

    async fn create(&self, body: Value) -> Result<u64, Error> {
        self.service
            .create(&self.group, body.to_string().as_bytes())
            .await
    }

    async fn update(&self, body: Value) -> Result<u64, Error> {
        self.service
            .update(&self.group, body.to_string().as_bytes())
            .await
    }

    async fn field(&self, body: Value) -> String {
        match self.create(body).await {
            Err(Error::Invalid(invalid)) => invalid.field.unwrap_or_default(),
            other => panic!("not invalid: {other:?}"),
        }
    }

    async fn keys(&self) -> Vec<String> {
        let listing = self.store.list("", Page::first()).await.expect("lists");
        listing.entries.into_iter().map(|entry| entry.key).collect()
    }

    /// The names that writes have given to provisions so far.
    fn reserved(&self) -> Vec<String> {
        assert!(
            self.names.under_way.lock().is_empty(),
            "all writes are over"
        );
        self.names.reserved.lock().iter().cloned().collect()
    }
}

fn name_of<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("legal name")
}

fn pull(guid: &str, stream: &str) -> Value {
    with(
        guid,
        stream,
        json!({"action": "create", "type": "rtmp", "rtmpUri": "rtmp://u:p@host/live/a?k=1", "persist": "false"}),
    )
}

fn push(guid: &str, stream: &str) -> Value {
    with(
        guid,
        stream,
        json!({"type": "rtmp-push", "rtmpUri": "rtmp://host/app/key"}),
    )
}

fn with(guid: &str, stream: &str, properties: Value) -> Value {
    json!({"provisionGuid": guid, "streams": [{"streamGuid": stream, "abrLevel": 0, "camParams": {"properties": properties}}]})
}

fn guid(text: &str) -> ProvisionGuid {
    name_of(text)
}

#[tokio::test]
async fn a_provision_lives_with_its_name_and_goes_with_it() {
    let bench = Bench::new();
    bench
        .create(json!([pull("rtmppull1", "live/pull1")]))
        .await
        .expect("creates");
    assert_eq!(
        bench.keys().await,
        [
            "names/nodegroup1/live/pull1",
            "provisions/nodegroup1/rtmppull1"
        ]
    );
    assert_eq!(bench.reserved(), ["live/pull1"]);
    let found = bench
        .service
        .matching(&bench.group, &name_of("live/pull1"))
        .await
        .expect("reads");
    assert_eq!(found, [guid("rtmppull1")]);
    let deleted = bench
        .service
        .delete(&bench.group, &guid("rtmppull1"))
        .await
        .expect("deletes");
    assert_eq!(deleted.fed, [name_of::<StreamGuid>("live/pull1")]);
    assert!(bench.keys().await.is_empty());
    let again = bench.service.delete(&bench.group, &guid("rtmppull1")).await;
    assert!(matches!(again, Err(Error::Unknown(_))));
}

#[tokio::test]
async fn a_request_is_done_whole_or_not_at_all() {
    let bench = Bench::new();
    bench
        .create(pull("first", "live/a"))
        .await
        .expect("a single object will do");
    let before = bench.keys().await;
    let taken = bench
        .create(json!([pull("second", "live/b"), pull("first", "live/c")]))
        .await;
    assert!(
        matches!(taken, Err(Error::Exists(ref name)) if name.as_str() == "first"),
        "{taken:?}"
    );
    let held = bench
        .create(json!([pull("second", "live/b"), pull("third", "live/a")]))
        .await;
    assert!(
        matches!(held, Err(Error::NameHeld(ref name)) if name.as_str() == "live/a"),
        "{held:?}"
    );
    let live = bench
        .create(json!([
            pull("second", "live/b"),
            pull("third", "live/taken")
        ]))
        .await;
    assert!(matches!(live, Err(Error::NameLive(_))), "{live:?}");
    let unknown = bench
        .update(json!([pull("first", "live/a"), pull("absent", "live/x")]))
        .await;
    assert!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
    assert_eq!(bench.keys().await, before);
    assert_eq!(
        bench.reserved(),
        ["live/a"],
        "a refusal frees what it took and no more"
    );
}

#[tokio::test]
async fn of_many_creates_of_one_name_one_wins() {
    let bench = Arc::new(Bench::new());
    let tries = (0..16).map(|n| {
        let bench = bench.clone();
        tokio::spawn(async move { bench.create(pull(&format!("p-{n}"), "live/a")).await })
    });
    let results = futures_util::future::join_all(tries).await;
    let won = results
        .into_iter()
        .filter(|result| matches!(result, Ok(Ok(_))))
        .count();
    assert_eq!(
        (won, bench.reserved().len(), bench.keys().await.len()),
        (1, 1, 2)
    );
}

#[tokio::test]
async fn a_name_whose_write_got_no_answer_is_left_to_the_store_to_decide() {
    let bench = Bench::new();
    let reach = Arc::new(Reach::to(bench.store.clone()));
    reach.cut.store(true, Ordering::Relaxed);
    let is_self: IsSelf = Arc::new(|_, _| false);
    let names = bench.names.clone();
    let service = Service::new(reach, Arc::new(TwoTypes), names, Config { is_self });
    let body = json!([pull("p-1", "live/a"), pull("p-2", "live/b")]).to_string();
    let refused = service.create(&bench.group, body.as_bytes()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(*bench.names.undecided.lock(), ["live/a", "live/b"]);
    let under_way = bench.names.under_way.lock().clone();
    assert_eq!(under_way, ["live/a", "live/b"], "kept until then");
}

#[tokio::test]
async fn readers_share_a_stream_and_are_found_after_its_feeder() {
    let bench = Bench::new();
    for body in [
        push("push1", "live/a"),
        pull("pull1", "live/a"),
        push("push2", "live/a"),
        push("push3", "live/a/b"),
    ] {
        bench.create(body).await.expect("creates");
    }
    let found = bench
        .service
        .matching(&bench.group, &name_of("live/a"))
        .await
        .expect("reads");
    assert_eq!(found, [guid("pull1"), guid("push1"), guid("push2")]);
    bench
        .service
        .delete(&bench.group, &guid("push1"))
        .await
        .expect("deletes");
    assert_eq!(
        bench
            .service
            .matching(&bench.group, &name_of("live/a"))
            .await
            .expect("reads")
            .len(),
        2
    );
    assert_eq!(bench.reserved(), ["live/a"]);
}

#[tokio::test]
async fn secrets_are_masked_and_a_mask_that_comes_back_keeps_them() {
    let bench = Bench::new();
    let mut sent = with(
        "p-1",
        "live/a",
        json!({"type": "pull", "rtmpUri": "rtmp://u:p@host/live/a?k=1", "bearer": 12345, "extra": true}),
    );
    sent["credentials"] = json!({"username": "me", "password": "secret"});
    sent["myField"] = json!({"kept": [1.0, null]});
    bench.create(sent.clone()).await.expect("creates");
    let mut shown = bench
        .service
        .show(&bench.group, &guid("p-1"))
        .await
        .expect("shows");
    let properties = &shown["streams"][0]["camParams"]["properties"];
    assert_eq!(properties["rtmpUri"], "rtmp://***@host/live/a?***");
    assert_eq!(
        (&properties["bearer"], &properties["extra"]),
        (&json!("***"), &json!(true))
    );
    assert_eq!(
        shown["credentials"],
        json!({"username": "***", "password": "***"})
    );
    assert_eq!(shown["myField"], sent["myField"]);

    shown["streams"][0]["camParams"]["properties"]["extra"] = json!(7);
    bench.update(json!([shown])).await.expect("updates");
    let stored = bench
        .service
        .get(&bench.group, &guid("p-1"))
        .await
        .expect("reads");
    let expected = [
        ("rtmpUri", "rtmp://u:p@host/live/a?k=1"),
        ("bearer", "12345"),
        ("extra", "7"),
    ];
    assert_eq!(
        stored.streams[0].properties,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    assert_eq!(
        stored.document.as_object()["credentials"],
        sent["credentials"]
    );
    assert!(!format!("{stored:?}").contains("secret") && !format!("{stored:?}").contains("k=1"));
}

#[tokio::test]
async fn a_mask_does_not_send_a_kept_password_elsewhere() {
    let bench = Bench::new();
    bench.create(pull("p-1", "live/a")).await.expect("creates");
    for uri in [
        "rtmp://***@evil/live/a?***",
        "rtmp://***@host/live/a",
        "rtmp://other/live/a?***",
    ] {
        let refused = bench
            .update(with(
                "p-1",
                "live/a",
                json!({"type": "rtmp", "rtmpUri": uri}),
            ))
            .await;
        let Err(Error::Invalid(invalid)) = refused else {
            panic!("{uri}: {refused:?}")
        };
        assert_eq!(
            invalid.field.as_deref(),
            Some("streams[0].camParams.properties.rtmpUri")
        );
    }
    let fresh = with(
        "p-2",
        "live/b",
        json!({"type": "rtmp", "rtmpUri": "rtmp://h/a/b", "token": "***"}),
    );
    assert_eq!(
        bench.field(fresh).await,
        "streams[0].camParams.properties.token"
    );
}

#[tokio::test]
async fn the_stream_key_of_a_push_is_masked() {
    let bench = Bench::new();
    bench
        .create(push("push1", "live/a"))
        .await
        .expect("creates");
    let shown = bench
        .service
        .list(&bench.group, None, None)
        .await
        .expect("lists");
    assert_eq!(
        shown[0]["streams"][0]["camParams"]["properties"]["rtmpUri"],
        "rtmp://host/app/***"
    );
}

#[tokio::test]
async fn an_update_keeps_the_streams_and_may_change_the_type() {
    let bench = Bench::new();
    bench.create(pull("p-1", "live/a")).await.expect("creates");
    let moved = bench.update(pull("p-1", "live/b")).await;
    assert!(matches!(moved, Err(Error::StreamsChanged(_))), "{moved:?}");
    bench
        .update(push("p-1", "live/a"))
        .await
        .expect("now it reads");
    assert_eq!(
        bench.keys().await,
        [
            "provisions/nodegroup1/p-1",
            "readers/nodegroup1/live/a//p-1"
        ]
    );
    bench
        .update(pull("p-1", "live/a"))
        .await
        .expect("now it feeds again");
    assert_eq!(bench.reserved(), ["live/a"]);
}

#[tokio::test]
async fn pages_follow_each_other() {
    let bench = Bench::new();
    for n in 0..5 {
        bench
            .create(pull(&format!("p-{n}"), &format!("live/{n}")))
            .await
            .expect("creates");
    }
    let all = bench
        .service
        .list(&bench.group, None, None)
        .await
        .expect("lists");
    let page = bench
        .service
        .list(&bench.group, Some(&guid("p-1")), Some(2))
        .await
        .expect("lists");
    assert_eq!((all.len(), page.as_slice()), (5, &all[2..4]));
    assert!(
        bench
            .service
            .list(&name_of("nodegroup"), None, None)
            .await
            .expect("lists")
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_wrong_is_named_by_its_path() {
    let bench = Bench::new();
    let uri = "streams[0].camParams.properties.rtmpUri";
    let properties = |properties: Value| with("p-1", "live/a", properties);
    assert_eq!(
        bench
            .field(properties(json!({"type": "rtmp", "rtmpUri": "http://x"})))
            .await,
        uri
    );
    assert_eq!(
        bench
            .field(properties(json!({"type": "rtmp", "rtmpUri": ["x"]})))
            .await,
        uri
    );
    assert_eq!(
        bench
            .field(properties(
                json!({"type": "rtmp", "rtmpUri": "rtmp://localhost/live/a"})
            ))
            .await,
        uri
    );
    let many = json!([
        pull("p-1", "live/a"),
        with("p-2", "live/b", json!({"type": "rtmp"}))
    ]);
    assert_eq!(bench.field(many).await, format!("[1].{uri}"));
    assert_eq!(
        bench.field(properties(json!({"type": "sdi"}))).await,
        "streams[0].camParams.properties.type"
    );
    assert_eq!(
        bench.field(properties(json!({}))).await,
        "streams[0].camParams.properties.type"
    );
    assert_eq!(
        bench
            .field(properties(json!({"type": "rtmp", "action": "kill"})))
            .await,
        "streams[0].camParams.properties.action"
    );
    assert_eq!(
        bench
            .field(properties(json!({"type": "rtmp", "persist": "maybe"})))
            .await,
        "streams[0].camParams.properties.persist"
    );
    assert_eq!(
        bench.field(json!({"provisionGuid": "p-1"})).await,
        "streams"
    );
    assert_eq!(
        bench
            .field(json!({"provisionGuid": "p-1", "streams": []}))
            .await,
        "streams"
    );
    assert_eq!(bench.field(json!({"streams": []})).await, "provisionGuid");
    assert_eq!(bench.field(pull("probe", "live/a")).await, "provisionGuid");
    assert_eq!(
        bench.field(pull("p-1", "nolslash")).await,
        "streams[0].streamGuid"
    );
    assert_eq!(
        bench
            .field(json!([pull("p-1", "live/a"), pull("p-1", "live/b")]))
            .await,
        "[1].provisionGuid"
    );
    assert_eq!(
        bench
            .field(json!([pull("p-1", "live/a"), pull("p-2", "live/a")]))
            .await,
        "[1].streams[0].streamGuid"
    );
    assert_eq!(bench.field(json!([1])).await, "[0]");
    assert_eq!(bench.field(json!(1)).await, "");
}

#[tokio::test]
async fn a_latency_is_the_hosts_and_only_a_feeders() {
    let bed = Bench::new();
    let sent = |kind: &str, latency: Value| {
        with(
            "p-1",
            "live/a",
            json!({"type": kind, "rtmpUri": "rtmp://host/app/key", "latency": latency}),
        )
    };
    let field = "streams[0].camParams.properties.latency";
    assert_eq!(bed.field(sent("rtmp-push", json!("low"))).await, field);
    for bad in [json!(1_001), json!("20 ms"), json!(true), json!([20])] {
        assert_eq!(bed.field(sent("rtmp", bad)).await, field);
    }
    bed.create(sent("rtmp", json!("250"))).await.expect("legal");
    let provision = bed.service.get(&bed.group, &guid("p-1")).await;
    let stream = provision.expect("stored").streams.remove(0);
    assert_eq!(stream.latency, Latency::millis(250).ok());
    let keys: Vec<_> = stream.properties.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["rtmpUri"], "the plugin does not see it");
}

#[tokio::test]
async fn the_bounds_of_optional_fields_hold() {
    let bench = Bench::new();
    let cases = [
        ("abrLevel", json!(-1), "streams[0].abrLevel"),
        ("abrLevel", json!("x"), "streams[0].abrLevel"),
        ("destUri", json!("x".repeat(4097)), "streams[0].destUri"),
        (
            "videoParams",
            json!({"videoWidth": 1}),
            "streams[0].videoParams.videoWidth",
        ),
        (
            "videoParams",
            json!({"videoQpMin": 9, "videoQpMax": 8}),
            "streams[0].videoParams.videoQpMin",
        ),
        (
            "videoParams",
            json!({"videoProfile": "ultra"}),
            "streams[0].videoParams.videoProfile",
        ),
        ("groupParams", json!({}), "streams[0].groupParams.group"),
        (
            "cloudParams",
            json!({"bucketName": "ab"}),
            "streams[0].cloudParams.bucketName",
        ),
    ];
    for (key, value, field) in cases {
        let mut body = pull("p-1", "live/a");
        body["streams"][0][key] = value;
        assert_eq!(bench.field(body).await, field);
    }
    let cases = [
        (
            "credentials",
            json!({"password": "pw"}),
            "credentials.username",
        ),
        ("credentials", json!({"username": "me"}), "credentials"),
        ("capabilities", json!(["FLY"]), "capabilities[0]"),
        ("geoRules", json!([]), "geoRules"),
    ];
    for (key, value, field) in cases {
        let mut body = pull("p-1", "live/a");
        body[key] = value;
        assert_eq!(bench.field(body).await, field);
    }
}

#[tokio::test]
async fn a_full_request_fits_one_transaction_and_a_fuller_one_is_refused() {
    let bench = Bench::new();
    let full: Vec<Value> = (0..32)
        .map(|n| pull(&format!("p-{n}"), &format!("live/{n}")))
        .collect();
    bench.create(json!(full)).await.expect("fits");
    let pushes: Vec<Value> = (0..32)
        .map(|n| push(&format!("p-{n}"), &format!("live/{n}")))
        .collect();
    bench
        .update(json!(pushes))
        .await
        .expect("the most writes there can be");
    let too_many: Vec<Value> = (0..33)
        .map(|n| pull(&format!("q-{n}"), &format!("live/q{n}")))
        .collect();
    assert_eq!(bench.field(json!(too_many)).await, "");
    let mut wide = pull("wide", "live/w");
    wide["streams"] = (0..33)
        .map(|n| pull("x", &format!("live/w{n}"))["streams"][0].clone())
        .collect();
    assert_eq!(bench.field(wide).await, "streams");
}

#[test]
fn a_stored_provision_reads_the_same_without_its_plugin() {
    let mut sent = pull("ignored", "live/a");
    sent["provisionGuid"].take();
    sent["streamGuid"] = json!("live/old");
    sent["streams"][0]["camParams"]["properties"]["type"] = json!("pull");
    let request = spec::requests(sent.to_string().as_bytes())
        .expect("reads")
        .remove(0);
    let provision = spec::provision(request.document, "", Verb::Create, &|_, name| {
        TwoTypes.kind_of(name)
    })
    .expect("good");
    assert_eq!(provision.guid, guid("live/old"));
    let again = Provision::from_document(&provision.to_document()).expect("reads");
    assert_eq!(again, provision);
    assert_eq!(again.streams[0].kind.as_str(), "rtmp");
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"document":{},"streams":[]}"#,
        r#"{"document":1,"streams":[]}"#,
    ] {
        assert!(Provision::from_document(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn deep_or_broken_json_is_refused_without_harm() {
    for body in [
        "[".repeat(200_000),
        "{".into(),
        "[{\"provisionGuid\":}]".into(),
        String::new(),
        "\u{feff}[]".into(),
    ] {
        let invalid = spec::requests(body.as_bytes()).err().expect("refused");
        assert!(
            invalid.field.is_none() && invalid.to_string().starts_with("the body"),
            "{invalid}"
        );
    }
}

#[tokio::test]
async fn an_unreadable_provision_hides_no_other_and_can_be_deleted() {
    let bench = Bench::new();
    let other = bench.create(pull("fine", "live/a")).await;
    other.expect("creates");
    let fine = bench.store.get("provisions/nodegroup1/fine").await;
    let fine = fine.expect("reads").expect("is there").value;
    let broken = Txn::new()
        .put("provisions/nodegroup1/broken", "{}")
        .put("provisions/nodegroup1/moved", fine)
        .put("names/nodegroup1/live/b", "broken")
        .put("readers/nodegroup1/live/a//broken", "broken")
        .put("assignments/nodegroup1/broken", "?");
    bench.store.txn(broken).await.expect("writes");
    let list = bench.service.list(&bench.group, None, None).await;
    let list = list.expect("lists");
    assert_eq!(list.len(), 1, "{list:?}");
    for name in ["broken", "moved"] {
        let shown = bench.service.show(&bench.group, &guid(name)).await;
        assert!(matches!(shown, Err(Error::Broken(_))), "{shown:?}");
        let deleted = bench.service.delete(&bench.group, &guid(name)).await;
        deleted.expect("deletes");
    }
    assert_eq!(
        bench.keys().await,
        ["names/nodegroup1/live/a", "provisions/nodegroup1/fine"]
    );
}

#[tokio::test]
async fn the_longest_names_fit_the_store() {
    let bench = Bench::new();
    let (stream, name) = (format!("live/{}", "s".repeat(1019)), "p".repeat(256));
    bench.create(pull(&name, &stream)).await.expect("feeds");
    let reader = "r".repeat(256);
    bench.create(push(&reader, &stream)).await.expect("reads");
    let about = bench
        .service
        .matching(&bench.group, &name_of(&stream))
        .await;
    assert_eq!(about.expect("finds"), [guid(&name), guid(&reader)]);
    let field = bench.field(pull("p-2", &format!("{stream}s"))).await;
    assert_eq!(field, "streams[0].streamGuid");
}

#[tokio::test]
async fn what_says_it_is_an_rtmp_url_is_one_or_is_refused_by_name() {
    let bench = Bench::new();
    let pull = |key: &str, value: &str| {
        let properties = json!({"type": "rtmp", "rtmpUri": "rtmp://host/live/a", key: value});
        json!([with("p-1", "live/a", properties)])
    };
    for bad in [
        "rtmp://host:99999/live/a",
        "rtmp://ho st/live/a",
        "RTMPS://host/live/a\u{2028}",
        "rtmp://",
    ] {
        let field = bench.field(pull("rtmpUri", bad)).await;
        assert_eq!(field, "streams[0].camParams.properties.rtmpUri", "{bad}");
    }
    let list = "rtmp://host/live/a, rtmp://host:0x/live/b";
    let field = bench.field(pull("rtmpUris", list)).await;
    assert_eq!(field, "streams[0].camParams.properties.rtmpUris");
    let good = "rtmp://host/live/a?x=1,2 , rtmps://[::1]:1936/live/b";
    bench.create(pull("rtmpUris", good)).await.expect("creates");
}
