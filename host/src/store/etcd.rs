//! The store of many hosts: etcd, by its v3 API.
//!
//! etcd agrees and remembers; this translates. Revisions are etcd's own: they rise with
//! every change, also with those of others in the same etcd. Reads are of etcd's latest;
//! while no member answers they are of what was last known, and writes are refused as
//! unavailable. Leases have whole seconds, and no less than etcd's election takes (2 s
//! with its defaults).

mod failure;
mod feed;
mod import;
mod member;
mod members;
mod quiet;
mod renewal;
mod replica;
mod space;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{ConnectOptions, GetOptions, GetResponse};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use self::failure::{Cause, Failure};
use self::feed::Source;
use self::members::{Members, Repeat};
use self::renewal::Renewals;
use self::replica::Replica;
use self::space::{Space, raw, revision};
pub use self::tls::TlsError;
use self::transaction::{Answer, raw_lease};
use super::{Entry, Error, LeaseId, Listing, MAX_PAGE, MAX_TTL, Page, Revision, Store, Txn, Watch};
use crate::config;

/// The largest page in bytes that is taken; a page of larger entries is asked for in
/// halves.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// How often members are asked that do not answer.
const LOOK: Duration = Duration::from_millis(500);
/// Before a call whose answer was lost is made at another member.
const AGAIN: Duration = Duration::from_millis(50);

/// A [`Store`] in etcd.
pub struct Etcd {
    remote: Remote,
    renewals: Renewals,
    replica: Arc<Replica>,
    source: Source,
    /// Ends watches and the replica.
    _closes: DropGuard,
}

/// etcd, without what is known of it here.
#[derive(Clone)]
struct Remote {
    members: Arc<Members>,
    space: Space,
}

impl Etcd {
    /// Over the members of one etcd cluster; connects when it is first needed. To be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// A file of `[etcd]` that cannot be used.
    pub fn open(members: &config::Members, settings: &config::Etcd) -> Result<Self, TlsError> {
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_auto_token_refresh(true)
            .with_connect_timeout(Duration::from_millis(settings.connect_timeout_ms));
        if let Some(tls) = tls::options(settings)? {
            options = options.with_tls(tls);
        }
        if let (Some(user), Some(password)) = (&settings.user, &settings.password) {
            options = options.with_user(user, password.expose());
        }
        let members = Arc::new(Members::new(members, settings, &options));
        Ok(Self::over(members, Space::new(&settings.prefix)))
    }

    fn over(members: Arc<Members>, space: Space) -> Self {
        let closed = CancellationToken::new();
        let remote = Remote {
            members: Arc::clone(&members),
            space: space.clone(),
        };
        let source = Source {
            members: Arc::clone(&members),
            space,
            closed: closed.clone(),
        };
        let replica = Arc::new(Replica::default());
        let background = {
            let (replica, remote, source) = (Arc::clone(&replica), remote.clone(), source.clone());
            async move {
                tokio::select! {
                    () = replica.follow(&remote, &source) => {}
                    () = import::finish_others(&remote) => {}
                    () = remote.look_for_members() => {}
                    () = source.closed.cancelled() => {}
                }
            }
        };
        tokio::spawn(background.instrument(tracing::info_span!("etcd")));
        Self {
            remote,
            renewals: Renewals::new(members),
            replica,
            source,
            _closes: closed.drop_guard(),
        }
    }

    /// What etcd says, or what was last known when it says nothing.
    async fn read<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
        known: impl Fn() -> Option<T>,
    ) -> Result<T, Error> {
        if self.remote.members.are_lost()
            && let Some(known) = known()
        {
            return Ok(known);
        }
        match asked.await {
            Err(error @ Error::Unavailable(_)) => known().ok_or(error),
            done => done,
        }
    }
}

impl Remote {
    async fn range(&self, start: Vec<u8>, options: GetOptions) -> Result<GetResponse, Failure> {
        let call = self.members.call(Repeat::Harmless, |client| {
            let (start, options) = (start.clone(), options.clone());
            Box::pin(async move {
                let client = client.kv_client();
                let mut client = client.max_decoding_message_size(MAX_ANSWER);
                client.get(start, Some(options)).await
            })
        });
        call.await
    }

