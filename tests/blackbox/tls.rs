//! The API over https with the operator's own certificate.

use restreamd_tests::certificate::Certificate;
use restreamd_tests::curl::{curl, shell_line};
use restreamd_tests::host::ADMIN;

use crate::{example, node};

#[test]
fn https_serves_the_same_contract() {
    let builder = node();
    let certificate = Certificate::make(builder.folder());
    let (cert, key) = (certificate.cert_path(), certificate.key_path());
    let host = builder
        .set("api.tls_cert", cert.as_str())
        .set("api.tls_key", key.as_str())
        .start();

    let login = format!(
        "https://{}:{}@localhost:{}/as/v1/auth/login",
        ADMIN.0,
        ADMIN.1,
        host.api.port()
    );
    let body = curl(["-s", "--cacert", &cert, "-X", "PUT", &login]).json();
    let authorization = format!(
        "Authorization: Bearer {}",
        body["token"].as_str().expect("a token")
    );
    let list = format!(
        "https://localhost:{}/as/v1/streams/provision/nodegroup1",
        host.api.port()
    );
    let listed = curl(["-s", "--cacert", &cert, "-H", &authorization, &list]);
    assert_eq!((listed.status, listed.body.as_str()), (200, "[]"));
    let http2 = curl([
        "-s",
        "--http2",
        "--cacert",
        &cert,
        "-H",
        &authorization,
        &list,
    ]);
    assert_eq!(http2.status, 200);
}

#[test]
fn the_page_runs_over_https_but_for_the_host_name() {
    let builder = node();
    let certificate = Certificate::make(builder.folder());
    let (cert, key) = (certificate.cert_path(), certificate.key_path());
    let host = builder
        .set("api.tls_cert", cert.as_str())
        .set("api.tls_key", key.as_str())
        .start();
    let origin = format!("localhost:{}", host.api.port());
    let login = format!("https://{}:{}@{origin}/as/v1/auth/login", ADMIN.0, ADMIN.1);
    let body = curl(["-s", "--cacert", &cert, "-X", "PUT", &login]).json();
    let token = body["token"].as_str().expect("a token");

    let variables = [("JWT", token), ("CURL_CA_BUNDLE", cert.as_str())];
    let run = |line: &str| {
        let line = line.replace("as-test1.example.org", &origin);
        shell_line(&line, &example::page(), &variables)
    };
    let calls = example::calls();
    let answered: Vec<u16> = calls.iter().map(|line| run(line).status).collect();
    // The status line of the page asks for `zixi1`.
    assert_eq!(answered, [201, 200, 200, 200, 404, 200]);
    let [create, list, publish, streams, status, delete] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    run(create);
    assert_eq!(run(list).json()[0]["provisionGuid"], "rtmppull1");
    assert!(run(publish).json()[0]["serverAddress"].is_string());
    assert_eq!(run(streams).json()[0]["streamGuid"], "live/pull1");
    let own = run(&status.replace("zixi1", "rtmppull1")).json();
    // Nobody publishes live/stream1 here, so it waits, and is deleted while it does.
    assert_eq!(
        (&own[0]["state"], &own[0]["type"]),
        (&"WAIT".into(), &"rtmp".into())
    );
    assert_eq!(run(delete).status, 200);
    assert_eq!(run(list).body, "[]");
}

#[test]
fn unreadable_certificate_ends_the_start_naming_the_key() {
    let (status, said) = node()
        .set("api.tls_cert", "/none/cert.pem")
        .set("api.tls_key", "/none/key.pem")
        .run_to_end();
    assert!(!status.success(), "{said}");
    let told = said
        .lines()
        .any(|line| line.contains("tls_cert") && line.contains("/none/cert.pem"));
    assert!(told, "{said}");
}
