//! The scripted world of a rehearsal: a virtual clock, sources that do what the
//! scenario says, and the rules that a real host has.
//!
//! Pure: time moves only when the policy waits, and randomness comes from the seed.
//! It knows neither wasm nor tasks. Invariant: every run of one seed is the same.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use restreamd_rtmp::url::RtmpUrl;

use super::document::{Fate, Phase, Play, Scenario, What, fits};
use super::record::{Attempt, DIALS, Record, Seen, clock};
use crate::restreamer::host::{
    AudioFacts, Claim, Class, Facts, Failure, Handover, MoreTracks, Properties, Response, SourceId,
    SourceState, Stall, TargetFacts, TargetState, VideoFacts, Wake, news,
};

/// Calls and waits of one run: a policy that needs more spins.
const STEPS: u64 = 3_000_000;
/// Waits after a stop: it is told again and again, and does not hear.
const DEAF: u32 = 1_000;
/// An upgrade and a stop are answered within this.
const GRACE: u64 = 2_000;
/// Sources of one restreamer, and targets, as a node allows by default.
const SOURCES: usize = 4;
/// Sources and targets opened at once, and then one in so many milliseconds; questions
/// by HTTP, too.
const OPENS: (u64, u64) = (40, 100);
/// Distance of keyframes.
const GOP: u64 = 1_000;
/// The longest first-media timeout a policy can ask for, and the shortest stall.
const TIMEOUT: (Duration, Duration) = (Duration::from_secs(600), Duration::from_millis(500));
/// A new instance after a trap starts so late.
const RESTART: u64 = 1_000;
/// The first news of media, and what a target has of them.
const OFTEN: u64 = news::OFTEN.as_millis() as u64;
/// The policy's clock does not begin at zero.
const CLOCK: u64 = 77_000_000;

/// What the policy waits for, or why it is not heard any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wake(Wake),
    /// The instance is to be dropped, and another to begin.
    Trap,
    /// The run is over: it does what no policy may.
    Cut,
}

/// What will happen at a time.
#[derive(Clone, Debug)]
enum Coming {
    Stop,
    Event(usize),
    Overdue,
    Begins(SourceId),
    News(SourceId),
    Silent(SourceId),
    Resumes(SourceId),
    OnAir(SourceId),
    Ends(SourceId, Failure),
}

/// A source, or a target: what is opened, lives for a while, and ends.
#[derive(Debug)]
struct Source {
    id: SourceId,
    target: bool,
    url: String,
    attempt: usize,
    play: Option<Play>,
    /// When media began, or began again.
    since: Option<u64>,
    began: Option<u64>,
    stall_after: Option<u64>,
    stalled: Option<Stall>,
    over: Option<Failure>,
}

impl Source {
    fn state(&self) -> SourceState {
        match (&self.over, self.since, self.stalled) {
            (Some(_), ..) => SourceState::Ended,
            (_, None, _) => SourceState::Dialing,
            (.., Some(_)) => SourceState::Stalled,
            _ => SourceState::Flowing,
        }
    }
}

#[derive(Debug, Default)]
struct Pending {
    stop: bool,
    upgrade: bool,
    reconfigured: Option<Properties>,
    ended: VecDeque<(SourceId, bool, Failure)>,
    stream: VecDeque<bool>,
    facts: VecDeque<SourceId>,
    reachable: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stage {
    scenario: Arc<Scenario>,
    now: u64,
    order: u64,
    agenda: BTreeMap<(u64, u64), Coming>,
    pending: Pending,
    random: u64,
    used: Vec<u32>,
    answered: Vec<u32>,
    /// The policy reads its stream, and media moves in it.
    reads: bool,
    stream_moves: bool,
    sources: Vec<Source>,
    attached: Option<SourceId>,
    on_air: Option<SourceId>,
    claim: (Claim, Option<u64>),
    /// When as many sources as possible may be opened again.
    rested_at: u64,
    /// And asked.
    asked_at: u64,
    upgrade_told: Option<u64>,
    deaf: u32,
    /// Times at which the status is looked at, ascending.
    looks: VecDeque<u64>,
    checkpoint: Vec<u8>,
    pub(super) properties: Properties,
    pub(super) record: Record,
}

impl Stage {
    pub(super) fn new(scenario: Arc<Scenario>, seed: u64, reads: bool) -> Self {
        let mut looks: Vec<u64> = scenario.expect.status.iter().map(look_at).collect();
        looks.sort_unstable();
        looks.dedup();
        let mut stage = Self {
            now: 0,
            order: 0,
            agenda: BTreeMap::new(),
            pending: Pending::default(),
            random: seed,
            used: vec![0; scenario.dials.len()],
            answered: vec![0; scenario.answers.len()],
            reads,
            stream_moves: false,
            sources: Vec::new(),
            attached: None,
            on_air: None,
            claim: (Claim::Waiting, None),
            rested_at: 0,
            asked_at: 0,
            upgrade_told: None,
            deaf: 0,
            looks: looks.into(),
            checkpoint: Vec::new(),
            properties: scenario.properties.0.clone(),
            record: Record::of(scenario.expect.log.len()),
            scenario,
        };
        stage.plan(stage.scenario.stop.0, Coming::Stop);
        for index in 0..stage.scenario.events.len() {
            let time = stage.scenario.events[index].get_ref().time;
            stage.plan(time, Coming::Event(index));
        }
        stage
    }

