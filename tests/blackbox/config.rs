//! Configuration: file, then environment, then flags; a bad key is one line and exit 64.

use std::fs;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::Builder;
use restreamd_tests::plugins::root;
use restreamd_tests::proc::Running;

use crate::{SOON, node};

/// What `sysexits.h` calls a usage error.
const USAGE: i32 = 64;

fn refused(builder: &Builder, key: &str) {
    let (status, said) = builder.run_to_end();
    one_line(status, &said, key);
}

fn one_line(status: ExitStatus, said: &str, key: &str) {
    assert_eq!(status.code(), Some(USAGE), "{said}");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(said.contains(key), "{key} is not named: {said}");
}

fn run(command: &mut Command) -> (ExitStatus, String) {
    let mut running = Running::start(command, "restreamd");
    let status = running.wait(Duration::from_secs(30));
    (status, running.stderr.text())
}

#[test]
fn reference_configuration_starts_a_node() {
    let builder = node();
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command
        .args(["serve", "--config"])
        .arg(root().join("host/restreamd.toml"))
        .current_dir(builder.folder());
    // What two nodes on one machine cannot share.
    command.args([
        "--api-listen",
        "127.0.0.1:0",
        "--rtmp-listen",
        "127.0.0.1:0",
    ]);
    let data = builder.folder().join("data");
    listens(command.arg("--data-dir").arg(&data));
    assert!(data.is_dir(), "it kept its state elsewhere");
}

/// # Panics
/// When the node does not come to listen.
fn listens(command: &mut Command) {
    let mut running = Running::start(command, "restreamd");
    eventually("it listens", Duration::from_secs(60), || {
        assert!(
            running.ended().is_none(),
            "it ended: {}",
            running.stderr.text()
        );
        let said = running.stderr.text();
        when(said.matches("listening").count() >= 2, || said.clone())
    });
}

#[test]
fn every_flag_is_a_key_of_the_reference_configuration() {
    let text = fs::read_to_string(root().join("host/restreamd.toml"))
        .expect("the reference configuration is in the tree");
    let mut running = Running::start(
        Command::new(env!("CARGO_BIN_EXE_restreamd")).args(["serve", "--help"]),
        "restreamd",
    );
    assert!(running.wait(SOON).success());
    let help = running.stdout.text();
    let flags = help
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"));
    let flags = flags.map(|f| {
        f.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
            .to_owned()
    });
    for flag in flags.filter(|f| !matches!(f.as_str(), "help" | "config" | "version")) {
        let key = flag.replace('-', "_");
        let named = text.lines().any(|line| {
            line.trim_start_matches(['#', ':', ' '])
                .starts_with(&format!("{key} ="))
        });
        assert!(named, "--{flag} has no key {key} in host/restreamd.toml");
    }
}

#[test]
fn unknown_keys_and_bad_values_are_one_line_and_exit_64() {
    refused(&node().set("no_such_key", 1), "no_such_key");
    refused(&node().set("limits.no_such_limit", 1), "no_such_limit");
    refused(&node().set("api_listen", "not an address"), "api_listen");
    refused(
        &node().set("dial.allow", vec!["300.0.0.0/8".to_owned()]),
        "allow",
    );
    refused(&node().set("jwt_secret", "short"), "jwt_secret");
    refused(&node().set("store", "carrier-pigeon"), "store");
    refused(
        &node().set("limits.connections", i64::MAX),
        "limits.connections",
    );
    refused(&node().set("log.filter", "restreamd=loud"), "log.filter");
    refused(&node().set("rtmp.idle_seconds", 0), "rtmp.idle_seconds");
    refused(
        &node().set("admin_password", "$argon2id$nonsense"),
        "admin_password",
    );
}

#[test]
fn missing_file_is_one_line_naming_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    let (status, said) = run(command.args(["serve", "--config", "/none/such.toml"]));
    one_line(status, &said, "/none/such.toml");
}

#[test]
fn unknown_flag_is_exit_64() {
    let (status, said) =
        run(Command::new(env!("CARGO_BIN_EXE_restreamd")).args(["serve", "--no-such-flag"]));
    assert_eq!(status.code(), Some(USAGE), "{said}");
}

