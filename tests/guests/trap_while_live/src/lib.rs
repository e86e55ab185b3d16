//! A guest that traps while its source is on air, or when it ends, as often as it is
//! told to.
//!
//! It counts its traps in the checkpoint, so that a new instance knows.

#[path = "../../pull.rs"]
mod pull;

use restreamd_plugin::runtime::{self, Wake};
use restreamd_plugin::{Description, Handover, Job, Outcome, Properties, Restreamer};

/// The type.
#[derive(Debug)]
pub struct TrapWhileLive;

restreamd_plugin::export!(TrapWhileLive);

impl Restreamer for TrapWhileLive {
    fn describe() -> Description {
        pull::describe(
            "Traps while its source is on air.",
            &[
                ("traps", "How often.", "1"),
                ("afterMs", "After so much media.", "2000"),
                ("onEnd", "Only when the source has ended.", "false"),
            ],
        )
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let properties = Properties::new(job.properties.clone());
        let number = |name, default| {
            properties
                .number(name, 0..=1_000_000, default)
                .unwrap_or(default)
        };
        let (traps, after) = (number("traps", 1), u64::from(number("afterMs", 2_000)));
        let on_end = properties.flag("onEnd", false).unwrap_or(false);
        let state = former.as_ref().map(|former| former.state.clone());
        let done = state
            .and_then(|s| s.try_into().ok())
            .map_or(0, u32::from_le_bytes);
        let Some(source) = pull::source(job, former) else {
            return Outcome::GaveUp("no source".to_owned());
        };
        loop {
            let flowing = source.facts().flowing_ms;
            let trap = || {
                runtime::checkpoint(&(done + 1).to_le_bytes());
                panic!("told to trap");
            };
            if !on_end && done < traps && flowing > 0 && flowing >= after {
                trap();
            }
            match runtime::wait(Some(100)) {
                Wake::Stop => return Outcome::Stopped,
                Wake::SourceEnded(_) if on_end && done < traps => trap(),
                Wake::SourceEnded(_) => return Outcome::GaveUp("the source ended".to_owned()),
                _ => {}
            }
        }
    }
}
