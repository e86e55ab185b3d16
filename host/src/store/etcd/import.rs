//! Takes in more than fits into one of etcd's transactions, all or nothing.
//!
//! First everything is put under a lease: if a key exists, or the process dies, the lease
//! ends and all of it is gone at once. Then one write says that the import is done, which
//! is when it is; and from then on the entries are put again without the lease, by this
//! node or, if it died, by any other, which has as long as the lease lasts. That write is
//! under the lease as well, so that it cannot be done when the entries are gone. Who
//! finishes renews the lease and leaves word that all was there to the end: somebody else
//! may have finished meanwhile, and then the lease is gone too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn as RawTxn, TxnOp};
use tracing::{info, warn};

use super::Remote;
use super::failure::Failure;
use super::members::Repeat;
use super::transaction::raw_lease;
use crate::store::{Error, LeaseId, MAX_OPS, MAX_TXN, Revision, Txn, Write};

/// How long an import that was begun may take, and one that was done be unfinished.
const LIFE: Duration = Duration::from_secs(600);
/// How often a node looks for imports that others left unfinished. Theirs gets as long.
const LOOK: Duration = Duration::from_secs(30);
/// Keys that are read at once; fewer where they are large.
const PAGE: usize = 500;
/// The value of the word that an import was finished.
const FINISHED: &str = "finished";

/// See [`Store::import`](crate::store::Store::import).
pub(super) async fn import(
    remote: &Remote,
    entries: Vec<(String, Bytes)>,
) -> Result<Revision, Error> {
    let whole = crate::store::txn::of_import(entries)?;
    if whole.writes.is_empty() {
        return remote.mark().await;
    }
    if whole.check().is_ok() {
        return remote.txn(&whole).await;
    }
    let lease = remote.grant(LIFE).await?;
    let entries = whole.writes.into_iter().filter_map(|write| match write {
        Write::Put { key, value, .. } => Some((key, value)),
        Write::Delete { .. } => None,
    });
    let staged = stage(remote, entries, lease).await;
    let committed = match staged {
        Ok(()) => commit(remote, lease).await,
        Err(error) => Err(error),
    };
    if let Err(error) = committed {
        if matches!(error, Error::NoSuchLease) {
            return Err(too_late());
        }
        // What cannot be revoked now ends by itself. Where the last write was done after
        // all, it is told as any write is whose answer was lost.
        if let Err(error) = remote.revoke(lease).await {
            warn!(%error, "an import that failed could not be taken back; it ends in {LIFE:?}");
        }
        return Err(error);
    }
    finish(remote, lease).await
}

/// Puts everything under the lease, if nothing of it exists.
async fn stage(
    remote: &Remote,
    entries: impl Iterator<Item = (String, Bytes)>,
    lease: LeaseId,
) -> Result<(), Error> {
    for chunk in chunks(entries) {
        let txn = chunk.into_iter().fold(Txn::new(), |txn, (key, value)| {
            txn.absent(key.clone()).put_leased(key, value, lease)
        });
        remote.txn(&txn).await?;
    }
    Ok(())
}

/// Only the first half, as a process that dies then leaves it.
#[cfg(test)]
pub(super) async fn begin(
    remote: &Remote,
    entries: Vec<(String, Bytes)>,
) -> Result<LeaseId, Error> {
    let lease = remote.grant(LIFE).await?;
    stage(remote, entries.into_iter(), lease).await?;
    Ok(lease)
}

/// The import is done when this is.
pub(super) async fn commit(remote: &Remote, lease: LeaseId) -> Result<(), Error> {
    let key = told(remote, lease);
    let options = PutOptions::new().with_lease(raw_lease(lease));
    let call = remote.members.call(Repeat::Harmless, |client| {
        let (key, options) = (key.clone(), options.clone());
        Box::pin(async move { client.kv_client().put(key, "", Some(options)).await })
    });
    call.await.map(drop).map_err(Failure::into_error)
}

/// Nothing of it is left: it may be done again.
fn too_late() -> Error {
    let text = format!("an import that was not finished in {LIFE:?} is gone");
    Error::Unavailable(Arc::new(std::io::Error::other(text)))
}

fn told(remote: &Remote, lease: LeaseId) -> Vec<u8> {
    let (begin, _) = remote.space.imports();
    [&begin[..], lease.to_string().as_bytes()].concat()
}

/// Frees the entries of an import from its lease, and says so.
///
/// # Errors
/// [`Error::Unavailable`] also when the lease ended before.
pub(super) async fn finish(remote: &Remote, lease: LeaseId) -> Result<Revision, Error> {
    if !renew(remote, lease).await? {
        return finished(remote, lease).await;
    }
    let (mut start, end) = remote.space.page("", None);
    loop {
        let options = GetOptions::new().with_range(end.clone());
        let found = remote.page(&start, options, PAGE).await;
        let mut found = found.map_err(Failure::into_error)?;
        let (more, kvs) = (found.more(), found.take_kvs());
        let Some(last) = kvs.last() else { break };
        start = [last.key(), b"\0"].concat();
        let of_it = |kv: &KeyValue| kv.lease() == raw_lease(lease);
        free(remote, kvs.into_iter().filter(of_it).collect()).await?;
        if !renew(remote, lease).await? {
            return finished(remote, lease).await;
        }
        if !more {
            break;
        }
    }
    if !tell(remote, lease).await? {
        return finished(remote, lease).await;
    }
    // Nothing is left under it but what was changed since; that is not ours.
    match remote.revoke(lease).await {
        Ok(()) | Err(Error::NoSuchLease) => remote.mark().await,
        Err(error) => Err(error),
    }
}

