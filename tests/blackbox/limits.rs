//! Limits of the node, of an app and of an address: each at its bound, where newcomers
//! are told which one it is, and where leaving makes room again.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::ffmpeg;
use restreamd_tests::host::TestHost;
use restreamd_tests::http_flv::Recorder;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{SOON, node};

/// A player that is let in, once there is room.
fn let_in(url: &str) -> Player {
    eventually("there is room for a player", SOON, || {
        let player = Player::attach(url);
        eventually("it is let in or not", SOON, || {
            let answered = player.count() > 0 || player.gone().is_some();
            when(answered, || "neither".to_owned())
        });
        player.gone().map_or(Ok(player), Err)
    })
}

/// What a player that is not let in was told.
fn refused(url: &str) -> String {
    let player = Player::attach(url);
    eventually("the player is refused", SOON, || {
        player
            .gone()
            .ok_or_else(|| format!("{} frames", player.count()))
    })
}

/// What somebody is told who asks for HTTP-FLV; empty when there is a response. One
/// request: at a limit the next may get another answer.
fn refused_flv(host: &TestHost, name: &str) -> String {
    refused_flv_from([127, 0, 0, 1], host, name)
}

fn refused_flv_from(from: [u8; 4], host: &TestHost, name: &str) -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from((from, 0));
    socket.bind(&from.into()).expect("an address of loopback");
    socket.connect(&host.api.into()).expect("the node listens");
    let mut stream = TcpStream::from(socket);
    let wait = stream.set_read_timeout(Some(SOON));
    wait.expect("a socket of ours");
    let request = format!("GET /flv/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("the node reads");
    let mut text = [0; 12];
    stream.read_exact(&mut text).expect("a status line");
    if &text[9..] == b"200" {
        return String::new();
    }
    assert_eq!(&text, b"HTTP/1.1 503");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("an answer");
    let body = rest.split("\r\n\r\n").nth(1).unwrap_or_default();
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["code"], "at-limit", "{body}");
    body["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_http_listener_without_room_answers_503_and_serves_when_a_connection_leaves() {
    let host = node()
        .set("api.connections", 2)
        .set("flv.subscribers", 1)
        .start();
    let api = host.client();
    let mut idle = Vec::new();
    // The places of the client's own connections become free while they are taken.
    let told = eventually("there is no room", SOON, || {
        idle.push(TcpStream::connect(host.api).expect("the node listens"));
        let answer = api.get("/healthz");
        when(answer.status == 503, || format!("{answer:?}")).map(|()| answer)
    });
    assert!(idle.len() >= 3, "only {} places", idle.len());
    assert_eq!(
        told.error(503)["error"],
        "the node is at its limit, api.connections"
    );
    idle.clear();
    eventually("there is room again", SOON, || {
        let answer = api.get("/healthz");
        when(answer.status == 200, || format!("{answer:?}"))
    });
    assert!(refusals(&api, "api.connections", "node") >= 1);
}

fn refusals(api: &Api, limit: &str, scope: &str) -> u64 {
    // A connection that has just been closed may still have its place.
    let text = eventually("/metrics answers", SOON, || {
        let answer = api.anonymous().get("/metrics");
        when(answer.status == 200, || format!("{answer:?}")).map(|()| answer.text)
    });
    let sample = format!("restreamd_limits_refusals_total{{limit=\"{limit}\",scope=\"{scope}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn is_closed(connection: &mut TcpStream) -> Option<()> {
    connection.set_nonblocking(true).expect("a socket of ours");
    let read = connection.read(&mut [0]);
    (!read.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)).then_some(())
}

fn try_distribute(api: &Api, stream: &str) -> restreamd_tests::api::Answer {
    api.get(&format!(
        "/as/v1/streams/stream/default/publish/{stream}?restream=true"
    ))
}

