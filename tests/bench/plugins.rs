//! What a parked restreamer costs beside its sources: memory, CPU, and the time to begin.
//!
//! Runs the built-in policy on hosts that give it a source whose media flows, and news of
//! it as seldom as a live restreamer has it in the long run; no media, sockets or streams. The goals
//! are at the end of its table, and how soon after its copy a file is offered. `tests/bench/run plugins` runs it; with files behind
//! it, it tells of each its size, the time to compile it, and the memory of a restreamer.

#![expect(clippy::print_stdout, reason = "its table")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use restreamd::drain::Drain;
use restreamd::plugin::{Build, Config, Limits, Origin, Plugins, Runtime, admission};
use restreamd::restreamer::host::news::{self, SELDOM};
use restreamd::restreamer::host::{
    Claim, Class, ConnectOptions, Facts, Failure, FetchFuture, FileOptions, Handover, Host, Job,
    Level, MoreTracks, Outcome, PublishOptions, Request, SourceId, SourceState, TargetFacts,
    TargetId, TargetState, WaitFuture, Wake,
};
use restreamd_tests::guest::Guest;
use restreamd_tests::plugins::section;
use restreamd_tests::proc;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

/// Restreamers that are parked.
const RESTREAMERS: usize = 1_000;
/// How long the steady state is measured.
const STEADY: Duration = Duration::from_secs(20);
/// KiB a restreamer, and percent of a core for all of them.
const GOALS: (f64, f64) = (64.0, 1.0);
/// Milliseconds from the copy of a file until it is offered, or shown as one that is compiled.
const OFFERED: f64 = 1_000.0;
/// Copies of each size.
const COPIES: usize = 7;
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// The host of one restreamer whose only source is live.
struct Live {
    born: Instant,
    parked: Option<oneshot::Sender<Instant>>,
    next: tokio::time::Instant,
    upgrade: broadcast::Receiver<()>,
}

impl Live {
    fn new(parked: oneshot::Sender<Instant>, upgrade: broadcast::Receiver<()>) -> Self {
        // Spread, as dials are.
        let early = SELDOM.mul_f64(rand::random());
        Self {
            born: Instant::now(),
            parked: Some(parked),
            next: news::due(tokio::time::Instant::now() + early, SELDOM),
            upgrade,
        }
    }
}

fn refuse<T>() -> Result<T, Failure> {
    Err(Failure::new(
        Class::Blocked,
        "there is one source and nothing else",
    ))
}

impl Host for Live {
    fn connect(&mut self, _: &str, _: ConnectOptions) -> Result<SourceId, Failure> {
        Ok(1)
    }

    fn publish(&mut self, _: &str, _: PublishOptions) -> Result<TargetId, Failure> {
        refuse()
    }

    fn target_url(&mut self, _: TargetId) -> String {
        String::new()
    }

    fn target_facts(&mut self, _: TargetId) -> TargetFacts {
        TargetFacts {
            state: TargetState::Ended,
            bytes: 0,
            frames: 0,
            dropped: 0,
            flowing: Duration::ZERO,
            lag: Duration::ZERO,
        }
    }

    fn close_target(&mut self, _: TargetId) {}

    fn open_file(&mut self, _: &str, _: FileOptions) -> Result<SourceId, Failure> {
        refuse()
    }

    fn url(&mut self, _: SourceId) -> String {
        URL.to_owned()
    }

    fn facts(&mut self, _: SourceId) -> Facts {
        Facts {
            state: SourceState::Flowing,
            attached: true,
            on_air: true,
            video: None,
            audio: None,
            more: MoreTracks::default(),
            gop: None,
            bytes: 0,
            flowing: self.born.elapsed(),
            stall: None,
        }
    }

    fn attach(&mut self, _: SourceId) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self, _: SourceId) {}

    fn fetch(&mut self, _: Request) -> FetchFuture<'_> {
        Box::pin(std::future::ready(refuse()))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> WaitFuture<'_> {
        if let Some(parked) = self.parked.take() {
            // Whoever measures may have gone.
            let _ = parked.send(Instant::now());
        }
        Box::pin(async move {
            let timer = async {
                match timeout {
                    Some(timeout) => tokio::time::sleep(timeout).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(self.next) => {
                    self.next = news::due(self.next, SELDOM);
                    Wake::Facts(1)
                }
                () = timer => Wake::Timer,
                told = self.upgrade.recv() => match told {
                    Ok(()) => Wake::Upgrade,
                    Err(_) => Wake::Stop,
                },
            }
        })
    }

    fn log(&mut self, _: Level, _: &str) {}

    fn now_ms(&mut self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    fn random(&mut self) -> u32 {
        rand::random()
    }

    fn set_status(&mut self, _: Claim, _: &str, _: Option<Duration>) {}

    fn checkpoint(&mut self, _: Vec<u8>) {}
}

