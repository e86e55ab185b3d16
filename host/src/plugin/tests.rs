//! The built-in policy, as the component that ships, against a scripted host with a
//! virtual clock: a day of retries takes milliseconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::restreamer::host::{
    Claim, Class, ConnectOptions, Facts, Failure, FetchFuture, FileOptions, Handover, Host, Job,
    Level, Outcome, Properties, PublishOptions, Request, SourceId, SourceState, Stall, TargetFacts,
    TargetId, WaitFuture, Wake,
};

/// What happens to an attempt.
#[derive(Clone)]
enum Attempt {
    /// It fails after so many milliseconds.
    Fails(u64, Class),
    /// Media flows for so many milliseconds, then it fails.
    Lives(u64, Class),
    /// Media flows for so many milliseconds, then stalls.
    Stalls(u64),
}

/// What the policy did, and when.
#[derive(Clone, Debug, Default, PartialEq)]
struct Log {
    dials: Vec<(u64, String)>,
    closed: Vec<SourceId>,
    attached: Vec<SourceId>,
    claims: Vec<(u64, Option<u64>)>,
}

#[derive(Clone)]
struct Script {
    now: u64,
    random: u32,
    plan: Arc<dyn Fn(u64, usize) -> Attempt + Send + Sync>,
    events: VecDeque<(u64, Wake)>,
    open: Vec<(SourceId, u64, bool)>,
    log: Arc<Mutex<Log>>,
}

impl Script {
    fn new(stop_at: u64, plan: impl Fn(u64, usize) -> Attempt + Send + Sync + 'static) -> Self {
        Self {
            now: 0,
            random: u32::MAX,
            plan: Arc::new(plan),
            events: [(stop_at, Wake::Stop)].into(),
            open: Vec::new(),
            log: Arc::default(),
        }
    }

    fn at(mut self, at: u64, wake: Wake) -> Self {
        self.schedule(at, wake);
        self
    }

    fn schedule(&mut self, at: u64, wake: Wake) {
        let place = self
            .events
            .iter()
            .position(|(other, _)| *other > at)
            .unwrap_or(self.events.len());
        self.events.insert(place, (at, wake));
    }
}

impl Host for Script {
    fn connect(&mut self, url: &str, _: ConnectOptions) -> Result<SourceId, Failure> {
        let attempt = self.log.lock().dials.len();
        self.log.lock().dials.push((self.now, url.to_owned()));
        let id = attempt as SourceId + 1;
        let (now, ended) = (self.now, |class| {
            Wake::SourceEnded(id, Failure::new(class, "scripted"))
        });
        let flows = match (self.plan)(now, attempt) {
            Attempt::Fails(after, class) => {
                self.schedule(now + after, ended(class));
                u64::MAX
            }
            Attempt::Lives(millis, class) => {
                (0..=millis / 1000)
                    .for_each(|second| self.schedule(now + second * 1000, Wake::Facts(id)));
                self.schedule(now + millis, ended(class));
                now
            }
            Attempt::Stalls(millis) => {
                self.schedule(now, Wake::Facts(id));
                self.schedule(now + millis, Wake::Facts(id));
                now
            }
        };
        self.open.push((
            id,
            flows,
            matches!((self.plan)(now, attempt), Attempt::Stalls(_)),
        ));
        Ok(id)
    }

    fn publish(&mut self, _: &str, _: PublishOptions) -> Result<TargetId, Failure> {
        unreachable!("the built-in type pushes nothing")
    }

    fn target_url(&mut self, _: TargetId) -> String {
        unreachable!("the built-in type pushes nothing")
    }

    fn target_facts(&mut self, _: TargetId) -> TargetFacts {
        unreachable!("the built-in type pushes nothing")
    }

    fn close_target(&mut self, _: TargetId) {
        unreachable!("the built-in type pushes nothing")
    }

