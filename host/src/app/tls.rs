//! The REST API's listener, with or without TLS.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::api;
use crate::drain::Drain;

/// A client gets so long to send a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// How often the certificate's files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Serves a router until the handle is told to stop.
pub async fn serve(
    listener: TcpListener,
    config: &api::Config,
    router: axum::Router,
    handle: Handle<SocketAddr>,
    drain: &Drain,
) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else {
        let mut server = axum_server::from_tcp(listener)?.handle(handle);
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD);
        return Ok(tokio::spawn(server.serve(service)));
    };
    let rustls = load(cert, key).await?;
    let (reload, cert, key, stop) = (rustls.clone(), cert.clone(), key.clone(), drain.clone());
    drain.spawn(async move {
        tokio::select! {
            () = follow(&reload, &cert, &key) => {}
            () = stop.started() => {}
        }
    });
    let mut server = axum_server::from_tcp_rustls(listener, rustls)?.handle(handle);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    Ok(tokio::spawn(server.serve(service)))
}

async fn load(cert: &Path, key: &Path) -> anyhow::Result<RustlsConfig> {
    // A second start in one process finds the provider installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    RustlsConfig::from_pem_file(cert, key)
        .await
        .with_context(|| {
            format!(
                "api.tls_cert {} and api.tls_key {}",
                cert.display(),
                key.display()
            )
        })
}

/// Takes new files over when they change; bad ones leave the old in place.
async fn follow(rustls: &RustlsConfig, cert: &PathBuf, key: &PathBuf) {
    let mut seen = (modified(cert), modified(key));
    loop {
        tokio::time::sleep(LOOK).await;
        let now = (modified(cert), modified(key));
        if now == seen {
            continue;
        }
        match rustls.reload_from_pem_file(cert, key).await {
            Ok(()) => {
                info!(cert = %cert.display(), "certificate reloaded");
                seen = now;
            }
            Err(error) => {
                warn!(cert = %cert.display(), %error, "the new certificate is not usable yet")
            }
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}