#[test]
fn pulls_are_bounded_for_the_node_and_for_an_app_and_a_deletion_makes_room() {
    let source = Source::open(&Clip::small());
    let host = node()
        .set("limits.pulls", 2)
        .set("apps.studio", toml::toml! { pulls = 1 })
        .start();
    let api = host.client();
    for stream in ["studio/a", "studio/room/b", "live/a", "live/b"] {
        let guid = format!("p-{}", stream.replace('/', "-"));
        api.create(&Provision::pull(&guid, stream, &source.url("live/s")));
    }
    let full = |stream: &str, key: &str| {
        let body = try_distribute(&api, stream).error(503);
        let text = body["error"].as_str().unwrap_or_default();
        assert!(text.ends_with(key), "{stream}: {body}");
    };
    try_distribute(&api, "studio/a").list();
    full("studio/room/b", ", apps.studio.pulls");
    try_distribute(&api, "live/a").list();
    full("live/b", ", limits.pulls");
    api.delete("p-studio-a");
    try_distribute(&api, "studio/room/b").list();
    assert_eq!(refusals(&api, "limits.pulls", "app"), 1);
}

#[test]
fn a_reader_without_a_place_does_not_keep_its_stream_from_being_fed() {
    let source = Source::open(&Clip::small());
    let host = node().set("limits.pulls", 1).plugin("rtmp-push").start();
    let api = host.client();
    api.create(&Provision::pull("fed-one", "live/a", &source.url("live/s")));
    let push = Provision::of_type("rtmp-push", "read-one", "live/a")
        .with("rtmpUri", "rtmp://127.0.0.1:9/live/x");
    api.create(&push);
    for _ in 0..2 {
        let placed = try_distribute(&api, "live/a").list();
        assert_eq!(placed[0]["provisionGuid"], "fed-one", "{placed:?}");
    }
    api.wait_for_state("fed-one", "LIVE", SOON);
    // Asked for by its own name it says why.
    let path = provision_path("/distribute/read-one");
    api.call("POST", &path, None).error(503);
}

#[test]
fn subscribers_are_bounded_over_both_protocols_and_leaving_makes_room() {
    let source = Source::open(&Clip::small());
    let host = node()
        .set("limits.subscribers", 3)
        .set("apps.studio", toml::toml! { subscribers = 2 })
        .start();
    let api = host.client();
    for (guid, stream) in [("one-pull", "studio/a"), ("two-pull", "live/a")] {
        api.start(&Provision::pull(guid, stream, &source.url("live/s")));
        api.wait_for_state(guid, "LIVE", SOON);
    }
    let first = Player::attach(&host.url("studio/a"));
    first.wait_for_more(20, SOON);
    let mut second = Recorder::start(&host.http("studio/a"), &[]);
    second.wait_for_more(10_000, SOON);
    let of_app = "the app is at its limit, apps.studio.subscribers";
    let told = refused(&host.url("studio/a"));
    assert!(
        told.contains("NetStream.Play.Failed") && told.contains(of_app),
        "{told}"
    );
    assert_eq!(refused_flv(&host, "studio/a"), of_app);
    assert!(!ffmpeg::plays(&host.url("studio/a")));

    let third = Player::attach(&host.url("live/a"));
    third.wait_for_more(20, SOON);
    let of_node = "the node is at its limit, limits.subscribers";
    let told = refused(&host.url("live/a"));
    assert!(
        told.contains("NetStream.Play.Failed") && told.contains(of_node),
        "{told}"
    );
    assert_eq!(refused_flv(&host, "live/a"), of_node);
    assert_eq!(refusals(&api, "limits.subscribers", "app"), 3);
    assert_eq!(refusals(&api, "limits.subscribers", "node"), 2);

    // Who was there has noticed nothing, and who leaves makes room.
    first.wait_for_more(20, SOON);
    second.wait_for_more(10_000, SOON);
    drop(third);
    eventually("an RTMP player's place is free", SOON, || {
        let told = refused_flv(&host, "live/a");
        when(told.is_empty(), || told)
    });
    drop(second);
    eventually("an HTTP-FLV player's place is free", SOON, || {
        let told = refused_flv(&host, "studio/a");
        when(told.is_empty(), || told)
    });
    let _again = let_in(&host.url("studio/a"));
    first.assert_attached();
}

