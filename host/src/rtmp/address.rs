//! What kind of address an IP address is, in whatever form it is written.
//!
//! Pure. Forms that carry an IPv4 address inside an IPv6 one are judged by the
//! address they carry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address may be trusted to be a media server on the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A host on the internet.
    Global,
    /// Loopback, private, carrier or unique local networks.
    Local,
    /// Link-local, which cloud metadata services live on: only ever as a single host.
    Link,
    /// Never a host: unspecified, multicast, broadcast, reserved.
    Never,
}

/// The address itself, with an IPv4 address taken out of the forms that carry one.
pub fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low), // IPv4-mapped
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low), // NAT64, RFC 6052
        [0x64, 0xff9b, 1, ..] => v4(s[6], s[7]),             // local NAT64, RFC 8215
        [0x2002, high, low, ..] => v4(high, low),            // 6to4
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low), // IPv4-compatible, deprecated
        _ => ip,
    }
}

/// The kind of an address.
pub fn kind(ip: IpAddr) -> Kind {
    match plain(ip) {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(ip: Ipv4Addr) -> Kind {
    let o = ip.octets();
    match o {
        [0, ..] | [240..=255, ..] => Kind::Never,
        _ if ip.is_multicast() => Kind::Never,
        [169, 254, ..] => Kind::Link,
        [127, ..] | [10, ..] | [192, 168, ..] => Kind::Local,
        [172, 16..=31, ..] | [100, 64..=127, ..] => Kind::Local,
        // IETF protocol assignments, documentation, benchmarking, 6to4 relays; 100.100.100.200 is CGNAT above.
        [192, 0, 0 | 2, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _] => Kind::Local,
        _ => Kind::Global,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    let first = ip.segments()[0];
    match first {
        _ if ip.is_unspecified() || ip.is_multicast() => Kind::Never,
        _ if ip.is_loopback() => Kind::Local,
        0xfe80..=0xfebf => Kind::Link,
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Kind::Local,
        // The one metadata service on a unique local address is Local above. Teredo,
        // ORCHID and documentation lie in 2001::/23 and 2001:db8::/32.
        0x2001 if ip.segments()[1] < 0x200 || ip.segments()[1] == 0xdb8 => Kind::Local,
        0x2000..=0x3fff => Kind::Global,
        _ => Kind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_inner_address_is_seen_through() {
        let cases = [
            ("93.184.216.34", Kind::Global),
            ("2606:2800:220:1::1", Kind::Global),
            ("127.0.0.1", Kind::Local),
            ("127.255.0.3", Kind::Local),
            ("10.1.2.3", Kind::Local),
            ("172.31.0.1", Kind::Local),
            ("172.32.0.1", Kind::Global),
            ("100.64.0.1", Kind::Local),
            ("::1", Kind::Local),
            ("fd00:ec2::254", Kind::Local),
            ("::ffff:127.0.0.1", Kind::Local),
            ("::ffff:169.254.169.254", Kind::Link),
            ("64:ff9b::10.0.0.1", Kind::Local),
            ("64:ff9b:1::169.254.169.254", Kind::Link),
            ("2002:7f00:1::", Kind::Local),
            ("::127.0.0.1", Kind::Local),
            ("169.254.169.254", Kind::Link),
            ("fe80::1", Kind::Link),
            ("0.0.0.0", Kind::Never),
            ("0.1.2.3", Kind::Never),
            ("::", Kind::Never),
            ("224.0.0.1", Kind::Never),
            ("255.255.255.255", Kind::Never),
            ("ff02::1", Kind::Never),
            ("2001:0:1::", Kind::Local),
        ];
        for (text, expected) in cases {
            let ip: IpAddr = text.parse().expect("an address");
            assert_eq!(kind(ip), expected, "{text}");
        }
    }
}
