//! The API over https with the operator's own certificate.

use restreamd_tests::certificate::Certificate;
use restreamd_tests::curl::curl;
use restreamd_tests::host::ADMIN;

use crate::node;

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
