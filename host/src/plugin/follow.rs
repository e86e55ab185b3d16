//! Follows the plugin directory: looks, and carries out what `watch` says.
//!
//! It looks instead of being told: a look costs a stat of each plugin, and works on
//! every file system, network ones and mounted volumes too, of whose changes inotify
//! hears nothing. Files are compiled off the runtime, small ones first, one large one at
//! a time beside one that is not, which need not wait for it; what is in use stays so
//! meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::admission::{self, Rejected};
use super::folder::{self, Listing};
use super::watch::{Stamp, Step};
use super::{PluginError, Plugins};
use crate::drain::Drain;
use crate::id::RestreamType;

/// Two or three looks, and the compiling of a megabyte, fit into a second.
const LOOK: Duration = Duration::from_millis(50);
/// A larger file that has to be compiled is none that a node's start, or a smaller file,
/// waits for.
const LARGE: u64 = 1 << 20;
/// Things found odd that are remembered, so that each is told once.
const TOLD: usize = 1_000;

type Reading = JoinHandle<Result<(), Rejected>>;

/// Which files wait for each other.
fn lane(size: u64) -> usize {
    usize::from(size > LARGE)
}

/// The file that a lane is at.
struct UnderWay {
    kind: RestreamType,
    stamp: Stamp,
    reading: Reading,
}

/// What the follower remembers between two looks.
#[derive(Default)]
struct Work {
    /// To be read, small ones first.
    waiting: BTreeSet<(u64, RestreamType)>,
    lanes: [Option<UnderWay>; 2],
    told: BTreeSet<String>,
    unreadable: bool,
}

impl Plugins {
    /// Installs what lies in the directory at the start. A file that is not admitted is
    /// reported and keeps nothing else from starting.
    pub(super) async fn load_dir(&self, dir: &Path) -> anyhow::Result<()> {
        let looked = look(dir.to_owned()).await;
        let listing =
            looked.map_err(|error| anyhow::anyhow!("plugin_dir {}: {error}", dir.display()))?;
        let watched = self.0.config.watch;
        if !watched {
            let mut work = Work::default();
            let odd = listing.odd.into_iter();
            odd.for_each(|(name, why)| tell(&mut work, name, why));
        }
        for (kind, stamp) in listing.files {
            if !self.may_replace(&kind) {
                continue;
            }
            let at_once = !watched || stamp.size() <= LARGE;
            if at_once || self.is_compiled(dir, &kind).await {
                self.0.watch.lock().known(Instant::now(), &kind, stamp);
                // The reason is in the log and in GET plugins.
                let _ = self.install_file(dir, &kind).await;
            }
        }
        Ok(())
    }

