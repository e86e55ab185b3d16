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

/// Where other nodes connect to a listener: where it listens, and of one that listens on
/// every address, where it is advertised to be.
pub(super) fn reachable(given: Option<&str>, listen: SocketAddr) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    let given = given.and_then(|given| {
        let ip = given.trim_matches(['[', ']']).parse().ok();
        ip.or_else(|| given.parse().ok().map(|addr: SocketAddr| addr.ip()))
    });
    // A name is for clients; which of its addresses is this node's own is not known here.
    let ip = given
        .or_else(|| outgoing(FAR_V4))
        .or_else(|| outgoing(FAR_V6));
    let ip = ip.unwrap_or(Ipv4Addr::LOCALHOST.into());
    SocketAddr::new(ip, listen.port())
}

/// An address for clients with the port of a listener, unless it has one.
pub(super) fn with_port(address: &str, port: u16) -> String {
    let bare = address.trim_matches(['[', ']']);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return SocketAddr::new(ip, port).to_string();
    }
    match address.rsplit_once(':') {
        Some((_, given)) if given.parse::<u16>().is_ok() => address.to_owned(),
        _ => format!("{address}:{port}"),
    }
}

/// Tells of an address that only this machine can go to.
pub(super) fn warn_of(address: &str) {
    let loopback = match address.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => address.eq_ignore_ascii_case("localhost"),
    };
    if loopback {
        warn!(%address, "clients and other nodes are sent to a loopback address: only this machine can go there; see advertise");
    }
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
    fn other_nodes_connect_to_where_a_listener_is() {
        let addr = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let all = addr("0.0.0.0:1935");
        assert_eq!(reachable(None, addr("192.0.2.7:1")), addr("192.0.2.7:1"));
        assert_eq!(reachable(Some("192.0.2.9"), all), addr("192.0.2.9:1935"));
        assert_eq!(reachable(Some("192.0.2.9:80"), all), addr("192.0.2.9:1935"));
        assert_eq!(
            reachable(Some("[2001:db8::1]"), all),
            addr("[2001:db8::1]:1935")
        );
        assert!(!reachable(Some("media.example"), all).ip().is_unspecified());
    }

    #[test]
    fn an_address_for_clients_keeps_its_own_port() {
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.7:1936"),
            ("2001:db8::1", "[2001:db8::1]:1936"),
            ("[2001:db8::1]", "[2001:db8::1]:1936"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("media.example", "media.example:1936"),
            ("media.example:80", "media.example:80"),
        ] {
            assert_eq!(with_port(address, 1936), expected);
        }
    }

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
