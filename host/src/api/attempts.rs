//! How often someone may try to log in.
//!
//! Knows addresses, not users: whoever guesses passwords chooses the users.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::network;

/// Attempts are counted over this long.
const WINDOW: Duration = Duration::from_secs(60);

/// Failed attempts of the current minute. An attempt counts when it begins, so that many at once cannot slip
/// through, and is given back when it succeeds. At most `total` addresses are remembered.
pub(super) struct Attempts {
    per_address: u32,
    total: u32,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

impl Attempts {
    pub(super) fn new(per_address: u32, total: u32) -> Self {
        Self {
            per_address,
            total,
            window: Mutex::default(),
        }
    }

    /// Counts one; when there were too many, says how long to wait.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut window = self.window.lock();
        let age = window
            .began
            .map(|began| now.saturating_duration_since(began));
        if age.is_none_or(|age| age >= WINDOW) {
            *window = Window {
                began: Some(now),
                ..Window::default()
            };
        }
        let left = WINDOW.saturating_sub(age.filter(|age| *age < WINDOW).unwrap_or_default());
        let address = network(address);
        let spent = window.by_address.get(&address).copied().unwrap_or(0);
        if window.total >= self.total || spent >= self.per_address {
            return Err(left);
        }
        window.total += 1;
        window.by_address.insert(address, spent + 1);
        Ok(())
    }

    /// It succeeded and does not count.
    pub(super) fn give_back(&self, address: IpAddr) {
        let mut window = self.window.lock();
        if let Some(spent) = window.by_address.get_mut(&network(address)) {
            *spent = spent.saturating_sub(1);
            window.total = window.total.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn failed_attempts_are_limited_per_address_and_in_total() {
        let attempts = Attempts::new(3, 5);
        let now = Instant::now();
        let other: IpAddr = "2001:db8::1".parse().expect("address");
        let neighbour: IpAddr = "2001:db8::ffff".parse().expect("address");
        assert!((0..3).all(|_| attempts.take(HERE, now).is_ok()));
        assert_eq!(
            attempts.take(HERE, now + Duration::from_secs(20)),
            Err(Duration::from_secs(40))
        );
        attempts.give_back(HERE);
        assert!(attempts.take(HERE, now).is_ok());
        assert!(attempts.take(other, now).is_ok() && attempts.take(neighbour, now).is_ok());
        assert!(attempts.take(neighbour, now).is_err(), "the total is spent");
        assert!(attempts.take(HERE, now + WINDOW).is_ok(), "a new minute");
    }
}
