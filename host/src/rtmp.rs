//! RTMP over sockets: the listener, its connections, and dialing out.
//!
//! Drives the sans-I/O sessions of `restreamd-rtmp`: reads bytes, asks what they
//! mean, moves media between sessions and streams. It knows nothing of
//! provisions and policies. Invariant: one connection's trouble is its own.

pub mod address;
pub mod connection;
pub mod dial;
pub mod listener;
pub mod name;
pub mod outbox;
pub mod plain;
pub mod play;
pub mod policy;
pub mod publish;
mod refusal;

use std::path::PathBuf;

use serde::Deserialize;

/// Who may publish or play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Anyone.
    Open,
    /// Whoever brings a stream token as `?token=`.
    Token,
    /// Nobody.
    Off,
}

/// The `[rtmp]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// PEM file with the certificate chain of `rtmps_listen`. Read again when it changes.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Who may publish; by default anyone on a loopback listener, and token holders elsewhere.
    pub publish: Option<Access>,
    /// Who may play.
    pub play: Access,
    /// Open publishing on a listener off loopback, asked for in so many words.
    pub open_publish: bool,
    /// Seconds a play of a distributed stream waits for media.
    pub play_wait_seconds: u64,
    /// Seconds between pings.
    pub ping_seconds: u64,
    /// Seconds without a byte from a peer after which it is gone.
    pub idle_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls_cert: None,
            tls_key: None,
            publish: None,
            play: Access::Open,
            open_publish: false,
            play_wait_seconds: 20,
            ping_seconds: 10,
            idle_seconds: 60,
        }
    }
}
