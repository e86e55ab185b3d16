//! The built-in `rtmp` type: pull an RTMP stream, and never give up.
//!
//! Dials at once; after every failure it waits by the class of the error and
//! tries again until the provision is deleted. A source that ends is not the
//! end. Several sources are an order of preference, see
//! [`restreamd_plugin::sources`]. A new list is dialed beside what plays and takes
//! over at a keyframe, so that subscribers see no gap.

mod settings;

use restreamd_plugin::file::{self, OpenOptions};
use restreamd_plugin::media::Source;
use restreamd_plugin::runtime::{self, Phase, Wake};
use restreamd_plugin::sources::{Deck, Look, Sources};
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
    open: Vec<Source>,
}

impl Deck for OnHost {
    fn open(&mut self, rung: usize) -> Result<u32, IoError> {
        let source = match (self.settings.urls.get(rung), &self.settings.slate) {
            (Some(url), _) => rtmp::connect(url, &self.settings.options())?,
            (None, Some(name)) => file::open(name, OpenOptions { loop_: true })?,
            (None, None) => return Err(IoError::Other("no such source".to_owned())),
        };
        let id = source.id();
        self.open.push(source);
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
        }
    }

    fn attach(&mut self, id: u32) {
        // A source that is gone meanwhile tells so by a wake of its own.
        let _ = self.find(id).map(Source::attach);
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

impl OnHost {
    fn find(&self, id: u32) -> Option<&Source> {
        self.open.iter().find(|source| source.id() == id)
    }
}

impl Pull {
    fn new(settings: Settings, former: Option<Handover>) -> Self {
        let now = runtime::now_ms();
        let mut plan = Sources::new(settings.wishes(), now);
        let former = former.unwrap_or(Handover {
            sources: Vec::new(),
            state: Vec::new(),
        });
        plan.restore(&former.state, now);
        let deck = OnHost {
            settings,
            open: former.sources,
        };
        let mut pull = Self { plan, deck };
        pull.adopt(|_| true);
        pull
    }

    fn run(mut self) -> Outcome {
        loop {
            self.plan.step(&mut self.deck);
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
                | Wake::StreamEnded => {}
            }
        }
    }

    fn ended(&mut self, id: u32, error: &IoError) {
        self.plan.ended(&mut self.deck, id, error);
        runtime::checkpoint(&self.plan.save(runtime::now_ms()));
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
        let same_options = settings.dials_like(&self.deck.settings);
        self.plan = Sources::new(settings.wishes(), runtime::now_ms());
        self.deck.settings = settings;
        self.adopt(|_| same_options);
    }

    /// Gives the open sources their places in the plan. What has none goes on playing
    /// until something of the plan does, or is closed when it does not play.
    fn adopt(&mut self, fits: impl Fn(&Source) -> bool) {
        let (urls, slate) = (&self.deck.settings.urls, &self.deck.settings.slate);
        let plan = &mut self.plan;
        self.deck.open.retain(|source| {
            let url = source.url();
            let slate = slate
                .as_deref()
                .is_some_and(|name| url == format!("file:{name}"));
            let rung = match slate {
                true => Some(urls.len()),
                false => urls
                    .iter()
                    .position(|known| *known == url)
                    .filter(|_| fits(source)),
            };
            let on_air = source.facts().on_air;
            if rung.is_some() || on_air {
                plan.adopt(source.id(), rung, on_air);
            }
            rung.is_some() || on_air
        });
    }

    fn hand_over(self) -> Handover {
        Handover {
            state: self.plan.save(runtime::now_ms()),
            sources: self.deck.open,
        }
    }
}