    /// Virtual milliseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// The clock as the policy reads it.
    pub(super) fn policy_clock(&self) -> u64 {
        CLOCK + self.now
    }

    /// The next of a known sequence (splitmix64).
    pub(super) fn random(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 32) as u32
    }

    fn plan(&mut self, at: u64, coming: Coming) {
        self.order += 1;
        self.agenda.insert((at, self.order), coming);
    }

    fn trace(&mut self, text: &str) {
        self.record.trace(self.now, text);
    }

    fn wrong(&mut self, text: String) {
        self.record.wrong(self.now, text);
    }

    /// A call of the policy. False when it made too many.
    pub(super) fn step(&mut self) -> bool {
        self.record.steps += 1;
        if self.record.steps == STEPS {
            self.wrong(format!(
                "made {STEPS} calls: it spins instead of waiting for something"
            ));
        }
        self.record.steps < STEPS
    }

    // ---- what the policy asks for

    /// Dials for a source or a target. `None` for a stall time: it is quiet by nature.
    pub(super) fn dial(
        &mut self,
        url: &str,
        target: bool,
        timeout: Duration,
        stall: Option<Duration>,
    ) -> Result<SourceId, Failure> {
        RtmpUrl::parse(url)
            .map_err(|error| Failure::new(Class::Invalid, format!("bad URL: {error}")))
            .inspect_err(|failure| self.trace(&format!("open {url}: {failure}")))?;
        self.open(url.to_owned(), target, timeout, stall)
    }

    /// Plays a file, which never stalls; `looped`, it has no end either.
    pub(super) fn play(&mut self, name: &str, looped: bool) -> Result<SourceId, Failure> {
        let url = format!("file:{name}");
        let mut parts = Path::new(name).components();
        let inside = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let refused = match () {
            () if name.is_empty() || name.contains(char::is_control) => Some(Class::Invalid),
            () if !inside => Some(Class::Blocked),
            () => None,
        };
        if let Some(class) = refused {
            let failure = Failure::new(class, format!("{url}: no name in the media directory"));
            self.trace(&format!("open {url}: {failure}"));
            return Err(failure);
        }
        let id = self.open(url, false, Duration::MAX, None)?;
        let play = self.source(id).and_then(|source| source.play.as_mut());
        if let Some(play) = play.filter(|_| looped) {
            play.ends.take_if(|(_, class, _)| *class == Class::Ended);
        }
        Ok(id)
    }

    fn open(
        &mut self,
        url: String,
        target: bool,
        timeout: Duration,
        stall: Option<Duration>,
    ) -> Result<SourceId, Failure> {
        let opened = self.may_open(target).and_then(|()| self.fate(&url));
        let fate = opened.inspect_err(|failure| self.trace(&format!("open {url}: {failure}")))?;
        let attempt = self.record.attempts.len();
        let id = attempt as SourceId + 1;
        let (at, what) = (self.now, name(target));
        self.trace(&format!("open {url}: {what} {id}"));
        self.record.attempts.push(Attempt {
            at,
            url: url.clone(),
            over: None,
        });
        self.claim.1 = None;
        let timeout = at + timeout.min(TIMEOUT.0).as_millis() as u64;
        let late = Failure::new(Class::Timeout, "no media in time");
        let mut play = None;
        match fate {
            Fate::Fails(class, text, after) if at + after < timeout => {
                self.plan(at + after, Coming::Ends(id, Failure::new(class, text)));
            }
            Fate::Plays(plays) if at + plays.after < timeout => {
                self.plan(at + plays.after, Coming::Begins(id));
                play = Some(plays);
            }
            _ => self.plan(timeout, Coming::Ends(id, late)),
        }
        self.sources.push(Source {
            id,
            target,
            url,
            attempt,
            play,
            since: None,
            began: None,
            stall_after: stall.map(|stall| stall.max(TIMEOUT.1).as_millis() as u64),
            stalled: None,
            over: None,
        });
        self.record.most_open = self.record.most_open.max(self.sources.len() as u64);
        Ok(id)
    }