const URL: &str = "rtmp://origin.example/live/stream1";

type Ended = JoinHandle<Option<Handover>>;

/// Begins one, and answers how long it took until it waited.
async fn begin(
    build: &Arc<Build>,
    former: Option<Handover>,
    upgrade: &broadcast::Sender<()>,
) -> anyhow::Result<(Duration, Ended)> {
    let (parked, waits) = oneshot::channel();
    let host = Box::new(Live::new(parked, upgrade.subscribe()));
    let build = build.clone();
    // The first that has to be there is the URL of every type that is measured.
    let properties = &build.description().properties;
    let url = properties.iter().find(|property| property.required);
    let url = url.map_or("rtmpUri", |property| &property.name);
    let job = Job {
        provision_guid: "p".to_owned(),
        stream_guid: "live/a".to_owned(),
        kind: "measured".to_owned(),
        properties: vec![(url.to_owned(), URL.to_owned())],
    };
    let began = Instant::now();
    let task = tokio::spawn(async move {
        match build.run(&job, former.as_ref(), host).await {
            Ok(Outcome::HandedOver(handover)) => Some(handover),
            _ => None,
        }
    });
    Ok((waits.await?.duration_since(began), task))
}

/// Resident memory of this process in KiB.
fn resident() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.unwrap_or_default().parse()?)
}

/// Of many, the one that so many hundredths are not above, in microseconds.
fn percentile(times: &mut [Duration], hundredths: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * hundredths / 100).min(times.len() - 1);
    times[at].as_secs_f64() * 1e6
}

async fn measure() -> anyhow::Result<()> {
    let runtime = Runtime::start().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let began = Instant::now();
    let plugins = Plugins::load(runtime, Config::default()).await?;
    let admitted = began.elapsed();
    let kind = "rtmp".parse()?;
    let build = plugins
        .build(&kind)
        .ok_or_else(|| anyhow::anyhow!("rtmp is built in"))?;
    let (upgrade, _) = broadcast::channel(4);
    // One before, so that what all share is there.
    let (_, first) = begin(&build, None, &upgrade).await?;
    let before = resident()?;
    let mut runs = vec![first];
    let mut times = Vec::new();
    for _ in 0..RESTREAMERS {
        let (took, run) = begin(&build, None, &upgrade).await?;
        times.push(took);
        runs.push(run);
    }
    let grown = (resident()? - before) / RESTREAMERS as f64;
    let (cpu, began) = (proc::cpu(std::process::id()), Instant::now());
    tokio::time::sleep(STEADY).await;
    let used = proc::cpu(std::process::id()) - cpu;
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let steady = (resident()? - before) / RESTREAMERS as f64;
    upgrade.send(())?;
    let asked = Instant::now();
    let mut again = Vec::new();
    let mut next = Vec::new();
    for run in runs {
        let handover = run.await?;
        let handover = handover.ok_or_else(|| anyhow::anyhow!("no hand-over"))?;
        anyhow::ensure!(handover.sources == [1], "the source was not handed over");
        let (took, run) = begin(&build, Some(handover), &upgrade).await?;
        again.push(took);
        next.push(run);
    }
    let swapped = asked.elapsed();
    println!("{RESTREAMERS} restreamers of the built-in policy, a live source each\n");
    println!("| what | measured | goal |\n|---|---|---|");
    let goal = |what: &str, measured: f64, most: f64, unit: &str| {
        let met = if measured <= most {
            "met"
        } else {
            "**not met**"
        };
        println!("| {what} | {measured:.2} {unit} | <= {most} {unit}: {met} |");
    };
    let told =
        |what: &str, measured: f64, unit: &str| println!("| {what} | {measured:.1} {unit} | |");
    goal("RSS a restreamer, all parked", grown, GOALS.0, "KiB");
    goal("RSS a restreamer, after a while", steady, GOALS.0, "KiB");
    goal("CPU of all, % of a core", share, GOALS.1, "%");
    told(
        "admission with compiling",
        admitted.as_secs_f64() * 1e3,
        "ms",
    );
    told("begin to wait, p50", percentile(&mut times, 50), "us");
    told("begin to wait, p99", percentile(&mut times, 99), "us");
    told(
        "the same after a hand-over, p50",
        percentile(&mut again, 50),
        "us",
    );
    told(
        "hand-over of all, one after the other",
        swapped.as_secs_f64() * 1e3,
        "ms",
    );
    next.iter().for_each(JoinHandle::abort);
    Ok(())
}

