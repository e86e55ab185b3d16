//! A store that lasts as long as its process: for the demo and for tests.
//!
//! The same engine as the embedded store, with nothing made durable. Answers at once
//! and keeps time by tokio's clock, so tests may pause it.

use std::collections::BTreeMap;

use super::Error;
use super::engine::{Driven, Engine};
use super::ledger::{Commit, Ledger};
use super::writer::Journal;

/// An in-memory [`Store`](super::Store).
pub struct Memory {
    engine: Engine,
}

impl Memory {
    /// Empty, at revision 0.
    pub fn new() -> Self {
        let ledger = Ledger::new(BTreeMap::new(), 0, 1);
        Self {
            engine: Engine::inline(ledger, Box::new(Forgetful)),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Driven for Memory {
    fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// The journal of a store that is not to last.
struct Forgetful;

impl Journal for Forgetful {
    fn append(&mut self, _: &[Commit]) -> Result<(), Error> {
        Ok(())
    }
}
