//! The `rtmp-fixed` type: pull with a fixed interval and a last attempt.
//!
//! A whole policy on a page, to be read before writing one's own.

use restreamd_plugin::media::Source;
use restreamd_plugin::runtime::{self, Phase, Wake};
use restreamd_plugin::{
    Description, Direction, Handover, Job, Outcome, Problem, Properties, Property, Restreamer,
    property, rtmp,
};

/// The type.
#[derive(Debug)]
pub struct Fixed;

restreamd_plugin::export!(Fixed);

impl Restreamer for Fixed {
    fn describe() -> Description {
        let with_default = |name, doc, default: &str| Property {
            default: Some(default.to_owned()),
            ..property(name, doc)
        };
        Description {
            doc: "Pulls one RTMP stream, tries again at a fixed interval, and gives up in the end."
                .to_owned(),
            direction: Direction::Feeds,
            properties: vec![
                Property {
                    required: true,
                    ..property("url", "The stream to pull: rtmp://host/app/name.")
                },
                with_default("everyMs", "Milliseconds between attempts.", "1000"),
                with_default(
                    "attempts",
                    "Failed attempts in a row after which it gives up.",
                    "5",
                ),
            ],
        }
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        let mut problems = properties.problems(&Self::describe());
        problems.extend(numbers(properties).err());
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let properties = Properties::new(job.properties);
        let (url, (every, attempts)) = match (properties.get(&["url"]), numbers(&properties)) {
            (Some(url), Ok(numbers)) => (url.to_owned(), numbers),
            _ => return Outcome::GaveUp("bad properties".to_owned()),
        };
        let mut source = former.and_then(|former| former.sources.into_iter().next());
        let mut due = runtime::now_ms();
        let mut failed = 0;
        loop {
            if source.is_none() && runtime::now_ms() >= due {
                source = match rtmp::connect(&url, &OPTIONS) {
                    Ok(opened) => opened.attach().is_ok().then_some(opened),
                    // Nothing was dialed: a bad URL does not get better.
                    Err(error) => return Outcome::GaveUp(format!("{error:?}")),
                };
                due = runtime::now_ms() + u64::from(every);
            }
            let pause = due.saturating_sub(runtime::now_ms());
            let lost = match runtime::wait(source.is_none().then_some(pause as u32)) {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => {
                    return Outcome::HandedOver(Handover {
                        sources: source.into_iter().collect(),
                        targets: vec![],
                        state: vec![],
                    });
                }
                Wake::SourceEnded((_, error)) => Some(format!("{error:?}")),
                Wake::Facts(_) => {
                    let facts = source.as_ref().map(Source::facts);
                    if facts.as_ref().is_some_and(|facts| facts.flowing_ms > 0) {
                        failed = 0;
                    }
                    facts
                        .and_then(|facts| facts.stall)
                        .map(|kind| format!("{kind:?}"))
                }
                _ => None,
            };
            let Some(why) = lost else { continue };
            source = None;
            failed += 1;
            if failed >= attempts {
                return Outcome::GaveUp(match failed {
                    1 => format!("the attempt failed with {why}"),
                    failed => format!("{failed} attempts failed, the last with {why}"),
                });
            }
            due = runtime::now_ms() + u64::from(every);
            runtime::set_status(
                Phase::BackingOff,
                &format!("attempt {failed} of {attempts} failed"),
                Some(every),
            );
        }
    }
}

const OPTIONS: rtmp::ConnectOptions = rtmp::ConnectOptions {
    connect_timeout_ms: 5_000,
    stall_ms: Some(5_000),
    swf_url: None,
    page_url: None,
    flash_ver: None,
    fc_subscribe: false,
    tls: rtmp::TlsCheck::Verify,
};

fn numbers(properties: &Properties) -> Result<(u32, u32), Problem> {
    Ok((
        properties.number("everyMs", 100..=3_600_000, 1_000)?,
        properties.number("attempts", 1..=1_000_000, 5)?,
    ))
}