/// A module of about so many bytes, nearly all of them code.
fn module_of(bytes: usize) -> Vec<u8> {
    let few = Guest::default().with_ballast(1_000).module().len();
    let many = Guest::default().with_ballast(2_000).module().len();
    let each = (many - few).div_ceil(1_000);
    Guest::default()
        .with_ballast((bytes / each) as u32)
        .module()
}

/// Copies files into a directory that is followed, and looks when the node knows of them.
async fn offered() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (dir, cache) = (
        folder.path().join("plugins"),
        folder.path().join("compiled"),
    );
    fs::create_dir(&dir)?;
    let config = Config {
        dir: Some(dir.clone()),
        cache: Some(cache),
        ..Config::default()
    };
    let runtime = Runtime::start().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let plugins = Plugins::load(runtime, config).await?;
    let drain = Drain::new();
    drain.spawn(plugins.clone().follow(drain.clone()));
    println!("\nA file is copied into the directory, {COPIES} times\n");
    println!("| size | until | median | longest | goal |\n|---|---|---|---|---|");
    for (name, bytes, state) in [
        ("small", 80 << 10, "ready"),
        ("megabyte", 1_000_000, "ready"),
        ("twenty", 20_000_000, "compiling"),
    ] {
        let module = module_of(bytes);
        let mut times = Vec::new();
        for copy in 0..COPIES {
            let kind = format!("{name}{copy}");
            // Each is another one: what was compiled before is kept.
            let file = [module.clone(), section(b"build", kind.as_bytes())].concat();
            let place = dir.join(format!("{kind}.wasm"));
            let copied = tokio::task::spawn_blocking(move || fs::write(place, file));
            copied.await??;
            let began = Instant::now();
            let is_there = || plugins.info(&kind).is_some_and(|info| info.state == state);
            while !is_there() {
                anyhow::ensure!(began.elapsed() < PATIENCE, "{kind} is not {state}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(began.elapsed());
            // Large ones are compiled one after the other, which is not measured.
            fs::remove_file(dir.join(format!("{kind}.wasm")))?;
            while plugins.info(&kind).is_some() {
                anyhow::ensure!(began.elapsed() < PATIENCE, "{kind} is not forgotten");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let (median, longest) = (
            percentile(&mut times, 50) / 1e3,
            percentile(&mut times, 100) / 1e3,
        );
        let met = if longest <= OFFERED {
            "met"
        } else {
            "**not met**"
        };
        println!(
            "| {} bytes | {state} | {median:.0} ms | {longest:.0} ms | <= {OFFERED} ms: {met} |",
            module.len()
        );
    }
    drain.start();
    Ok(())
}

/// Restreamers of a file that are parked.
const OF_A_FILE: usize = 50;

/// One row for each file, `<type>.wasm`.
async fn compare(files: &[PathBuf]) -> anyhow::Result<()> {
    println!("| plugin | size | compiled in | memory of a restreamer | begins in |");
    println!("|---|---|---|---|---|");
    for file in files {
        let bytes = fs::read(file)?;
        let size = bytes.len() as f64 / 1024.0;
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let kind = stem.unwrap_or_default().parse();
        let kind = kind.map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
        let runtime = Runtime::start().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let began = Instant::now();
        let origin = Origin::File(file.clone());
        let build = admission::admit(&runtime, &kind, bytes, origin, Limits::default()).await?;
        let (build, admitted) = (Arc::new(build), began.elapsed());
        let (upgrade, _) = broadcast::channel(4);
        let (_, first) = begin(&build, None, &upgrade).await?;
        let before = resident()?;
        let (mut runs, mut times) = (vec![first], Vec::new());
        for _ in 0..OF_A_FILE {
            let (took, run) = begin(&build, None, &upgrade).await?;
            times.push(took);
            runs.push(run);
        }
        let each = (resident()? - before) / OF_A_FILE as f64;
        println!(
            "| {kind} | {size:.0} KiB | {:.0} ms | {each:.0} KiB | {:.2} ms |",
            admitted.as_secs_f64() * 1e3,
            percentile(&mut times, 50) / 1e3,
        );
        runs.iter().for_each(JoinHandle::abort);
        for run in runs {
            // Aborted, so that the next file begins without them.
            let _ended = run.await;
        }
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    // cargo adds `--bench`.
    let given = std::env::args_os()
        .skip(1)
        .filter(|given| given != "--bench");
    let files: Vec<PathBuf> = given.map(PathBuf::from).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match files.is_empty() {
        true => runtime.block_on(async {
            measure().await?;
            offered().await
        }),
        false => runtime.block_on(compare(&files)),
    }
}