#[test]
fn environment_beats_file_and_flag_beats_environment() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = taken.local_addr().expect("an address").to_string();
    let builder = node().set("api_listen", addr.as_str());
    // The file alone asks for a taken port: one clear line.
    let (status, said) = run(&mut builder.command());
    assert!(
        !status.success() && said.contains(&addr),
        "{status}: {said}"
    );
    let free = "127.0.0.1:0";
    listens(builder.command().env("RESTREAMD_API_LISTEN", free));
    listens(
        builder
            .command()
            .env("RESTREAMD_API_LISTEN", &addr)
            .args(["--api-listen", free]),
    );
}

#[test]
fn public_listeners_have_to_be_asked_for_in_so_many_words() {
    refused(&node().set("api_listen", "0.0.0.0:0"), "plain_http");
    let open = node()
        .set("rtmp_listen", "0.0.0.0:0")
        .set("rtmp.publish", "open");
    refused(&open, "publish");
    drop(
        node()
            .set("api_listen", "0.0.0.0:0")
            .set("api.plain_http", true)
            .announce("plain")
            .start(),
    );
}

#[test]
fn clients_of_a_node_on_every_address_are_sent_where_it_can_be_reached() {
    let host = node()
        .set("rtmp_listen", "0.0.0.0:0")
        .announce("advertise is not set")
        .start();
    let warned = |line: &String| line.contains("advertise is not set");
    assert!(host.logs().iter().any(warned), "it does not warn");
    let path = "/as/v1/streams/stream/nodegroup1/publish/live/cam";
    let element = host.client().get(path).list().remove(0);
    let address = element["serverAddress"].as_str().expect("an address");
    let ip: IpAddr = address.parse().expect("an IP address");
    assert!(!ip.is_unspecified(), "{element}");
    TcpStream::connect((ip, host.rtmp.port())).expect("RTMP is there");

    let named = node()
        .set("rtmp_listen", "0.0.0.0:0")
        .set("advertise", "media1.example")
        .start();
    let element = named.client().get(path).list().remove(0);
    assert_eq!(element["serverAddress"], "media1.example", "{element}");
}

#[test]
fn first_start_makes_secrets_only_the_owner_can_read() {
    let mut host = node()
        .without("admin_password")
        .without("jwt_secret")
        .start();
    let data = host.folder().join("data");
    let mode = |path: &std::path::Path| {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    };
    assert_eq!(mode(&data), 0o700, "{}", data.display());
    let files: Vec<_> = fs::read_dir(&data)
        .expect("data_dir is there")
        .map(|e| e.expect("readable").path())
        .filter(|p| p.is_file())
        .collect();
    assert!(files.len() >= 2, "no secrets beside the store: {files:?}");
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    // The log says where, never what.
    let logs = host.logs().join("\n");
    assert!(logs.contains(data.to_str().expect("UTF-8")), "{logs}");
    let password = files
        .iter()
        .find(|f| f.to_string_lossy().contains("password"))
        .expect("a file for the password");
    let password = fs::read_to_string(password)
        .expect("readable")
        .trim()
        .to_owned();
    assert!(password.len() >= 16 && !logs.contains(&password), "{logs}");
    let api = restreamd_tests::api::Api::new(host.api);
    let token = api.token("admin", &password);
    host.restart();
    let api = restreamd_tests::api::Api::new(host.api);
    api.login("admin", &password).get("/as/v1/plugins").list();
    api.with_token(&token).get("/as/v1/plugins").list();
}

#[test]
fn second_node_on_the_same_data_dir_is_one_clear_line() {
    let builder = node();
    let first = builder.clone().start();
    let (status, said) = builder.run_to_end();
    assert!(
        !status.success() && said.contains("data"),
        "{status}: {said}"
    );
    drop(first);
}

#[test]
fn token_of_a_node_that_forgets_its_secret_is_exit_64() {
    let builder = node().set("store", "memory").without("jwt_secret");
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command
        .args(["token", "--config"])
        .arg(builder.write_config());
    let (status, said) = run(&mut command);
    one_line(status, &said, "jwt_secret");
}
