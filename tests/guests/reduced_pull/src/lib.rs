//! A pull at a fixed interval as a reducer: what it knows and what happened, to what it
//! wants. Well behaved; it shows the SDK's other style.

use restreamd_plugin::reducer::{Action, Event, Moment, Reducer};
use restreamd_plugin::runtime::Phase;
use restreamd_plugin::{
    Description, Direction, Job, Properties, Property, TlsCheck, property, rtmp,
};

/// Milliseconds between attempts.
const EVERY: u32 = 1_000;
/// The one source.
const SOURCE: u32 = 1;

/// The policy.
#[derive(Debug)]
pub struct Pull {
    url: String,
    failed: u32,
}

restreamd_plugin::export!(restreamd_plugin::reducer::Reduced<Pull>);

impl Reducer for Pull {
    fn describe() -> Description {
        let url = Property {
            required: true,
            ..property("url", "The stream to pull.")
        };
        Description {
            doc: "Pulls one RTMP stream at a fixed interval.".to_owned(),
            direction: Direction::Feeds,
            properties: vec![url],
        }
    }

    fn begin(job: &Job, saved: &[u8]) -> Self {
        let properties = Properties::new(job.properties.clone());
        Self {
            url: url(&properties),
            failed: saved.first().copied().unwrap_or(0).into(),
        }
    }

    fn on(&mut self, event: Event, moment: Moment) -> Vec<Action> {
        match event {
            Event::Began(open) if open.contains(&SOURCE) => vec![],
            Event::Began(_) | Event::Timer => self.dial(),
            Event::Over(..) => self.wait(moment),
            Event::Source(_, facts) if facts.stall.is_some() => {
                let mut actions = vec![Action::Close(SOURCE)];
                actions.extend(self.wait(moment));
                actions
            }
            Event::Source(_, facts) => {
                if facts.flowing_ms > 0 {
                    self.failed = 0;
                }
                vec![]
            }
            Event::Reconfigured(properties) => {
                let before = std::mem::replace(&mut self.url, url(&properties));
                if before == self.url {
                    vec![]
                } else {
                    self.dial()
                }
            }
            _ => vec![],
        }
    }

    fn save(&self) -> Vec<u8> {
        vec![u8::try_from(self.failed).unwrap_or(u8::MAX)]
    }
}

impl Pull {
    fn dial(&self) -> Vec<Action> {
        let options = rtmp::ConnectOptions {
            connect_timeout_ms: 0,
            stall_ms: Some(2_500),
            swf_url: None,
            page_url: None,
            flash_ver: None,
            fc_subscribe: false,
            tls: TlsCheck::Verify,
        };
        vec![
            Action::Connect(SOURCE, self.url.clone(), options),
            Action::Attach(SOURCE),
        ]
    }

    fn wait(&mut self, moment: Moment) -> Vec<Action> {
        self.failed += 1;
        let text = format!("attempt {} failed", self.failed);
        vec![
            Action::WakeAt(moment.now_ms + u64::from(EVERY)),
            Action::Status(Phase::BackingOff, text, Some(EVERY)),
        ]
    }
}

fn url(properties: &Properties) -> String {
    properties.get(&["url"]).unwrap_or_default().to_owned()
}
