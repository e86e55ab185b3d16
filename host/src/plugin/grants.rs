//! What an operator grants a plugin: where it may dial, and how many sources it may hold.
//!
//! A grant narrows what the node's dial policy allows and never widens it. What is
//! absent is not narrowed, except for imports beyond the contract's own, which are
//! granted or not there. Pure.

use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;

pub use ipnet::IpNet;

/// The `[plugins.overrides.<type>.grants]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Names that may be dialed. With `networks`: these names, and addresses in those.
    pub hosts: Option<Vec<HostPattern>>,
    /// Networks that may be dialed, under whatever name.
    pub networks: Option<Vec<IpNet>>,
    /// Ports that may be dialed.
    pub ports: Option<Vec<u16>>,
    /// Sources open at a time.
    pub sources: Option<usize>,
    /// Hosts, each with an optional port, that the `http` import may ask. Without it the
    /// import is not granted.
    pub http: Option<Vec<HttpHost>>,
}

/// A host name, an address, or `*.` and a name for all names below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    name: String,
    below: bool,
}

/// A host pattern with an optional port, for `grants.http`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpHost {
    host: HostPattern,
    port: Option<u16>,
}

impl HostPattern {
    /// Whether it covers a host as a URL names it. Case and a final dot do not matter.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        if !self.below {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let split = host.len().checked_sub(self.name.len());
        split.is_some_and(|at| {
            at > 1
                && host.is_char_boundary(at)
                && host[..at].ends_with('.')
                && host[at..].eq_ignore_ascii_case(&self.name)
        })
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = name.trim_matches(['[', ']']).trim_end_matches('.');
        let address = name.parse::<IpAddr>().is_ok();
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let is_name = !name.is_empty() && name.len() <= 253 && name.bytes().all(legal);
        if !(is_name || address && !below) {
            return Err(format!(
                "`{text}` is not a host such as `a.example` or `*.example`; networks and ports have keys of their own"
            ));
        }
        Ok(Self {
            name: name.to_ascii_lowercase(),
            below,
        })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for HttpHost {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for HttpHost {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.parse::<IpAddr>().is_ok();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !bare && !port.ends_with(']') => {
                let port = port.parse();
                let port = port.map_err(|_| format!("`{text}` has no port behind its colon"))?;
                (host, Some(port))
            }
            _ => (text, None),
        };
        Ok(Self {
            host: host.parse()?,
            port,
        })
    }
}

impl Grants {
    /// The grant that does not cover a host, by its key; none when it may be dialed. Before
    /// the host's name is resolved there is no address, and what only an address decides
    /// is left open.
    pub fn missing(&self, host: &str, addr: Option<IpAddr>, port: u16) -> Option<&'static str> {
        if self
            .ports
            .as_ref()
            .is_some_and(|ports| !ports.contains(&port))
        {
            return Some("ports");
        }
        let named = |hosts: &Vec<HostPattern>| hosts.iter().any(|host_of| host_of.covers(host));
        let within = |networks: &Vec<IpNet>| match addr {
            Some(addr) => networks
                .iter()
                .any(|net| net.contains(&addr.to_canonical())),
            None => !networks.is_empty(),
        };
        match (&self.hosts, &self.networks) {
            (None, None) => None,
            (Some(hosts), None) => (!named(hosts)).then_some("hosts"),
            (None, Some(networks)) => (!within(networks)).then_some("networks"),
            (Some(hosts), Some(networks)) => {
                (!named(hosts) && !within(networks)).then_some("hosts and networks")
            }
        }
    }

    /// Whether it narrows where may be dialed.
    pub fn narrows(&self) -> bool {
        self.hosts.is_some() || self.networks.is_some() || self.ports.is_some()
    }

    /// Whether the `http` import may ask this host. The dial policy judges its addresses
    /// all the same.
    pub fn http_allows(&self, host: &str, port: u16) -> bool {
        let granted = self.http.iter().flatten();
        granted
            .into_iter()
            .any(|one| one.host.covers(host) && one.port.is_none_or(|own| own == port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(text: &str) -> Grants {
        toml::from_str(text).expect("legal")
    }

    #[test]
    fn a_star_covers_all_names_below_and_no_other() {
        let below: HostPattern = "*.Example.com".parse().expect("legal");
        for host in ["a.example.com", "A.b.EXAMPLE.com."] {
            assert!(below.covers(host), "{host}");
        }
        for host in [
            "example.com",
            ".example.com",
            "aexample.com",
            "a.example.com.evil",
            "é.org",
            "",
        ] {
            assert!(!below.covers(host), "{host}");
        }
        let one: HostPattern = "origin.example".parse().expect("legal");
        assert!(one.covers("Origin.Example.") && !one.covers("a.origin.example"));
        let address: HostPattern = "[::1]".parse().expect("legal");
        assert!(address.covers("::1") && address.covers("[::1]"));
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        for bad in ["", "*", "*.", "a b", "a:1935", "10.0.0.0/8", "*.::1", "a.*"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
        for bad in ["http = [\"a:x\"]", "http = [\"http://a\"]", "nets = []"] {
            assert!(toml::from_str::<Grants>(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_needs_its_port_and_one_of_name_and_network() {
        let ip = |text: &str| Some(text.parse().expect("an address"));
        let of = grants("hosts = [\"*.example\"]\nnetworks = [\"10.0.0.0/8\"]\nports = [1935]");
        assert_eq!(of.missing("a.example", ip("192.0.2.1"), 1935), None);
        assert_eq!(of.missing("other", ip("10.1.2.3"), 1935), None);
        assert_eq!(of.missing("other", ip("::ffff:10.1.2.3"), 1935), None);
        assert_eq!(of.missing("a.example", None, 1936), Some("ports"));
        let both = Some("hosts and networks");
        assert_eq!(of.missing("other", ip("192.0.2.1"), 1935), both);
        assert_eq!(of.missing("other", None, 1935), None, "its address decides");
        // A name is not even asked for when nothing it resolves to could be granted.
        let names = grants("hosts = [\"a.example\"]");
        assert_eq!(names.missing("other", None, 1), Some("hosts"));
        assert_eq!(names.missing("a.example", ip("10.0.0.1"), 1), None);
        assert_eq!(grants("hosts = []").missing("a", None, 1), Some("hosts"));
        assert_eq!(
            grants("networks = []").missing("a", None, 1),
            Some("networks")
        );
        assert_eq!(grants("").missing("a", ip("10.0.0.1"), 1), None);
    }

    #[test]
    fn http_is_granted_by_host_and_port() {
        let of = grants("http = [\"tokens.example:8443\", \"*.internal\", \"[::1]:80\"]");
        assert!(of.http_allows("tokens.example", 8443));
        assert!(!of.http_allows("tokens.example", 443));
        assert!(of.http_allows("a.internal", 1) && of.http_allows("::1", 80));
        assert!(!grants("hosts = [\"tokens.example\"]").http_allows("tokens.example", 443));
        assert!(!grants("http = []").http_allows("tokens.example", 443));
    }
}
