//! The one writer of a store: plans requests, has them made durable, applies, answers.
//!
//! Requests that wait together and write different keys share one durable step, each
//! with its own revision. Knows neither threads nor files: the engine decides where it
//! runs, the journal what durable means.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::feed::Shared;
use super::ledger::Commit;
use super::{Error, LeaseId, Revision, Txn};

/// Makes commits durable.
pub(super) trait Journal: Send {
    /// All of them or none; durable when it answers `Ok`, unknown when it does not.
    fn append(&mut self, commits: &[Commit]) -> Result<(), Error>;
}

pub(super) enum Op {
    Txn(Txn),
    /// A transaction whose bounds were checked already.
    Import(Txn),
    Revoke(LeaseId),
    /// Ends what is due.
    Expire,
}

pub(super) type Answer = Result<Revision, Error>;

pub(super) struct Request {
    pub(super) op: Op,
    /// When it was made.
    pub(super) now: Instant,
    /// Nobody may be listening any more.
    pub(super) answer: oneshot::Sender<Answer>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    applied: watch::Sender<Revision>,
    journal: Box<dyn Journal>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        applied: watch::Sender<Revision>,
        journal: Box<dyn Journal>,
    ) -> Self {
        Self {
            shared,
            applied,
            journal,
        }
    }

    /// Answers every request, in order.
    pub(super) fn serve(&mut self, mut waiting: VecDeque<Request>) {
        while let Some(first) = waiting.pop_front() {
            if let Err(error) = self.expire(first.now) {
                let _ = first.answer.send(Err(error));
                continue;
            }
            match first.op {
                Op::Txn(txn) => self.txns(txn, first.now, first.answer, &mut waiting),
                Op::Import(txn) => drop(first.answer.send(self.import(&txn, first.now))),
                Op::Revoke(lease) => drop(first.answer.send(self.revoke(lease))),
                Op::Expire => drop(first.answer.send(Ok(self.revision()))),
            }
        }
    }

    fn revision(&self) -> Revision {
        self.shared.ledger.read().revision()
    }

    fn expire(&mut self, now: Instant) -> Result<(), Error> {
        if !self.shared.ledger.read().leases.any_due(now) {
            return Ok(());
        }
        let commit = self.shared.ledger.write().plan_due(now);
        self.commit(commit.into_iter().collect())
    }

    fn import(&mut self, txn: &Txn, now: Instant) -> Answer {
        let commit = self.shared.ledger.read().plan_checked(txn, now, 0)?;
        self.commit(commit.into_iter().collect())?;
        Ok(self.revision())
    }

    fn revoke(&mut self, lease: LeaseId) -> Answer {
        let commit = self.shared.ledger.write().plan_revoke(lease)?;
        self.commit(commit.into_iter().collect())?;
        Ok(self.revision())
    }

    /// Does the first transaction, and with it those next in line that are independent.
    fn txns(
        &mut self,
        first: Txn,
        now: Instant,
        answer: oneshot::Sender<Answer>,
        waiting: &mut VecDeque<Request>,
    ) {
        let mut group = Group::default();
        group.add(&self.shared, &first, now, answer);
        while let Some(Request {
            op: Op::Txn(txn),
            now: waiting_since,
            ..
        }) = waiting.front()
            && group.takes(&self.shared, txn, waiting_since)
            && let Some(Request {
                op: Op::Txn(txn),
                now,
                answer,
            }) = waiting.pop_front()
        {
            group.add(&self.shared, &txn, now, answer);
        }
        let done = self.commit(group.commits);
        for (answer, revision) in group.answers {
            let _ = answer.send(done.clone().map(|()| revision));
        }
    }

    fn commit(&mut self, commits: Vec<Commit>) -> Result<(), Error> {
        let Some(revision) = commits.last().map(|commit| commit.revision) else {
            return Ok(());
        };
        self.journal.append(&commits)?;
        let mut ledger = self.shared.ledger.write();
        for commit in commits {
            ledger.apply(commit);
        }
        drop(ledger);
        self.applied.send_replace(revision);
        Ok(())
    }
}

/// Transactions of which none writes what another reads or writes.
#[derive(Default)]
struct Group {
    commits: Vec<Commit>,
    answers: Vec<(oneshot::Sender<Answer>, Revision)>,
    written: HashSet<String>,
}

impl Group {
    /// Whether planning it on the ledger as it is gives what doing it in turn would.
    fn takes(&self, shared: &Shared, txn: &Txn, now: &Instant) -> bool {
        !txn.keys().any(|key| self.written.contains(key))
            && !shared.ledger.read().leases.any_due(*now)
    }

    fn add(&mut self, shared: &Shared, txn: &Txn, now: Instant, answer: oneshot::Sender<Answer>) {
        let ledger = shared.ledger.read();
        let ahead = self.commits.len() as u64;
        match ledger.plan(txn, now, ahead) {
            Err(error) => drop(answer.send(Err(error))),
            Ok(None) => self.answers.push((answer, ledger.revision() + ahead)),
            Ok(Some(commit)) => {
                self.written
                    .extend(txn.writes.iter().map(|write| write.key().to_owned()));
                self.answers.push((answer, commit.revision));
                self.commits.push(commit);
            }
        }
    }
}
