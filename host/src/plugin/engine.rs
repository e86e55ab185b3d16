//! The one wasmtime engine of the process, its clock and its linker.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::sync::Arc;

use tracing::warn;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, OptLevel};

use super::cache::Cache;
use super::clock::Clock;
use super::instance::Ctx;
use super::wit;

/// Stack of a guest, and what host functions may use on top of it.
const WASM_STACK: usize = 256 << 10;
/// See [`WASM_STACK`].
const FIBER_STACK: usize = 512 << 10;

/// Engine and linker. A cheap handle.
#[derive(Clone)]
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) clock: Clock,
    pub(super) linker: Arc<Linker<Ctx>>,
    cache: Option<Cache>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Starts the engine and its clock.
    pub fn start() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .concurrency_support(false)
            // Guests were optimised by their own compilers and have little to do; they are
            // offered a quarter sooner, and their code is smaller.
            .cranelift_opt_level(OptLevel::None)
            .max_wasm_stack(WASM_STACK)
            .async_stack_size(FIBER_STACK);
        let engine = Engine::new(&config)?;
        let clock = Clock::start(&engine)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wit::Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |ctx: &mut Ctx| ctx)?;
        Ok(Self {
            engine,
            clock,
            linker: Arc::new(linker),
            cache: None,
        })
    }

    /// Keeps compiled code in this folder, if it can.
    #[must_use]
    pub fn with_cache(mut self, dir: &Path) -> Self {
        match Cache::open(dir) {
            Ok(cache) => self.cache = Some(cache),
            Err(error) => warn!(dir = %dir.display(), %error, "compiled plugins are not kept"),
        }
        self
    }

    /// Compiles a component, or takes the code of an earlier time. Takes seconds for a
    /// large one: not for the async runtime's own threads.
    pub(super) fn compile(&self, component: &[u8]) -> wasmtime::Result<Component> {
        let Some(cache) = &self.cache else {
            return Component::new(&self.engine, component);
        };
        let key = Cache::key(component, self.compiler());
        let kept = cache.get(&key).and_then(|code| self.load(&code));
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let component = Component::new(&self.engine, component)?;
        cache.put(&key, &component.serialize()?);
        Ok(component)
    }

    /// Whether a component's code is there already.
    pub(super) fn is_compiled(&self, component: &[u8]) -> bool {
        let key = Cache::key(component, self.compiler());
        self.cache.as_ref().is_some_and(|cache| cache.has(&key))
    }

    /// What makes code of one compiler, version and machine unfit for another.
    fn compiler(&self) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default()
            .hash_one(self.engine.precompile_compatibility_hash())
    }

    /// Code that another version of the engine made is refused by it.
    #[allow(
        unsafe_code,
        reason = "compiled code is trusted by nature: it lies in a folder that this user alone can write in, and its digest was compared"
    )]
    fn load(&self, code: &[u8]) -> Option<Component> {
        // SAFETY: `Cache` gives back the bytes that `Component::serialize` gave it.
        let loaded = unsafe { Component::deserialize(&self.engine, code) };
        loaded
            .inspect_err(|error| warn!(%error, "compiled code is of no use and will be made again"))
            .ok()
    }
}
