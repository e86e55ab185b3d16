//! A guest that hands over at once, although nobody asked it to.

use restreamd_plugin::{Description, Direction, Handover, Job, Outcome, Restreamer};

/// The type.
#[derive(Debug)]
pub struct HandOverAlways;

restreamd_plugin::export!(HandOverAlways);

impl Restreamer for HandOverAlways {
    fn describe() -> Description {
        Description {
            doc: "Hands over at once.".to_owned(),
            direction: Direction::Feeds,
            properties: Vec::new(),
        }
    }

    fn run(_: Job, _: Option<Handover>) -> Outcome {
        Outcome::HandedOver(Handover {
            targets: Vec::new(),
            sources: Vec::new(),
            state: Vec::new(),
        })
    }
}
