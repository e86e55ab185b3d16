//! The `[cluster]` table of the configuration.

use std::time::Duration;

use serde::Deserialize;

use super::lease::Timing;
use super::member::Habits;

/// So much earlier than it could be over a lease counts as over.
const MARGIN: Duration = Duration::from_millis(500);
/// From one renewal to the next: a TTL of four seconds survives ten that fail.
const RENEW: Duration = Duration::from_millis(300);
/// From a question about the membership that failed to the next.
const RETRY: Duration = Duration::from_millis(300);

/// How long a process waits for its name while another one has it, …
const NAME_WAIT: Duration = Duration::from_secs(10);
/// … and so much longer than a lease lasts: etcd looks twice a second which are over.
const NAME_SLACK: Duration = Duration::from_secs(2);

/// The `[cluster]` table of the configuration. A node alone has no use for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Milliseconds after which a node that is not heard of is gone, and others may carry
    /// out what it had; 2000 to 60000.
    pub lease_ttl_ms: u64,
    /// Milliseconds that a node's players stay when nobody has their stream.
    pub orphan_wait_ms: u64,
    /// Milliseconds that nodes which were not there when this one began may take to come
    /// back to what they had.
    pub return_wait_ms: u64,
    /// Milliseconds that a node which leaves may take to hand over what persists.
    pub drain_timeout_ms: u64,
    /// Whether the certificates of other nodes' REST listeners are checked, for the names
    /// that these advertise.
    pub tls_verify: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 4_000,
            orphan_wait_ms: 15_000,
            return_wait_ms: 5_000,
            drain_timeout_ms: 30_000,
            tls_verify: true,
        }
    }
}

impl Config {
    /// What is wrong with it, and with which key.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !(2_000..=60_000).contains(&self.lease_ttl_ms) {
            return Err(("cluster.lease_ttl_ms", "must be 2000 to 60000"));
        }
        Ok(())
    }

    /// How long a lease lasts.
    pub fn lease_ttl(&self) -> Duration {
        Duration::from_millis(self.lease_ttl_ms)
    }

    /// How long players wait for a stream that nobody has.
    pub fn orphan_wait(&self) -> Duration {
        Duration::from_millis(self.orphan_wait_ms)
    }

    /// How long handing over may take.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// How long a process waits for its name while another one has it.
    pub(super) fn name_wait(&self) -> Duration {
        NAME_WAIT.max(self.lease_ttl() + NAME_SLACK)
    }

    pub(super) fn habits(&self) -> Habits {
        Habits {
            timing: Timing {
                ttl: self.lease_ttl(),
                margin: MARGIN,
                renew: RENEW,
                retry: RETRY,
            },
            settle: Duration::from_millis(self.return_wait_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_waited_for_until_the_lease_of_a_process_that_died_is_over() {
        let wait = |lease_ttl_ms| {
            let config = Config {
                lease_ttl_ms,
                ..Config::default()
            };
            config.name_wait()
        };
        assert_eq!(wait(3_000), Duration::from_secs(10));
        assert!(wait(60_000) > Duration::from_secs(60));
    }
}