    fn fetch(&mut self, _: Request) -> FetchFuture<'_> {
        unreachable!("the built-in type asks nobody")
    }

    fn open_file(&mut self, name: &str, _: FileOptions) -> Result<SourceId, Failure> {
        let id = self.log.lock().dials.len() as SourceId + 1;
        self.log
            .lock()
            .dials
            .push((self.now, format!("file:{name}")));
        self.schedule(self.now, Wake::Facts(id));
        self.open.push((id, self.now, false));
        Ok(id)
    }

    fn url(&mut self, _: SourceId) -> String {
        "rtmp://script/live/a".to_owned()
    }

    fn facts(&mut self, id: SourceId) -> Facts {
        let source = self.open.iter().find(|(open, ..)| *open == id).copied();
        let (_, since, stalls) = source.unwrap_or((id, u64::MAX, false));
        let flowing = self.now.saturating_sub(since);
        let stall = (stalls && flowing >= 5_000).then_some(Stall::Nothing);
        Facts {
            state: if since == u64::MAX {
                SourceState::Dialing
            } else {
                SourceState::Flowing
            },
            attached: true,
            on_air: since != u64::MAX,
            video: None,
            audio: None,
            more: crate::restreamer::host::MoreTracks::default(),
            gop: None,
            bytes: 0,
            flowing: Duration::from_millis(flowing),
            stall,
        }
    }

    fn attach(&mut self, id: SourceId) -> Result<(), Failure> {
        self.log.lock().attached.push(id);
        Ok(())
    }

    fn close(&mut self, id: SourceId) {
        self.open.retain(|(open, ..)| *open != id);
        self.events.retain(
            |(_, wake)| !matches!(wake, Wake::Facts(of) | Wake::SourceEnded(of, _) if *of == id),
        );
        self.log.lock().closed.push(id);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> WaitFuture<'_> {
        let until = timeout.map(|timeout| self.now + timeout.as_millis() as u64);
        let due = self
            .events
            .front()
            .is_some_and(|(at, _)| until.is_none_or(|until| *at <= until));
        let wake = match (due, until) {
            (true, _) | (false, None) => {
                let (at, wake) = self.events.pop_front().expect("a stop is always scheduled");
                self.now = self.now.max(at);
                wake
            }
            (false, Some(until)) => {
                self.now = until;
                Wake::Timer
            }
        };
        Box::pin(std::future::ready(wake))
    }

    fn log(&mut self, _: Level, _: &str) {}

    fn now_ms(&mut self) -> u64 {
        self.now
    }

    fn random(&mut self) -> u32 {
        self.random
    }

    fn set_status(&mut self, _: Claim, _: &str, next: Option<Duration>) {
        self.log
            .lock()
            .claims
            .push((self.now, next.map(|next| next.as_millis() as u64)));
    }

    fn checkpoint(&mut self, _: Vec<u8>) {}
}

const URL: &str = "rtmp://script/live/a";

async fn run_with(
    properties: &[(&str, &str)],
    former: Option<Handover>,
    script: Script,
) -> (Outcome, Log) {
    let runtime = Runtime::start().expect("the engine starts");
    let kind: RestreamType = "rtmp".parse().expect("legal");
    let limits = Limits::default();
    let build = admission::admit(&runtime, &kind, BUILT_IN.to_vec(), Origin::BuiltIn, limits).await;
    let properties: Properties = properties
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let job = Job {
        provision_guid: "p".to_owned(),
        stream_guid: "live/a".to_owned(),
        kind: "rtmp".to_owned(),
        properties,
    };
    let log = script.log.clone();
    let outcome = build
        .expect("admitted")
        .run(&job, former.as_ref(), Box::new(script))
        .await;
    let log = log.lock().clone();
    (outcome.expect("no crash"), log)
}

async fn run(script: Script) -> (Outcome, Log) {
    run_with(&[("rtmpUri", URL)], None, script).await
}

