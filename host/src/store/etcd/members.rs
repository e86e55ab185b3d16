//! All members of the etcd cluster, and calls that one of them is to answer.
//!
//! Asks the member that answered last, and the others when it does not: again and again
//! while there is time, so that a change of etcd's leader is waited out. A call that may
//! have been done is made again only if doing it twice is as good as once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::failure::{Failure, NoAnswer};
use super::member::{Call, Member};
use crate::config;

/// Between two rounds over all members.
const PAUSE: Duration = Duration::from_millis(50);
/// The least time a member is given, when there is so much.
const SHARE: Duration = Duration::from_millis(500);

/// What becomes of a call that is made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It is as if made once.
    Harmless,
    /// It may be done twice.
    Harmful,
}

pub(super) struct Members {
    members: Vec<Arc<Member>>,
    /// The one to ask first.
    preferred: AtomicUsize,
    timeout: Duration,
    /// Since when no member answers.
    lost: Mutex<Option<Instant>>,
}

impl Members {
    pub(super) fn new(
        names: &config::Members,
        settings: &config::Etcd,
        options: &ConnectOptions,
    ) -> Self {
        let members = names.iter();
        Self {
            members: members
                .map(|name| Arc::new(Member::new(name, options.clone())))
                .collect(),
            preferred: AtomicUsize::new(0),
            timeout: Duration::from_millis(settings.timeout_ms),
            lost: Mutex::default(),
        }
    }

    pub(super) fn all(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// How long a call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The member to ask, `turn` places behind the preferred one.
    pub(super) fn at(&self, turn: usize) -> &Arc<Member> {
        let at = self.preferred.load(Ordering::Relaxed).wrapping_add(turn);
        &self.members[at % self.members.len()]
    }

    /// Whether a call found no member that answers, and none did since.
    pub(super) fn are_lost(&self) -> bool {
        let Some(since) = *self.lost.lock() else {
            return false;
        };
        let still = |silent: Option<Duration>| silent.is_none_or(|silent| silent > since.elapsed());
        self.members.iter().all(|member| still(member.silent()))
    }

    /// Has one member answer.
    ///
    /// # Errors
    /// What the last member asked said. [`Failure::Unknown`] when any member may have done it.
    pub(super) async fn call<T>(
        &self,
        repeat: Repeat,
        call: impl Fn(Client) -> Call<T> + Sync,
    ) -> Result<T, Failure> {
        self.call_by(Instant::now() + self.timeout, repeat, call)
            .await
    }

    /// The same by a deadline.
    pub(super) async fn call_by<T>(
        &self,
        deadline: Instant,
        repeat: Repeat,
        call: impl Fn(Client) -> Call<T> + Sync,
    ) -> Result<T, Failure> {
        let mut unknown = false;
        let mut last = Failure::NotDone(Arc::new(NoAnswer));
        for turn in 0.. {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let member = self.at(turn);
            let share = left.min(SHARE.max(left / self.members.len() as u32));
            match member.call(share, &call).await {
                Ok(answer) => {
                    self.prefer(member);
                    return Ok(answer);
                }
                Err(failure @ Failure::NotDone(_)) => last = failure,
                Err(failure @ Failure::Unknown(_)) => {
                    if repeat == Repeat::Harmful {
                        self.avoid(member);
                        return Err(failure);
                    }
                    unknown = true;
                    last = failure;
                }
                Err(failure) => {
                    self.prefer(member);
                    return Err(failure);
                }
            }
            if (turn + 1) % self.members.len() == 0 {
                tokio::time::sleep_until(deadline.min(Instant::now() + PAUSE)).await;
            }
        }
        *self.lost.lock() = Some(Instant::now());
        match last {
            Failure::NotDone(cause) if unknown => Err(Failure::Unknown(cause)),
            last => Err(last),
        }
    }

    /// Asks another one first.
    fn avoid(&self, member: &Arc<Member>) {
        if Arc::ptr_eq(self.at(0), member) {
            self.preferred.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn prefer(&self, member: &Arc<Member>) {
        let at = self.members.iter().position(|one| Arc::ptr_eq(one, member));
        if let Some(at) = at {
            self.preferred.store(at, Ordering::Relaxed);
        }
        *self.lost.lock() = None;
    }
}
