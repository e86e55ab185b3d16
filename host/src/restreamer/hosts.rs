//! Remote hosts as all restreamers of this node see them.
//!
//! Paces dials so that a thousand pulls of one origin do not fall on it at once,
//! and tells the policies that sleep on a host when it answers again. Bounded by
//! the number of restreamers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::inbox::Inbox;
use crate::rtmp::dial::{Moments, OwnPulls};
use crate::rtmp::policy::Policy;

/// Dials to one host that may go out at once.
const BURST: u32 = 200;
/// Beyond that, one in so long: 100 a second.
const INTERVAL: Duration = Duration::from_millis(10);
/// Hosts remembered beyond this are looked through for idle ones.
const SWEEP_AT: usize = 1024;

#[derive(Debug)]
struct Host {
    /// When the bucket is full again.
    full_at: Instant,
    sleeping: Vec<Weak<Inbox>>,
}

impl Host {
    fn new(now: Instant) -> Self {
        Self {
            full_at: now,
            sleeping: Vec::new(),
        }
    }
}

/// A dial that may go out once its time has come.
struct Slot<'a> {
    hosts: &'a Hosts,
    key: (String, u16),
    used: bool,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        if let Some(host) = self.hosts.known.lock().hosts.get_mut(&self.key) {
            host.full_at -= INTERVAL;
        }
    }
}

/// The registry.
#[derive(Debug)]
pub struct Hosts {
    policy: Arc<Policy>,
    own_pulls: OwnPulls,
    moments: Moments,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    hosts: HashMap<(String, u16), Host>,
    /// Those in use when they were looked through last.
    in_use: usize,
}

impl Known {
    /// Forgets idle hosts, but not at every dial: there may be many that are not.
    fn sweep(&mut self, now: Instant) {
        if self.hosts.len() < SWEEP_AT.max(2 * self.in_use) {
            return;
        }
        self.hosts.retain(|_, host| {
            host.full_at > now || host.sleeping.iter().any(|inbox| inbox.strong_count() > 0)
        });
        self.in_use = self.hosts.len();
    }
}

impl Hosts {
    /// No host was dialed yet; this policy says which may be.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            own_pulls: OwnPulls::default(),
            moments: Moments::default(),
            known: Arc::default(),
        }
    }

    /// The same hosts for those who may dial less of them.
    pub fn under(&self, policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            own_pulls: self.own_pulls.clone(),
            moments: self.moments.clone(),
            known: self.known.clone(),
        }
    }

    /// Where this node may dial.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The pulls of this node from itself.
    pub fn own_pulls(&self) -> &OwnPulls {
        &self.own_pulls
    }

    /// Where the sources of this node wait to be read.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Waits until a dial to this host may go out. Who gives up gives the slot back.
    pub async fn admit(&self, host: &str, port: u16) {
        let until = self.slot(host, port, Instant::now());
        let mut slot = Slot {
            hosts: self,
            key: key(host, port),
            used: false,
        };
        tokio::time::sleep_until(until).await;
        slot.used = true;
    }

    fn slot(&self, host: &str, port: u16, now: Instant) -> Instant {
        let mut known = self.known.lock();
        known.sweep(now);
        let host = known
            .hosts
            .entry(key(host, port))
            .or_insert_with(|| Host::new(now));
        host.full_at = host.full_at.max(now) + INTERVAL;
        let ahead = host.full_at - now;
        now + ahead.saturating_sub(INTERVAL * BURST)
    }

    /// A source of this host failed: its policy will be woken when the host answers.
    pub fn failed(&self, host: &str, port: u16, inbox: &Arc<Inbox>) {
        let mut known = self.known.lock();
        let host = known.hosts.entry(key(host, port));
        let host = host.or_insert_with(|| Host::new(Instant::now()));
        host.sleeping.retain(|known| known.strong_count() > 0);
        if !host
            .sleeping
            .iter()
            .any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(inbox)))
        {
            host.sleeping.push(Arc::downgrade(inbox));
        }
    }

    /// Media comes from this host: whoever sleeps on it may dial.
    pub fn reached(&self, host: &str, port: u16) {
        let sleeping = self
            .known
            .lock()
            .hosts
            .get_mut(&key(host, port))
            .map(|host| std::mem::take(&mut host.sleeping));
        for inbox in sleeping
            .into_iter()
            .flatten()
            .filter_map(|inbox| inbox.upgrade())
        {
            inbox.reachable();
        }
    }
}

fn key(host: &str, port: u16) -> (String, u16) {
    (host.to_ascii_lowercase(), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restreamer::host::Wake;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_out_at_once_and_the_rest_at_a_hundred_a_second() {
        let hosts = Hosts::new(Arc::default());
        let begin = Instant::now();
        for _ in 0..200 {
            hosts.admit("origin", 1935).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            hosts.admit("ORIGIN", 1935).await;
        }
        assert_eq!(begin.elapsed().as_millis(), 1_000);
        let other = Instant::now();
        hosts.admit("elsewhere", 1935).await;
        assert_eq!(other.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn dials_that_were_given_up_cost_nobody_else_a_wait() {
        let hosts = Hosts::new(Arc::default());
        for _ in 0..200 {
            hosts.admit("origin", 1935).await;
        }
        let begin = Instant::now();
        for _ in 0..10_000 {
            let admit = hosts.admit("origin", 1935);
            let gave_up = tokio::time::timeout(Duration::ZERO, admit).await;
            assert!(gave_up.is_err());
        }
        hosts.admit("origin", 1935).await;
        assert!(begin.elapsed() <= INTERVAL * 3, "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn a_host_forgotten_meanwhile_is_slept_on_all_the_same() {
        let hosts = Hosts::new(Arc::default());
        let inbox = Arc::new(Inbox::default());
        hosts.failed("origin", 1935, &inbox);
        hosts.reached("origin", 1935);
        assert_eq!(inbox.next().await, Wake::Reachable);
    }

    #[tokio::test]
    async fn whoever_sleeps_on_a_host_is_woken_once_when_it_answers() {
        let hosts = Hosts::new(Arc::default());
        let inbox = Arc::new(Inbox::default());
        hosts.admit("origin", 1935).await;
        for _ in 0..1_000 {
            hosts.failed("origin", 1935, &inbox);
        }
        hosts.reached("elsewhere", 1935);
        hosts.reached("origin", 1935);
        assert_eq!(inbox.next().await, Wake::Reachable);
        assert!(
            tokio::time::timeout(Duration::from_millis(10), inbox.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_may_dial_less_share_the_pace_of_all() {
        let hosts = Hosts::new(Arc::default());
        for _ in 0..200 {
            hosts.admit("origin", 1935).await;
        }
        let begin = Instant::now();
        hosts.under(Policy::default()).admit("origin", 1935).await;
        assert_eq!(begin.elapsed(), INTERVAL);
    }

    #[test]
    fn idle_hosts_are_forgotten() {
        let hosts = Hosts::new(Arc::default());
        let now = Instant::now();
        for n in 0..10_000u32 {
            hosts.slot(
                &format!("host{n}"),
                1935,
                now + Duration::from_secs(n.into()),
            );
        }
        assert!(hosts.known.lock().hosts.len() <= SWEEP_AT + 1);
    }
}
