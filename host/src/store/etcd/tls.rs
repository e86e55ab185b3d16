//! TLS towards etcd, from the files that `[etcd]` names.

use std::path::{Path, PathBuf};

use etcd_client::{Certificate, Identity, TlsOptions};

use crate::config;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("etcd.{key}: {}: {source}", path.display())]
pub struct TlsError {
    key: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// What `[etcd]` says of TLS; `None` when it is off.
pub(super) fn options(settings: &config::Etcd) -> Result<Option<TlsOptions>, TlsError> {
    if !settings.is_tls() {
        return Ok(None);
    }
    let mut tls = TlsOptions::new();
    tls = match &settings.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(read("ca", ca)?)),
        None => tls.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&settings.cert, &settings.key) {
        tls = tls.identity(Identity::from_pem(read("cert", cert)?, read("key", key)?));
    }
    Ok(Some(tls))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError {
        key,
        path: path.to_owned(),
        source,
    })
}
