//! Where this node may dial.
//!
//! Judges addresses after the name was resolved, so that a name cannot lead
//! somewhere its owner likes. Pure but for asking whether an address is this
//! machine's own. Invariant: deny wins, and what is not known to be harmless is
//! refused.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

use super::address::{Kind, kind, plain};

/// One entry of `dial.allow` or `dial.deny`: a host name, an address or a network,
/// with or without a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    who: Who,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Name(String),
    Net(IpNet),
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || format!("`{text}` is not a host, address or network with an optional port");
        if let Some(net) = parse_net(text) {
            return Ok(Self {
                who: Who::Net(net),
                port: None,
            });
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Self {
                who: Who::Net(IpNet::from(addr.ip())),
                port: Some(addr.port()),
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| fail())?)),
            None => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Some(net) = parse_net(host) {
            return Ok(Self {
                who: Who::Net(net),
                port,
            });
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(legal) {
            return Err(fail());
        }
        Ok(Self {
            who: Who::Name(host.to_ascii_lowercase()),
            port,
        })
    }
}

impl TryFrom<String> for Rule {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn parse_net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Rule {
    fn matches(&self, host: &str, addr: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == addr.port())
            && match &self.who {
                Who::Name(name) => name.eq_ignore_ascii_case(host.trim_end_matches('.')),
                Who::Net(net) => net.contains(&plain(addr.ip())) || net.contains(&addr.ip()),
            }
    }

    /// Names one address and no more.
    fn is_single_address(&self) -> bool {
        matches!(&self.who, Who::Net(net) if net.prefix_len() == net.max_prefix_len())
    }
}

/// The `[dial]` table of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Hosts, networks and ports that may be dialed although they are not on the internet.
    pub allow: Vec<Rule>,
    /// Hosts, networks and ports that may not be dialed. Wins over `allow`.
    pub deny: Vec<Rule>,
}

/// The policy of this node.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Config,
    own: Vec<SocketAddr>,
}

impl Policy {
    /// The rules, and the addresses the node's own RTMP listeners are bound to:
    /// pulling from the node itself is what the public example does.
    pub fn new(rules: Config, own: Vec<SocketAddr>) -> Self {
        Self { rules, own }
    }

    /// Whether this address, reached under this name, may be dialed.
    pub fn allows(&self, host: &str, addr: SocketAddr) -> bool {
        if self.rules.deny.iter().any(|rule| rule.matches(host, addr)) {
            return false;
        }
        if self.is_own(addr) {
            return true;
        }
        let mut allowed = self
            .rules
            .allow
            .iter()
            .filter(|rule| rule.matches(host, addr));
        match kind(addr.ip()) {
            Kind::Global => true,
            Kind::Local => allowed.next().is_some(),
            Kind::Link => allowed.any(Rule::is_single_address),
            Kind::Never => false,
        }
    }

    /// Whether this is one of the node's own listeners.
    pub fn is_own(&self, addr: SocketAddr) -> bool {
        let ip = plain(addr.ip());
        self.own.iter().any(|own| {
            let same_ip =
                plain(own.ip()) == ip || (own.ip().is_unspecified() && is_this_machine(ip));
            own.port() == addr.port() && same_ip
        })
    }
}

/// Only addresses of this machine can be bound.
fn is_this_machine(ip: IpAddr) -> bool {
    !ip.is_unspecified()
        && !ip.is_multicast()
        && (ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str], own: &[&str]) -> Policy {
        let rules = |list: &[&str]| {
            list.iter()
                .map(|text| text.parse().expect("a rule"))
                .collect()
        };
        let own = own
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        Policy::new(
            Config {
                allow: rules(allow),
                deny: rules(deny),
            },
            own,
        )
    }

    fn allows(policy: &Policy, host: &str, addr: &str) -> bool {
        policy.allows(host, addr.parse().expect("an address"))
    }

    #[test]
    fn by_default_only_the_internet_and_the_own_listener() {
        let p = policy(&[], &[], &["127.0.0.1:1935"]);
        assert!(allows(&p, "origin.example", "93.184.216.34:1935"));
        assert!(allows(&p, "localhost", "127.0.0.1:1935"));
        for addr in [
            "127.0.0.1:1936",
            "[::1]:1935",
            "10.0.0.1:1935",
            "169.254.169.254:80",
            "0.0.0.0:1935",
            "[::ffff:10.0.0.1]:1935",
        ] {
            assert!(!allows(&p, "x", addr), "{addr}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_own_on_every_local_one() {
        let p = policy(&[], &[], &["0.0.0.0:1935"]);
        assert!(allows(&p, "localhost", "127.0.0.1:1935"));
        assert!(!allows(&p, "x", "10.255.255.254:1935"));
    }

    #[test]
    fn deny_wins_over_all() {
        let p = policy(
            &["127.0.0.0/8"],
            &["127.0.0.1:1935", "bad.example"],
            &["127.0.0.1:1935"],
        );
        assert!(!allows(&p, "localhost", "127.0.0.1:1935"));
        assert!(allows(&p, "localhost", "127.0.0.1:1936"));
        assert!(!allows(&p, "BAD.example", "93.184.216.34:1935"));
    }

    #[test]
    fn allowed_names_open_private_networks_but_never_metadata() {
        let p = policy(
            &["origin.example:1935", "169.254.0.0/16", "fe80::7"],
            &[],
            &[],
        );
        assert!(allows(&p, "origin.example", "10.0.0.1:1935"));
        assert!(!allows(&p, "origin.example", "10.0.0.1:1936"));
        assert!(!allows(&p, "origin.example", "169.254.169.254:1935"));
        assert!(
            !allows(&p, "x", "169.254.169.254:1935"),
            "a network is not a single host"
        );
        assert!(allows(&p, "x", "[fe80::7]:1935"));
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        for bad in ["", "a b", "host:port", "10.0.0.0/33", ":1935", "rtmp://x"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad:?}");
        }
        for good in [
            "10.0.0.0/8",
            "[fd00::1]:1935",
            "fd00::/8",
            "origin.example",
            "origin.example:1935",
            "127.0.0.1:7",
        ] {
            assert!(good.parse::<Rule>().is_ok(), "{good:?}");
        }
    }
}
