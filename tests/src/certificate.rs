//! Certificates of servers under test, made by openssl.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::proc::Running;

/// A certificate for localhost, signed by itself: `cert.pem` and `key.pem` in `folder`.
///
/// # Panics
/// When openssl is missing or fails.
pub fn certificate(folder: &Path) {
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
