//! The API over https with the operator's own certificate.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use restreamd_tests::curl::curl;
use restreamd_tests::host::ADMIN;
use restreamd_tests::proc::Running;

use crate::node;

/// A certificate for localhost, signed by itself.
fn certificate(folder: &Path) {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ]);
    // rustls takes no certificate of an authority as a server's own.
    command.args([
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ]);
    let mut running = Running::start(command.current_dir(folder), "openssl");
    let status = running.wait(Duration::from_secs(20));
    assert!(status.success(), "{}", running.stderr.text());
}

#[test]
fn https_serves_the_same_contract() {
    let builder = node();
    certificate(builder.folder());
    let path = |name: &str| {
        builder
            .folder()
            .join(name)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    let (cert, key) = (path("cert.pem"), path("key.pem"));
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
