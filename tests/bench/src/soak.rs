//! A node under rough weather for as long as is asked: does it grow?
//!
//! Sources flap, publishers come and go, readers stall, provisions are created and
//! deleted. After a sixth of the time and at the end the weather turns calm; when all
//! is as it was at the begin, what the node holds is read and compared. Invariant:
//! everything it starts ends with it.

mod clients;
mod judge;
mod node;
mod publishers;
mod readers;
mod sources;
mod weather;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use judge::{Sample, judge};
use node::Node;
use weather::Weather;

/// How long to run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Soak {
    /// Minutes of rough weather in all; the reference is taken after a sixth of them.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
}

/// From one look at the node to the next.
const LOOK: Duration = Duration::from_secs(5);
/// All that came to rest is at rest within this, or is stuck: policies wait for 2 s at
/// the most, a stalled reader is given up after 10 s and a play after 20 s.
const REST: Duration = Duration::from_secs(90);
/// What closes behind the last of it: idle API connections, sources that were warm.
const SETTLE: Duration = Duration::from_secs(15);
/// Looks that a figure is the median of.
const LOOKS: usize = 9;

/// What runs beside the node.
struct Stage {
    node: Node,
    weather: Arc<Weather>,
    actors: Vec<JoinHandle<()>>,
    begin: Instant,
}

/// Runs it and tells; fails when the node holds more than it did.
pub(crate) fn run(restreamd: PathBuf, soak: &Soak) -> anyhow::Result<()> {
    ensure!(soak.minutes >= 0.5, "half a minute at least");
    let whole = Duration::from_secs_f64(soak.minutes * 60.0);
    let node = Node::start(&restreamd)?;
    let sources = sources::Sources::open();
    node.provision(&sources);
    let mut stage = Stage {
        weather: Arc::default(),
        actors: Vec::new(),
        begin: Instant::now(),
        node,
    };
    let stalled = Arc::new(readers::Stalled::default());
    stage.act(sources);
    stage.act_all(&stalled);

    println!("{}", Sample::HEAD);
    let reference = stage.after(whole / 6, "reference")?;
    let end = stage.after(whole - whole / 6, "end")?;
    stage.weather.end();
    println!("readers that stalled: {stalled}");
    for line in stage.node.complaints() {
        println!("log: {line}");
    }
    let mut faults = judge(&reference, &end);
    faults.extend(stalled.fault(whole));
    faults.extend(stage.node.panics());
    if faults.is_empty() {
        println!(
            "passed: it holds what it held after {:.1} min",
            soak.minutes / 6.0
        );
        return Ok(());
    }
    bail!("{}", faults.join("; "))
}

impl Stage {
    fn act(&mut self, sources: sources::Sources) {
        let weather = self.weather.clone();
        self.actors
            .push(std::thread::spawn(move || sources.flap(&weather)));
    }

    fn act_all(&mut self, stalled: &Arc<readers::Stalled>) {
        let (node, weather) = (self.node.places(), &self.weather);
        self.actors.extend(publishers::start(&node, weather));
        self.actors.extend(readers::start(&node, weather, stalled));
        self.actors.push(clients::start(&node, weather));
    }

    /// Rough weather for so long, then calm, and what the node holds then.
    fn after(&self, rough: Duration, name: &str) -> anyhow::Result<Sample> {
        self.weather.rough();
        let until = Instant::now() + rough;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(LOOK));
            self.look("rough")?;
        }
        self.weather.calm();
        let begin = Instant::now();
        while let Err(seen) = self.at_rest() {
            ensure!(begin.elapsed() < REST, "not at rest after {REST:?}: {seen}");
            std::thread::sleep(Duration::from_millis(500));
        }
        std::thread::sleep(SETTLE);
        let mut looks = Vec::new();
        for _ in 0..LOOKS {
            std::thread::sleep(Duration::from_secs(1));
            looks.push(self.look("calm")?);
        }
        self.at_rest().map_err(anyhow::Error::msg)?;
        let sample = Sample::median(&looks).context("no looks")?;
        self.tell(name, &sample);
        Ok(sample)
    }

    fn look(&self, name: &str) -> anyhow::Result<Sample> {
        let dead = self
            .actors
            .iter()
            .filter(|actor| actor.is_finished())
            .count();
        ensure!(dead == 0, "{dead} of the load's actors ended");
        let sample = self.node.sample()?;
        self.tell(name, &sample);
        Ok(sample)
    }

    fn tell(&self, name: &str, sample: &Sample) {
        println!(
            "{:>7.1} {name:>10} {sample}",
            self.begin.elapsed().as_secs_f64()
        );
    }

    /// As it was at the begin: nobody is at work, and all that should be there is.
    fn at_rest(&self) -> Result<(), String> {
        let busy = self.weather.busy();
        let sample = self.node.sample().map_err(|error| error.to_string())?;
        let rest = busy == 0
            && sample.streams == node::STREAMS
            && sample.live == node::LIVE
            && sample.subscribers == readers::STEADY as u64;
        rest.then_some(())
            .ok_or_else(|| format!("{busy} at work; {sample}"))
    }
}