const HOUR: u64 = 3_600_000;

#[tokio::test]
async fn it_dials_at_once_and_never_gives_up_in_a_day_of_refusals() {
    let (outcome, log) = run(Script::new(24 * HOUR, |_, _| {
        Attempt::Fails(5, Class::Refused)
    }))
    .await;
    assert_eq!(outcome, Outcome::Stopped);
    assert_eq!(log.dials[0], (0, URL.to_owned()));
    let first_minute = log.dials.iter().filter(|(at, _)| *at < 60_000).count();
    assert!(
        (55..=120).contains(&first_minute),
        "{first_minute} attempts in the first minute"
    );
    let last_hour = log.dials.iter().filter(|(at, _)| *at >= 23 * HOUR).count();
    assert!(
        (115..=125).contains(&last_hour),
        "the cap of 30 s is kept: {last_hour}"
    );
    assert!(log.attached.is_empty(), "nothing flowed");
}

#[tokio::test]
async fn a_drop_after_a_good_run_is_answered_within_a_quarter_second() {
    let (_, log) = run(Script::new(HOUR, |_, _| {
        Attempt::Lives(20_000, Class::Closed)
    }))
    .await;
    for pair in log.dials.windows(2) {
        assert!(pair[1].0 - pair[0].0 <= 20_250, "{pair:?}");
    }
}

#[tokio::test]
async fn an_absent_stream_is_looked_for_often_again_after_it_was_live() {
    // Absent for ten minutes, live for a minute, gone for good.
    let plan = |now, _| match now {
        0..600_000 => Attempt::Fails(1, Class::NotFound),
        600_000..660_000 => Attempt::Lives(60_000, Class::Ended),
        _ => Attempt::Fails(1, Class::NotFound),
    };
    let (_, log) = run(Script::new(2 * HOUR, plan)).await;
    let live = log
        .dials
        .iter()
        .find(|(at, _)| *at >= 600_000)
        .expect("it became live")
        .0;
    let after = log
        .dials
        .iter()
        .filter(|(at, _)| (live + 60_001..live + 120_000).contains(at))
        .count();
    assert!(
        after >= 50,
        "{after} attempts in the minute after it was live"
    );
}

#[tokio::test]
async fn wrong_credentials_are_tried_rarely() {
    let (_, log) = run(Script::new(60_000, |_, _| Attempt::Fails(1, Class::Auth))).await;
    assert!(log.dials.len() <= 8, "{} attempts", log.dials.len());
}

#[tokio::test]
async fn a_stalled_source_is_closed_and_dialed_again() {
    let plan = |_, attempt| {
        if attempt == 0 {
            Attempt::Stalls(5_000)
        } else {
            Attempt::Lives(HOUR, Class::Closed)
        }
    };
    let (_, log) = run(Script::new(60_000, plan)).await;
    assert_eq!(log.closed.first(), Some(&1));
    assert!((5_000..=5_250).contains(&log.dials[1].0), "{:?}", log.dials);
}

#[tokio::test]
async fn a_new_uri_is_dialed_beside_the_old_source_which_closes_when_it_is_on_air() {
    let changed = Wake::Reconfigured(vec![(
        "rtmpUri".to_owned(),
        "rtmp://script/live/b".to_owned(),
    )]);
    let script =
        Script::new(60_000, |_, _| Attempt::Lives(HOUR, Class::Closed)).at(10_000, changed);
    let (_, log) = run(script).await;
    assert_eq!(log.dials[1], (10_000, "rtmp://script/live/b".to_owned()));
    assert_eq!(log.attached, [1, 2]);
    assert_eq!(log.closed[0], 1);
}

#[tokio::test]
async fn a_host_that_answers_again_wakes_it() {
    let plan = |now, _| {
        if now < HOUR {
            Attempt::Fails(1, Class::Timeout)
        } else {
            Attempt::Lives(HOUR, Class::Closed)
        }
    };
    let (_, log) = run(Script::new(2 * HOUR, plan).at(HOUR + 1, Wake::Reachable)).await;
    assert!(log.dials.iter().any(|(at, _)| *at == HOUR + 1));
}