    fn may_open(&mut self, target: bool) -> Result<(), Failure> {
        let what = name(target);
        let refused = |class, text: String| Err(Failure::new(class, text));
        if self.reads && !target {
            let text = "this restreamer reads its stream and has nothing to feed";
            return refused(Class::Invalid, text.to_owned());
        }
        if self
            .sources
            .iter()
            .filter(|open| open.target == target)
            .count()
            >= SOURCES
        {
            return refused(Class::Limit, format!("at most {SOURCES} {what}s at a time"));
        }
        if !pace(&mut self.rested_at, self.now) {
            return refused(Class::Limit, format!("too many {what}s in a short time"));
        }
        if self.record.attempts.len() >= DIALS {
            self.wrong(format!("opened {DIALS} sources and targets"));
            self.record.steps = STEPS;
            return refused(Class::Limit, format!("too many {what}s"));
        }
        Ok(())
    }

    /// What becomes of an attempt; an error when the call itself fails.
    fn fate(&mut self, url: &str) -> Result<Fate, Failure> {
        let now = self.now;
        let rules = self.scenario.dials.iter().zip(&self.used);
        let mut fitting = rules.map(|(rule, used)| {
            fits(rule.url.as_deref(), url)
                && (rule.from..rule.until).contains(&now)
                && rule.times.is_none_or(|times| *used < times)
        });
        let Some(at) = fitting.position(|fits| fits) else {
            self.wrong(format!("opened {url}, and no [[dial]] says what happens"));
            return Err(Failure::new(Class::Other, "not in the scenario"));
        };
        self.used[at] += 1;
        match self.scenario.dials[at].fate.clone() {
            Fate::Refuses(class, text) => Err(Failure::new(class, text)),
            fate => Ok(fate),
        }
    }

    /// Asks an HTTP server; the clock moves on until it has answered. `None`: the
    /// instance traps meanwhile.
    pub(super) fn fetch(
        &mut self,
        url: &str,
        timeout: Duration,
    ) -> Option<Result<Response, Failure>> {
        let limit = |text| Some(Err(Failure::new(Class::Limit, text)));
        if !pace(&mut self.asked_at, self.now) || self.record.fetches.len() >= DIALS {
            return limit("too many questions in a short time");
        }
        let begun = self.now;
        let rules = self.scenario.answers.iter().zip(&self.answered);
        let mut fitting = rules.map(|(rule, used)| {
            fits(rule.url.as_deref(), url)
                && (rule.from..rule.until).contains(&begun)
                && rule.times.is_none_or(|times| *used < times)
        });
        let Some(at) = fitting.position(|fits| fits) else {
            self.wrong(format!(
                "asked {url}, and no [[answer]] says what is answered"
            ));
            return Some(Err(Failure::new(Class::Other, "not in the scenario")));
        };
        self.answered[at] += 1;
        let (after, says) = {
            let answer = &self.scenario.answers[at];
            (answer.after, answer.says.clone())
        };
        let timeout = timeout.as_millis() as u64;
        let asked = self.now;
        let until = asked + after.min(timeout);
        // As on a node, neither a stop nor an upgrade waits for an answer.
        while !(self.pending.stop || self.pending.upgrade) {
            let Some(((at, _), coming)) = self.due(until) else {
                break;
            };
            self.advance(at);
            if self.happen(coming) {
                return None;
            }
        }
        let answered = if self.pending.stop || self.pending.upgrade {
            let why = "the restreamer stops, or moves to another build";
            Err(Failure::new(Class::Cancelled, why))
        } else {
            self.advance(until);
            match says {
                _ if after > timeout => Err(Failure::new(Class::Timeout, "no answer in time")),
                Ok((status, body)) => Ok(Response {
                    status,
                    headers: Vec::new(),
                    body,
                }),
                Err((class, text)) => Err(Failure::new(class, text)),
            }
        };
        self.record.fetches.push(Attempt {
            at: asked,
            url: url.to_owned(),
            over: Some(self.now),
        });
        self.trace(&match &answered {
            Ok(response) => format!("fetch {url}: {}", response.status),
            Err(failure) => format!("fetch {url}: {}: {failure}", failure.class.as_str()),
        });
        Some(answered)
    }

    /// The source goes on air at its next keyframe.
    pub(super) fn attach(&mut self, id: SourceId) -> Result<(), Failure> {
        self.trace(&format!("attach source {id}"));
        let now = self.now;
        let Some(source) = self.sources.iter().find(|source| source.id == id) else {
            return Err(Failure::new(Class::Closed, "the source is closed"));
        };
        let picture = source.play.as_ref().is_some_and(|play| play.video);
        let at = match (source.state(), source.since) {
            (SourceState::Flowing, Some(since)) if picture => {
                Some(since + (now - since).div_ceil(GOP) * GOP)
            }
            (SourceState::Flowing, _) => Some(now),
            _ => None,
        };
        self.attached = Some(id);
        if let Some(at) = at {
            self.plan(at, Coming::OnAir(id));
        }
        Ok(())
    }

