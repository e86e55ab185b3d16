//! Where to dial: URLs of RTMP servers, and how a server's certificate is checked.
//!
//! The host parses both again when it dials; here only what a person gets wrong is
//! named, and never repeated, because it may hold a password.

use crate::{Problem, Properties, TlsCheck};

/// A URL of a stream, `rtmp[s]://[user:password@]host[:port]/app/name[?query]`.
///
/// # Errors
/// What is wrong with it, as the message of a [`Problem`].
pub fn rtmp_url(text: &str) -> Result<&str, &'static str> {
    let url = text.trim();
    let rest = url
        .split_once("://")
        .filter(|(scheme, _)| ["rtmp", "rtmps"].contains(&scheme.to_ascii_lowercase().as_str()));
    let (_, rest) = rest.ok_or("must begin with rtmp:// or rtmps://")?;
    let mut parts = rest.split('/');
    let host = parts.next().unwrap_or_default();
    let (app, name) = (
        parts.next().unwrap_or_default(),
        parts.next_back().unwrap_or_default(),
    );
    if host.is_empty() || app.is_empty() || name.is_empty() {
        // Whole URLs are masked where it is shown.
        return Err("must have host[:port]/app/name behind its scheme");
    }
    Ok(url)
}

/// The properties `tlsVerify` and `tlsPin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Against the machine's roots.
    Verify,
    /// This certificate alone: its sha256 in hex, without colons.
    Pin(String),
    /// Not at all.
    Skip,
}

impl Tls {
    /// Reads them.
    ///
    /// # Errors
    /// A pin that is none, or one beside `tlsVerify=false`.
    pub fn parse(properties: &Properties) -> Result<Self, Problem> {
        let problem = |key: &str, message: &str| Problem {
            key: key.to_owned(),
            message: message.to_owned(),
        };
        let verify = properties.flag("tlsVerify", true)?;
        let Some(pin) = properties.get(&["tlsPin"]).map(str::trim) else {
            return Ok(if verify { Self::Verify } else { Self::Skip });
        };
        let digits = pin.chars().filter(|c| *c != ':');
        if digits.clone().count() != 64 || !digits.clone().all(|c| c.is_ascii_hexdigit()) {
            let message = "must be the sha256 of a certificate: 64 hex digits";
            return Err(problem("tlsPin", message));
        }
        if !verify {
            return Err(problem("tlsVerify", "cannot be false beside a tlsPin"));
        }
        Ok(Self::Pin(digits.collect()))
    }

    /// As the host takes it.
    pub fn check(&self) -> TlsCheck {
        match self {
            Self::Verify => TlsCheck::Verify,
            Self::Pin(pin) => TlsCheck::Pin(pin.clone()),
            Self::Skip => TlsCheck::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_a_scheme_a_host_an_app_and_a_name() {
        let good = [
            "rtmp://h/a/n",
            " RTMPS://user:pass@h:1/a/b/n?key=1 ",
            "rtmp://[::1]:1935/live/a",
        ];
        for url in good {
            assert_eq!(rtmp_url(url), Ok(url.trim()));
        }
        for (url, says) in [
            ("http://h/a/n", "must begin with"),
            ("h/a/n", "must begin with"),
            ("", "must begin with"),
            ("rtmp://h/a", "must have host[:port]/app/name"),
            ("rtmp:///a/n", "must have host[:port]/app/name"),
            ("rtmp://h//n", "must have host[:port]/app/name"),
            ("rtmp://h/a/", "must have host[:port]/app/name"),
        ] {
            assert!(rtmp_url(url).is_err_and(|e| e.starts_with(says)), "{url}");
        }
    }

    #[test]
    fn a_certificate_is_verified_pinned_or_neither() {
        let given = |list: &[(&str, &str)]| {
            let list = list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Tls::parse(&Properties::new(list.collect())).map_err(|problem| problem.key)
        };
        let pin = "aB:".repeat(32);
        assert_eq!(given(&[]), Ok(Tls::Verify));
        assert_eq!(given(&[("tlsVerify", "false")]), Ok(Tls::Skip));
        assert_eq!(given(&[("tlsPin", &pin)]), Ok(Tls::Pin("aB".repeat(32))));
        assert_eq!(given(&[("tlsPin", "abc")]), Err("tlsPin".to_owned()));
        let both = [("tlsPin", pin.as_str()), ("tlsVerify", "false")];
        assert_eq!(given(&both), Err("tlsVerify".to_owned()));
    }
}
