//! One instance of a plugin: a Store of its own, its limits, and its calls.
//!
//! A Store that trapped, overran or was dropped is never used again.

use std::time::Duration;

use wasmtime::component::{ResourceTable, ResourceTableError};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::limits::{Budget, COMPONENT_HANDLES, Limits, OutOfMemory, OutOfTable};
use super::stdio::Stdio;
use super::wit::{self, PolicyPre};
use crate::restreamer::host::{Handover, Host, Job, Level, Outcome, SourceId, TargetId};

/// A source as a guest holds it.
#[derive(Clone, Copy, Debug)]
pub struct SourceHandle(pub(super) SourceId);

/// A target as a guest holds it.
#[derive(Clone, Copy, Debug)]
pub struct TargetHandle(pub(super) TargetId);

/// What a Store carries.
pub struct Ctx {
    pub(super) host: Box<dyn Host>,
    pub(super) table: ResourceTable,
    limits: Budget,
    wasi: WasiCtx,
    stdio: Stdio,
    /// Ticks since it last waited.
    ticks: u32,
}

impl Ctx {
    /// The guest waits: its clock starts again. No other call is a sign of life, since a
    /// busy loop can make it.
    pub(super) fn waits(&mut self) {
        self.ticks = 0;
        self.called();
    }

    /// What the guest printed goes to the log.
    pub(super) fn called(&mut self) {
        for line in self.stdio.take() {
            self.host.log(Level::Info, &line);
        }
    }

    fn log_the_rest(&mut self) {
        for line in self.stdio.finish() {
            self.host.log(Level::Info, &line);
        }
    }
}

impl WasiView for Ctx {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// How an instance died.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Crash {
    cause: Cause,
    /// Where in the guest, as far as its names are known.
    place: String,
}

impl std::fmt::Display for Crash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "{}", self.cause),
            place => write!(f, "{}: {place}", self.cause),
        }
    }
}

/// Why an instance died.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// It used its CPU time up without waiting.
    #[error("ran for {0:?} without waiting")]
    Overran(Duration),
    /// It wanted more memory than it may have.
    #[error("wanted more than its {0} MiB of memory")]
    Memory(usize),
    /// It wanted more table elements than it may have.
    #[error("wanted more than its {0} elements of tables")]
    Table(usize),
    /// It wanted more handles of sources and targets than it may have.
    #[error("wanted more than its {0} handles")]
    Handles(usize),
    /// It gave or asked for more in one call of the host than it may.
    #[error("moved more than its {0} bytes in one call of the host")]
    Call(usize),
    /// It trapped: a bug of its own.
    #[error("trapped")]
    Trapped,
    /// It handed over, and no upgrade was wanted.
    #[error("handed over although no upgrade was wanted")]
    Unasked,
}

impl Crash {
    /// Handed over, and no upgrade was wanted.
    pub fn unasked() -> Self {
        Self {
            cause: Cause::Unasked,
            place: String::new(),
        }
    }

    /// A label for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self.cause {
            Cause::Overran(_) => "overran",
            Cause::Memory(_) => "memory",
            Cause::Table(_) => "table",
            Cause::Handles(_) => "handles",
            Cause::Call(_) => "call",
            Cause::Trapped => "trapped",
            Cause::Unasked => "unasked",
        }
    }

    /// The setting below `plugins.overrides.<type>` that would let it do that, if one would.
    pub(super) fn setting(&self) -> Option<&'static str> {
        match self.cause {
            Cause::Overran(_) => Some("ticks"),
            Cause::Memory(_) => Some("memory_mib"),
            Cause::Table(_) => Some("table_elements"),
            Cause::Handles(_) => Some("handles"),
            Cause::Call(_) => Some("call_bytes"),
            Cause::Trapped | Cause::Unasked => None,
        }
    }

    pub(super) fn of(error: &wasmtime::Error, limits: &Limits) -> Self {
        let text = format!("{error:#}");
        let cause = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Cause::Overran(super::limits::TICK * limits.ticks),
            _ if error.is::<OutOfMemory>() => Cause::Memory(limits.memory_mib),
            _ if error.is::<OutOfTable>() => Cause::Table(limits.table_elements),
            _ if error.is::<ResourceTableError>() => Cause::Handles(limits.handles),
            // wasmtime has no types for these.
            _ if text.contains(NO_HANDLE) => Cause::Handles(COMPONENT_HANDLES),
            _ if text.contains(NO_FUEL) => Cause::Call(limits.call_bytes),
            _ => Cause::Trapped,
        };
        let place = text.chars().take(4096).collect();
        Self { cause, place }
    }
}

