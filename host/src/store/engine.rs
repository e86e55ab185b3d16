//! Runs a store: readers read the ledger, changes go to the writer, leases end in time.
//!
//! The part that both back ends share whole. With a journal that blocks, the writer has
//! its own thread behind a bounded queue; without one it runs where it is called.
//! Dropping the engine finishes what is queued and releases the journal before it
//! returns, which can take as long as one durable step.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::feed::{self, Shared};
use super::ledger::Ledger;
use super::writer::{Answer, Journal, Op, Request, Writer};
use super::{Entry, Error, LeaseId, Listing, Page, Revision, Store, Txn, Watch};

/// Changes that may wait for the writer; callers beyond it wait with their own.
const QUEUE: usize = 256;
/// Changes the writer takes at once, and so shares one durable step between: enough for
/// a node's claims after a restart, small enough to hold their bytes twice.
const GROUP: usize = 64;
/// How late a watch may hear of a lease's end. Reads and transactions are never late.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Engine {
    shared: Arc<Shared>,
    lane: Lane,
    ticker: OnceLock<AbortHandle>,
}

/// The way to the writer.
enum Lane {
    Inline(Arc<Mutex<Writer>>),
    Thread {
        /// `None` only while the engine is dropped.
        queue: Option<mpsc::Sender<Request>>,
        thread: Option<thread::JoinHandle<()>>,
    },
}

impl Engine {
    /// With a journal that does not block.
    pub(super) fn inline(ledger: Ledger, journal: Box<dyn Journal>) -> Self {
        let (shared, writer) = writer(ledger, journal);
        let lane = Lane::Inline(Arc::new(Mutex::new(writer)));
        Self {
            shared,
            lane,
            ticker: OnceLock::new(),
        }
    }

    /// With a journal that blocks.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn threaded(ledger: Ledger, journal: Box<dyn Journal>) -> std::io::Result<Self> {
        let (shared, mut writer) = writer(ledger, journal);
        let (queue, mut requests) = mpsc::channel(QUEUE);
        let run = move || {
            while let Some(group) = next_group(&mut requests) {
                writer.serve(group);
            }
        };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(run)?;
        let lane = Lane::Thread {
            queue: Some(queue),
            thread: Some(thread),
        };
        Ok(Self {
            shared,
            lane,
            ticker: OnceLock::new(),
        })
    }

    async fn submit(&self, op: Op) -> Answer {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            op,
            now: now(),
            answer,
        };
        match &self.lane {
            Lane::Inline(writer) => writer.lock().serve(VecDeque::from([request])),
            Lane::Thread { queue, .. } => {
                let queue = queue.as_ref().ok_or(Error::Closed)?;
                queue.send(request).await.map_err(|_| Error::Closed)?;
            }
        }
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Hands transactions to the writer as one group, in the thread that calls.
    #[cfg(test)]
    pub(super) fn txns(&self, txns: &[Txn]) -> Vec<Answer> {
        let Lane::Inline(writer) = &self.lane else {
            return Vec::new();
        };
        let request = |txn: &Txn| {
            let (answer, answered) = oneshot::channel();
            (
                Request {
                    op: Op::Txn(txn.clone()),
                    now: now(),
                    answer,
                },
                answered,
            )
        };
        let (requests, answers): (VecDeque<_>, Vec<_>) = txns.iter().map(request).unzip();
        writer.lock().serve(requests);
        answers
            .into_iter()
            .map(|mut a| a.try_recv().unwrap_or(Err(Error::Closed)))
            .collect()
    }

    /// Ends due leases, so that what is read next does not show their keys.
    async fn settle(&self) -> Result<(), Error> {
        if self.shared.ledger.read().leases.any_due(now()) {
            self.submit(Op::Expire).await?;
        }
        Ok(())
    }

    fn start_ticker(&self) {
        self.ticker.get_or_init(|| {
            let shared = Arc::downgrade(&self.shared);
            let tick = tick(shared, self.lane.expirer());
            tokio::spawn(tick.instrument(tracing::info_span!("store_leases"))).abort_handle()
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(ticker) = self.ticker.get() {
            ticker.abort();
        }
        if let Lane::Thread { queue, thread } = &mut self.lane {
            drop(queue.take());
            // A panic of the writer was answered with `Closed`; there is no one to tell here.
            let _ = thread.take().map(thread::JoinHandle::join);
        }
    }
}

impl Lane {
    /// Asks the writer to end due leases without keeping it alive; false when it is gone.
    fn expirer(&self) -> Box<dyn Fn(Request) -> bool + Send> {
        match self {
            Self::Inline(writer) => {
                let writer = Arc::downgrade(writer);
                Box::new(move |request| {
                    let writer = writer.upgrade();
                    writer
                        .map(|writer| writer.lock().serve(VecDeque::from([request])))
                        .is_some()
                })
            }
            Self::Thread { queue, .. } => {
                let queue = queue.as_ref().map(mpsc::Sender::downgrade);
                // A full queue is as good: whatever is in it ends due leases first.
                Box::new(move |request| {
                    let queue = queue.as_ref().and_then(mpsc::WeakSender::upgrade);
                    queue.map(|queue| queue.try_send(request)).is_some()
                })
            }
        }
    }
}

/// Ends leases nobody asks about, for the watches.
async fn tick(shared: Weak<Shared>, expire: Box<dyn Fn(Request) -> bool + Send>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(due) = shared
            .upgrade()
            .map(|s| s.ledger.read().leases.any_due(now()))
        else {
            return;
        };
        let (answer, answered) = oneshot::channel();
        if due
            && !expire(Request {
                op: Op::Expire,
                now: now(),
                answer,
            })
        {
            return;
        }
        if due && let Ok(Err(error)) = answered.await {
            tracing::debug!(%error, "leases could not be ended, trying again");
        }
    }
}

