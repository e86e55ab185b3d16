//! `restreamd plugin test`: a shipped build on a scripted host with a virtual clock.
//!
//! A scenario says what happens to a policy and what it must do; a day of retries
//! takes milliseconds, because nothing is waited for. The build is the one that a
//! node would run, in the same sandbox. Bounded in steps, time and memory.

mod actor;
mod document;
mod record;
mod stage;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use self::actor::{Actor, Dropped};
use self::document::{Ending, Scenario, What};
use self::record::{clock, shown};
use self::stage::Stage;
use self::verdict::{End, Finding};
use super::{Build, Direction};
use crate::restreamer::host::{Handover, Job, Outcome, Properties};

/// All runs of one scenario take no longer than this.
const WALL: Duration = Duration::from_secs(60);
/// A scenario larger than this was not written by a person.
const MAX_FILE: u64 = 1 << 20;
/// Lines of the trace below a failure.
const SHOWN: usize = 24;
/// Hand-overs and traps of one run.
const INSTANCES: u32 = 1_000;

/// What a rehearsal is to do beside the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// One run with this randomness, in place of the scenario's runs.
    pub seed: Option<u64>,
    /// All that happened, also when all went well.
    pub trace: bool,
}

/// How a scenario went.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// As expected.
    pub passed: bool,
    /// For people: one line, or what differs and what happened.
    pub text: String,
}

/// Admits a plugin as a node would and plays scenarios with it, one after another.
///
/// # Errors
/// When the plugin is not admitted, or a scenario is none; its line is named.
pub async fn play_all(
    plugin: &Path,
    scenarios: &[PathBuf],
    options: Options,
) -> anyhow::Result<Vec<Verdict>> {
    let (build, _) = super::report::admit_file(plugin, None).await?;
    let mut verdicts = Vec::new();
    for file in scenarios {
        verdicts.push(play(&build, file, options).await?);
    }
    Ok(verdicts)
}

/// Plays a scenario file with a build.
async fn play(build: &Build, file: &Path, options: Options) -> anyhow::Result<Verdict> {
    let named = || file.display().to_string();
    let size = std::fs::metadata(file).with_context(named)?.len();
    ensure!(size <= MAX_FILE, "{}: larger than 1 MiB", file.display());
    let text = std::fs::read_to_string(file).with_context(named)?;
    play_text(build, &named(), &text, options).await
}

async fn play_text(
    build: &Build,
    name: &str,
    text: &str,
    options: Options,
) -> anyhow::Result<Verdict> {
    let scenario: Scenario = toml::from_str(text).with_context(|| name.to_owned())?;
    let scenario = Arc::new(scenario);
    let play = Rehearsal {
        build,
        name,
        text,
        scenario: &scenario,
        options,
    };
    play.all().await
}

struct Rehearsal<'a> {
    build: &'a Build,
    name: &'a str,
    text: &'a str,
    scenario: &'a Arc<Scenario>,
    options: Options,
}

