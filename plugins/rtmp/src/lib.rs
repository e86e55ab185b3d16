//! The built-in `rtmp` type: pull an RTMP stream, and never give up.
//!
//! Dials at once; after every failure it waits by the class of the error and
//! tries again until the provision is deleted. A source that ends is not the
//! end. Several sources are an order of preference, see
//! [`restreamd_plugin::sources`]. A new list is dialed beside what plays and takes
//! over at a keyframe, so that subscribers see no gap.

mod marks;
mod settings;

use std::cell::{Cell, RefCell};

use restreamd_plugin::file::{self, OpenOptions};
use restreamd_plugin::media::Source;
use restreamd_plugin::runtime::{self, Phase, Wake};
use restreamd_plugin::sources::{Deck, Look, Sources, Tracks};
use restreamd_plugin::{
    Description, Handover, IoError, Job, Outcome, Problem, Properties, Restreamer, SourceState,
    rtmp,
};
use settings::Settings;

/// The type.
#[derive(Debug)]
pub struct RtmpPull;

restreamd_plugin::export!(RtmpPull);

impl Restreamer for RtmpPull {
    fn describe() -> Description {
        settings::describe()
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        let mut problems = properties.problems(&settings::describe());
        problems.extend(Settings::parse(properties).err());
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        match Settings::parse(&Properties::new(job.properties)) {
            Ok(settings) => Pull::new(settings, former).run(),
            Err(problem) => Outcome::GaveUp(format!("{}: {}", problem.key, problem.message)),
        }
    }
}

/// One pull: the plan, and the sources it has open.
struct Pull {
    plan: Sources,
    deck: OnHost,
    /// It was said that there is nothing to wait for.
    said: bool,
}

/// The host as the plan sees it. What it was asked since the last wake it is not asked
/// again: of a thousand restreamers these questions are all the work there is.
struct OnHost {
    settings: Settings,
    open: Vec<Open>,
    now: Cell<Option<u64>>,
    looks: RefCell<Vec<(u32, Look)>>,
}

/// An open source, and the options it was opened with; those of a former instance are
/// not always known.
struct Open {
    id: u32,
    source: Source,
    options: Option<u32>,
}

impl Open {
    /// Whether it would be opened the same way now.
    fn fits(&self, options: u32) -> bool {
        self.options.is_none_or(|known| known == options)
    }
}

impl Deck for OnHost {
    fn open(&mut self, rung: usize) -> Result<u32, IoError> {
        let options = Some(self.settings.options_mark());
        let source = match (self.settings.urls.get(rung), &self.settings.slate) {
            (Some(url), _) => rtmp::connect(url, &self.settings.options())?,
            (None, Some(name)) => file::open(name, OpenOptions { loop_: true })?,
            (None, None) => return Err(IoError::Invalid("no such source".to_owned())),
        };
        let id = source.id();
        self.open.push(Open {
            id,
            source,
            options,
        });
        Ok(id)
    }

    fn look(&self, id: u32) -> Look {
        let mut looks = self.looks.borrow_mut();
        if let Some((_, look)) = looks.iter().find(|(known, _)| *known == id) {
            return *look;
        }
        let look = self.find(id).map(look).unwrap_or_default();
        looks.push((id, look));
        look
    }

    fn attach(&mut self, id: u32) {
        self.woken();
        // A source that is gone meanwhile tells so by a wake of its own.
        let _ = self.find(id).map(Source::attach);
    }

    fn close(&mut self, id: u32) {
        self.woken();
        self.open.retain(|open| open.id != id);
    }

    fn now_ms(&self) -> u64 {
        let now = self.now.get().unwrap_or_else(runtime::now_ms);
        self.now.set(Some(now));
        now
    }

    fn random(&mut self) -> u32 {
        runtime::random_u32()
    }
}

/// What is known of a source.
fn look(source: &Source) -> Look {
    let facts = source.facts();
    Look {
        flowing: facts.state == SourceState::Flowing,
        coming: facts.state == SourceState::Dialing
            && (facts.video.is_some() || facts.audio.is_some()),
        flowing_ms: facts.flowing_ms,
        stalled: facts.stall.is_some(),
        on_air: facts.on_air,
        tracks: Tracks {
            picture: facts.video.is_some(),
            sound: facts.audio.is_some(),
        },
    }
}

impl OnHost {
    /// What was known may be different now.
    fn woken(&self) {
        self.now.set(None);
        self.looks.borrow_mut().clear();
    }

