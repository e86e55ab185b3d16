//! Transactions in etcd's words, and what its answers mean.
//!
//! Pure. Preconditions become comparisons; the other branch reads the keys that were
//! compared, so that a refusal can name the first that did not hold. A transaction that
//! can be done only once (its writes break its own preconditions) may be sent again when
//! an answer was lost: whether it was done then shows in what is stored.

use std::collections::HashMap;

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, PutOptions, Txn as RawTxn, TxnOp, TxnOpResponse,
    TxnResponse,
};

use super::space::{Space, raw, revision};
use crate::store::{Error, LeaseId, Precondition, Revision, Txn, Write};

/// What etcd said.
#[derive(Debug)]
pub(super) enum Answer {
    /// Done, at this revision.
    Done(Revision),
    /// Refused.
    Failed(Precondition),
}

/// The transaction in etcd's words.
pub(super) fn request(space: &Space, txn: &Txn) -> RawTxn {
    let compares: Vec<Compare> = txn
        .preconditions
        .iter()
        .map(|precondition| compare(space, precondition))
        .collect();
    let writes: Vec<TxnOp> = txn.writes.iter().map(|write| op(space, write)).collect();
    let keys_only = GetOptions::new().with_keys_only();
    let looks: Vec<TxnOp> = txn
        .preconditions
        .iter()
        .map(|one| TxnOp::get(space.raw(one.key()), Some(keys_only.clone())))
        .collect();
    RawTxn::new().when(compares).and_then(writes).or_else(looks)
}

fn compare(space: &Space, precondition: &Precondition) -> Compare {
    let key = space.raw(precondition.key());
    match precondition {
        Precondition::Absent(_) => Compare::version(key, CompareOp::Equal, 0),
        Precondition::Present(_) => Compare::version(key, CompareOp::Greater, 0),
        // To etcd 0 is the revision of what is absent; here nothing has it.
        Precondition::RevisionIs(_, 0) => Compare::version(key, CompareOp::Less, 0),
        Precondition::RevisionIs(_, at) => Compare::mod_revision(key, CompareOp::Equal, raw(*at)),
    }
}

fn op(space: &Space, write: &Write) -> TxnOp {
    match write {
        Write::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(raw_lease(lease)));
            TxnOp::put(space.raw(key), value.as_ref(), options)
        }
        Write::Delete { key } => TxnOp::delete(space.raw(key), None),
    }
}

/// A lease as etcd has it: its bits.
pub(super) fn raw_lease(lease: LeaseId) -> i64 {
    lease.raw().cast_signed()
}

/// Reads etcd's answer.
///
/// # Errors
/// [`Error::Corrupt`] when it does not fit the request.
pub(super) fn answer(txn: &Txn, response: &TxnResponse) -> Result<Answer, Error> {
    let header = response.header().ok_or_else(unfit)?;
    if response.succeeded() {
        return Ok(Answer::Done(revision(header.revision())));
    }
    let looks = response.op_responses();
    let failed = txn.preconditions.iter().zip(looks).find_map(|(one, look)| {
        let TxnOpResponse::Get(found) = look else {
            return None;
        };
        let at = found.kvs().first().map(|kv| revision(kv.mod_revision()));
        (!one.holds(at)).then(|| one.clone())
    });
    failed.map(Answer::Failed).ok_or_else(unfit)
}

fn unfit() -> Error {
    Error::Corrupt("an answer of etcd does not fit the transaction".to_owned())
}

/// Whether it can be done only once: one of its writes breaks one of its preconditions.
pub(super) fn is_once(txn: &Txn) -> bool {
    let writes: HashMap<&str, bool> = txn
        .writes
        .iter()
        .map(|write| (write.key(), matches!(write, Write::Put { .. })))
        .collect();
    txn.preconditions.iter().any(|one| {
        let write = writes.get(one.key());
        match one {
            Precondition::Absent(_) => write == Some(&true),
            Precondition::Present(_) => write == Some(&false),
            Precondition::RevisionIs(..) => write.is_some(),
        }
    })
}

/// Reads what it wrote, to be given to [`was_done`].
pub(super) fn look(space: &Space, txn: &Txn) -> RawTxn {
    let ops: Vec<TxnOp> = txn
        .writes
        .iter()
        .map(|write| TxnOp::get(space.raw(write.key()), None))
        .collect();
    RawTxn::new().and_then(ops)
}

/// The revision at which exactly its writes were done, if what is stored now shows it: all
/// of its values at one revision, and nothing of what it deletes.
pub(super) fn was_done(txn: &Txn, response: &TxnResponse) -> Option<Revision> {
    let mut at = None;
    for (write, look) in txn.writes.iter().zip(response.op_responses()) {
        let TxnOpResponse::Get(found) = look else {
            return None;
        };
        if !shows(&found, write, &mut at) {
            return None;
        }
    }
    at
}

fn shows(found: &GetResponse, write: &Write, at: &mut Option<Revision>) -> bool {
    match (write, found.kvs().first()) {
        (Write::Delete { .. }, None) => true,
        (Write::Put { value, lease, .. }, Some(kv)) => {
            let written = revision(kv.mod_revision());
            *at.get_or_insert(written) == written
                && kv.value() == value.as_ref()
                && kv.lease() == lease.map_or(0, raw_lease)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_breaks_its_own_preconditions_is_done_once() {
        let once = [
            Txn::new().absent("a").put("a", ""),
            Txn::new().revision_is("a", 1).put("a", ""),
            Txn::new().revision_is("a", 1).delete("a"),
            Txn::new().present("a").delete("a"),
        ];
        assert!(once.iter().all(is_once));
        let again = [
            Txn::new().put("a", ""),
            Txn::new().present("a").put("a", ""),
            Txn::new().absent("a").delete("a"),
            Txn::new().absent("b").put("a", ""),
        ];
        assert!(!again.iter().any(is_once));
    }
}
