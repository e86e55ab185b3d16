//! Who may publish and play, when the node asks for stream tokens.

use std::process::Command;

use restreamd_tests::clip::Clip;
use restreamd_tests::ffmpeg;
use restreamd_tests::host::{Builder, JWT_SECRET};
use restreamd_tests::proc::Running;
use restreamd_tests::token::{admin_claims, sign, stream_claims};

use crate::{SOON, node};

fn guarded() -> Builder {
    node()
        .set("rtmp.publish", "token")
        .set("rtmp.play", "token")
}

fn with_token(url: &str, token: &str) -> String {
    format!("{url}?token={token}")
}

#[test]
fn publish_and_play_ask_for_a_stream_token_of_their_own_kind() {
    let clip = Clip::small();
    let host = guarded().start();
    let url = host.url("live/cam");
    let publish = sign(JWT_SECRET, &stream_claims("publish", "live/*", 600));
    let play = sign(JWT_SECRET, &stream_claims("play", "live/*", 600));
    let admin = sign(JWT_SECRET, &admin_claims(600));
    for bad in [
        url.clone(),
        with_token(&url, "garbage"),
        with_token(&url, &play),
        with_token(&url, &admin),
        with_token(
            &url,
            &sign(JWT_SECRET, &stream_claims("publish", "live/*", -600)),
        ),
        with_token(
            &url,
            &sign(JWT_SECRET, &stream_claims("publish", "other/*", 600)),
        ),
    ] {
        let status = ffmpeg::publish(&clip, &bad).wait(SOON);
        assert!(!status.success(), "published with {bad}");
    }
    let api = host.client();
    assert!(api.streams().is_empty());
    let _publisher = ffmpeg::publish(&clip, &with_token(&url, &publish));
    api.wait_for_stream("live/cam", SOON);
    for bad in [
        url.clone(),
        with_token(&url, &publish),
        with_token(&url, &admin),
    ] {
        assert!(!ffmpeg::plays(&bad), "played with {bad}");
    }
    assert!(ffmpeg::plays(&with_token(&url, &play)));
}

#[test]
fn stream_token_is_no_admin_token() {
    let host = guarded().start();
    let publish = sign(JWT_SECRET, &stream_claims("publish", "live/*", 600));
    let answer = host
        .client()
        .anonymous()
        .with_token(&publish)
        .get("/as/v1/plugins");
    assert!(matches!(answer.status, 401 | 403), "{answer:?}");
    answer.error(answer.status);
}

fn made(builder: &Builder, arguments: &[&str]) -> String {
    let config = builder.write_config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command
        .arg("token")
        .arg("--config")
        .arg(&config)
        .args(arguments);
    let mut running = Running::start(&mut command, "restreamd");
    let status = running.wait(SOON);
    assert!(status.success(), "{}", running.stderr.text());
    running.stdout.text().trim().to_owned()
}

#[test]
fn the_command_makes_each_kind_of_token() {
    let clip = Clip::small();
    let builder = guarded();
    let host = builder.clone().start();
    let admin = made(&builder, &[]);
    let api = host.client().anonymous().with_token(&admin);
    api.get("/as/v1/plugins").list();
    let url = host.url("live/cam");
    let _publisher = ffmpeg::publish(
        &clip,
        &with_token(&url, &made(&builder, &["--publish", "live/*"])),
    );
    api.wait_for_stream("live/cam", SOON);
    assert!(ffmpeg::plays(&with_token(
        &url,
        &made(&builder, &["--play", "live/*"])
    )));
    assert!(!ffmpeg::plays(&with_token(
        &url,
        &made(&builder, &["--play", "elsewhere/*"])
    )));
}

#[test]
fn the_command_makes_no_secret_where_no_node_is() {
    let builder = node().without("jwt_secret").without("admin_password");
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command
        .arg("token")
        .arg("--config")
        .arg(builder.write_config());
    let mut running = Running::start(&mut command, "restreamd");
    assert!(!running.wait(SOON).success());
    let (said, data) = (running.stderr.text(), builder.folder().join("data"));
    assert_eq!(said.lines().count(), 1, "{said}");
    let file = data.join("jwt_secret");
    assert!(said.contains(file.to_str().expect("UTF-8")), "{said}");
    assert!(running.stdout.text().is_empty() && !data.exists());
    // With a node there, its secret is the one that counts.
    let host = builder.clone().start();
    let api = restreamd_tests::api::Api::new(host.api);
    let token = made(&builder, &[]);
    api.with_token(&token).get("/as/v1/plugins").list();
}

#[test]
fn closed_stream_routes_ask_for_the_admin_token() {
    let host = node().set("api.stream_routes", "jwt").start();
    let api = host.client();
    api.anonymous()
        .get("/as/v1/streams/stream/nodegroup1")
        .error(401);
    api.streams();
    let list = api.get("/as/v1/streams/stream/nodegroup1").list();
    assert!(list.is_empty(), "{list:?}");
}