#[tokio::test]
async fn an_upgrade_hands_the_source_over_and_the_next_build_does_not_dial() {
    let script =
        Script::new(60_000, |_, _| Attempt::Lives(HOUR, Class::Closed)).at(5_000, Wake::Upgrade);
    let (outcome, _) = run(script).await;
    let Outcome::HandedOver(handover) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(handover.sources, [1]);
    let (outcome, log) = run_with(
        &[("rtmpUri", URL)],
        Some(handover),
        Script::new(5_000, |_, _| Attempt::Fails(1, Class::Closed)),
    )
    .await;
    assert_eq!((outcome, log.dials.len()), (Outcome::Stopped, 0));
}

#[tokio::test]
async fn a_wait_goes_on_over_an_upgrade() {
    let failing = |stop_at| Script::new(stop_at, |_, _| Attempt::Fails(1, Class::Auth));
    let (outcome, log) = run(failing(60_000).at(1_000, Wake::Upgrade)).await;
    let Outcome::HandedOver(handover) = outcome else {
        panic!("{outcome:?}")
    };
    let (_, Some(wait)) = log.claims[log.claims.len() - 1] else {
        panic!("{:?}", log.claims)
    };
    assert!(wait > 4_000, "{wait}");
    let (_, log) = run_with(&[("rtmpUri", URL)], Some(handover), failing(60_000)).await;
    let (at, _) = log.dials[0];
    // The claim is from before the upgrade came, at most that long ago.
    assert!((wait - 1_000..=wait).contains(&at), "{at} after {wait}");
}

#[tokio::test]
async fn a_build_for_another_contract_is_refused_and_one_for_a_patch_of_it_runs() {
    let runtime = Runtime::start().expect("the engine starts");
    let kind: RestreamType = "other".parse().expect("legal");
    let admit = async |version: &str| {
        let mut bytes = BUILT_IN.to_vec();
        let at = |bytes: &[u8]| bytes.windows(6).position(|at| at == b"@1.0.0");
        while let Some(at) = at(&bytes) {
            bytes[at + 1..at + 6].copy_from_slice(version.as_bytes());
        }
        let limits = Limits::default();
        admission::admit(&runtime, &kind, bytes, Origin::BuiltIn, limits).await
    };
    for version in ["0.1.0", "1.1.0", "2.0.0"] {
        let refused = admit(version).await.expect_err(version).to_string();
        let says = format!("built for restreamd:plugin {version}, this host speaks 1.0.x");
        assert!(refused.starts_with(&says), "{refused}");
        assert!(refused.contains("wit/world.wit"), "{refused}");
    }
    let patched = admit("1.0.7").await.expect("it asks for nothing newer");
    assert_eq!(patched.wit_version, "1.0.7");
}

#[tokio::test]
async fn files_that_are_no_plugins_are_refused_with_the_reason() {
    let runtime = Runtime::start().expect("the engine starts");
    let kind: RestreamType = "x".parse().expect("legal");
    let admit = |bytes: Vec<u8>| {
        admission::admit(&runtime, &kind, bytes, Origin::BuiltIn, Limits::default())
    };
    let reason = |built: Result<Build, admission::Rejected>| {
        built
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(reason(admit(b"hello".to_vec()).await).contains("first bytes"));
    assert!(reason(admit(b"\0asm\x01\0\0\0".to_vec()).await).contains("wit-bindgen"));
    assert!(
        reason(admit(b"\0asm\x0d\0\x01\0".to_vec()).await).contains("restreamd:plugin/restreamer@")
    );
    assert!(!reason(admit(BUILT_IN[..BUILT_IN.len() / 2].to_vec()).await).is_empty());
}