fn writer(ledger: Ledger, journal: Box<dyn Journal>) -> (Arc<Shared>, Writer) {
    let (sender, applied) = watch::channel(ledger.revision());
    let shared = Arc::new(Shared {
        ledger: RwLock::new(ledger),
        applied,
    });
    (shared.clone(), Writer::new(shared, sender, journal))
}

fn next_group(requests: &mut mpsc::Receiver<Request>) -> Option<VecDeque<Request>> {
    let mut group = VecDeque::from([requests.blocking_recv()?]);
    while group.len() < GROUP
        && let Ok(request) = requests.try_recv()
    {
        group.push_back(request);
    }
    Some(group)
}

/// The clock that tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A store that is an engine and nothing else.
pub(super) trait Driven: Send + Sync + 'static {
    fn engine(&self) -> &Engine;
}

impl<T: Driven> Store for T {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Entry>, Error>> {
        let (engine, key) = (self.engine(), key.to_owned());
        async move {
            engine.settle().await?;
            Ok(engine.shared.ledger.read().get(&key))
        }
        .boxed()
    }

    fn list(&self, prefix: &str, page: Page) -> BoxFuture<'_, Result<Listing, Error>> {
        let (engine, prefix) = (self.engine(), prefix.to_owned());
        async move {
            engine.settle().await?;
            let ledger = engine.shared.ledger.read();
            match page.at {
                Some(at) if at != ledger.revision() => Err(Error::Compacted {
                    oldest: ledger.revision(),
                }),
                _ => Ok(ledger.list(&prefix, &page)),
            }
        }
        .boxed()
    }

    /// No revision but the latest is kept, so it is read at once, however much is written.
    fn whole(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        let (engine, prefix) = (self.engine(), prefix.to_owned());
        async move {
            engine.settle().await?;
            Ok(engine.shared.ledger.read().whole(&prefix))
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Revision, Error>> {
        let engine = self.engine();
        async move {
            // Here too, so that what never fits does not take a place in the queue.
            txn.check()?;
            engine.submit(Op::Txn(txn)).await
        }
        .boxed()
    }

    fn import(&self, entries: Vec<(String, Bytes)>) -> BoxFuture<'_, Result<Revision, Error>> {
        let engine = self.engine();
        async move {
            let txn = super::txn::of_import(entries)?;
            engine.submit(Op::Import(txn)).await
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, from: Revision) -> BoxFuture<'_, Result<Watch, Error>> {
        let (shared, prefix) = (self.engine().shared.clone(), prefix.to_owned());
        async move { feed::watch(shared, prefix, from) }.boxed()
    }

    fn lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, Error>> {
        let engine = self.engine();
        async move {
            engine.start_ticker();
            Ok(engine.shared.ledger.write().leases.grant(ttl, now()))
        }
        .boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Duration, Error>> {
        let engine = self.engine();
        async move { engine.shared.ledger.write().leases.keep_alive(lease, now()) }.boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), Error>> {
        let engine = self.engine();
        async move { engine.submit(Op::Revoke(lease)).await.map(drop) }.boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        let engine = self.engine();
        async move {
            engine.settle().await?;
            Ok(engine.shared.ledger.read().revision())
        }
        .boxed()
    }
}
