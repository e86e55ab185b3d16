//! The `resolve` type: an HTTP server of the operator gives the URL before every attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::Builder;
use restreamd_tests::player::Player;
use restreamd_tests::plugins;
use restreamd_tests::provision::Provision;
use restreamd_tests::resolver::{Resolver, Said};
use restreamd_tests::source::Source;
use toml::{Table, Value};

use crate::{SOON, node};

const SECRET: &str = "sesame-3917";

/// A node that grants the type these hosts.
fn granting(http: &[&str]) -> Builder {
    let list = http
        .iter()
        .map(|host| Value::from(*host))
        .collect::<Vec<_>>();
    let grants = Table::from_iter([("http".to_owned(), Value::from(list))]);
    let of_type = Table::from_iter([("grants".to_owned(), Value::from(grants))]);
    let overrides = Table::from_iter([("resolve".to_owned(), Value::from(of_type))]);
    node().plugin("resolve").set("plugins.overrides", overrides)
}

fn resolved(endpoint: &str) -> Provision {
    Provision::of_type("resolve", "resolved", "live/room/pull1").with("endpoint", endpoint)
}

#[test]
fn each_attempt_asks_for_a_url_and_its_token_is_nobodys_to_see() {
    let source = Source::open(&Clip::small());
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, addr) = (asked.clone(), source.addr());
    let resolver = Resolver::open(move |_| {
        let token = count.fetch_add(1, Ordering::SeqCst);
        Said::text(
            200,
            &format!("rtmp://{addr}/live/stream1?token=expires-{token}\n"),
        )
    });
    let host = granting(&[&resolver.addr().to_string()])
        .set("log.filter", "restreamd=trace,info")
        .start();
    let api = host.client();
    let provision = resolved(&resolver.url("/token?for=cam")).with("authorization", SECRET);
    api.start(&provision);
    let status = api.wait_for_state(provision.guid(), "LIVE", SOON);
    let shown = format!("rtmp://{addr}/live/stream1?***");
    assert_eq!(status["source"], shown, "{status}");
    let player = Player::attach(&host.url("live/room/pull1"));
    player.wait_for_more(60, SOON);
    source.hang_up();
    eventually("it asks again", SOON, || {
        let asked = asked.load(Ordering::SeqCst);
        when(asked == 2, || asked.to_string())
    });
    player.wait_for_more(60, SOON);
    player.assert_attached();
    let plays = source.commands("play");
    assert!(format!("{plays:?}").contains("expires-1"), "{plays:?}");
    let head = resolver.asked()[0].clone();
    let line = "get /token?for=cam&streamguid=live/room/pull1 http/1.1";
    assert!(head.starts_with(line), "{head}");
    assert!(head.contains(&format!("authorization: {SECRET}")), "{head}");
    let shown = api
        .get(&restreamd_tests::api::provision_path("/resolved"))
        .text;
    assert!(!shown.contains(SECRET), "{shown}");
    api.delete(provision.guid());
    let logs = host.logs().join("\n");
    assert!(
        !logs.contains(SECRET) && !logs.contains("expires-"),
        "{logs}"
    );
}

#[test]
fn what_the_endpoint_says_instead_is_why_there_is_no_media() {
    let resolver = Resolver::open(|head| match head {
        head if head.contains("/denied") => Said::text(403, "no"),
        head if head.contains("/absent") => Said::text(404, "no"),
        head if head.contains("/moved") => Said::redirect("http://127.0.0.1:1/"),
        head if head.contains("/nonsense") => Said::text(200, "ftp://a/b"),
        _ => Said::text(200, &"x".repeat(70_000)),
    });
    let host = granting(&["127.0.0.1"]).start();
    let api = host.client();
    for (number, (path, says)) in [
        ("/denied", "auth: the endpoint answered 403"),
        ("/absent", "not-found: the endpoint answered 404"),
        ("/moved", "rejected: the endpoint answered 302"),
        ("/nonsense", "invalid: bad URL"),
        ("/long", "limit: 127.0.0.1 answers with more than 64 KiB"),
    ]
    .into_iter()
    .enumerate()
    {
        let guid = format!("resolved{number}");
        let provision = Provision::of_type("resolve", &guid, &format!("live/pull{number}"))
            .with("endpoint", resolver.url(path));
        api.start(&provision);
        let status = api.wait_for_phase(&guid, "backing-off", SOON);
        let text = status["statusText"].as_str().unwrap_or_default();
        assert!(text.starts_with(says), "{path}: {status}");
    }
}

#[test]
fn only_hosts_that_were_granted_are_asked() {
    let resolver = Resolver::open(|_| Said::text(200, "rtmp://127.0.0.1:9/live/s"));
    let host = granting(&["other.example"]).start();
    let api = host.client();
    let provision = resolved(&resolver.url("/"));
    api.start(&provision);
    let status = api.wait_for_phase(provision.guid(), "backing-off", SOON);
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("blocked: grants.http"), "{status}");
    assert!(resolver.asked().is_empty());
    // The dial policy holds for what was granted, too.
    let host = granting(&["127.0.0.1"])
        .set("dial.allow", Vec::<String>::new())
        .start();
    let api = host.client();
    api.start(&provision);
    let status = api.wait_for_phase(provision.guid(), "backing-off", SOON);
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("blocked: the dial policy"), "{status}");
    assert!(resolver.asked().is_empty());
}

#[test]
fn without_the_grant_it_is_not_admitted_and_the_reason_says_what_to_add() {
    let host = node().plugin("resolve").announce("resolve").start();
    let plugin = host.client().plugin("resolve");
    let error = plugin["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("[plugins.overrides.resolve.grants]"),
        "{plugin}"
    );
}

#[test]
fn an_answer_that_does_not_come_holds_up_neither_an_upgrade_nor_a_stop() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let resolver = Resolver::open(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        // Longer than anybody waits here.
        std::thread::park_timeout(Duration::from_secs(60));
        Said::text(200, "rtmp://127.0.0.1:9/live/s")
    });
    let host = granting(&["127.0.0.1"]).start();
    let api = host.client();
    let provision = resolved(&resolver.url("/"));
    api.start(&provision);
    let asked = |times: usize| {
        eventually("it asks", SOON, || {
            let asked = count.load(Ordering::SeqCst);
            when(asked == times, || asked.to_string())
        });
    };
    asked(1);
    let before = api.plugin("resolve")["digest"].clone();
    let dir = host.folder().join("plugins");
    plugins::put(&dir, "resolve", &plugins::build("resolve", 2));
    eventually("it runs on the other build", SOON, || {
        let plugin = api.plugin("resolve");
        let moved = plugin["digest"] != before && plugin["instances"] == 1;
        when(moved && plugin["formerInstances"] == 0, || {
            plugin.to_string()
        })
    });
    asked(2);
    let unanswered = api.counter("restreamd_plugin_upgrades_unanswered_total");
    assert_eq!(unanswered, 0.0);
    api.delete(provision.guid());
    // Less than the grace after which it would be dropped, and the node would say so.
    eventually("it is gone", SOON, || {
        let plugin = api.plugin("resolve");
        when(plugin["instances"] == 0, || plugin.to_string())
    });
    assert_eq!(api.counter("restreamd_plugin_crashes_total"), 0.0);
}
