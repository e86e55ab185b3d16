//! A client of the REST API that asks at a steady rate and keeps how long the
//! answers took.
//!
//! A request is late by what the one before it took, and that counts: times run
//! from when it was due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use restreamd_tests::api::{Answer, Api, GROUP, provision_path};
use restreamd_tests::provision::Provision;

use crate::measure::attempt;

/// Clients beside each other.
const CLIENTS: usize = 4;
/// One request of so many makes, starts and deletes a pull of its own: three.
const CHANGES: usize = 20;
/// One of so many asks for the list of all.
const LISTS: usize = 40;

/// A request that was answered, or was not.
#[derive(Clone, Copy, Debug)]
struct Asked {
    what: &'static str,
    at: Instant,
    took: Duration,
    well: bool,
}

/// Times of some requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// How many there were.
    pub(crate) asked: usize,
    /// Those without an answer, or with an unexpected one.
    pub(crate) failed: usize,
    /// Median.
    pub(crate) p50: Option<Duration>,
    /// 99th percentile.
    pub(crate) p99: Option<Duration>,
    /// The longest.
    pub(crate) longest: Option<Duration>,
}

/// Asks until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Asker {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
}

impl Asker {
    /// Asks so often a second, about these pulls. `own` makes the pulls that it adds and deletes.
    pub(crate) fn start(
        api: &Api,
        a_second: u32,
        pulls: usize,
        own: impl Fn(usize) -> Provision + Clone + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let period = Duration::from_secs(CLIENTS as u64) / a_second.max(1);
        let clients = (0..CLIENTS)
            .map(|number| {
                let (stop, own) = (stop.clone(), own.clone());
                let mut client = Client {
                    api: api.clone(),
                    pulls,
                    asked: Vec::new(),
                };
                thread::spawn(move || {
                    // Side by side, not all at once.
                    let mut due = Instant::now() + period * number as u32 / CLIENTS as u32;
                    for n in 0.. {
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let own = || own(number + n * CLIENTS);
                        client.ask(n, number + n * CLIENTS, own, due);
                        due += period;
                    }
                    client.asked
                })
            })
            .collect();
        Self { stop, clients }
    }

    /// Ends it; what it saw, to be asked for by time.
    pub(crate) fn end(mut self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients.drain(..) {
            let asked = client.join().ok().context("a client of the API panicked")?;
            all.extend(asked);
        }
        Ok(Seen(all))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// All that was asked.
#[derive(Debug)]
pub(crate) struct Seen(Vec<Asked>);

impl Seen {
    /// Times of the requests that were due from `begin` to `end`, all together.
    pub(crate) fn between(&self, begin: Instant, end: Instant) -> Times {
        Times::of(self.0.iter().filter(|asked| asked.is_in(begin, end)))
    }

    /// The same by kind.
    pub(crate) fn kinds_between(
        &self,
        begin: Instant,
        end: Instant,
    ) -> BTreeMap<&'static str, Times> {
        let mut kinds: BTreeMap<_, Vec<&Asked>> = BTreeMap::new();
        for asked in self.0.iter().filter(|asked| asked.is_in(begin, end)) {
            kinds.entry(asked.what).or_default().push(asked);
        }
        let times = |(what, asked): (_, Vec<&Asked>)| (what, Times::of(asked.into_iter()));
        kinds.into_iter().map(times).collect()
    }
}

impl Asked {
    fn is_in(&self, begin: Instant, end: Instant) -> bool {
        (begin..end).contains(&self.at)
    }
}

impl Times {
    fn of<'a>(asked: impl Iterator<Item = &'a Asked>) -> Self {
        let asked: Vec<&Asked> = asked.collect();
        let mut took: Vec<Duration> = asked.iter().map(|asked| asked.took).collect();
        took.sort_unstable();
        let percentile = |percent: usize| {
            let last = took.len().checked_sub(1)?;
            took.get(last * percent / 100).copied()
        };
        Self {
            asked: asked.len(),
            failed: asked.iter().filter(|asked| !asked.well).count(),
            p50: percentile(50),
            p99: percentile(99),
            longest: percentile(100),
        }
    }
}

/// One thread's client.
struct Client {
    api: Api,
    pulls: usize,
    asked: Vec<Asked>,
}

impl Client {
    /// The n-th request of this client. `pick` is another number for every request of all.
    fn ask(&mut self, n: usize, pick: usize, own: impl Fn() -> Provision, due: Instant) {
        let pull = pick % self.pulls.max(1);
        let stream = format!("/as/v1/streams/stream/{GROUP}");
        match n {
            n if n % CHANGES == 0 => self.change(&own(), due),
            n if n % LISTS == 7 => {
                let path = format!("{stream}?aggregate=false");
                self.get("GET list of streams", &path, due);
            }
            n if n % 3 == 0 => {
                self.get("GET stream", &format!("{stream}/stream/live/s{pull}"), due)
            }
            n if n % 3 == 1 => {
                self.get(
                    "GET subscribe",
                    &format!("{stream}/subscribe/live/s{pull}"),
                    due,
                );
            }
            _ => {
                let path = provision_path(&format!("/pull{pull}?status=true"));
                self.get("GET status", &path, due);
            }
        }
    }

    /// Adds a pull, starts it and deletes it.
    fn change(&mut self, own: &Provision, due: Instant) {
        let api = self.api.clone();
        self.timed("POST provision", due, 201, || api.try_create(&[own]));
        let start = format!(
            "/as/v1/streams/stream/{GROUP}/publish/{}?restream=true",
            own.stream()
        );
        self.get("GET publish", &start, Instant::now());
        let path = provision_path(&format!("/{}", own.guid()));
        self.timed("DELETE provision", Instant::now(), 200, || {
            api.call("DELETE", &path, None)
        });
    }

    fn get(&mut self, what: &'static str, path: &str, due: Instant) {
        let api = self.api.clone();
        self.timed(what, due, 200, || api.get(path));
    }

    fn timed(
        &mut self,
        what: &'static str,
        due: Instant,
        status: u16,
        ask: impl FnOnce() -> Answer,
    ) {
        let answered = attempt(|| {
            let answer = ask();
            ensure!(answer.status == status, "{answer:?}");
            Ok(())
        });
        if let Err(error) = &answered
            && self.asked.iter().all(|asked| asked.well)
        {
            println!("{what}: {error:#}");
        }
        self.asked.push(Asked {
            what,
            at: due,
            took: due.elapsed(),
            well: answered.is_ok(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_requests_that_were_due_then() {
        let begin = Instant::now();
        let asked = |second, millis, well| Asked {
            what: "GET",
            at: begin + Duration::from_secs(second),
            took: Duration::from_millis(millis),
            well,
        };
        let seen = Seen(vec![
            asked(0, 1, true),
            asked(1, 3, true),
            asked(2, 2, false),
            asked(9, 90, true),
        ]);
        let times = seen.between(begin, begin + Duration::from_secs(5));
        assert_eq!((times.asked, times.failed), (3, 1));
        assert_eq!(times.p50, Some(Duration::from_millis(2)));
        assert_eq!(times.longest, Some(Duration::from_millis(3)));
        assert_eq!(Times::of([].iter()).p99, None);
    }
}
