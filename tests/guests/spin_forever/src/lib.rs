//! A guest that never comes back to the host: in `check`, or once media flows.

#[path = "../../pull.rs"]
mod pull;

use restreamd_plugin::runtime::{self, Wake};
use restreamd_plugin::{Description, Handover, Job, Outcome, Problem, Properties, Restreamer};

/// The type.
#[derive(Debug)]
pub struct SpinForever;

restreamd_plugin::export!(SpinForever);

impl Restreamer for SpinForever {
    fn describe() -> Description {
        pull::describe("Loops without end.", &[("where", "check or run.", "run")])
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        if properties.get(&["where"]) == Some("check") {
            spin();
        }
        Vec::new()
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let Some(source) = pull::source(job, former) else {
            return Outcome::GaveUp("no source".to_owned());
        };
        while source.facts().flowing_ms == 0 {
            if matches!(runtime::wait(Some(100)), Wake::Stop) {
                return Outcome::Stopped;
            }
        }
        spin()
    }
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