    /// Closes a source.
    pub(super) fn close(&mut self, id: SourceId) {
        let Some(at) = self.sources.iter().position(|source| source.id == id) else {
            return;
        };
        let source = self.sources.remove(at);
        self.trace(&format!("close {} {id}", name(source.target)));
        self.record.attempts[source.attempt]
            .over
            .get_or_insert(self.now);
        self.leave_air(id);
        self.pending.facts.retain(|known| *known != id);
        self.pending.ended.retain(|(known, ..)| *known != id);
    }

    fn leave_air(&mut self, id: SourceId) {
        for place in [&mut self.attached, &mut self.on_air] {
            if *place == Some(id) {
                *place = None;
            }
        }
    }

    /// Where a source was opened.
    pub(super) fn url(&self, id: SourceId) -> String {
        self.find(id)
            .map(|source| source.url.clone())
            .unwrap_or_default()
    }

    fn find(&self, id: SourceId) -> Option<&Source> {
        self.sources.iter().find(|source| source.id == id)
    }

    /// What is known of a source.
    pub(super) fn facts(&self, id: SourceId) -> Facts {
        let source = self.find(id);
        let state = source.map_or(SourceState::Ended, Source::state);
        let play = source.and_then(|source| source.play.as_ref());
        let flowing = match (state, source.and_then(|source| source.since)) {
            (SourceState::Flowing | SourceState::Ended, Some(since)) => self.now - since,
            _ => 0,
        };
        let seen = source.is_some_and(|source| source.began.is_some());
        let age = Duration::ZERO;
        Facts {
            state,
            attached: source.is_some() && self.attached == Some(id),
            on_air: source.is_some() && self.on_air == Some(id),
            video: play
                .filter(|play| play.video && seen)
                .map(|_| (video(), age)),
            audio: play
                .filter(|play| play.audio && seen)
                .map(|_| (audio(), age)),
            more: MoreTracks::default(),
            gop: play
                .filter(|play| play.video && flowing >= GOP)
                .map(|_| Duration::from_millis(GOP)),
            // 1 Mbit/s.
            bytes: flowing * 125,
            flowing: Duration::from_millis(flowing),
            stall: source.and_then(|source| source.stalled),
        }
    }

    /// What is known of a target.
    pub(super) fn target_facts(&self, id: SourceId) -> TargetFacts {
        let target = self.find(id);
        let flowing = match target {
            Some(target) if target.state() == SourceState::Flowing => {
                target.since.map_or(0, |since| self.now - since)
            }
            _ => 0,
        };
        TargetFacts {
            state: target.map_or(TargetState::Ended, |target| match target.state() {
                SourceState::Ended => TargetState::Ended,
                SourceState::Stalled => TargetState::Stalled,
                SourceState::Flowing => TargetState::Flowing,
                SourceState::Dialing if target.began.is_some() => TargetState::Waiting,
                SourceState::Dialing => TargetState::Dialing,
            }),
            // 1 Mbit/s of 25 pictures a second.
            bytes: flowing * 125,
            frames: flowing / 40,
            dropped: 0,
            flowing: Duration::from_millis(flowing),
            lag: Duration::ZERO,
        }
    }

    /// What the policy says of a time without media.
    pub(super) fn claim(&mut self, claim: Claim, text: &str, next: Option<Duration>) {
        let next = next.map(|next| self.now + next.as_millis() as u64);
        if self.claim != (claim, next) {
            let word = match claim {
                Claim::Waiting => Phase::Waiting.as_str(),
                Claim::BackingOff => Phase::BackingOff.as_str(),
            };
            let when = next.map_or(String::new(), |at| {
                format!(", next attempt at {}", clock(at))
            });
            self.trace(&format!("status {word}{when} {text}"));
        }
        self.claim = (claim, next);
    }

    /// A line of the log.
    pub(super) fn log(&mut self, level: &str, message: &str) {
        self.trace(&format!("log {level}: {message}"));
        for (line, count) in self.scenario.expect.log.iter().zip(&mut self.record.lines) {
            *count += u64::from(message.contains(&line.get_ref().contains));
        }
    }

    /// Bytes for the next instance, should this one trap.
    pub(super) fn checkpoint(&mut self, state: Vec<u8>) {
        self.trace(&format!("checkpoint of {} bytes", state.len()));
        self.checkpoint = state;
    }

    // ---- runs