/// What wasmtime says when a guest's handles are used up.
const NO_HANDLE: &str = "store handle limit exceeded";
/// The same of what one call may move.
const NO_FUEL: &str = "fuel allocated for hostcalls has been exhausted";

/// A Store with its limits on.
pub(super) fn store(engine: &Engine, host: Box<dyn Host>, limits: &Limits) -> Store<Ctx> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles);
    let stdio = Stdio::default();
    let ctx = Ctx {
        host,
        table,
        limits: limits.store(),
        wasi: WasiCtxBuilder::new()
            .stdout(stdio.clone())
            .stderr(stdio.clone())
            .build(),
        stdio,
        ticks: 0,
    };
    let mut store = Store::new(engine, ctx);
    store.limiter(|ctx| &mut ctx.limits);
    store.set_hostcall_fuel(limits.call_bytes);
    store.set_max_component_handles(COMPONENT_HANDLES);
    store.set_epoch_deadline(1);
    let allowed = limits.ticks;
    store.epoch_deadline_callback(move |mut ctx| {
        let ctx = ctx.data_mut();
        ctx.ticks += 1;
        Ok(if ctx.ticks > allowed {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Yield(1)
        })
    });
    store
}

/// Carries out one run.
pub(super) async fn run(
    pre: &PolicyPre<Ctx>,
    mut store: Store<Ctx>,
    limits: &Limits,
    job: &Job,
    former: Option<&Handover>,
) -> Result<Outcome, Crash> {
    let ended = drive(pre, &mut store, job, former).await;
    store.data_mut().log_the_rest();
    ended.map_err(|error| Crash::of(&error, limits))
}

async fn drive(
    pre: &PolicyPre<Ctx>,
    store: &mut Store<Ctx>,
    job: &Job,
    former: Option<&Handover>,
) -> wasmtime::Result<Outcome> {
    let former = match former {
        Some(former) => Some(give(store, former)?),
        None => None,
    };
    let job = wit::export::Job {
        provision_guid: job.provision_guid.clone(),
        stream_guid: job.stream_guid.clone(),
        kind: job.kind.clone(),
        properties: job.properties.clone(),
    };
    let policy = pre.instantiate_async(&mut *store).await?;
    let outcome = policy
        .restreamd_plugin_restreamer()
        .call_run(&mut *store, &job, former.as_ref())
        .await?;
    Ok(match outcome {
        wit::export::Outcome::Finished => Outcome::Finished,
        wit::export::Outcome::Stopped => Outcome::Stopped,
        wit::export::Outcome::GaveUp(text) => Outcome::GaveUp(text.chars().take(1024).collect()),
        wit::export::Outcome::HandedOver(handover) => Outcome::HandedOver(take(store, handover)?),
    })
}

fn give(store: &mut Store<Ctx>, former: &Handover) -> wasmtime::Result<wit::export::Handover> {
    let table = &mut store.data_mut().table;
    let sources = former
        .sources
        .iter()
        .map(|id| table.push(SourceHandle(*id)));
    let sources = sources.collect::<Result<_, _>>()?;
    let targets = former
        .targets
        .iter()
        .map(|id| table.push(TargetHandle(*id)));
    Ok(wit::export::Handover {
        sources,
        targets: targets.collect::<Result<_, _>>()?,
        state: former.state.clone(),
    })
}

fn take(store: &mut Store<Ctx>, handover: wit::export::Handover) -> wasmtime::Result<Handover> {
    let table = &mut store.data_mut().table;
    let sources = handover
        .sources
        .into_iter()
        .map(|source| table.delete(source).map(|handle| handle.0));
    let sources = sources.collect::<Result<_, _>>()?;
    let targets = handover
        .targets
        .into_iter()
        .map(|target| table.delete(target).map(|handle| handle.0));
    Ok(Handover {
        sources,
        targets: targets.collect::<Result<_, _>>()?,
        state: handover.state,
    })
}
