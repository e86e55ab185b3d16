//! The `failover` type: the best of several sources that plays, RTMP streams and files.
//!
//! The order and the waits are [`restreamd_plugin::sources`]'; this opens what it wants and
//! tells it how that is. To be copied and changed.

use restreamd_plugin::address::rtmp_url;
use restreamd_plugin::media::Source;
use restreamd_plugin::runtime::{self, Phase, Wake};
use restreamd_plugin::sources::{Deck, Look, Sources, Tracks, Wishes};
use restreamd_plugin::{
    Description, Direction, Handover, IoError, Job, Outcome, Problem, Properties, Property,
    Restreamer, SourceState, TlsCheck, file, property, rtmp,
};

/// More sources than this no person keeps in order.
const MAX_SOURCES: usize = 16;
/// Media that stops for so long has stopped.
const STALL_MS: u32 = 2_500;
/// A source may dial so long.
const CONNECT_MS: u32 = 10_000;
/// The first and the longest wait between attempts.
const RETRY_MS: (u32, u32) = (250, 30_000);

/// The type.
#[derive(Debug)]
pub struct Failover;

restreamd_plugin::export!(Failover);

impl Restreamer for Failover {
    fn describe() -> Description {
        Description {
            doc:
                "Plays the first of several sources that has media, and goes back to a better one."
                    .to_owned(),
            direction: Direction::Feeds,
            properties: vec![
                Property {
                    required: true,
                    ..property(
                        "sources",
                        "Best first, with commas between: rtmp[s]://host/app/name, or file:name for a file of the media directory.",
                    )
                },
                Property {
                    default: Some("10000".to_owned()),
                    ..property(
                        "returnAfterMs",
                        "A better source takes over again after it has held for so many milliseconds.",
                    )
                },
                Property {
                    default: Some("false".to_owned()),
                    ..property("standby", "true keeps the next source connected.")
                },
            ],
        }
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        let mut problems = properties.problems(&Self::describe());
        if properties.get(&["sources"]).is_some() {
            problems.extend(parse(properties).err());
        }
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        let (urls, wishes) = match parse(&Properties::new(job.properties)) {
            Ok(parsed) => parsed,
            Err(problem) => {
                return Outcome::GaveUp(format!("{}: {}", problem.key, problem.message));
            }
        };
        let (open, state) = former.map_or_else(Default::default, |f| (f.sources, f.state));
        let mut plan = Sources::new(wishes, runtime::now_ms());
        plan.restore(&state, runtime::now_ms());
        let mut host = Host { urls, open };
        adopt(&mut plan, &mut host);
        loop {
            plan.step(&mut host);
            match plan.backing_off(runtime::now_ms()) {
                Some(wait) => runtime::set_status(Phase::BackingOff, "no source plays", Some(wait)),
                None => runtime::set_status(Phase::Waiting, "", None),
            }
            match runtime::wait(plan.pause(&host)) {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => {
                    return Outcome::HandedOver(Handover {
                        state: plan.save(runtime::now_ms()),
                        sources: host.open,
                        targets: Vec::new(),
                    });
                }
                Wake::SourceEnded((id, error)) => plan.ended(&mut host, id, &error),
                Wake::Reachable => plan.reachable(runtime::now_ms()),
                Wake::Reconfigured(properties) => {
                    // The host asked `check` before it told us.
                    if let Ok((urls, wishes)) = parse(&Properties::new(properties)) {
                        plan = Sources::new(wishes, runtime::now_ms());
                        host.urls = urls;
                        adopt(&mut plan, &mut host);
                    }
                }
                _ => {}
            }
        }
    }
}

fn parse(properties: &Properties) -> Result<(Vec<String>, Wishes), Problem> {
    let listed = properties.get(&["sources"]).unwrap_or_default().split(',');
    let listed = listed.map(str::trim).filter(|source| !source.is_empty());
    let urls: Vec<String> = listed.map(str::to_owned).collect();
    let problem = |message| Problem {
        key: "sources".to_owned(),
        message,
    };
    if !(1..=MAX_SOURCES).contains(&urls.len()) {
        let message = format!("must be 1 to {MAX_SOURCES} of rtmp://…, rtmps://… and file:…");
        return Err(problem(message));
    }
    for (number, url) in urls.iter().enumerate() {
        let wrong = match url.strip_prefix("file:") {
            Some("") => Some("names no file"),
            Some(_) => None,
            None => rtmp_url(url).err(),
        };
        if let Some(wrong) = wrong {
            return Err(problem(format!("number {} {wrong}", number + 1)));
        }
    }
    let wishes = Wishes {
        rungs: urls.len(),
        slate: false,
        return_after_ms: properties
            .number("returnAfterMs", 0..=3_600_000, 10_000)?
            .into(),
        standby: properties.flag("standby", false)?,
        retry_ms: RETRY_MS,
    };
    Ok((urls, wishes))
}

/// Gives the sources that are open their places in the plan; what is no more wanted plays
/// until something of the plan does.
fn adopt(plan: &mut Sources, host: &mut Host) {
    let mut spare = Vec::new();
    for source in &host.open {
        let url = source.url();
        let rung = host.urls.iter().position(|known| *known == url);
        let on_air = source.facts().on_air;
        match rung.is_some() || on_air {
            true => spare.extend(plan.adopt(source.id(), rung, on_air)),
            false => spare.push(source.id()),
        }
    }
    host.open.retain(|source| !spare.contains(&source.id()));
}

/// The host as the plan sees it.
struct Host {
    urls: Vec<String>,
    open: Vec<Source>,
}

impl Deck for Host {
    fn open(&mut self, rung: usize) -> Result<u32, IoError> {
        let url = self.urls.get(rung).map_or("", String::as_str);
        let source = match url.strip_prefix("file:") {
            Some(name) => file::open(name, file::OpenOptions { loop_: true })?,
            None => rtmp::connect(url, &OPTIONS)?,
        };
        let id = source.id();
        self.open.push(source);
        Ok(id)
    }

    fn look(&self, id: u32) -> Look {
        let Some(source) = self.open.iter().find(|source| source.id() == id) else {
            return Look::default();
        };
        let facts = source.facts();
        let tracks = Tracks {
            picture: facts.video.is_some(),
            sound: facts.audio.is_some(),
        };
        Look {
            flowing: facts.state == SourceState::Flowing,
            coming: facts.state == SourceState::Dialing && tracks != Tracks::default(),
            flowing_ms: facts.flowing_ms,
            stalled: facts.stall.is_some(),
            on_air: facts.on_air,
            tracks,
        }
    }

    fn attach(&mut self, id: u32) {
        // A source that is gone meanwhile tells so by a wake of its own.
        let source = self.open.iter().find(|source| source.id() == id);
        let _ = source.map(Source::attach);
    }

    fn close(&mut self, id: u32) {
        self.open.retain(|source| source.id() != id);
    }

    fn now_ms(&self) -> u64 {
        runtime::now_ms()
    }

    fn random(&mut self) -> u32 {
        runtime::random_u32()
    }
}

const OPTIONS: rtmp::ConnectOptions = rtmp::ConnectOptions {
    connect_timeout_ms: CONNECT_MS,
    stall_ms: Some(STALL_MS),
    swf_url: None,
    page_url: None,
    flash_ver: None,
    fc_subscribe: false,
    tls: TlsCheck::Verify,
};
