//! Where clients are sent: `serverAddress`, when nobody says it.
//!
//! Invariant: never an address that no client can go to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use tracing::warn;

/// Addresses reserved for documentation: out on the internet to every routing table, and nobody's.
const FAR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const FAR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// What was given, else where RTMP listens. Of a node that listens on every address it
/// is the one that its packets to the internet have, which is a guess, and said.
pub(super) fn address(given: Option<&str>, listen: SocketAddr) -> String {
    if let Some(given) = given {
        return given.to_owned();
    }
    let ip = listen.ip();
    if !ip.is_unspecified() {
        return ip.to_string();
    }
    let address = match ip {
        IpAddr::V4(_) => outgoing(FAR_V4).unwrap_or(Ipv4Addr::LOCALHOST.into()),
        // Linux takes IPv4 on such a listener too.
        IpAddr::V6(_) => outgoing(FAR_V4)
            .or_else(|| outgoing(FAR_V6))
            .unwrap_or(Ipv6Addr::LOCALHOST.into()),
    };
    warn!(%address, "rtmp_listen is every address and advertise is not set: clients are sent to this one");
    address.to_string()
}

/// The own address of packets to `far`; asks the routing table and sends nothing.
fn outgoing(far: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match far {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_never_sent_to_every_address() {
        for listen in ["0.0.0.0:1935", "[::]:1935"] {
            let address = address(None, listen.parse().expect("an address"));
            let ip: IpAddr = address.parse().expect("an address");
            assert!(!ip.is_unspecified(), "{listen}: {ip}");
        }
        let local = "192.0.2.7:1935".parse().expect("an address");
        assert_eq!(address(None, local), "192.0.2.7");
        assert_eq!(address(Some("media.example"), local), "media.example");
    }
}
