//! From a name to addresses, by the system's resolver.
//!
//! It blocks a thread for as long as it likes, whoever has given up meanwhile, and the
//! pool of such threads also plays files and checks passwords. So lookups are counted
//! where they run. Invariant: they hold at most [`LOOKUPS`] threads.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// An eighth of the runtime's blocking threads.
const LOOKUPS: usize = 64;
/// Names remembered beyond this are looked through for those nobody asks for.
const SWEEP_AT: usize = 128;

type Answer = Result<Arc<[IpAddr]>, Arc<io::Error>>;
type Lookup = BoxFuture<'static, Answer>;
type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The addresses of a name or of an address' text.
pub(super) async fn addresses(host: &str) -> Answer {
    static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| {
        Resolver::new(|host| {
            let found = (host, 0).to_socket_addrs()?;
            Ok(found.map(|addr| addr.ip()).collect())
        })
    });
    SYSTEM.addresses(host).await
}

struct Resolver {
    ask: Arc<Ask>,
    slots: Arc<Semaphore>,
    /// Those who ask for a name at the same time get the same answer.
    waited_for: Mutex<HashMap<String, WeakShared<Lookup>>>,
}

impl Resolver {
    fn new(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self {
            ask: Arc::new(ask),
            slots: Arc::new(Semaphore::new(LOOKUPS)),
            waited_for: Mutex::default(),
        }
    }

    async fn addresses(&self, host: &str) -> Answer {
        if let Ok(address) = host.parse() {
            return Ok(Arc::new([address]));
        }
        self.lookup(host).await
    }

    fn lookup(&self, host: &str) -> Shared<Lookup> {
        let mut waited_for = self.waited_for.lock();
        let known = waited_for.get(host).and_then(WeakShared::upgrade);
        // What is answered already may be old.
        if let Some(lookup) = known.filter(|lookup| lookup.peek().is_none()) {
            return lookup;
        }
        if waited_for.len() >= SWEEP_AT {
            waited_for.retain(|_, lookup| lookup.upgrade().is_some());
        }
        let lookup = self.start(host.to_owned()).shared();
        if let Some(weak) = lookup.downgrade() {
            waited_for.insert(host.to_owned(), weak);
        }
        lookup
    }

    fn start(&self, host: String) -> Lookup {
        let (ask, slots) = (self.ask.clone(), self.slots.clone());
        let failed = |_| io::Error::other("the lookup failed");
        async move {
            let slot = slots.acquire_owned().await.map_err(io::Error::other)?;
            // The slot goes along: nobody can take the thread back.
            let asked = spawn_blocking(move || {
                let found = ask(&host);
                drop(slot);
                found
            });
            let found = asked.await.unwrap_or_else(|error| Err(failed(error)));
            Ok(found?.into())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{self, Sender};
    use std::time::Duration;

    use super::*;

    const IN_TIME: Duration = Duration::from_secs(20);

    /// A resolver that answers nobody before the sender is dropped, and its questions.
    fn dead() -> (Resolver, Arc<AtomicUsize>, Sender<()>) {
        let (release, held) = mpsc::channel();
        let (held, asked) = (Mutex::new(held), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let resolver = Resolver::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = held.lock().recv();
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        });
        (resolver, asked, release)
    }

    #[tokio::test]
    async fn a_dead_resolver_leaves_threads_to_others() {
        let (resolver, asked, release) = dead();
        for n in 0..1_000 {
            let lookup = resolver.addresses(&format!("host{n}")).now_or_never();
            assert!(lookup.is_none(), "it was given up");
            // Else the runtime lets nobody have a slot after some time.
            tokio::task::yield_now().await;
        }
        let other = tokio::time::timeout(IN_TIME, spawn_blocking(|| ())).await;
        assert!(other.expect("a thread is free").is_ok());
        assert!(asked.load(Ordering::Relaxed) <= LOOKUPS);
        assert!(resolver.waited_for.lock().len() <= SWEEP_AT);
        let literal = tokio::time::timeout(IN_TIME, resolver.addresses("::1")).await;
        assert!(literal.expect("no lookup").is_ok());
        drop(release);
        let late = tokio::time::timeout(IN_TIME, resolver.addresses("late")).await;
        assert!(late.expect("the slots are free again").is_ok());
    }

    #[tokio::test]
    async fn who_asks_for_a_name_while_it_is_looked_up_waits_for_the_same_answer() {
        let (resolver, asked, release) = dead();
        let lookups: Vec<_> = (0..100).map(|_| resolver.lookup("origin")).collect();
        let answers = tokio::spawn(futures_util::future::join_all(lookups));
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(release);
        let answers = answers.await.expect("no panic");
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(resolver.addresses("origin").await.is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 2, "each dial asks again");
    }
}
