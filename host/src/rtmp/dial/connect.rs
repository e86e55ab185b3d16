//! From a name to a TCP connection that the dial policy allows.
//!
//! Invariant: it connects to the very address that was checked, and every dial
//! resolves and checks again.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::failure::{Class, Failure};
use super::resolve;
use crate::rtmp::policy::Policy;

/// One address gets so long, so that a black hole leaves time for the next one.
const PER_ADDRESS: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for so long is gone, or takes nothing any more.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Addresses tried of one name.
const MAX_ADDRESSES: usize = 8;

/// Connects to the first address of a host that is allowed and answers.
pub(super) async fn connect(host: &str, port: u16, policy: &Policy) -> Result<TcpStream, Failure> {
    if let Some(refusal) = policy.refuses_name(host, port) {
        return Err(Failure::new(Class::Blocked, refusal));
    }
    let addresses = resolve::addresses(host)
        .await
        .map_err(|e| Failure::new(Class::Dns, format!("{host}: {e}")))?;
    let addresses = addresses.iter().take(MAX_ADDRESSES);
    let addresses: Vec<SocketAddr> = addresses.map(|ip| SocketAddr::new(*ip, port)).collect();
    let allowed: Vec<SocketAddr> = addresses
        .iter()
        .copied()
        .filter(|addr| policy.allows(host, *addr))
        .collect();
    let mut failure = match addresses.first() {
        None => Failure::new(Class::Dns, format!("{host} has no address")),
        Some(_) => Failure::new(Class::Blocked, policy.refusal(host, &addresses)),
    };
    for addr in allowed {
        match tokio::time::timeout(PER_ADDRESS, connect_to(addr)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = Failure::io(&format!("connecting to {addr}"), &error),
            Err(_) => {
                failure = Failure::new(Class::Timeout, format!("connecting to {addr}: no answer"))
            }
        }
    }
    Err(failure)
}

async fn connect_to(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_nodelay(true)?;
    let stream = socket.connect(addr).await?;
    // An improvement; not while it connects, which has a time of its own.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_that_vanishes_is_given_up_by_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = listener.local_addr().expect("bound");
        let stream = connect_to(addr).await.expect("it listens");
        let timeout = socket2::SockRef::from(&stream).tcp_user_timeout();
        assert_eq!(timeout.expect("Linux"), Some(USER_TIMEOUT));
    }
}