    /// A run begins with what is open: it hears of each end, also if the former one did.
    pub(super) fn begin_run(&mut self) {
        self.pending.upgrade = false;
        self.upgrade_told = None;
        self.pending.ended.clear();
        self.pending.stream.clear();
        if self.stream_moves {
            self.pending.stream.push_back(true);
        }
        let over = |source: &Source| Some((source.id, source.target, source.over.clone()?));
        self.pending
            .ended
            .extend(self.sources.iter().filter_map(over));
    }

    /// The policy handed over: what it did not give is closed. False when nobody asked.
    pub(super) fn handed_over(&mut self, given: &Handover) -> bool {
        let Handover {
            sources,
            targets,
            state,
        } = given;
        let bytes = state.len();
        self.trace(&format!(
            "handed over sources {sources:?}, targets {targets:?} and {bytes} bytes"
        ));
        let left = self.sources.iter().map(|source| source.id);
        let kept = |id: &SourceId| sources.contains(id) || targets.contains(id);
        let left: Vec<_> = left.filter(|id| !kept(id)).collect();
        left.into_iter().for_each(|id| self.close(id));
        self.upgrade_told.is_some()
    }

    /// What the instance after a trap begins with.
    pub(super) fn after_trap(&mut self) -> Handover {
        let until = self.now + RESTART;
        while let Some(((at, _), coming)) = self.due(until) {
            self.advance(at);
            // A trap while nothing runs hits nothing.
            let _ = self.happen(coming);
        }
        self.advance(until);
        let open = |targets: bool| {
            let open = self
                .sources
                .iter()
                .filter(move |open| open.target == targets);
            open.map(|open| open.id).collect::<Vec<_>>()
        };
        let (mut sources, targets) = (open(false), open(true));
        let standing = |id: &SourceId| (self.on_air != Some(*id), self.attached != Some(*id), *id);
        sources.sort_by_key(standing);
        Handover {
            sources,
            targets,
            state: self.checkpoint.clone(),
        }
    }

    /// The run is over: what was to be looked at until now is looked at, and later there
    /// is nothing to see.
    pub(super) fn end(&mut self, text: &str) {
        self.trace(text);
        while let Some(at) = self.looks.pop_front_if(|at| *at <= self.now) {
            self.look(at);
        }
    }

    // ---- time