/// Whether the lease was there to be renewed.
async fn renew(remote: &Remote, lease: LeaseId) -> Result<bool, Error> {
    let id = raw_lease(lease);
    let call = remote.members.call(Repeat::Harmless, |client| {
        Box::pin(async move { client.lease_client().keep_alive(id).await })
    });
    match call.await {
        Ok(_) => Ok(true),
        Err(Failure::NoSuchLease) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}

/// Says that all entries are free, if the import was still there. The word lasts as long
/// as anybody may be at it, and then goes by itself.
async fn tell(remote: &Remote, lease: LeaseId) -> Result<bool, Error> {
    let key = told(remote, lease);
    let options = PutOptions::new().with_lease(raw_lease(remote.grant(LIFE).await?));
    let there = Compare::version(key.clone(), CompareOp::Greater, 0);
    let txn = RawTxn::new()
        .when([there])
        .and_then([TxnOp::put(key, FINISHED, Some(options))]);
    let call = remote.members.call(Repeat::Harmless, |client| {
        let txn = txn.clone();
        Box::pin(async move { client.kv_client().txn(txn).await })
    });
    let done = call.await.map_err(Failure::into_error)?;
    Ok(done.succeeded())
}

/// Of an import whose lease is gone: whether somebody finished it before.
async fn finished(remote: &Remote, lease: LeaseId) -> Result<Revision, Error> {
    let found = remote.range(told(remote, lease), GetOptions::new()).await;
    let found = found.map_err(Failure::into_error)?;
    match found.kvs().first() {
        Some(kv) if kv.value() == FINISHED.as_bytes() => remote.mark().await,
        _ => Err(too_late()),
    }
}

/// Puts entries again, as they are, without a lease.
async fn free(remote: &Remote, kvs: Vec<KeyValue>) -> Result<(), Error> {
    let entries = kvs.into_iter().filter_map(|kv| {
        let entry = remote.space.entry(kv)?;
        Some((entry.key, (entry.value, entry.revision)))
    });
    let entries: Vec<(String, (Bytes, Revision))> = entries.collect();
    let revisions: std::collections::HashMap<String, Revision> = entries
        .iter()
        .map(|(key, (_, revision))| (key.clone(), *revision))
        .collect();
    for mut chunk in chunks(entries.into_iter().map(|(key, (value, _))| (key, value))) {
        while !chunk.is_empty() {
            let txn = chunk.iter().fold(Txn::new(), |txn, (key, value)| {
                let at = revisions.get(key).copied().unwrap_or_default();
                txn.revision_is(key.clone(), at)
                    .put(key.clone(), value.clone())
            });
            match remote.txn(&txn).await {
                Ok(_) => break,
                // Somebody changed or deleted it: it is no more the import's.
                Err(Error::Failed { precondition }) => {
                    chunk.retain(|(key, _)| key != precondition.key());
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Entries in parts that fit into a transaction which names each key twice.
fn chunks(entries: impl Iterator<Item = (String, Bytes)>) -> Vec<Vec<(String, Bytes)>> {
    let mut chunks: Vec<Vec<(String, Bytes)>> = Vec::new();
    let mut bytes = 0;
    for (key, value) in entries {
        let size = 2 * key.len() + value.len();
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < MAX_OPS && bytes + size <= MAX_TXN => {
                bytes += size;
                chunk.push((key, value));
            }
            _ => {
                bytes = size;
                chunks.push(vec![(key, value)]);
            }
        }
    }
    chunks
}

/// Finishes what others left, again and again.
pub(super) async fn finish_others(remote: &Remote) {
    let mut seen = Vec::new();
    loop {
        let found = unfinished(remote).await.unwrap_or_default();
        for lease in &found {
            // Seen before: whoever did it had the time to finish.
            if seen.contains(lease) {
                match finish(remote, *lease).await {
                    Ok(_) => info!(%lease, "finished an import that was left unfinished"),
                    Err(error) => warn!(%error, "an import is unfinished; trying again"),
                }
            }
        }
        seen = found;
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn unfinished(remote: &Remote) -> Result<Vec<LeaseId>, Failure> {
    let (start, end) = remote.space.imports();
    let options = GetOptions::new().with_range(end);
    let found = remote.page(&start, options, PAGE).await?;
    let lease = |kv: &KeyValue| {
        if kv.value() == FINISHED.as_bytes() {
            return None;
        }
        let id = kv.key().strip_prefix(&start[..])?;
        let id = u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()?;
        Some(LeaseId::from_raw(id))
    };
    Ok(found.kvs().iter().filter_map(lease).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_into_transactions() {
        let entry = |n: usize| (format!("k/{n}"), Bytes::from(vec![0; 30_000]));
        let small = |n: usize| (format!("s/{n}"), Bytes::new());
        let parts = chunks((0..100).map(entry).chain((0..1000).map(small)));
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 1100);
        for part in parts {
            let txn = part.into_iter().fold(Txn::new(), |txn, (key, value)| {
                txn.absent(key.clone()).put(key, value)
            });
            assert!(txn.check().is_ok());
        }
    }
}
