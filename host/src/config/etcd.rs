//! The `[etcd]` table, and the members that `store = "etcd://…"` names.
//!
//! Read in every build, so that one file suits a binary with etcd and one without.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Error, bad};
use crate::auth::Secret;

/// etcd's port for clients.
const PORT: u16 = 2379;
/// etcd itself advises against more than seven members; room for moving them.
const MAX_MEMBERS: usize = 16;
/// A name in front of every key; it takes from what etcd lets a transaction hold.
const MAX_PREFIX: usize = 256;

/// The `[etcd]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Etcd {
    /// In front of every key, so that one etcd carries many clusters. Ends with a slash.
    pub prefix: String,
    /// Who to log in as.
    pub user: Option<String>,
    /// With which password.
    pub password: Option<Secret>,
    /// Speak TLS and trust what the system trusts; `ca` and `cert` turn it on too.
    pub tls: bool,
    /// A PEM file of the authorities to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// A PEM file of the certificate to show.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// How long a call may take over all members, in ms.
    pub timeout_ms: u64,
    /// How long one member may take to be connected to, in ms.
    pub connect_timeout_ms: u64,
}

impl Default for Etcd {
    fn default() -> Self {
        Self {
            prefix: "/restreamd/".to_owned(),
            user: None,
            password: None,
            tls: false,
            ca: None,
            cert: None,
            key: None,
            timeout_ms: 5_000,
            connect_timeout_ms: 1_000,
        }
    }
}

impl Etcd {
    /// Whether members are spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls || self.ca.is_some() || self.cert.is_some()
    }

    /// What no single value shows, and bounds.
    pub(super) fn check(&self) -> Result<(), Error> {
        let legal = self.prefix.ends_with('/')
            && self.prefix.len() <= MAX_PREFIX
            && !self.prefix.chars().any(char::is_control);
        if !legal {
            let text = format!("must end with a slash and have at most {MAX_PREFIX} bytes");
            return Err(bad("etcd.prefix", text));
        }
        if self.user.is_some() != self.password.is_some() {
            return Err(bad(
                "etcd.password",
                "etcd.user and etcd.password (or RESTREAMD_ETCD_PASSWORD) go together",
            ));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err(bad("etcd.cert", "etcd.cert and etcd.key go together"));
        }
        for (key, value, most) in [
            ("etcd.timeout_ms", self.timeout_ms, 60_000),
            ("etcd.connect_timeout_ms", self.connect_timeout_ms, 10_000),
        ] {
            if !(100..=most).contains(&value) {
                return Err(bad(key, "is out of its bounds, see host/restreamd.toml"));
            }
        }
        Ok(())
    }
}

/// Members of an etcd cluster, `host:port` each. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members(Vec<String>);

impl Members {
    /// Reads what follows `etcd://`: hosts with or without a port, commas between them.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let members: Vec<String> = text
            .trim_end_matches('/')
            .split(',')
            .map(member)
            .collect::<Result<_, _>>()?;
        if members.len() > MAX_MEMBERS {
            return Err(format!("names more than {MAX_MEMBERS} members"));
        }
        Ok(Self(members))
    }

    /// `host:port` of each.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}", self.0.join(","))
    }
}

fn member(text: &str) -> Result<String, String> {
    let text = text.trim();
    let wrong = || format!("`{text}` is no member: must be etcd://host:port,host:port");
    if text.contains('@') {
        return Err("holds a name or password: these go into [etcd]".to_owned());
    }
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(0)),
        _ => (text, PORT),
    };
    let authority = host.parse::<hyper::http::uri::Authority>();
    let legal = authority.is_ok_and(|authority| authority.host() == host);
    match legal && port > 0 {
        true => Ok(format!("{host}:{port}")),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_a_host_and_a_port() {
        let read = |text| Members::parse(text).map(|members| members.0);
        assert_eq!(
            read("a, b:1,[::1]:2/"),
            Ok(vec!["a:2379".into(), "b:1".into(), "[::1]:2".into()])
        );
        for bad in [
            "", ",", "a:", "a:0", "a:70000", ":1", "u:p@a:1", "a/b", "a b",
        ] {
            assert!(read(bad).is_err(), "{bad:?} gives {:?}", read(bad));
        }
        assert!(read(&vec!["a"; MAX_MEMBERS + 1].join(",")).is_err());
        let shown = Members::parse("a,b:1").expect("legal").to_string();
        assert_eq!(shown, "etcd://a:2379,b:1");
    }

    #[test]
    fn the_password_is_masked() {
        let table = Etcd {
            password: Some(Secret::new("hidden")),
            ..Etcd::default()
        };
        assert!(!format!("{table:?}").contains("hidden"));
    }
}