impl Rehearsal<'_> {
    async fn all(&self) -> anyhow::Result<Verdict> {
        let begun = Instant::now();
        self.expects_something()?;
        let refused = self.check().await?;
        let refusal = self.scenario.expect.problems.as_ref();
        if !refused.is_empty() || refusal.is_some_and(|keys| !keys.get_ref().is_empty()) {
            let passed = refused.is_empty();
            return Ok(self.verdict(passed, "check", &refused, None, begun));
        }
        let (first, last) = match self.options.seed {
            Some(seed) => (seed, seed),
            None => (1, u64::from(self.scenario.runs)),
        };
        let reads = self.build.description().direction == Direction::Reads;
        let mut steps = 0;
        let mut trace = None;
        for seed in first..=last {
            let left = WALL.saturating_sub(begun.elapsed());
            let actor = Actor::new(Stage::new(self.scenario.clone(), seed, reads));
            let run = tokio::time::timeout(left, self.run(&actor)).await;
            let (end, ended) = run.unwrap_or_else(|_| {
                let mut stage = actor.stage.lock();
                let now = stage.now();
                let text = format!("took longer than {WALL:?} of real time");
                stage.record.wrong(now, text);
                (End::Cut, now)
            });
            let mut stage = actor.stage.lock();
            stage.end(&format!("the run is over: {}", told(&end)));
            let findings = verdict::judge(&self.scenario.expect, &stage.record, &end, ended);
            steps += stage.record.steps;
            if !findings.is_empty() {
                let what = format!("seed {seed}, {} dials", stage.record.attempts.len());
                return Ok(self.verdict(false, &what, &findings, Some(&stage), begun));
            }
            trace = self
                .options
                .trace
                .then(|| stage.record.around(None, usize::MAX));
        }
        let runs = last - first + 1;
        let what = format!("{runs} runs, {steps} steps");
        let mut verdict = self.verdict(true, &what, &[], None, begun);
        for line in trace.into_iter().flatten() {
            let _ = writeln!(verdict.text, "{line}");
        }
        Ok(verdict)
    }

    /// What passes whatever a plugin does is no test, and what is never looked at neither.
    fn expects_something(&self) -> anyhow::Result<()> {
        let expect = &self.scenario.expect;
        let of_a_run = expect.of_a_run();
        let any = of_a_run || expect.problems.is_some();
        ensure!(any, "{}: expects nothing: give it an [expect]", self.name);
        if let Some(refused) = &expect.problems
            && !refused.get_ref().is_empty()
            && of_a_run
        {
            bail!(
                "{}: line {}: with problems nothing runs, and nothing else can be expected",
                self.name,
                line_of(self.text, refused.span().start)
            );
        }
        Ok(())
    }

    /// Asks as a node does, before a provision and before an update.
    async fn check(&self) -> anyhow::Result<Vec<Finding>> {
        let keys = self.problems(&self.scenario.properties.0).await?;
        let mut findings = Vec::new();
        if let Some(wanted) = &self.scenario.expect.problems {
            let named: BTreeSet<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
            let expected: BTreeSet<&str> = wanted.get_ref().iter().map(String::as_str).collect();
            if expected != named {
                findings.push(Finding {
                    place: Some(wanted.span().start),
                    at: None,
                    text: format!(
                        "expected problems with {:?}, there were {keys:?}",
                        wanted.get_ref()
                    ),
                });
            }
            return Ok(findings);
        }
        let finding = |place, (key, message): (String, String)| Finding {
            place,
            at: None,
            text: format!("check refuses the properties: {key}: {message}"),
        };
        findings.extend(keys.into_iter().map(|problem| finding(None, problem)));
        for event in &self.scenario.events {
            if let What::Reconfigured(properties) = &event.get_ref().what {
                let problems = self.problems(properties).await?.into_iter();
                findings.extend(problems.map(|p| finding(Some(event.span().start), p)));
            }
        }
        Ok(findings)
    }

    async fn problems(&self, properties: &Properties) -> anyhow::Result<Vec<(String, String)>> {
        match self.build.check(properties).await {
            Ok(problems) => Ok(problems.into_iter().map(|p| (p.key, p.message)).collect()),
            Err(text) => bail!("{}: check failed: {text}", self.name),
        }
    }

    /// One run, with as many instances as hand-overs and traps make.
    async fn run(&self, actor: &Actor) -> (End, u64) {
        let mut former: Option<Handover> = None;
        for _ in 0..INSTANCES {
            actor.stage.lock().begin_run();
            let job = self.job(actor);
            let host = Box::new(actor.clone());
            let run = self.build.run(&job, former.as_ref(), host);
            let ended = tokio::select! {
                ended = run => Ok(ended),
                why = actor.dropped() => Err(why),
            };
            let mut stage = actor.stage.lock();
            let end = match ended {
                Err(Dropped::Trap) => {
                    former = Some(stage.after_trap());
                    continue;
                }
                Err(Dropped::Cut) => End::Cut,
                Ok(Err(crash)) => End::Crashed(shown(&crash.to_string())),
                Ok(Ok(Outcome::HandedOver(handover))) => {
                    if stage.handed_over(&handover) {
                        former = Some(handover);
                        continue;
                    }
                    End::Crashed("handed over although no upgrade was wanted".to_owned())
                }
                Ok(Ok(Outcome::Finished)) => End::By(Ending::Finished, String::new()),
                Ok(Ok(Outcome::Stopped)) => End::By(Ending::Stopped, String::new()),
                Ok(Ok(Outcome::GaveUp(why))) => End::By(Ending::GaveUp, shown(&why)),
            };
            return (end, stage.now());
        }
        (
            End::Crashed("began again and again".to_owned()),
            actor.stage.lock().now(),
        )
    }

    fn job(&self, actor: &Actor) -> Job {
        Job {
            provision_guid: "scenario".to_owned(),
            stream_guid: self.scenario.stream.clone(),
            kind: self.build.kind.to_string(),
            properties: actor.stage.lock().properties.clone(),
        }
    }

    fn verdict(
        &self,
        passed: bool,
        what: &str,
        findings: &[Finding],
        stage: Option<&Stage>,
        begun: Instant,
    ) -> Verdict {
        let word = if passed { "ok" } else { "FAILED" };
        let about = match self.scenario.about.as_str() {
            "" => String::new(),
            about => format!(" ({about})"),
        };
        let took = begun.elapsed().as_secs_f64();
        let until = clock(self.scenario.stop.0);
        let name = self.name;
        let mut text =
            format!("{word} {name}{about}: {what}, {until} of virtual time in {took:.2} s\n");
        for finding in findings {
            let line = finding.place.map_or(String::new(), |place| {
                format!("line {}: ", line_of(self.text, place))
            });
            let _ = writeln!(text, "  {line}{}", finding.text);
        }
        if let (Some(stage), Some(first)) = (stage, findings.first()) {
            let lines = stage.record.around(first.at, SHOWN);
            let _ = writeln!(text, "  what happened (all of it: --trace):");
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
        Verdict { passed, text }
    }
}

fn told(end: &End) -> String {
    match end {
        End::By(ending, why) => format!("{} {why}", ending.as_str()),
        End::Crashed(why) => why.clone(),
        End::Cut => "cut off".to_owned(),
    }
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, place: usize) -> usize {
    let before = text.as_bytes().iter().take(place);
    before.filter(|byte| **byte == b'\n').count() + 1
}