    /// Whether reading a file again is enough, because its code was kept.
    async fn is_compiled(&self, dir: &Path, kind: &RestreamType) -> bool {
        let (dir, kind, runtime) = (dir.to_owned(), kind.clone(), self.0.runtime.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let read = folder::read(&dir, &kind).ok()?;
            let component = admission::component_bytes(&read.bytes).ok()?;
            Some(runtime.is_compiled(&component))
        });
        matches!(kept.await, Ok(Some(true)))
    }

    /// Follows the directory until the node stops.
    pub async fn follow(self, drain: Drain) {
        let Some(dir) = self.0.config.dir.clone().filter(|_| self.0.config.watch) else {
            return;
        };
        let mut work = Work::default();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    let looked = look(dir.clone()).await;
                    self.see(&dir, &mut work, looked).await;
                }
                (lane, read) = under_way(&mut work) => self.done(&mut work, lane, read),
                () = drain.started() => return,
            }
            self.begin(&dir, &mut work);
        }
    }

    async fn see(&self, dir: &Path, work: &mut Work, looked: std::io::Result<Listing>) {
        let listing = match looked {
            Ok(listing) => listing,
            Err(error) => {
                // What is installed stays: a directory that is gone for a while is no wish.
                if !std::mem::replace(&mut work.unreadable, true) {
                    warn!(dir = %dir.display(), %error, "the plugin directory cannot be read");
                }
                return;
            }
        };
        work.unreadable = false;
        for (name, why) in listing.odd {
            tell(work, name, why);
        }
        let mut files = listing.files;
        files.retain(|kind, _| {
            let may = self.may_replace(kind);
            if !may {
                let why = "the type is built in and plugins.replace does not name it";
                tell(work, format!("{kind}.wasm"), why);
            }
            may
        });
        let steps = self.0.watch.lock().look(Instant::now(), &files);
        for step in steps {
            match step {
                Step::Try(kind, stamp) => {
                    self.with_slot(&kind, |slot| slot.compiling(true));
                    work.waiting.insert((stamp.size(), kind));
                }
                Step::Reject(kind, rejected) => {
                    let path = folder::path(dir, &kind);
                    drop(self.reject(&kind, &super::Origin::File(path), &rejected));
                }
                Step::Remove(kind) => {
                    work.waiting.retain(|(_, waiting)| *waiting != kind);
                    give_up(work, &kind).await;
                    self.remove(&kind);
                }
            }
        }
        self.forget();
    }

    /// Begins with the next files where none is under way.
    fn begin(&self, dir: &Path, work: &mut Work) {
        let busy = work.lanes.each_ref().map(Option::is_some);
        let mut free = busy.map(|busy| !busy);
        let mut later = BTreeSet::new();
        while let Some((size, kind)) = work.waiting.pop_first() {
            if !std::mem::take(&mut free[lane(size)]) {
                later.insert((size, kind));
                continue;
            }
            // As it looks now: what it looked like before it waited does not matter.
            let Some(stamp) = folder::stamp(dir, &kind) else {
                self.with_slot(&kind, |slot| slot.compiling(false));
                free[lane(size)] = true;
                continue;
            };
            let (plugins, dir, of) = (self.clone(), PathBuf::from(dir), kind.clone());
            let reading =
                tokio::spawn(async move { plugins.read_and_admit(&dir, &of, lane(size)).await });
            work.lanes[lane(size)] = Some(UnderWay {
                kind,
                stamp,
                reading,
            });
        }
        work.waiting = later;
    }

    fn done(&self, work: &mut Work, lane: usize, read: Result<(), Rejected>) {
        let Some(UnderWay { kind, stamp, .. }) = work.lanes[lane].take() else {
            return;
        };
        self.with_slot(&kind, |slot| slot.compiling(false));
        self.0.watch.lock().tried(&kind, &stamp, read.err());
    }

    /// Reads a file and installs it, if it is good.
    pub(super) async fn install_file(
        &self,
        dir: &Path,
        kind: &RestreamType,
    ) -> Result<(), PluginError> {
        let size = folder::stamp(dir, kind).map_or(0, |stamp| stamp.size());
        let read = self.read_and_admit(dir, kind, lane(size)).await;
        let origin = super::Origin::File(folder::path(dir, kind));
        read.map_err(|rejected| self.reject(kind, &origin, &rejected))
    }

    async fn read_and_admit(
        &self,
        dir: &Path,
        kind: &RestreamType,
        lane: usize,
    ) -> Result<(), Rejected> {
        let _alone = self.0.compilers[lane].lock().await;
        let (dir, of) = (dir.to_owned(), kind.clone());
        let read = tokio::task::spawn_blocking(move || folder::read(&dir, &of)).await;
        let failed = |_| Err(Rejected::File("reading failed".to_owned()));
        self.install(read.unwrap_or_else(failed)?).await
    }

    fn remove(&self, kind: &RestreamType) {
        info!(plugin = %kind, "plugin removed");
        if self.with_slot(kind, super::slot::Slot::remove) {
            self.announce(kind);
        }
    }
}

async fn look(dir: PathBuf) -> std::io::Result<Listing> {
    let looked = tokio::task::spawn_blocking(move || folder::list(&dir)).await;
    looked.unwrap_or_else(|_| Err(std::io::Error::other("looking failed")))
}

/// Resolves when a file under way is read, with its lane; never without one. Cancel safe.
async fn under_way(work: &mut Work) -> (usize, Result<(), Rejected>) {
    async fn read(lane: &mut Option<UnderWay>) -> Result<(), Rejected> {
        let Some(UnderWay { reading, .. }) = lane else {
            return std::future::pending().await;
        };
        let failed = |_| Err(Rejected::File("reading failed".to_owned()));
        reading.await.unwrap_or_else(failed)
    }
    let [small, large] = &mut work.lanes;
    tokio::select! {
        done = read(small) => (0, done),
        done = read(large) => (1, done),
    }
}

/// What is under way of a type comes to nothing. When this returns, it will not be installed
/// any more.
async fn give_up(work: &mut Work, kind: &RestreamType) {
    for lane in &mut work.lanes {
        if let Some(gone) = lane.take_if(|at| at.kind == *kind) {
            gone.reading.abort();
            let _ = gone.reading.await;
        }
    }
}

fn tell(work: &mut Work, name: String, why: &str) {
    if work.told.len() < TOLD && !work.told.contains(&name) {
        warn!(file = name, "not a plugin: {why}");
        work.told.insert(name);
    }
}
