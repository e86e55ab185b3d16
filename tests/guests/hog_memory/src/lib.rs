//! A guest that takes memory until there is none.

#[path = "../../pull.rs"]
mod pull;

use restreamd_plugin::runtime::{self, Wake};
use restreamd_plugin::{Description, Handover, Job, Outcome, Restreamer};

/// Bytes a step: a page of WebAssembly memory.
const STEP: usize = 64 * 1024;

/// The type.
#[derive(Debug)]
pub struct HogMemory;

restreamd_plugin::export!(HogMemory);

impl Restreamer for HogMemory {
    fn describe() -> Description {
        pull::describe("Takes memory without end.", &[])
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let _source = pull::source(job, former);
        let mut hoard = Vec::new();
        loop {
            // Written to, so that it is memory and no promise of it.
            hoard.push(std::hint::black_box(vec![1_u8; STEP]));
            // Through the host now and then: this guest is greedy, not slow.
            if hoard.len() % 16 == 0 && matches!(runtime::wait(Some(0)), Wake::Stop) {
                return Outcome::Stopped;
            }
        }
    }
}
