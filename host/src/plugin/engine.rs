//! The one wasmtime engine of the process, its clock and its linker.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine};

use super::instance::Ctx;
use super::limits::TICK;
use super::wit;

/// Stack of a guest, and what host functions may use on top of it.
const WASM_STACK: usize = 256 << 10;
/// See [`WASM_STACK`].
const FIBER_STACK: usize = 512 << 10;

/// Engine and linker. A cheap handle.
#[derive(Clone)]
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) linker: Arc<Linker<Ctx>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Starts the engine and the thread that ticks its clock; the thread ends with
    /// the last handle.
    pub fn start() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .concurrency_support(false)
            .max_wasm_stack(WASM_STACK)
            .async_stack_size(FIBER_STACK);
        let engine = Engine::new(&config)?;
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            })?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wit::Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |ctx: &mut Ctx| ctx)?;
        Ok(Self {
            engine,
            linker: Arc::new(linker),
        })
    }
}
