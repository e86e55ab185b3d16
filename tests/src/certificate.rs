//! A certificate for `localhost`, signed by itself, made by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::proc::Running;

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one in a folder: `cert.pem` and `key.pem`.
    ///
    /// # Panics
    /// When openssl is missing or fails.
    pub fn make(folder: &Path) -> Self {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        command.args(["-subj", "/CN=localhost"]);
        command.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        // rustls takes no certificate of an authority as a server's own.
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.args(["-keyout", "key.pem", "-out", "cert.pem"]);
        let mut running = Running::start(command.current_dir(folder), "openssl");
        let status = running.wait(Duration::from_secs(20));
        assert!(status.success(), "{}", running.stderr.text());
        Self {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }

    /// Where the certificate is.
    pub fn cert_path(&self) -> String {
        self.cert.display().to_string()
    }

    /// Where the key is.
    pub fn key_path(&self) -> String {
        self.key.display().to_string()
    }

    /// The sha256 of the certificate, in hex.
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(self.der());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn der(&self) -> CertificateDer<'static> {
        let pem = fs::read(&self.cert).expect("the certificate was just made");
        CertificateDer::from_pem_slice(&pem).expect("openssl writes PEM")
    }

    /// What a server presents it with.
    pub fn server(&self) -> Arc<ServerConfig> {
        let key = fs::read(&self.key).expect("the key was just made");
        let key = PrivateKeyDer::from_pem_slice(&key).expect("openssl writes PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.der()], key);
        Arc::new(config.expect("key and certificate belong together"))
    }
}
