//! A guest that does not stop when it is told to.

#[path = "../../pull.rs"]
mod pull;

use restreamd_plugin::runtime;
use restreamd_plugin::{Description, Handover, Job, Outcome, Restreamer};

/// The type.
#[derive(Debug)]
pub struct SlowStop;

restreamd_plugin::export!(SlowStop);

impl Restreamer for SlowStop {
    fn describe() -> Description {
        pull::describe("Ignores stop.", &[])
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let _source = pull::source(job, former);
        loop {
            runtime::wait(Some(60_000));
        }
    }
}
