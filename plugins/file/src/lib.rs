//! The `file` type: plays files of the media directory one after another.
//!
//! A file that cannot be played is passed over; when none of the list can be, it
//! waits and tries again. The host opens, paces and loops; this decides the order.

use restreamd_plugin::media::Source;
use restreamd_plugin::runtime::{self, Phase, Wake};
use restreamd_plugin::{
    Description, Direction, Handover, IoError, Job, Outcome, Problem, Properties, Property,
    Restreamer, file, property,
};

/// How long it waits when no file of the list could be played.
const RETRY_MS: u32 = 5_000;
/// And how long when the host refused for now to open anything.
const LIMIT_MS: u32 = 1_000;
/// More names than this are refused: each is a source opened in turn.
const MAX_FILES: usize = 1_000;

/// The type.
#[derive(Debug)]
pub struct Files;

restreamd_plugin::export!(Files);

impl Restreamer for Files {
    fn describe() -> Description {
        Description {
            doc: "Plays FLV and MP4 files of the node's media directory, one after another."
                .to_owned(),
            direction: Direction::Feeds,
            properties: vec![
                Property {
                    required: true,
                    ..property(
                        "files",
                        "Names below the media directory, with commas between.",
                    )
                },
                Property {
                    default: Some("false".to_owned()),
                    ..property("loop", "Begin again after the last file.")
                },
                Property {
                    default: Some("0".to_owned()),
                    ..property("index", "The file to begin with, counted from 0.")
                },
            ],
        }
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        let mut problems = properties.problems(&Self::describe());
        if properties.get(&["files"]).is_some() {
            problems.extend(List::parse(properties).err());
        }
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        match List::parse(&Properties::new(job.properties)) {
            Ok(list) => Player::new(list, former).run(),
            Err(problem) => Outcome::GaveUp(format!("{}: {}", problem.key, problem.message)),
        }
    }
}

/// What the properties say.
struct List {
    files: Vec<String>,
    looped: bool,
    first: usize,
}

impl List {
    /// One file again and again is the host's to loop, without a seam.
    fn for_ever(&self) -> bool {
        self.looped && self.files.len() == 1
    }

    fn parse(properties: &Properties) -> Result<Self, Problem> {
        let names = properties.get(&["files"]).unwrap_or_default().split(',');
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let files: Vec<String> = names.map(str::to_owned).collect();
        if !(1..=MAX_FILES).contains(&files.len()) {
            return Err(Problem {
                key: "files".to_owned(),
                message: format!("must name 1 to {MAX_FILES} files, with commas between"),
            });
        }
        let last = files.len() as u32 - 1;
        Ok(Self {
            looped: properties.flag("loop", false)?,
            first: properties.number("index", 0..=last, 0)? as usize,
            files,
        })
    }
}

/// The position in the list, and what plays.
struct Player {
    list: List,
    at: usize,
    source: Option<Source>,
    /// The source plays one file for ever.
    for_ever: bool,
    /// What played before a change of the list, until the new source is on air.
    former: Option<Source>,
    /// Files that failed since the last one that played.
    failed: usize,
    /// The list was played to its end.
    over: bool,
    /// When to open the next file, on the host's clock.
    due_ms: u64,
}

impl Player {
    fn new(list: List, former: Option<Handover>) -> Self {
        let (sources, state) =
            former.map_or_else(Default::default, |former| (former.sources, former.state));
        let at = <[u8; 4]>::try_from(state).map(u32::from_be_bytes);
        let at = at.map_or(list.first, |at| at as usize % list.files.len());
        // What plays goes on until what was attached since does.
        let (attached, others): (Vec<_>, Vec<_>) = sources
            .into_iter()
            .partition(|source| source.facts().attached);
        let (source, former) = (attached.into_iter().next(), others.into_iter().next());
        Self {
            for_ever: list.for_ever(),
            list,
            at,
            source,
            former: former.filter(|former| former.facts().on_air),
            failed: 0,
            over: false,
            due_ms: runtime::now_ms(),
        }
    }

    fn run(mut self) -> Outcome {
        while !self.over {
            let wait = self.due_ms.saturating_sub(runtime::now_ms());
            if self.source.is_none() && wait == 0 && !self.open() {
                continue;
            }
            match runtime::wait(self.source.is_none().then_some(wait as u32)) {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => {
                    return Outcome::HandedOver(Handover {
                        sources: self.source.into_iter().chain(self.former).collect(),
                        targets: Vec::new(),
                        state: position(self.at),
                    });
                }
                Wake::SourceEnded((id, error)) => self.ended(id, &error),
                Wake::Facts(id) => self.look(id),
                Wake::Reconfigured(properties) => self.reconfigure(&Properties::new(properties)),
                _ => {}
            }
        }
        Outcome::Finished
    }

    /// Opens the file it is at; false when that failed at once.
    fn open(&mut self) -> bool {
        self.for_ever = self.list.for_ever();
        let options = file::OpenOptions {
            loop_: self.for_ever,
        };
        runtime::checkpoint(&position(self.at));
        let opened = file::open(&self.list.files[self.at], options);
        match opened.and_then(|source| source.attach().map(|()| source)) {
            Ok(source) => self.source = Some(source),
            // Too much in a short time says nothing of the file.
            Err(IoError::Limit(why)) => {
                self.due_ms = runtime::now_ms() + u64::from(LIMIT_MS);
                runtime::set_status(Phase::BackingOff, &why, Some(LIMIT_MS));
            }
            Err(_) => self.pass_over(),
        }
        self.source.is_some()
    }

    fn look(&mut self, id: u32) {
        let facts = self.source.as_ref().filter(|source| source.id() == id);
        if let Some(facts) = facts.map(Source::facts) {
            self.failed = 0;
            if facts.on_air {
                self.former = None;
            }
        }
    }

    fn ended(&mut self, id: u32, error: &IoError) {
        self.former.take_if(|former| former.id() == id);
        if self.source.take_if(|source| source.id() == id).is_none() {
            return;
        }
        match error {
            IoError::Ended(_) => self.advance(),
            _ => self.pass_over(),
        }
    }

    fn advance(&mut self) {
        self.at = (self.at + 1) % self.list.files.len();
        self.over = self.at == 0 && !self.list.looped;
    }

    /// The file cannot be played: the next one at once, unless all failed in a row.
    fn pass_over(&mut self) {
        self.advance();
        self.failed += 1;
        if self.failed < self.list.files.len() {
            return;
        }
        (self.failed, self.over) = (0, false);
        self.due_ms = runtime::now_ms() + u64::from(RETRY_MS);
        runtime::set_status(Phase::BackingOff, "no file can be played", Some(RETRY_MS));
    }

    /// What plays goes on when it is of the new list, too, and comes to an end.
    fn reconfigure(&mut self, properties: &Properties) {
        let Ok(list) = List::parse(properties) else {
            return;
        };
        let playing = &self.list.files[self.at];
        let found = list.files.iter().position(|name| name == playing);
        self.at = found.unwrap_or(list.first);
        self.list = list;
        (self.failed, self.due_ms) = (0, runtime::now_ms());
        if found.is_none() || self.for_ever != self.list.for_ever() {
            // One that never came on air replaces nothing.
            let playing = |former: &Source| former.facts().on_air;
            self.former = self.former.take().filter(playing).or(self.source.take());
        }
    }
}

fn position(at: usize) -> Vec<u8> {
    (at as u32).to_be_bytes().to_vec()
}
