//! A guest that writes log lines without end.

#[path = "../../pull.rs"]
mod pull;

use restreamd_plugin::runtime::{self, Level, Wake};
use restreamd_plugin::{Description, Handover, Job, Outcome, Restreamer};

/// Lines between two waits.
const BURST: u32 = 1_000;

/// The type.
#[derive(Debug)]
pub struct LogFlood;

restreamd_plugin::export!(LogFlood);

impl Restreamer for LogFlood {
    fn describe() -> Description {
        pull::describe("Logs without end.", &[])
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let _source = pull::source(job, former);
        loop {
            for line in 0..BURST {
                runtime::log(Level::Info, &format!("flood {line}"));
            }
            if matches!(runtime::wait(Some(1)), Wake::Stop) {
                return Outcome::Stopped;
            }
        }
    }
}