    /// Which source was opened with which options.
    fn marks(&self) -> Vec<(u32, u32)> {
        let known = |open: &Open| Some((open.id, open.options?));
        self.open.iter().filter_map(known).collect()
    }

    fn find(&self, id: u32) -> Option<&Source> {
        let open = self.open.iter().find(|open| open.id == id);
        open.map(|open| &open.source)
    }
}

impl Pull {
    fn new(settings: Settings, former: Option<Handover>) -> Self {
        let now = runtime::now_ms();
        let mut plan = Sources::new(settings.wishes(), now);
        let former = former.unwrap_or(Handover {
            sources: Vec::new(),
            targets: Vec::new(),
            state: Vec::new(),
        });
        let (waits, marks) = marks::split(&former.state);
        plan.restore(waits, now);
        let open = former.sources.into_iter().map(|source| Open {
            id: source.id(),
            options: marks::of(&marks, source.id()),
            source,
        });
        let deck = OnHost {
            settings,
            open: open.collect(),
            now: Cell::default(),
            looks: RefCell::default(),
        };
        let mut pull = Self {
            plan,
            deck,
            said: false,
        };
        pull.adopt();
        pull
    }

    fn run(mut self) -> Outcome {
        let mut known = Vec::new();
        loop {
            self.plan.step(&mut self.deck);
            // Whoever comes after a trap must know what was opened how.
            let open = self.deck.marks();
            if open != known {
                runtime::checkpoint(&self.state());
                known = open;
            }
            self.tell();
            let wake = runtime::wait(self.plan.pause(&self.deck));
            self.deck.woken();
            match wake {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => return Outcome::HandedOver(self.hand_over()),
                Wake::SourceEnded((id, error)) => self.ended(id, &error),
                Wake::Reachable => self.plan.reachable(runtime::now_ms()),
                Wake::Reconfigured(properties) => self.reconfigure(&Properties::new(properties)),
                Wake::Timer
                | Wake::Facts(_)
                | Wake::TargetEnded(_)
                | Wake::StreamBegan
                | Wake::StreamEnded
                | Wake::Other(_) => {}
            }
        }
    }

    fn ended(&mut self, id: u32, error: &IoError) {
        self.plan.ended(&mut self.deck, id, error);
        runtime::checkpoint(&self.state());
    }

    /// Says when the next attempt is, while there is none.
    fn tell(&mut self) {
        let wait = self.plan.backing_off(self.deck.now_ms());
        match wait {
            Some(wait) => runtime::set_status(Phase::BackingOff, "", Some(wait)),
            None if self.said => {}
            None => runtime::set_status(Phase::Waiting, "", None),
        }
        self.said = wait.is_none();
    }

    fn reconfigure(&mut self, properties: &Properties) {
        // The host asked `check` before it told us.
        let Ok(settings) = Settings::parse(properties) else {
            return;
        };
        self.plan = Sources::new(settings.wishes(), runtime::now_ms());
        self.deck.settings = settings;
        self.adopt();
    }

    /// Gives the open sources their places in the plan. What has none goes on playing
    /// until something of the plan does, or is closed when it does not play.
    fn adopt(&mut self) {
        let (urls, slate) = (&self.deck.settings.urls, &self.deck.settings.slate);
        let options = self.deck.settings.options_mark();
        let plan = &mut self.plan;
        let mut spare = Vec::new();
        self.deck.open.retain(|open| {
            let source = &open.source;
            let url = source.url();
            let slate = slate
                .as_deref()
                .is_some_and(|name| url == format!("file:{name}"));
            let rung = match slate {
                true => Some(urls.len()),
                false => urls
                    .iter()
                    .position(|known| *known == url)
                    .filter(|_| open.fits(options)),
            };
            let on_air = source.facts().on_air;
            if rung.is_some() || on_air {
                spare.extend(plan.adopt(source.id(), rung, on_air));
            }
            rung.is_some() || on_air
        });
        spare.into_iter().for_each(|id| self.deck.close(id));
    }

    /// What an instance after this one has to know.
    fn state(&self) -> Vec<u8> {
        let waits = self.plan.save(runtime::now_ms());
        marks::join(waits, &self.deck.marks())
    }

    fn hand_over(self) -> Handover {
        Handover {
            state: self.state(),
            targets: Vec::new(),
            sources: self.deck.open.into_iter().map(|open| open.source).collect(),
        }
    }
}
