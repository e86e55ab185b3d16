//! The `rtmp-push` type: pushes the stream to an RTMP server.
//!
//! With `persist` it is a standing order: whenever the stream is live it is pushed, and
//! tried again for ever. Without, it makes so many attempts, a fixed time apart, and gives
//! up; media that has flowed for a while begins the count anew. The host dials, starts at a
//! keyframe, drops frames for a slow server and says how it goes; this decides when.

mod settings;

use restreamd_plugin::media::Target;
use restreamd_plugin::retry::{Class, Retry};
use restreamd_plugin::runtime::{self, Phase, Wake};
use restreamd_plugin::{
    Description, Handover, IoError, Job, Outcome, Problem, Properties, Restreamer, error, rtmp,
};
use settings::Settings;

/// Media that has flowed for so long makes an attempt a good one.
const GOOD_MS: u64 = 10_000;
/// A stream that is there is told of within this.
const LOOK_MS: u64 = 1_000;

/// The type.
#[derive(Debug)]
pub struct RtmpPush;

restreamd_plugin::export!(RtmpPush);

impl Restreamer for RtmpPush {
    fn describe() -> Description {
        settings::describe()
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        let mut problems = properties.problems(&settings::describe());
        // One that is missing is named already.
        if properties.get(&["rtmpUri"]).is_some() {
            problems.extend(Settings::parse(properties).err());
        }
        problems
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        match Settings::parse(&Properties::new(job.properties)) {
            Ok(settings) => Push::new(settings, former).run(),
            Err(problem) => Outcome::GaveUp(format!("{}: {}", problem.key, problem.message)),
        }
    }
}

/// One push.
struct Push {
    settings: Settings,
    target: Option<Target>,
    /// Media moves in the stream.
    live: bool,
    /// Attempts of this round that failed.
    failed: u32,
    /// The waits of a standing order.
    retry: Retry,
    /// When to try next, on the host's clock.
    due_ms: u64,
    /// A server that failed rests until then, however often the stream begins anew.
    rested_ms: u64,
}

impl Push {
    fn new(settings: Settings, former: Option<Handover>) -> Self {
        let now = runtime::now_ms();
        let mut push = Self {
            retry: settings.retry(now),
            settings,
            target: None,
            live: false,
            failed: 0,
            due_ms: now + LOOK_MS,
            rested_ms: now,
        };
        if let Some(former) = former {
            push.target = former.targets.into_iter().next();
            push.restore(&former.state, now);
        }
        push
    }

    fn run(mut self) -> Outcome {
        loop {
            if self.is_due()
                && let Err(why) = self.attempt()
            {
                return Outcome::GaveUp(why);
            }
            let given_up = match runtime::wait(self.pause()) {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => return Outcome::HandedOver(self.hand_over()),
                Wake::StreamBegan => {
                    self.live = true;
                    self.due_ms = runtime::now_ms().max(self.rested_ms);
                    Ok(())
                }
                Wake::StreamEnded => {
                    self.live = false;
                    // One that has sent nothing has nothing to wait for.
                    self.target.take_if(|target| target.facts().frames == 0);
                    self.due_ms = runtime::now_ms() + self.settings.delay_ms();
                    Ok(())
                }
                Wake::Facts(_) => {
                    self.look();
                    Ok(())
                }
                Wake::TargetEnded((_, error)) => {
                    self.target = None;
                    self.lost(&error)
                }
                Wake::Reachable => {
                    self.due_ms = runtime::now_ms();
                    self.rested_ms = self.due_ms;
                    Ok(())
                }
                Wake::Reconfigured(properties) => {
                    self.reconfigure(&Properties::new(properties));
                    Ok(())
                }
                Wake::Timer | Wake::SourceEnded(_) | Wake::Other(_) => Ok(()),
            };
            if let Err(why) = given_up {
                return Outcome::GaveUp(why);
            }
        }
    }

    fn is_due(&self) -> bool {
        // A standing order has time; a round counts attempts without a stream, too.
        let there = self.live || !self.settings.persist;
        self.target.is_none() && there && runtime::now_ms() >= self.due_ms
    }