    /// Waits: moves the clock to what happens next.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Next {
        let until = timeout.map(|timeout| self.now + timeout.as_millis() as u64);
        loop {
            if !self.step() {
                return Next::Cut;
            }
            if let Some(wake) = self.take() {
                return self.told(wake);
            }
            match self.due(until.unwrap_or(u64::MAX)) {
                Some(((at, _), coming)) => {
                    self.advance(at);
                    if self.happen(coming) {
                        return Next::Trap;
                    }
                }
                None => {
                    let Some(until) = until else {
                        // A stop is always planned, and stays.
                        return Next::Cut;
                    };
                    self.advance(until);
                    return Next::Wake(Wake::Timer);
                }
            }
        }
    }

    fn due(&mut self, until: u64) -> Option<((u64, u64), Coming)> {
        let (when, _) = self.agenda.first_key_value()?;
        if when.0 > until {
            return None;
        }
        self.agenda.pop_first()
    }

    fn advance(&mut self, to: u64) {
        while let Some(at) = self.looks.pop_front_if(|at| *at < to) {
            self.look(at);
        }
        self.now = self.now.max(to);
    }

    fn look(&mut self, at: u64) {
        let seen = Seen {
            at,
            phase: self.phase(),
            on_air: self.on_air.map(|id| self.url(id)).unwrap_or_default(),
            next_attempt: self.claim.1.map(|next| next.saturating_sub(at)),
        };
        self.record.seen.push(seen);
    }

    /// As a node's status has it: what can be measured beats what is claimed.
    fn phase(&self) -> Phase {
        let counts = |open: &&Source| {
            let waits = open.target && open.began.is_some() && open.since.is_none();
            open.target == self.reads && !waits
        };
        let any = |state| {
            let mut open = self.sources.iter().filter(counts);
            open.any(|open| open.state() == state)
        };
        let live = self.sources.iter().filter(counts).any(|open| {
            open.state() == SourceState::Flowing && (self.reads || self.on_air == Some(open.id))
        });
        match () {
            () if live => Phase::Live,
            () if any(SourceState::Stalled) => Phase::Stalled,
            () if any(SourceState::Flowing) || any(SourceState::Dialing) => Phase::Dialing,
            () if self.claim.0 == Claim::BackingOff => Phase::BackingOff,
            () => Phase::Waiting,
        }
    }

    /// In the order of a real restreamer's inbox.
    fn take(&mut self) -> Option<Wake> {
        let pending = &mut self.pending;
        if pending.stop {
            return Some(Wake::Stop);
        }
        if std::mem::take(&mut pending.upgrade) {
            return Some(Wake::Upgrade);
        }
        if let Some(properties) = pending.reconfigured.take() {
            return Some(Wake::Reconfigured(properties));
        }
        match pending.ended.pop_front() {
            Some((id, false, failure)) => return Some(Wake::SourceEnded(id, failure)),
            Some((id, true, failure)) => return Some(Wake::TargetEnded(id, failure)),
            None => {}
        }
        match pending.stream.pop_front() {
            Some(true) => return Some(Wake::StreamBegan),
            Some(false) => return Some(Wake::StreamEnded),
            None => {}
        }
        if let Some(id) = pending.facts.pop_front() {
            return Some(Wake::Facts(id));
        }
        std::mem::take(&mut pending.reachable).then_some(Wake::Reachable)
    }

    fn told(&mut self, wake: Wake) -> Next {
        match &wake {
            Wake::Stop => {
                self.deaf += 1;
                if self.deaf == DEAF {
                    self.wrong(format!("was told to stop {DEAF} times and goes on"));
                    return Next::Cut;
                }
            }
            Wake::Upgrade => {
                self.upgrade_told = Some(self.now);
                self.plan(self.now + GRACE, Coming::Overdue);
            }
            _ => {}
        }
        Next::Wake(wake)
    }

    /// True for a trap.
    fn happen(&mut self, coming: Coming) -> bool {
        match coming {
            Coming::Stop => {
                self.trace("stop: the provision is deleted");
                self.pending.stop = true;
            }
            Coming::Event(index) => return self.event(index),
            Coming::Overdue => {
                let told = self.upgrade_told.filter(|told| told + GRACE <= self.now);
                if let Some(told) = told {
                    let at = clock(told);
                    self.wrong(format!(
                        "did not hand over within 2 s of the upgrade at {at}"
                    ));
                    self.upgrade_told = None;
                }
            }
            Coming::Begins(id) => self.begins(id),
            Coming::News(id) => {
                let of = self.find(id);
                if let Some(of) = of.filter(|of| of.state() == SourceState::Flowing) {
                    let flowing = of
                        .since
                        .map(|since| Duration::from_millis(self.now - since));
                    let gap = news::gap(!of.target && self.on_air == Some(id), flowing);
                    self.news(id);
                    self.plan(self.now + gap.as_millis() as u64, Coming::News(id));
                }
            }
            Coming::Silent(id) => self.silent(id),
            Coming::Resumes(id) => self.resumes(id),
            Coming::OnAir(id) => self.goes_on_air(id),
            Coming::Ends(id, failure) => self.ends(id, failure),
        }
        false
    }

    fn event(&mut self, index: usize) -> bool {
        let what = self.scenario.events[index].get_ref().what.clone();
        match what {
            What::Trap => {
                self.trace("trap: the instance is gone");
                return true;
            }
            What::Upgrade => {
                self.trace("upgrade: a newer build waits");
                self.pending.upgrade = true;
            }
            What::Reachable => {
                self.trace("reachable");
                self.pending.reachable = true;
            }
            What::StreamBegan => self.stream(true, false),
            What::StreamPaused => self.stream(false, false),
            What::StreamEnded => self.stream(false, true),
            What::Reconfigured(properties) => {
                self.trace("reconfigured");
                self.properties.clone_from(&properties);
                self.pending.reconfigured = Some(properties);
            }
        }
        false
    }

    /// Media moves in the local stream, or no more; gone with its publisher.
    fn stream(&mut self, moves: bool, gone: bool) {
        self.trace(match (moves, gone) {
            (true, _) => "the stream moves",
            (false, false) => "the stream pauses",
            (false, true) => "the stream ends",
        });
        if moves != self.stream_moves && self.reads {
            self.stream_moves = moves;
            self.pending.stream.push_back(moves);
        }
        let targets = self.sources.iter().filter(|open| open.target);
        for id in targets.map(|open| open.id).collect::<Vec<_>>() {
            let now = self.now;
            let began = self.source(id).filter(|open| open.began.is_some());
            if let Some(target) = began {
                target.since = moves.then_some(now);
                self.plan(now + OFTEN, Coming::News(id));
                self.news(id);
            }
            if gone {
                self.ends(id, Failure::new(Class::Ended, "the stream ended"));
            }
        }
    }

    fn source(&mut self, id: SourceId) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.id == id)
    }

    fn news(&mut self, id: SourceId) {
        if !self.pending.facts.contains(&id) {
            self.pending.facts.push_back(id);
        }
    }

    fn begins(&mut self, id: SourceId) {
        let now = self.now;
        let moves = self.stream_moves;
        let Some(source) = self.source(id) else {
            return;
        };
        let flows = !source.target || moves;
        (source.since, source.began) = (flows.then_some(now), Some(now));
        let stall_after = source.stall_after;
        let play = source.play.clone();
        let what = name(source.target);
        self.trace(&match flows {
            true => format!("media of {what} {id}"),
            false => format!("{what} {id} waits for media"),
        });
        if let Some(Play { ends, silent, .. }) = play {
            if let Some((after, class, text)) = ends {
                self.plan(now + after, Coming::Ends(id, Failure::new(class, text)));
            }
            if let (Some((after, long, _)), Some(stall)) = (silent, stall_after)
                && long.is_none_or(|long| long > stall)
            {
                self.plan(now + after + stall, Coming::Silent(id));
                if let Some(long) = long {
                    self.plan(now + after + long, Coming::Resumes(id));
                }
            }
        }
        self.plan(now + OFTEN, Coming::News(id));
        if self.attached == Some(id) {
            self.goes_on_air(id);
        }
        self.news(id);
    }

    fn silent(&mut self, id: SourceId) {
        let Some(source) = self.source(id).filter(|source| source.over.is_none()) else {
            return;
        };
        if source.target {
            self.ends(id, Failure::new(Class::Stalled, "the peer takes nothing"));
            return;
        }
        let kind = source.play.as_ref().and_then(|play| play.silent);
        source.stalled = kind.map(|(.., kind)| kind);
        self.trace(&format!("source {id} has stalled"));
        self.news(id);
    }

    fn resumes(&mut self, id: SourceId) {
        let now = self.now;
        let Some(source) = self.source(id).filter(|source| source.over.is_none()) else {
            return;
        };
        (source.stalled, source.since) = (None, Some(now));
        self.trace(&format!("media of source {id} again"));
        self.plan(now + OFTEN, Coming::News(id));
        if self.attached == Some(id) {
            self.goes_on_air(id);
        }
        self.news(id);
    }

    fn goes_on_air(&mut self, id: SourceId) {
        let flows = |source: &Source| source.state() == SourceState::Flowing;
        if self.attached == Some(id) && self.on_air != Some(id) && self.find(id).is_some_and(flows)
        {
            self.on_air = Some(id);
            self.trace(&format!("source {id} is on air"));
            self.news(id);
        }
    }

    fn ends(&mut self, id: SourceId, failure: Failure) {
        let now = self.now;
        let Some(source) = self.source(id).filter(|source| source.over.is_none()) else {
            return;
        };
        source.over = Some(failure.clone());
        let (attempt, target) = (source.attempt, source.target);
        self.record.attempts[attempt].over.get_or_insert(now);
        let class = failure.class.as_str();
        self.trace(&format!(
            "{} {id} is over: {class}: {failure}",
            name(target)
        ));
        self.leave_air(id);
        self.pending.facts.retain(|known| *known != id);
        self.pending.ended.push_back((id, target, failure));
    }
}

