//! Connections for other protocols than RTMP, under the same policy.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::transport::Transport;
use super::{Failure, Trust, connect, tls};
use crate::rtmp::policy::Policy;

/// Connects to an address of a host that was checked, with TLS over it if that is told.
pub async fn reach(
    host: &str,
    port: u16,
    trust: Option<Trust>,
    policy: &Policy,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Failure> {
    let io = connect::connect(host, port, policy).await?;
    Ok(match trust {
        Some(trust) => Transport::Tls(tls::handshake(io, host, trust).await?),
        None => Transport::Plain(io.into()),
    })
}

/// The same to an address that is known, with TLS for a name if one is told.
pub async fn reach_at(
    addr: SocketAddr,
    named: Option<(&str, Trust)>,
    policy: &Policy,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Failure> {
    let io = connect::connect(&addr.ip().to_string(), addr.port(), policy).await?;
    Ok(match named {
        Some((name, trust)) => Transport::Tls(tls::handshake(io, name, trust).await?),
        None => Transport::Plain(io.into()),
    })
}
