//! The built-in `rtmp` type: pull one RTMP stream, and never give up.
//!
//! Dials at once; after every failure it waits by the class of the error and
//! tries again until the provision is deleted. A source that ends is not the
//! end. A new `rtmpUri` is dialed beside the old source and takes over at its
//! keyframe, so that subscribers see no gap.

mod settings;

use restreamd_plugin::media::Source;
use restreamd_plugin::retry::{Class, Retry};
use restreamd_plugin::runtime::{self, Level, Phase, Wake};
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
        if let Err(problem) = Settings::parse(properties) {
            problems.push(problem);
        }
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        match Settings::parse(&Properties::new(job.properties)) {
            Ok(settings) => Pull::new(settings, former).run(),
            Err(problem) => Outcome::GaveUp(format!("{}: {}", problem.key, problem.message)),
        }
    }
}

/// One pull: the source the stream plays, and the one that is to replace it.
struct Pull {
    settings: Settings,
    retry: Retry,
    current: Option<Source>,
    next: Option<Source>,
    /// When to dial, on the host's clock, while there is no source.
    due_ms: u64,
}

impl Pull {
    fn new(settings: Settings, former: Option<Handover>) -> Self {
        let now = runtime::now_ms();
        let mut retry = Retry::new(settings.retry_min_ms, settings.retry_max_ms, now);
        let mut current = None;
        if let Some(former) = former {
            retry.restore(&former.state, now);
            current = former
                .sources
                .into_iter()
                .find(|source| source.facts().attached);
        }
        Self {
            settings,
            retry,
            current,
            next: None,
            due_ms: now,
        }
    }

    fn run(mut self) -> Outcome {
        loop {
            let now = runtime::now_ms();
            if self.current.is_none() && now >= self.due_ms {
                self.current = self.dial();
            }
            match runtime::wait(self.pause()) {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => return Outcome::HandedOver(self.hand_over()),
                Wake::Facts(id) => self.look(id),
                Wake::SourceEnded((id, error)) => self.ended(id, &error),
                Wake::Reachable => self.due_ms = runtime::now_ms(),
                Wake::Reconfigured(properties) => self.reconfigure(&Properties::new(properties)),
                Wake::Timer | Wake::TargetEnded(_) | Wake::StreamBegan | Wake::StreamEnded => {}
            }
        }
    }

    /// How long there is nothing to do unless the host has news.
    fn pause(&self) -> Option<u32> {
        let wait = self.due_ms.saturating_sub(runtime::now_ms());
        self.current
            .is_none()
            .then(|| u32::try_from(wait).unwrap_or(u32::MAX))
    }

    fn dial(&mut self) -> Option<Source> {
        let opened = rtmp::connect(&self.settings.url, &self.settings.options())
            .and_then(|source| source.attach().map(|()| source));
        match opened {
            Ok(source) => Some(source),
            Err(error) => {
                self.back_off(&error);
                None
            }
        }
    }

    fn back_off(&mut self, error: &IoError) {
        let now = runtime::now_ms();
        let wait = self
            .retry
            .failed(Class::from(error), now, runtime::random_u32());
        self.due_ms = now + u64::from(wait);
        runtime::checkpoint(&self.retry.save(now));
        let attempts = self.retry.failures();
        runtime::set_status(
            Phase::BackingOff,
            &format!("{attempts} failed attempts in a row"),
            Some(wait),
        );
        runtime::log(Level::Debug, &format!("next attempt in {wait} ms"));
    }

    /// A source's facts changed: a stall is the end of it, and the replacement
    /// that came on air ends the one before.
    fn look(&mut self, id: u32) {
        if let Some(next) = self
            .next
            .take_if(|next| next.id() == id && next.facts().on_air)
        {
            self.current = Some(next);
        }
        let Some(source) = self.current.as_ref().filter(|source| source.id() == id) else {
            return;
        };
        let facts = source.facts();
        match facts.stall {
            Some(kind) => self.ended(id, &IoError::Stalled(format!("{kind:?}"))),
            None if facts.state == SourceState::Flowing => {
                self.retry.media(runtime::now_ms(), facts.flowing_ms);
            }
            None => {}
        }
    }

    fn ended(&mut self, id: u32, error: &IoError) {
        if self.next.take_if(|next| next.id() == id).is_some() {
            runtime::log(
                Level::Warn,
                "the new rtmpUri failed; it is tried again when the current source ends",
            );
        }
        if self.current.take_if(|current| current.id() == id).is_none() {
            return;
        }
        match self.next.take() {
            Some(next) => self.current = Some(next),
            None => self.back_off(error),
        }
    }

    fn reconfigure(&mut self, properties: &Properties) {
        let Ok(settings) = Settings::parse(properties) else {
            return;
        };
        self.retry
            .reconfigure(settings.retry_min_ms, settings.retry_max_ms);
        let same_source = settings.same_source(&self.settings);
        self.settings = settings;
        if same_source {
            return;
        }
        let opened = self.dial();
        if self.current.is_some() {
            self.next = opened;
        } else {
            self.current = opened;
        }
    }

    fn hand_over(self) -> Handover {
        Handover {
            state: self.retry.save(runtime::now_ms()),
            sources: self.current.into_iter().chain(self.next).collect(),
        }
    }
}