fn name(target: bool) -> &'static str {
    if target { "target" } else { "source" }
}

/// Whether one more may be opened now; it is counted then.
fn pace(rested_at: &mut u64, now: u64) -> bool {
    let rested = (*rested_at).max(now) + OPENS.1;
    let within = rested - now <= OPENS.0 * OPENS.1;
    if within {
        *rested_at = rested;
    }
    within
}

fn look_at(status: &toml::Spanned<super::document::Status>) -> u64 {
    status.get_ref().at.0
}

fn video() -> VideoFacts {
    VideoFacts {
        codec: "avc",
        width: Some(1280),
        height: Some(720),
        fps: Some(30.0),
        kbps: Some(900),
    }
}

fn audio() -> AudioFacts {
    AudioFacts {
        codec: "aac",
        sample_rate: Some(48_000),
        channels: Some(2),
        kbps: Some(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(text: &str) -> Stage {
        let scenario = toml::from_str(text).expect("a scenario");
        Stage::new(Arc::new(scenario), 1, false)
    }

    const FAILING: &str = "stop = \"9000h\"\n[[dial]]\nfails = \"refused\"\n";

    fn open(stage: &mut Stage) -> Result<SourceId, Failure> {
        stage.open(
            "rtmp://a/b/c".to_owned(),
            false,
            Duration::from_secs(10),
            None,
        )
    }

    #[test]
    fn a_policy_that_spins_is_cut() {
        let mut stage = stage(FAILING);
        let mut waits = 0;
        while stage.wait(Some(Duration::ZERO)) != Next::Cut {
            waits += 1;
            assert!(waits <= STEPS);
        }
        assert!(stage.record.wrong[0].text.contains("spins"));
    }

    #[test]
    fn sources_are_bounded_at_once_in_time_and_in_all() {
        let mut stage = stage(FAILING);
        let first: Vec<_> = (0..SOURCES).map(|_| open(&mut stage)).collect();
        assert!(first.iter().all(Result::is_ok));
        assert!(open(&mut stage).is_err_and(|e| e.text.contains("at most 4")));
        (1..=SOURCES as SourceId).for_each(|id| stage.close(id));
        let mut opened = SOURCES as u64;
        while let Ok(id) = open(&mut stage) {
            stage.close(id);
            opened += 1;
        }
        assert_eq!(opened, OPENS.0, "in a short time");
        while opened < DIALS as u64 {
            assert_eq!(
                stage.wait(Some(Duration::from_millis(OPENS.1))),
                Next::Wake(Wake::Timer)
            );
            let id = open(&mut stage).expect("rested");
            stage.close(id);
            opened += 1;
        }
        stage.wait(Some(Duration::from_millis(OPENS.1)));
        assert!(open(&mut stage).is_err());
        assert_eq!(
            stage.wait(None),
            Next::Cut,
            "so many attempts are no policy"
        );
        assert_eq!(stage.record.attempts.len(), DIALS);
    }

    #[test]
    fn a_policy_that_does_not_hear_a_stop_is_cut() {
        let mut stage = stage("stop = \"1s\"");
        let told = (0..DEAF).filter(|_| stage.wait(None) == Next::Wake(Wake::Stop));
        assert_eq!(told.count() as u32, DEAF - 1);
        assert_eq!(stage.now(), 1_000);
    }

    #[test]
    fn what_no_rule_fits_is_a_mistake_and_not_a_default() {
        let mut stage = stage("stop = \"1s\"");
        assert!(open(&mut stage).is_err());
        assert!(stage.record.wrong[0].text.contains("no [[dial]] says"));
    }

    #[test]
    fn what_a_node_would_not_open_is_not_opened() {
        let mut stage = stage("stop = \"1h\"\n[[dial]]\nplays = \"5s\"\nends = \"ended\"\n");
        let mut dial = |url| {
            let opened = stage.dial(url, false, Duration::from_secs(10), None);
            opened.map_err(|failure| failure.class)
        };
        assert!(dial("rtmp://a/b/c").is_ok());
        for url in ["http://a/b/c", "rtmp://a/b", "file:a.flv", ""] {
            assert_eq!(dial(url), Err(Class::Invalid), "{url}");
        }
        let mut play = |name| stage.play(name, false).map_err(|failure| failure.class);
        assert!(play("some/a.flv").is_ok());
        for (name, class) in [
            ("", Class::Invalid),
            ("../a.flv", Class::Blocked),
            ("/a.flv", Class::Blocked),
        ] {
            assert_eq!(play(name), Err(class), "{name}");
        }
        assert_eq!(stage.record.attempts.len(), 2, "those two alone");
    }

    #[test]
    fn a_file_ends_unless_it_is_looped() {
        for (looped, end) in [(false, Some(5_100)), (true, None)] {
            let mut stage = stage("stop = \"1m\"\n[[dial]]\nplays = \"5s\"\nends = \"ended\"\n");
            stage.play("a.flv", looped).expect("opened");
            while stage.wait(None) != Next::Wake(Wake::Stop) {}
            let over = stage.record.attempts[0].over;
            assert_eq!(over, end, "looped: {looped}");
        }
    }

    #[test]
    fn a_source_goes_on_air_at_its_next_keyframe() {
        let mut stage = stage("stop = \"1m\"\n[[dial]]\nplays = \"on\"\n");
        let id = open(&mut stage).expect("opened");
        assert_eq!(stage.wait(None), Next::Wake(Wake::Facts(id)));
        assert_eq!((stage.now(), stage.phase()), (100, Phase::Dialing));
        stage.wait(Some(Duration::from_millis(300)));
        stage.attach(id).expect("open");
        assert!(!stage.facts(id).on_air);
        while !stage.facts(id).on_air {
            stage.wait(None);
        }
        assert_eq!((stage.now(), stage.phase()), (1_100, Phase::Live));
    }

    #[test]
    fn an_upgrade_that_is_not_answered_is_told() {
        let text = "stop = \"1m\"\n[[at]]\ntime = \"5s\"\nevent = \"upgrade\"\n";
        let mut stage = stage(text);
        assert_eq!(stage.wait(None), Next::Wake(Wake::Upgrade));
        assert_eq!(stage.wait(None), Next::Wake(Wake::Stop));
        let wrong = &stage.record.wrong[0];
        assert_eq!((wrong.at, wrong.text.contains("5.000s")), (7_000, true));
    }

    #[test]
    fn one_seed_is_always_the_same_and_another_is_not() {
        let numbers = |seed| {
            let scenario = Arc::new(toml::from_str(FAILING).expect("a scenario"));
            let mut stage = Stage::new(scenario, seed, false);
            (0..4).map(|_| stage.random()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }
}
