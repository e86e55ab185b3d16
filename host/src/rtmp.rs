//! RTMP over sockets: the listener, its connections, and dialing out.
//!
//! Drives the sans-I/O sessions of `restreamd-rtmp`: reads bytes, asks what they
//! mean, moves media between sessions and streams. It knows nothing of
//! provisions and policies. Invariant: one connection's trouble is its own.

pub mod address;
mod asking;
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

use crate::auth::Secret;
use crate::gate::{self, Access};

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
    /// Whom to ask where access is `webhook`.
    pub webhook: Option<gate::Url>,
    /// What shows the webhook that it is us who ask.
    pub webhook_secret: Option<Secret>,
    /// Seconds that a webhook may take.
    pub webhook_timeout_seconds: u64,
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
            webhook: None,
            webhook_secret: None,
            webhook_timeout_seconds: 5,
            open_publish: false,
            play_wait_seconds: 20,
            ping_seconds: 10,
            idle_seconds: 60,
        }
    }
}
