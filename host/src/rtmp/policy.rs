//! Where this node may dial.
//!
//! Judges addresses after the name was resolved, so that a name cannot lead
//! somewhere its owner likes. Pure but for asking whether an address is this
//! machine's own. Invariant: deny wins, and what is not known to be harmless is
//! refused.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;

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

/// Narrows a policy for whoever dials under it.
pub trait Narrow: Send + Sync + std::fmt::Debug {
    /// Why a host may not be dialed, naming what is missing; none when it may. Asked
    /// before its name is resolved, without an address, and then of each address.
    fn refusal(&self, host: &str, addr: Option<IpAddr>, port: u16) -> Option<String>;
}

/// The policy of this node, perhaps narrowed.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Arc<Config>,
    own: Arc<[SocketAddr]>,
    narrow: Option<Arc<dyn Narrow>>,
}

impl Policy {
    /// The rules, and the addresses the node's own RTMP listeners are bound to:
    /// pulling from the node itself is what the public example does.
    pub fn new(rules: Config, own: Vec<SocketAddr>) -> Self {
        Self {
            rules: Arc::new(rules),
            own: own.into(),
            narrow: None,
        }
    }

    /// One address and no other, wherever it is: for what is no guest's to choose. Nowhere
    /// else is gone either, not where a redirect leads.
    pub fn only(to: SocketAddr) -> Self {
        let rule = Rule {
            who: Who::Net(IpNet::from(plain(to.ip()))),
            port: Some(to.port()),
        };
        let rules = Config {
            allow: vec![rule],
            deny: Vec::new(),
        };
        Self::new(rules, Vec::new()).narrowed(Arc::new(Only(to)))
    }

    /// The same, and whatever this narrowing refuses is refused too.
    #[must_use]
    pub fn narrowed(&self, narrow: Arc<dyn Narrow>) -> Self {
        Self {
            narrow: Some(narrow),
            ..self.clone()
        }
    }

    /// The policy of the node alone, for what another grant narrows.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self {
            narrow: None,
            ..self.clone()
        }
    }

    /// Why a host is not even to be resolved, if so.
    pub fn refuses_name(&self, host: &str, port: u16) -> Option<String> {
        self.narrow.as_ref()?.refusal(host, None, port)
    }

    /// Why none of a host's addresses may be dialed.
    pub fn refusal(&self, host: &str, addresses: &[SocketAddr]) -> String {
        let mut allowed = addresses
            .iter()
            .filter(|addr| self.rules_allow(host, **addr));
        let refused = allowed.find_map(|addr| self.narrows(host, *addr));
        let port = addresses.first().map_or(0, SocketAddr::port);
        refused.unwrap_or_else(|| format!("the dial policy allows no address of {host}:{port}"))
    }

    fn narrows(&self, host: &str, addr: SocketAddr) -> Option<String> {
        let narrow = self.narrow.as_ref()?;
        narrow.refusal(host, Some(addr.ip()), addr.port())
    }

    /// Whether this address, reached under this name, may be dialed.
    pub fn allows(&self, host: &str, addr: SocketAddr) -> bool {
        self.rules_allow(host, addr) && self.narrows(host, addr).is_none()
    }

    fn rules_allow(&self, host: &str, addr: SocketAddr) -> bool {
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

/// All but one address.
#[derive(Debug)]
struct Only(SocketAddr);

impl Narrow for Only {
    fn refusal(&self, _: &str, addr: Option<IpAddr>, port: u16) -> Option<String> {
        let other = addr.is_some_and(|addr| plain(addr) != plain(self.0.ip()));
        (other || port != self.0.port()).then(|| format!("only {} may be dialed", self.0))
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
    fn of_one_address_nothing_else_is_dialed() {
        for to in [
            "10.1.2.3:1935",
            "127.0.0.2:9",
            "[fd00::1]:1935",
            "8.8.8.8:1",
        ] {
            let to: SocketAddr = to.parse().expect("an address");
            let policy = Policy::only(to);
            assert!(policy.allows(&to.ip().to_string(), to), "{to}");
            for other in ["10.1.2.4:1935", "10.1.2.3:1936", "93.184.216.34:1935"] {
                assert!(!allows(&policy, "x", other), "{other}");
            }
        }
    }

    #[derive(Debug)]
    struct OnPort(u16);

    impl Narrow for OnPort {
        fn refusal(&self, _: &str, _: Option<IpAddr>, port: u16) -> Option<String> {
            (port != self.0).then(|| format!("only port {}", self.0))
        }
    }

    #[test]
    fn a_narrowing_takes_away_and_never_gives() {
        let p = policy(&["127.0.0.0/8"], &[], &["127.0.0.1:1935"]).narrowed(Arc::new(OnPort(7)));
        assert!(allows(&p, "x", "127.0.0.1:7"));
        assert!(!allows(&p, "x", "127.0.0.1:1935"), "not the own one either");
        assert!(!allows(&p, "x", "10.0.0.1:7"), "nothing is given");
        let why = |addr: &str| p.refusal("x", &[addr.parse().expect("an address")]);
        assert_eq!(why("127.0.0.1:8"), "only port 7");
        assert_eq!(
            why("10.0.0.1:8"),
            "the dial policy allows no address of x:8"
        );
        assert_eq!(p.refuses_name("x", 8).as_deref(), Some("only port 7"));
        assert!(allows(&p.whole(), "x", "127.0.0.1:8"));
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
