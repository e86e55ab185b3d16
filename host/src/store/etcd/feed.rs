//! A watch: follows the whole space, whatever prefix it is for.
//!
//! So every revision of the space brings every watch forward, also one of a prefix that
//! it did not touch: etcd's own word on progress may come before the events it is about
//! (etcd issue 15220), and what others write in the same etcd brings none in time. Holds
//! one answer of etcd at a time. When a member is lost it goes on at another, from where
//! it was; only compaction and the end of the store end it. A member that lets nobody
//! watch, as it does for a login that is void, says so in its first answer and in no error.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Event as RawEvent, EventType, WatchOptions, WatchResponse, WatchStream};
use futures_util::stream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::failure::Failure;
use super::member::Member;
use super::members::Members;
use super::quiet::{Quiet, Step};
use super::space::{Space, raw, revision};
use crate::store::{Batch, Error, Event, Revision, Watch};

/// The largest answer: more than a snapshot may hold. A watch that has more to catch up
/// with is told to list anew.
const MAX_ANSWER: usize = 96 * 1024 * 1024;
/// Between two tries to watch, when the members were all tried.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a quiet member is compared with the others.
const LOOK: Duration = Duration::from_millis(500);
/// A member that answered nothing for so long, while another did, is left.
const SILENCE: Duration = Duration::from_secs(2);
/// Tries in vain before it is worth a warning, and between two: 2 s at least.
const LOUD: usize = 10;

/// What watches need of the store.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) members: Arc<Members>,
    pub(super) space: Space,
    /// Cancelled when the store is dropped.
    pub(super) closed: CancellationToken,
}

struct Feed {
    source: Source,
    prefix: String,
    cursor: Revision,
    stream: Option<Open>,
    /// The member was left as it was silent.
    left: bool,
    /// Tries to watch in vain since it was last watched.
    turn: usize,
    /// Whether it was said that it cannot be watched.
    warned: bool,
    ready: VecDeque<Batch>,
}

/// A watch at a member.
struct Open {
    at: Arc<Member>,
    since: Instant,
    /// What it said when it was opened, until that is taken.
    first: Option<WatchResponse>,
    stream: WatchStream,
    quiet: Quiet,
}

/// Begins a watch after `from`, without a look at whether that is still known.
pub(super) fn watch(source: Source, prefix: &str, from: Revision) -> Watch {
    let feed = Feed {
        source,
        prefix: prefix.to_owned(),
        cursor: from,
        stream: None,
        left: false,
        turn: 0,
        warned: false,
        ready: VecDeque::new(),
    };
    let batches = stream::unfold(feed, |mut feed| async { Some((feed.next().await, feed)) });
    Watch::new(from, batches)
}

