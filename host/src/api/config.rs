//! The `[api]` table of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the API is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// PEM file with the certificate chain; with `tls_key` it turns TLS on. Read again when it changes.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Allows a listener off loopback without TLS: tokens and passwords then cross the network in the clear.
    pub plain_http: bool,
    /// Who may call `streams/stream/…`, which also starts pulls: `open` (everyone, as in Red5) or `jwt`.
    pub stream_routes: StreamRoutes,
    /// How long an admin's token is good for, as `8h` or `90m`.
    #[serde(with = "text")]
    pub token_ttl: Duration,
    /// Connections of an HTTP listener at a time, beside those that `[flv] subscribers` may have.
    pub connections: usize,
    /// Failed logins a minute from one address before it is told to wait (429).
    pub login_attempts_per_address: u32,
    /// Failed logins a minute from all addresses before everyone is told to wait.
    pub login_attempts_total: u32,
}

/// Who may call the stream routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamRoutes {
    /// Everyone; without a valid token, what could hold secrets is null.
    Open,
    /// Admins only.
    Jwt,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls_cert: None,
            tls_key: None,
            plain_http: false,
            stream_routes: StreamRoutes::Open,
            token_ttl: Duration::from_secs(8 * 3600),
            connections: 1_000,
            login_attempts_per_address: 10,
            login_attempts_total: 100,
        }
    }
}

/// Durations as people write them.
mod text {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let duration = SignedDuration::try_from(*duration).unwrap_or(SignedDuration::MAX);
        to.collect_str(&format_args!("{duration:#}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        let parsed = text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok());
        parsed
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| D::Error::custom("must be a duration such as 8h or 90m"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let config: Config =
            toml::from_str("token_ttl = \"90m\"\nstream_routes = \"jwt\"").expect("reads");
        assert_eq!(
            (config.token_ttl, config.stream_routes),
            (Duration::from_secs(5400), StreamRoutes::Jwt)
        );
        let again: Config =
            toml::from_str(&toml::to_string(&Config::default()).expect("writes")).expect("reads");
        assert_eq!(again, Config::default());
        for bad in [
            "token_ttl = \"soon\"",
            "token_ttl = \"-1h\"",
            "token_ttl = \"0s\"",
            "token_tll = \"1h\"",
        ] {
            assert!(toml::from_str::<Config>(bad).is_err(), "{bad}");
        }
    }
}
