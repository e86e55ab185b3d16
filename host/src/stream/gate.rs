//! Until when this node may append: the gate in front of every ring.
//!
//! In a cluster the right to append to a stream is the claim of it, and a claim lasts
//! as long as its node's lease. The gate is the time at which the lease may be over at
//! the soonest, on a clock that also runs while the machine sleeps. It is looked at where
//! a frame is appended and by no timer: whatever stopped the process in between, the
//! frame that comes after it is not appended. Knows neither store nor leases; a node
//! alone has a gate that is always open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Closed for good.
const CLOSED: u64 = 0;
/// Not opened yet.
const SHUT: u64 = 1;
/// Open without a lease.
const ALWAYS: u64 = u64::MAX;

/// Time since the machine started, sleep included (`CLOCK_BOOTTIME`): the same for all
/// processes of a machine.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(ALWAYS - 1)
}

/// The gate of one membership of the cluster. A cheap handle: one number.
#[derive(Clone, Debug)]
pub struct Gate(Arc<AtomicU64>);

impl Gate {
    /// Always open: the node is alone.
    pub fn always() -> Self {
        Self(Arc::new(AtomicU64::new(ALWAYS)))
    }

    /// Not open before [`Gate::extend`].
    pub fn shut() -> Self {
        Self(Arc::new(AtomicU64::new(SHUT)))
    }

    /// It is open until then at least, unless it was closed. Never shortens.
    pub fn extend(&self, until: Duration) {
        let until = nanos(until).clamp(SHUT, ALWAYS - 1);
        let later = |now| (now != CLOSED && now < until).then_some(until);
        // When it is later already, or closed, there is nothing to do.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// Closes it for good: its lease is over.
    pub fn close(&self) {
        self.0.store(CLOSED, Ordering::Relaxed);
    }

    /// Whether frames may pass now.
    pub fn is_open(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            ALWAYS => true,
            CLOSED | SHUT => false,
            until => nanos(since_boot()) < until,
        }
    }

    /// The same at another time.
    pub fn is_open_at(&self, now: Duration) -> bool {
        nanos(now) < self.0.load(Ordering::Relaxed)
    }

    /// Until when frames may pass; `None` when that has no end.
    pub fn until(&self) -> Option<Duration> {
        let until = self.0.load(Ordering::Relaxed);
        (until != ALWAYS).then(|| Duration::from_nanos(until))
    }
}

/// When frames were appended under a permit, in nanoseconds of [`since_boot`]; 0 is never.
#[derive(Debug, Default)]
pub struct Appends {
    first: AtomicU64,
    last: AtomicU64,
}

impl Appends {
    fn note(&self, now: u64) {
        if self.first.load(Ordering::Relaxed) == 0 {
            self.first.store(now, Ordering::Relaxed);
        }
        self.last.store(now, Ordering::Relaxed);
    }

    /// A frame is appended now.
    pub(crate) fn note_now(&self) {
        self.note(nanos(since_boot()));
    }

    /// The first and the last one, if there was any.
    pub fn seen(&self) -> Option<(Duration, Duration)> {
        let [first, last] = [&self.first, &self.last].map(|at| at.load(Ordering::Relaxed));
        (last > 0).then(|| (Duration::from_nanos(first), Duration::from_nanos(last)))
    }
}

/// The right to append to one stream: a claim, held by a node whose gate is open.
#[derive(Clone, Debug)]
pub struct Permit {
    /// Of the membership the claim was made in.
    pub gate: Gate,
    /// The claim's epoch; of a publisher, whose claims have none, the claim's revision.
    pub epoch: u64,
    /// Where appends are noted, if anybody wants to know.
    pub appends: Option<Arc<Appends>>,
}

/// Whether media of this node's own may enter a stream.
#[derive(Debug)]
pub(super) enum Entrance {
    /// The node is alone, or the stream is in no registry.
    Free,
    /// Without a claim: nothing may.
    Barred,
    /// Under a claim.
    Permitted(Permit),
}

impl Entrance {
    /// Whether a frame may be appended now.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Free => true,
            Self::Barred => false,
            Self::Permitted(permit) => permit.gate.is_open(),
        }
    }

    /// A frame was appended.
    pub(super) fn note(&self) {
        if let Self::Permitted(Permit {
            appends: Some(appends),
            ..
        }) = self
        {
            appends.note_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_open_until_its_deadline_and_never_after_it_was_closed() {
        let gate = Gate::shut();
        assert!(!gate.is_open());
        let soon = since_boot() + Duration::from_secs(60);
        gate.extend(soon);
        assert!(gate.is_open() && gate.is_open_at(soon - Duration::from_nanos(1)));
        assert!(!gate.is_open_at(soon));
        gate.extend(Duration::from_secs(1));
        assert!(gate.is_open(), "an older answer takes nothing away");
        gate.close();
        gate.extend(soon);
        assert!(!gate.is_open() && !gate.is_open_at(Duration::ZERO));
        assert!(Gate::always().is_open() && Gate::always().until().is_none());
    }

    #[test]
    fn the_first_and_the_last_append_are_kept() {
        let appends = Arc::new(Appends::default());
        let entrance = Entrance::Permitted(Permit {
            gate: Gate::always(),
            epoch: 1,
            appends: Some(appends.clone()),
        });
        assert!(entrance.is_open() && appends.seen().is_none());
        let before = since_boot();
        entrance.note();
        let (first, _) = appends.seen().expect("seen");
        entrance.note();
        let (still, last) = appends.seen().expect("seen");
        assert!(before <= first && first == still && first <= last);
        assert!(last <= since_boot());
    }
}
