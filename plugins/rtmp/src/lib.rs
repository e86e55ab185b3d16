//! The built-in `rtmp` type: pull an RTMP stream, and never give up.
//!
//! Dials at once; after every failure it waits by the class of the error and
//! tries again until the provision is deleted. A source that ends is not the
//! end. Several sources are an order of preference, see
//! [`restreamd_plugin::sources`]. A new list is dialed beside what plays and takes
//! over at a keyframe, so that subscribers see no gap.

mod marks;
mod settings;

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
}

/// The host as the plan sees it.
struct OnHost {
    settings: Settings,
    open: Vec<Open>,
}

/// An open source, and the options it was opened with; those of a former instance are
/// not always known.
struct Open {
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
        self.open.push(Open { source, options });
        Ok(id)
    }

    fn look(&self, id: u32) -> Look {
        let Some(source) = self.find(id) else {
            return Look::default();
        };
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

    fn attach(&mut self, id: u32) {
        // A source that is gone meanwhile tells so by a wake of its own.
        let _ = self.find(id).map(Source::attach);
    }

    fn close(&mut self, id: u32) {
        self.open.retain(|open| open.source.id() != id);
    }

    fn now_ms(&self) -> u64 {
        runtime::now_ms()
    }

    fn random(&mut self) -> u32 {
        runtime::random_u32()
    }
}

impl OnHost {
    /// Which source was opened with which options.
    fn marks(&self) -> Vec<(u32, u32)> {
        let known = |open: &Open| Some((open.source.id(), open.options?));
        self.open.iter().filter_map(known).collect()
    }

    fn find(&self, id: u32) -> Option<&Source> {
        let mut sources = self.open.iter().map(|open| &open.source);
        sources.find(|source| source.id() == id)
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
            options: marks::of(&marks, source.id()),
            source,
        });
        let deck = OnHost {
            settings,
            open: open.collect(),
        };
        let mut pull = Self { plan, deck };
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
            match runtime::wait(self.plan.pause(&self.deck)) {
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
    fn tell(&self) {
        match self.plan.backing_off(runtime::now_ms()) {
            Some(wait) => runtime::set_status(Phase::BackingOff, "", Some(wait)),
            None => runtime::set_status(Phase::Waiting, "", None),
        }
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
