//! Connections for other protocols than RTMP, under the same policy.

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