impl Feed {
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.cursor = batch.revision;
                return Ok(batch);
            }
            let closed = self.source.closed.clone();
            tokio::select! {
                biased;
                told = self.told() => self.take(told)?,
                () = closed.cancelled() => return Err(Error::Closed),
            }
        }
    }

    /// What etcd says next, wherever it is watched. `None`: it has to be watched anew.
    async fn told(&mut self) -> Option<Result<WatchResponse, Failure>> {
        if self.stream.is_none() {
            self.stream = Some(self.open().await);
        }
        let open = self.stream.as_mut()?;
        if let Some(first) = open.first.take() {
            return Some(Ok(first));
        }
        loop {
            match tokio::time::timeout(LOOK, open.stream.message()).await {
                Ok(Ok(Some(response))) => {
                    open.at.answered();
                    open.quiet = Quiet::told(Instant::now());
                    return Some(Ok(response));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(error)) => return Some(Err(Failure::of(error))),
                Err(_) => {}
            }
            let step = match self.source.is_deaf(&open.at) {
                true => Step::Leave,
                false => open.quiet.step(Instant::now()),
            };
            match step {
                Step::Wait => {}
                Step::Ask => open.stream.request_progress().await.ok()?,
                Step::Leave => {
                    info!(
                        member = open.at.endpoint(),
                        "etcd's watch is silent and is left"
                    );
                    open.at.forget();
                    self.left = true;
                    return None;
                }
            }
        }
    }

    async fn open(&mut self) -> Open {
        loop {
            // A round over all members was in vain.
            if self.turn > 0 && self.turn.is_multiple_of(self.source.members.all().len()) {
                tokio::time::sleep(PAUSE).await;
            }
            let at = Arc::clone(self.source.members.at(self.turn));
            match self.open_at(&at).await {
                Ok((stream, first)) => {
                    if std::mem::take(&mut self.warned) {
                        info!(member = at.endpoint(), "etcd is watched again");
                    }
                    return Open {
                        at,
                        since: Instant::now(),
                        first: Some(first),
                        stream,
                        quiet: Quiet::opened(Instant::now()),
                    };
                }
                Err(failure) => self.failed(failure),
            }
        }
    }

    async fn open_at(&self, at: &Member) -> Result<(WatchStream, WatchResponse), Failure> {
        let (key, from) = (self.source.space.mark(), raw(self.cursor.saturating_add(1)));
        let options = WatchOptions::new()
            .with_prefix()
            .with_progress_notify()
            .with_start_revision(from);
        let call = at.call(SILENCE, |client| {
            Box::pin(async move {
                let watches = client.watch_client();
                let mut watches = watches.max_decoding_message_size(MAX_ANSWER);
                let mut stream = watches.watch(key, Some(options)).await?;
                let first = stream.message().await?;
                Ok((stream, first))
            })
        });
        match call.await? {
            (stream, Some(first)) if !first.canceled() || first.compact_revision() > 0 => {
                Ok((stream, first))
            }
            (_, refused) => {
                // What it says of a login that is void differs from version to version.
                at.forget();
                let why = refused.as_ref().map(WatchResponse::cancel_reason);
                Err(Failure::refused(why.unwrap_or_default()))
            }
        }
    }

    fn failed(&mut self, failure: Failure) {
        self.turn += 1;
        if self.turn.is_multiple_of(LOUD) && !self.warned {
            self.warned = true;
            warn!(error = %failure.into_error(), "etcd cannot be watched; trying on");
        }
    }

    /// The stream is of no more use.
    fn lost(&mut self, why: Failure) {
        let open = self.stream.take();
        let left = std::mem::take(&mut self.left);
        match open {
            Some(open) if open.since.elapsed() < SILENCE => self.failed(why),
            // Better at another; the first is the last to be tried.
            Some(open) if left && Arc::ptr_eq(&open.at, self.source.members.at(0)) => {
                self.turn = 1;
            }
            _ => self.turn = 0,
        }
    }

    fn take(&mut self, told: Option<Result<WatchResponse, Failure>>) -> Result<(), Error> {
        let response = match told {
            Some(Ok(response)) => response,
            // There is more to catch up with than is worth it: as good as forgotten.
            Some(Err(Failure::OutOfRange(_))) => {
                return Err(Error::Compacted {
                    oldest: self.cursor.saturating_add(1),
                });
            }
            Some(Err(failure)) => {
                self.lost(failure);
                return Ok(());
            }
            None => {
                self.lost(Failure::late());
                return Ok(());
            }
        };
        if response.compact_revision() > 0 {
            // A watch can begin with the change at the revision that was kept.
            let oldest = revision(response.compact_revision()).saturating_sub(1);
            return Err(Error::Compacted { oldest });
        }
        if response.canceled() {
            self.lost(Failure::refused(response.cancel_reason()));
            return Ok(());
        }
        let at = response
            .header()
            .map_or(0, |header| revision(header.revision()));
        match response.events() {
            // Broadcasts of etcd carry the id -1; they are those that may come too early.
            [] if !response.created() && response.watch_id() >= 0 && at > self.cursor => {
                self.ready.push_back(Batch {
                    revision: at,
                    events: Vec::new(),
                });
            }
            // The answer to what was asked: it is served, and nothing is known to be new.
            [] if !response.created() => self.ready.push_back(Batch {
                revision: self.cursor,
                events: Vec::new(),
            }),
            events => {
                let batches = batches(&self.source.space, &self.prefix, self.cursor, events);
                self.ready.extend(batches);
            }
        }
        Ok(())
    }
}

impl Source {
    /// Whether a member answers nothing while another does.
    fn is_deaf(&self, member: &Arc<Member>) -> bool {
        let heard = |silent: Option<Duration>| silent.is_some_and(|silent| silent < SILENCE);
        let others = self.members.all().iter();
        let mut others = others.filter(|one| !Arc::ptr_eq(one, member));
        !heard(member.silent()) && others.any(|one| heard(one.silent()))
    }
}

/// Events as batches of one revision each, those of other prefixes left out. etcd splits
/// no revision over two answers unless it is asked to.
fn batches(space: &Space, prefix: &str, cursor: Revision, events: &[RawEvent]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for raw in events {
        let Some(kv) = raw.kv() else { continue };
        let at = revision(kv.mod_revision());
        if at <= cursor {
            continue;
        }
        if batches.last().is_none_or(|batch| batch.revision != at) {
            batches.push(Batch {
                revision: at,
                events: Vec::new(),
            });
        }
        let event = match raw.event_type() {
            EventType::Put => space.entry(kv.clone()).map(Event::Put),
            EventType::Delete => space
                .key(kv.key())
                .map(|key| Event::Delete { key, revision: at }),
        };
        let event = event.filter(|event| event.key().starts_with(prefix));
        if let (Some(event), Some(batch)) = (event, batches.last_mut()) {
            batch.events.push(event);
        }
    }
    batches
}