    /// How long to wait when nothing happens.
    fn pause(&self) -> Option<u32> {
        let waits = self.target.is_none() && (self.live || !self.settings.persist);
        if self.settings.persist && !self.live && self.target.is_none() {
            runtime::set_status(Phase::Waiting, "the stream is not live", None);
        }
        let left = self.due_ms.saturating_sub(runtime::now_ms());
        waits.then(|| u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Tries once; an error is the end of the last round.
    fn attempt(&mut self) -> Result<(), String> {
        if !self.live {
            let error = IoError::NotFound("the stream is not live".to_owned());
            return self.lost(&error);
        }
        match rtmp::publish(&self.settings.url, &self.settings.options()) {
            Ok(target) => {
                self.target = Some(target);
                Ok(())
            }
            Err(error) => self.lost(&error),
        }
    }

    /// An attempt failed: when is the next one?
    fn lost(&mut self, why: &IoError) -> Result<(), String> {
        self.failed += 1;
        let now = runtime::now_ms();
        let text = error::text(why);
        let (wait, status) = if self.settings.persist {
            let random = runtime::random_u32();
            let wait = self.retry.failed(Class::from(why), now, random);
            (u64::from(wait), text)
        } else if self.failed >= self.settings.attempts {
            return Err(match self.failed {
                1 => format!("the attempt failed: {text}"),
                failed => format!("{failed} attempts failed, the last: {text}"),
            });
        } else {
            let status = format!(
                "attempt {} of {}: {text}",
                self.failed, self.settings.attempts
            );
            (self.settings.delay_ms(), status)
        };
        self.due_ms = now + wait;
        // What ended with the stream begins with it again.
        if self.live && !matches!(why, IoError::Ended(_)) {
            self.rested_ms = self.due_ms;
        }
        let wait = u32::try_from(wait).unwrap_or(u32::MAX);
        runtime::set_status(Phase::BackingOff, &status, Some(wait));
        runtime::checkpoint(&self.state());
        Ok(())
    }

    fn look(&mut self) {
        let flowing = self.target.as_ref().map_or(0, |t| t.facts().flowing_ms);
        if flowing > 0 {
            self.retry.media(runtime::now_ms(), flowing);
        }
        if flowing >= GOOD_MS {
            self.failed = 0;
        }
    }

    /// Another server is dialed at once; what else changed counts from the next attempt on.
    fn reconfigure(&mut self, properties: &Properties) {
        // The host asked `check` before it told us.
        let Ok(settings) = Settings::parse(properties) else {
            return;
        };
        let now = runtime::now_ms();
        if settings.url != self.settings.url {
            self.target = None;
        }
        (self.retry, self.failed) = (settings.retry(now), 0);
        (self.due_ms, self.rested_ms) = (now, now);
        self.settings = settings;
    }

    fn hand_over(self) -> Handover {
        Handover {
            sources: Vec::new(),
            state: self.state(),
            targets: self.target.into_iter().collect(),
        }
    }

    /// What an instance after this one has to know: the round, the waits, their memory.
    fn state(&self) -> Vec<u8> {
        let now = runtime::now_ms();
        let left = |at: u64| at.saturating_sub(now).to_le_bytes();
        let (due, rested) = (left(self.due_ms), left(self.rested_ms));
        let failed = self.failed.to_le_bytes();
        [&failed[..], &due, &rested, &self.retry.save(now)].concat()
    }

    fn restore(&mut self, state: &[u8], now: u64) {
        if let Some((failed, rest)) = state.split_first_chunk()
            && let Some((due, rest)) = rest.split_first_chunk()
            && let Some((rested, retry)) = rest.split_first_chunk()
        {
            let at = |left: &[u8; 8]| now.saturating_add(u64::from_le_bytes(*left));
            self.failed = u32::from_le_bytes(*failed);
            self.due_ms = at(due).max(now + LOOK_MS);
            self.rested_ms = at(rested);
            self.retry.restore(retry, now);
        }
    }
}
