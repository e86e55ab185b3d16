//! Follows the plugin directory: looks, and carries out what `watch` says.
//!
//! It looks instead of being told: a look costs a stat of each plugin, and works on
//! every file system, network ones and mounted volumes too, of whose changes inotify
//! hears nothing. One file is compiled at a time, small ones first, off the runtime;
//! what is in use stays so meanwhile.

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

/// Two looks, a moment of compiling and a good rest fit into a second.
const LOOK: Duration = Duration::from_millis(250);
/// A larger file that has to be compiled is none that a node's start waits for.
const LARGE: u64 = 1 << 20;
/// Things found odd that are remembered, so that each is told once.
const TOLD: usize = 1_000;

type Reading = JoinHandle<Result<(), Rejected>>;

/// What the follower remembers between two looks.
#[derive(Default)]
struct Work {
    /// To be read, small ones first.
    waiting: BTreeSet<(u64, RestreamType)>,
    under_way: Option<(RestreamType, Stamp, Reading)>,
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
                    self.see(&dir, &mut work, looked);
                }
                read = under_way(&mut work) => self.done(&mut work, read),
                () = drain.started() => return,
            }
            self.begin(&dir, &mut work);
        }
    }

    fn see(&self, dir: &Path, work: &mut Work, looked: std::io::Result<Listing>) {
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
                    self.remove(&kind);
                }
            }
        }
        self.forget();
    }

    /// Begins with the next file when none is under way.
    fn begin(&self, dir: &Path, work: &mut Work) {
        while work.under_way.is_none() {
            let Some((_, kind)) = work.waiting.pop_first() else {
                return;
            };
            // As it looks now: what it looked like before it waited does not matter.
            let Some(stamp) = folder::stamp(dir, &kind) else {
                self.with_slot(&kind, |slot| slot.compiling(false));
                continue;
            };
            let (plugins, dir, of) = (self.clone(), PathBuf::from(dir), kind.clone());
            let reading = tokio::spawn(async move { plugins.read_and_admit(&dir, &of).await });
            work.under_way = Some((kind, stamp, reading));
        }
    }

    fn done(&self, work: &mut Work, read: Result<(), Rejected>) {
        let Some((kind, stamp, _)) = work.under_way.take() else {
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
        let read = self.read_and_admit(dir, kind).await;
        let origin = super::Origin::File(folder::path(dir, kind));
        read.map_err(|rejected| self.reject(kind, &origin, &rejected))
    }

    async fn read_and_admit(&self, dir: &Path, kind: &RestreamType) -> Result<(), Rejected> {
        let _alone = self.0.compiler.lock().await;
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

/// Resolves when the file under way is read; never without one. Cancel safe.
async fn under_way(work: &mut Work) -> Result<(), Rejected> {
    let Some((.., reading)) = &mut work.under_way else {
        return std::future::pending().await;
    };
    let failed = |_| Err(Rejected::File("reading failed".to_owned()));
    reading.await.unwrap_or_else(failed)
}

fn tell(work: &mut Work, name: String, why: &str) {
    if work.told.len() < TOLD && !work.told.contains(&name) {
        warn!(file = name, "not a plugin: {why}");
        work.told.insert(name);
    }
}