    /// At most `limit` keys, and fewer where they are too large for an answer.
    ///
    /// # Errors
    /// [`Failure::OutOfRange`] also when the revision that is asked for is gone.
    async fn page(
        &self,
        start: &[u8],
        options: GetOptions,
        mut limit: usize,
    ) -> Result<GetResponse, Failure> {
        loop {
            let at_most = i64::try_from(limit).unwrap_or(i64::MAX);
            let options = options.clone().with_limit(at_most);
            match self.range(start.to_vec(), options).await {
                Err(Failure::OutOfRange(_)) if limit > 1 => limit = limit.div_ceil(4),
                done => return done,
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let found = self.range(self.space.raw(key), GetOptions::new()).await;
        let mut found = found.map_err(Failure::into_error)?;
        let kv = found.take_kvs().into_iter().next();
        Ok(kv.and_then(|kv| self.space.entry(kv)))
    }

    async fn list(&self, prefix: &str, page: &Page) -> Result<Listing, Error> {
        let (mut start, end) = self.space.page(prefix, page.after.as_deref());
        let limit = page.limit.clamp(1, MAX_PAGE);
        loop {
            let mut options = GetOptions::new().with_range(end.clone());
            if let Some(at) = page.at {
                options = options.with_revision(raw(at));
            }
            let mut found = match self.page(&start, options, limit).await {
                Ok(found) => found,
                Err(Failure::OutOfRange(_)) if page.at.is_some() => {
                    let oldest = self.now().await?;
                    return Err(Error::Compacted { oldest });
                }
                Err(failure) => return Err(failure.into_error()),
            };
            let (more, at) = (found.more(), header(found.header()));
            let kvs = found.take_kvs();
            if let Some(last) = kvs.last() {
                start = [last.key(), b"\0"].concat();
            }
            let entries: Vec<Entry> = kvs
                .into_iter()
                .filter_map(|kv| self.space.entry(kv))
                .collect();
            // A page of nothing but foreign keys is no end.
            if entries.is_empty() && more {
                continue;
            }
            return Ok(Listing {
                entries,
                revision: page.at.unwrap_or(at),
                more,
            });
        }
    }

    /// Notices that members answer again, so that no reader has to wait to find out.
    async fn look_for_members(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.members.are_lost()
                && let Err(error) = self.now().await
            {
                tracing::debug!(%error, "etcd is still away");
            }
        }
    }

    /// etcd's latest revision, whoever changed something.
    async fn now(&self) -> Result<Revision, Error> {
        let options = GetOptions::new().with_count_only();
        let found = self.range(self.space.mark(), options).await;
        Ok(header(found.map_err(Failure::into_error)?.header()))
    }

    async fn txn(&self, txn: &Txn) -> Result<Revision, Error> {
        txn.check()?;
        if let Some(key) = txn.keys().find(|key| !Space::holds(key)) {
            let (key, why) = (key.to_owned(), "kept for the store itself");
            return Err(Error::BadKey { key, why });
        }
        let deadline = Instant::now() + self.members.timeout();
        let mut unknown = false;
        loop {
            match self.try_txn(txn, deadline).await {
                Ok(Answer::Done(revision)) => return Ok(revision),
                // By us, it may be.
                Ok(Answer::Failed(precondition)) if unknown => {
                    return match self.find(txn, deadline).await {
                        Some(revision) => Ok(revision),
                        None => Err(lost(&precondition)),
                    };
                }
                Ok(Answer::Failed(precondition)) => return Err(Error::Failed { precondition }),
                Err(Retry::Ask(_)) if transaction::is_once(txn) && Instant::now() < deadline => {
                    unknown = true;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(Retry::Ask(cause)) => return Err(Error::Unavailable(cause)),
                Err(Retry::No(error)) => return Err(error),
            }
        }
    }

    async fn try_txn(&self, txn: &Txn, deadline: Instant) -> Result<Answer, Retry> {
        let request = transaction::request(&self.space, txn);
        let call = self.members.call_by(deadline, Repeat::Harmful, |client| {
            let request = request.clone();
            Box::pin(async move { client.kv_client().txn(request).await })
        });
        match call.await {
            Ok(response) => transaction::answer(txn, &response).map_err(Retry::No),
            Err(Failure::Unknown(cause)) => Err(Retry::Ask(cause)),
            Err(failure) => Err(Retry::No(failure.into_error())),
        }
    }

    /// The revision at which a transaction was done whose answer was lost.
    async fn find(&self, txn: &Txn, deadline: Instant) -> Option<Revision> {
        let request = transaction::look(&self.space, txn);
        let call = self.members.call_by(deadline, Repeat::Harmless, |client| {
            let request = request.clone();
            Box::pin(async move {
                let client = client.kv_client();
                let mut client = client.max_decoding_message_size(MAX_ANSWER);
                client.txn(request).await
            })
        });
        transaction::was_done(txn, &call.await.ok()?)
    }

    /// A revision that every watch of this space will reach: marks it.
    async fn mark(&self) -> Result<Revision, Error> {
        let key = self.space.mark();
        let call = self.members.call(Repeat::Harmless, |client| {
            let key = key.clone();
            Box::pin(async move { client.kv_client().put(key, "", None).await })
        });
        let done = call.await.map_err(Failure::into_error)?;
        Ok(header(done.header()))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let seconds = ttl.min(MAX_TTL).as_millis().div_ceil(1000).max(1);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        // One that was granted and not heard of ends by itself.
        let call = self.members.call(Repeat::Harmless, |client| {
            Box::pin(async move { client.lease_client().grant(seconds, None).await })
        });
        let granted = call.await.map_err(Failure::into_error)?;
        Ok(LeaseId::from_raw(granted.id().cast_unsigned()))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let id = raw_lease(lease);
        let deadline = Instant::now() + self.members.timeout();
        let mut asked = false;
        loop {
            let call = self.members.call_by(deadline, Repeat::Harmful, |client| {
                Box::pin(async move { client.lease_client().revoke(id).await })
            });
            match call.await {
                Ok(_) => return Ok(()),
                // By us.
                Err(Failure::NoSuchLease) if asked => return Ok(()),
                Err(Failure::Unknown(_)) if Instant::now() < deadline => {
                    asked = true;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(failure) => return Err(failure.into_error()),
            }
        }
    }

    /// Whether a watch can begin after a revision.
    async fn remembers(&self, from: Revision) -> Result<bool, Error> {
        if from >= self.now().await? {
            return Ok(true);
        }
        let next = GetOptions::new()
            .with_count_only()
            .with_revision(raw(from.saturating_add(1)));
        match self.range(self.space.mark(), next).await {
            Ok(_) => Ok(true),
            Err(Failure::OutOfRange(_)) => Ok(false),
            Err(failure) => Err(failure.into_error()),
        }
    }
}

/// What to do about a transaction that has no answer.
enum Retry {
    /// It may have been done.
    Ask(Cause),
    /// Nothing.
    No(Error),
}

/// It was refused when it was sent again: by what it had done itself, or by another.
fn lost(precondition: &super::Precondition) -> Error {
    let text = format!("the answer of etcd was lost, and now {precondition} does not hold");
    Error::Unavailable(Arc::new(std::io::Error::other(text)))
}

fn header(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    header.map_or(0, |header| revision(header.revision()))
}

impl Store for Etcd {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        let key = key.to_owned();
        async move {
            let known = || self.replica.get(&key);
            self.read(Box::pin(self.remote.get(&key)), known).await
        }
        .boxed()
    }

    fn list(&self, prefix: &str, page: Page) -> BoxFuture<'_, Result<Listing, Error>> {
        let prefix = prefix.to_owned();
        async move {
            let known = || match page.at {
                None => self.replica.list(&prefix, &page),
                Some(_) => None,
            };
            let asked = Box::pin(self.remote.list(&prefix, &page));
            self.read(asked, known).await
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        async move { self.remote.txn(&txn).await }.boxed()
    }

    fn import(&self, entries: Vec<(String, Bytes)>) -> BoxFuture<'_, Result<Revision, Error>> {
        async move { import::import(&self.remote, entries).await }.boxed()
    }

    fn watch(&self, prefix: &str, from: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        let prefix = prefix.to_owned();
        async move {
            let remembers = self.remote.remembers(from).await?;
            let mut watch = feed::watch(self.source.clone(), &prefix, from);
            match remembers {
                true => Ok(watch),
                // It says from where one could.
                false => Err(watch.next().await.err().unwrap_or(Error::Compacted {
                    oldest: self.remote.now().await?,
                })),
            }
        }
        .boxed()
    }

    fn lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
        async move { self.remote.grant(ttl).await }.boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        async move { self.renewals.renew(lease).await }.boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            self.renewals.end(lease);
            self.remote.revoke(lease).await
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        async move { self.remote.mark().await }.boxed()
    }
}
