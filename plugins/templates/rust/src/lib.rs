//! {{name}}: pulls one RTMP stream and never gives up.
//!
//! Everything that may differ is in here: when to dial, what a failure means, how long to
//! wait. The host does the RTMP; this policy sees facts and never a packet. The contract
//! is `wit/world.wit`, written to be read; `vendor/restreamd-plugin` is what makes it Rust.

use restreamd_plugin::media::Source;
use restreamd_plugin::retry::{Class, Retry};
use restreamd_plugin::runtime::{self, Level, Phase, Wake};
use restreamd_plugin::{
    Description, Direction, Handover, IoError, Job, Outcome, Problem, Properties, Property,
    Restreamer, TlsCheck, property, rtmp,
};

struct Pull {
    settings: Settings,
    source: Option<Source>,
    retry: Retry,
    due: u64,
}

restreamd_plugin::export!(Pull);

struct Settings {
    url: String,
    retry_ms: (u32, u32),
}

impl Settings {
    fn parse(properties: &Properties) -> Result<Self, Problem> {
        Ok(Self {
            url: properties.get(&["url"]).unwrap_or_default().to_owned(),
            retry_ms: (
                properties.number("retryMinMs", 1..=3_600_000, 250)?,
                properties.number("retryMaxMs", 1..=3_600_000, 10_000)?,
            ),
        })
    }
}

impl Restreamer for Pull {
    fn describe() -> Description {
        let with_default = |name, doc, default: &str| Property {
            default: Some(default.to_owned()),
            ..property(name, doc)
        };
        let url = Property {
            required: true,
            ..property("url", "The stream to pull: rtmp://host/app/name.")
        };
        Description {
            doc: "Pulls one RTMP stream and never gives up.".to_owned(),
            direction: Direction::Feeds,
            properties: vec![
                url,
                with_default("retryMinMs", "The first wait after a failure, at most.", "250"),
                with_default("retryMaxMs", "The longest wait.", "10000"),
            ],
        }
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        let mut problems = properties.problems(&Self::describe());
        problems.extend(Settings::parse(properties).err());
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        match Settings::parse(&Properties::new(job.properties)) {
            Ok(settings) => Self::new(settings, former).pull(),
            Err(problem) => Outcome::GaveUp(problem.message),
        }
    }
}

impl Pull {
    fn new(settings: Settings, former: Option<Handover>) -> Self {
        let now = runtime::now_ms();
        let retry = Retry::new(settings.retry_ms.0, settings.retry_ms.1, now);
        let mut pull = Self { settings, source: None, retry, due: now };
        // What the build before left: its source, still flowing, how often it had failed, and
        // the rest of its wait, so that a new build on a thousand streams dials nobody early.
        if let Some(former) = former {
            if let Some((left, retry)) = former.state.split_first_chunk() {
                pull.due = now + u64::from(u32::from_le_bytes(*left));
                pull.retry.restore(retry, now);
            }
            pull.source = former.sources.into_iter().next();
        }
        pull
    }

    fn pull(mut self) -> Outcome {
        loop {
            let now = runtime::now_ms();
            if self.source.is_none() && now >= self.due {
                self.dial();
            }
            let pause = self.due.saturating_sub(now) as u32;
            match runtime::wait(self.source.is_none().then_some(pause)) {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => return Outcome::HandedOver(self.hand_over()),
                Wake::SourceEnded((_, error)) => self.failed(&error),
                Wake::Facts(_) => self.look(),
                Wake::Reachable => self.due = runtime::now_ms(),
                Wake::Reconfigured(properties) => self.reconfigure(&Properties::new(properties)),
                _ => {}
            }
        }
    }

    fn dial(&mut self) {
        let options = rtmp::ConnectOptions {
            connect_timeout_ms: 0,
            stall_ms: Some(2_500),
            swf_url: None,
            page_url: None,
            flash_ver: None,
            fc_subscribe: false,
            tls: TlsCheck::Verify,
        };
        match rtmp::connect(&self.settings.url, &options) {
            Ok(source) => {
                // A source that is gone meanwhile tells so by a wake of its own.
                let _ = source.attach();
                self.source = Some(source);
            }
            // Nothing was dialed: a bad URL, or a limit of this restreamer.
            Err(error) => {
                runtime::log(Level::Warn, &format!("{error:?}"));
                self.failed(&error);
            }
        }
    }

    fn look(&mut self) {
        let Some(facts) = self.source.as_ref().map(Source::facts) else {
            return;
        };
        if facts.flowing_ms > 0 {
            self.retry.media(runtime::now_ms(), facts.flowing_ms);
        }
        if facts.stall.is_some() {
            self.failed(&IoError::Stalled(String::new()));
        }
    }

    /// Closes the source and says when the next attempt is.
    fn failed(&mut self, error: &IoError) {
        self.source = None;
        let now = runtime::now_ms();
        // All failures are alike here. `Class::from(error)` tells them apart, as the
        // built-in type does: wrong credentials wait long, a drop is answered at once.
        let pause = self.retry.failed(Class::Other, now, runtime::random_u32());
        self.due = now + u64::from(pause);
        let text = format!("{error:?}, attempt {}", self.retry.failures());
        runtime::set_status(Phase::BackingOff, &text, Some(pause));
    }

    fn reconfigure(&mut self, properties: &Properties) {
        // The host asked `check` before it told us.
        let Ok(settings) = Settings::parse(properties) else {
            return;
        };
        self.retry.reconfigure(settings.retry_ms.0, settings.retry_ms.1);
        if settings.url != self.settings.url {
            self.source = None;
            self.due = runtime::now_ms();
        }
        self.settings = settings;
    }

    fn hand_over(self) -> Handover {
        let now = runtime::now_ms();
        let left = self.due.saturating_sub(now) as u32;
        Handover {
            state: [&left.to_le_bytes()[..], &self.retry.save(now)].concat(),
            targets: Vec::new(),
            sources: self.source.into_iter().collect(),
        }
    }
}