#[test]
fn newcomers_are_refused_while_the_bytes_are_at_the_limit_and_who_is_there_stays() {
    let clip = Clip::small();
    let host = node()
        .set(
            "apps.studio",
            toml::toml! {
                bytes_per_second = 1000
                publish_bytes_per_second = 1000
            },
        )
        .start();
    let publisher = ffmpeg::publish(&clip, &host.url("studio/a"));
    let api = host.client();
    api.wait_for_stream("studio/a", SOON);
    let player = Player::attach(&host.url("studio/a"));
    player.wait_for_more(20, SOON);
    let full = "the app is at its limit, apps.studio.bytes_per_second";
    eventually("another player is refused", SOON, || {
        let told = refused_flv(&host, "studio/a");
        when(told == full, || told)
    });
    let told = refused(&host.url("studio/a"));
    assert!(
        told.contains("NetStream.Play.Failed") && told.contains(full),
        "{told}"
    );
    let mut second = ffmpeg::publish(&clip, &host.url("studio/b"));
    let status = second.wait(SOON);
    let said = second.stderr.text();
    assert!(!status.success(), "{said}");
    assert!(
        said.contains("apps.studio.publish_bytes_per_second"),
        "{said}"
    );
    player.wait_for_more(50, SOON);

    drop(player);
    eventually("there is room for a player", SOON, || {
        let told = refused_flv(&host, "studio/a");
        when(told.is_empty(), || told)
    });
    drop(publisher);
    eventually("there is room for a publisher", SOON, || {
        let mut again = ffmpeg::publish(&clip, &host.url("studio/c"));
        let live = || api.streams().iter().any(|s| s["streamGuid"] == "studio/c");
        eventually("it is let in or not", SOON, || {
            let answered = live() || again.ended().is_some();
            when(answered, || "neither".to_owned())
        });
        when(live(), || "refused".to_owned())
    });
    assert!(refusals(&api, "limits.publish_bytes_per_second", "app") >= 1);
}

#[test]
fn an_address_has_so_many_connections_and_the_next_is_told_in_its_answer_to_connect() {
    let source = Source::open(&Clip::small());
    let host = node().set("limits.connections_per_address", 2).start();
    let api = host.client();
    api.start(&Provision::pull(
        "one-pull",
        "live/a",
        &source.url("live/s"),
    ));
    let url = host.url("live/a");
    let first = Player::attach(&url);
    first.wait_for_more(20, SOON);
    let mut second = Recorder::start(&host.http("live/a"), &[]);
    second.wait_for_more(10_000, SOON);
    let full = "the address is at its limit, limits.connections_per_address";
    let told = refused(&url);
    assert!(told.contains("NetConnection.Connect.Rejected"), "{told}");
    assert!(told.contains(full), "{told}");
    assert_eq!(refused_flv(&host, "live/a"), full);
    let mut player = ffmpeg::player(&url);
    let status = player.wait(SOON);
    let said = player.stderr.text();
    assert!(!status.success() && said.contains(full), "{said}");
    // Another address has places of its own.
    assert_eq!(refused_flv_from([127, 0, 0, 2], &host, "live/a"), "");
    drop(second);
    eventually("a place is free", SOON, || {
        let told = refused_flv(&host, "live/a");
        when(told.is_empty(), || told)
    });
    let _again = let_in(&url);
    first.assert_attached();
    assert!(refusals(&api, "limits.connections_per_address", "node") >= 3);
}

#[test]
fn a_node_without_room_for_a_connection_says_so_and_serves_the_next_when_one_leaves() {
    let clip = Clip::small();
    let host = node().set("limits.connections", 2).start();
    let url = host.url("live/a");
    let _publisher = ffmpeg::publish(&clip, &url);
    let api = host.client();
    api.wait_for_stream("live/a", SOON);
    let player = Player::attach(&url);
    player.wait_for_more(20, SOON);
    let told = refused(&url);
    assert!(told.contains("NetConnection.Connect.Rejected"), "{told}");
    assert!(
        told.contains("the node is at its limit, limits.connections"),
        "{told}"
    );
    // Of those who say nothing 64 are waited for, though not for long; the rest is closed at once.
    let mut silent: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(host.rtmp).expect("the node listens"))
        .collect();
    for closed in [100 - 64, 100] {
        eventually("silent connections are closed", SOON, || {
            let count = silent.iter_mut().filter_map(is_closed).count();
            when(count >= closed, || format!("{count} of {closed}"))
        });
    }
    player.wait_for_more(50, SOON);
    drop(silent);
    drop(player);
    let_in(&url);
}
