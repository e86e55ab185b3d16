//! HTTP listeners, with or without TLS, and the certificates of all listeners.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::socket;
use crate::config::Config;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::rtmp::listener::Tls;

/// A client gets so long to send a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// HTTP/2 peers are asked so often whether they are there, and have as long to answer.
const PING: Duration = Duration::from_secs(10);
/// How often the certificate's files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Serves a router until the handle is told to stop.
pub async fn serve(
    listener: TcpListener,
    config: &Config,
    limits: &Limits,
    router: axum::Router,
    handle: Handle<SocketAddr>,
    drain: &Drain,
) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
    let places = config.api.connections + config.flv.subscribers;
    let acceptor = socket::Acceptor::new(places, limits.clone());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let (Some(cert), Some(key)) = (&config.api.tls_cert, &config.api.tls_key) else {
        let server = axum_server::from_tcp(listener)?.handle(handle);
        let mut server = server.acceptor(acceptor);
        bound_waits(server.http_builder());
        return Ok(tokio::spawn(server.serve(service)));
    };
    let rustls = certificate("api", cert, key, drain).await?;
    let server = axum_server::from_tcp(listener)?.handle(handle);
    let mut server = server.acceptor(RustlsAcceptor::new(rustls).acceptor(acceptor));
    bound_waits(server.http_builder());
    Ok(tokio::spawn(server.serve(service)))
}

fn bound_waits(builder: &mut Builder<TokioExecutor>) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
}

/// RTMPS with the certificate of `[rtmp]`.
pub(super) async fn rtmps(cert: &Path, key: &Path, drain: &Drain) -> anyhow::Result<Tls> {
    let rustls = certificate("rtmp", cert, key, drain).await?;
    Ok(Arc::new(move || {
        let mut config = rustls::ServerConfig::clone(&rustls.get_inner());
        // It is made for HTTP; a peer that asks for anything else would be refused.
        config.alpn_protocols.clear();
        // librtmp takes a TLS 1.3 ticket for an error in the handshake, and connections
        // that last for hours have nothing from being resumed.
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }))
}

/// Reads a certificate and follows its files until the drain. `table` is where the keys are.
async fn certificate(
    table: &str,
    cert: &Path,
    key: &Path,
    drain: &Drain,
) -> anyhow::Result<RustlsConfig> {
    let rustls = load(table, cert, key).await?;
    let (cert, key) = (cert.to_owned(), key.to_owned());
    let (reload, stop) = (rustls.clone(), drain.clone());
    drain.spawn(async move {
        tokio::select! {
            () = follow(&reload, &cert, &key) => {}
            () = stop.started() => {}
        }
    });
    Ok(rustls)
}

async fn load(table: &str, cert: &Path, key: &Path) -> anyhow::Result<RustlsConfig> {
    // A second start in one process finds the provider installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    RustlsConfig::from_pem_file(cert, key)
        .await
        .with_context(|| {
            format!(
                "{table}.tls_cert {} and {table}.tls_key {}",
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
