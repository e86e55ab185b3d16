//! A policy as a function: what it knows and what happened, to what it wants.
//!
//! For those who like it better than a loop around `wait`. [`Reducer::on`] is pure, so
//! it is tested without any host; [`Reduced`] holds the sources and targets, waits, and
//! does hand-over and checkpoints:
//!
//! ```ignore
//! restreamd_plugin::export!(restreamd_plugin::reducer::Reduced<MyPolicy>);
//! ```
//!
//! A policy names what it opens by keys of its own, and each key stands for one source or
//! target at a time.

use std::collections::VecDeque;
use std::marker::PhantomData;

use crate::media::{Source, Target};
use crate::runtime::{self, Level, Phase, Wake};
use crate::{
    Description, Facts, Handover, IoError, Job, Outcome, Problem, Properties, Restreamer,
    TargetFacts, file, rtmp,
};

/// A policy without a loop.
pub trait Reducer: Sized + 'static {
    /// What the type does and which properties it takes.
    fn describe() -> Description;

    /// Whether these properties make a provision that can run.
    fn check(properties: &Properties) -> Vec<Problem> {
        properties.problems(&Self::describe())
    }

    /// The policy of a job, with what [`Reducer::save`] of an instance before gave; empty
    /// when there was none. [`Event::Began`] follows.
    fn begin(job: &Job, saved: &[u8]) -> Self;

    /// What it wants done, in this order. Nothing else is done until the next event.
    fn on(&mut self, event: Event, moment: Moment) -> Vec<Action>;

    /// What an instance after this one has to know.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// When an event is, and randomness for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds of a clock that never goes back.
    pub now_ms: u64,
    /// Evenly any number.
    pub random: u32,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run begins, with these keys open: none, unless an instance before had some.
    Began(Vec<u32>),
    /// The time of [`Action::WakeAt`] has come.
    Timer,
    /// What the host knows of a source: it has changed, or goes on as it was.
    Source(u32, Facts),
    /// What the host knows of a target, likewise.
    Target(u32, TargetFacts),
    /// A source or target is over, or was not opened at all. Its key is free.
    Over(u32, IoError),
    /// Media moves in the stream that is read.
    StreamBegan,
    /// Media moves no more in the stream that is read.
    StreamEnded,
    /// A host that could not be reached plays again.
    Reachable,
    /// The provision was updated; these are all its properties now.
    Reconfigured(Properties),
}

/// What a policy wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Pull, under this key. What had it is closed.
    Connect(u32, String, rtmp::ConnectOptions),
    /// Play a file, under this key. What had it is closed.
    Open(u32, String, file::OpenOptions),
    /// Push the stream, under this key. What had it is closed.
    Publish(u32, String, rtmp::PublishOptions),
    /// Put the source of this key on air at its next keyframe.
    Attach(u32),
    /// Close what this key stands for.
    Close(u32),
    /// [`Event::Timer`] at this time of [`Moment::now_ms`], in place of any time before.
    WakeAt(u64),
    /// What the status says while no media flows.
    Status(Phase, String, Option<u32>),
    /// One line into the operator's log.
    Log(Level, String),
    /// The run is over, as planned.
    Finish,
    /// The run is over: the policy will not try again, and says why.
    GiveUp(String),
}

/// A [`Reducer`] as a [`Restreamer`].
#[derive(Debug)]
pub struct Reduced<T>(PhantomData<T>);

impl<T: Reducer> Restreamer for Reduced<T> {
    fn describe() -> Description {
        T::describe()
    }

    fn check(properties: &Properties) -> Vec<Problem> {
        T::check(properties)
    }

    fn run(job: Job, former: Option<Handover>) -> Outcome {
        Driver::<T>::new(&job, former).run()
    }
}

struct Driver<T> {
    policy: T,
    sources: Vec<(u32, Source)>,
    targets: Vec<(u32, Target)>,
    events: VecDeque<Event>,
    due: Option<u64>,
    outcome: Option<Outcome>,
    /// The last checkpoint.
    saved: Vec<u8>,
}

impl<T: Reducer> Driver<T> {
    fn new(job: &Job, former: Option<Handover>) -> Self {
        let (sources, targets, state) = former.map_or_else(Default::default, |former| {
            (former.sources, former.targets, former.state)
        });
        let (keys, saved) = split(&state);
        let key = |id: u32| {
            keys.iter()
                .find(|(known, _)| *known == id)
                .map(|(_, key)| *key)
        };
        // What has no key was opened after the last checkpoint; dropped, it is closed.
        let sources = sources.into_iter().filter_map(|s| Some((key(s.id())?, s)));
        let targets = targets.into_iter().filter_map(|t| Some((key(t.id())?, t)));
        let (sources, targets): (Vec<_>, Vec<_>) = (sources.collect(), targets.collect());
        let open = sources.iter().map(|(key, _)| *key);
        let open = open.chain(targets.iter().map(|(key, _)| *key)).collect();
        Self {
            policy: T::begin(job, saved),
            sources,
            targets,
            events: [Event::Began(open)].into(),
            due: None,
            outcome: None,
            saved: state,
        }
    }

    fn run(mut self) -> Outcome {
        loop {
            while let Some(event) = self.events.pop_front() {
                let moment = Moment {
                    now_ms: runtime::now_ms(),
                    random: runtime::random_u32(),
                };
                let actions = self.policy.on(event, moment);
                actions.into_iter().for_each(|action| self.perform(action));
                if let Some(outcome) = self.outcome.take() {
                    return outcome;
                }
            }
            self.checkpoint();
            let now = runtime::now_ms();
            let pause = self
                .due
                .map(|due| due.saturating_sub(now).min(u32::MAX.into()));
            match runtime::wait(pause.map(|pause| pause as u32)) {
                Wake::Stop => return Outcome::Stopped,
                Wake::Upgrade => return Outcome::HandedOver(self.hand_over()),
                wake => self.woken(wake),
            }
        }
    }

    fn woken(&mut self, wake: Wake) {
        let event = match wake {
            Wake::Timer => {
                self.due = None;
                Some(Event::Timer)
            }
            Wake::Facts(id) => self.facts(id),
            Wake::SourceEnded((id, error)) | Wake::TargetEnded((id, error)) => {
                self.key(id).map(|key| {
                    self.close(key);
                    Event::Over(key, error)
                })
            }
            Wake::StreamBegan => Some(Event::StreamBegan),
            Wake::StreamEnded => Some(Event::StreamEnded),
            Wake::Reachable => Some(Event::Reachable),
            Wake::Reconfigured(list) => Some(Event::Reconfigured(Properties::new(list))),
            Wake::Stop | Wake::Upgrade | Wake::Other(_) => None,
        };
        self.events.extend(event);
    }

    fn facts(&self, id: u32) -> Option<Event> {
        let source = self.sources.iter().find(|(_, source)| source.id() == id);
        if let Some((key, source)) = source {
            return Some(Event::Source(*key, source.facts()));
        }
        let target = self.targets.iter().find(|(_, target)| target.id() == id);
        target.map(|(key, target)| Event::Target(*key, target.facts()))
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect(key, url, options) => {
                self.source(key, |_| rtmp::connect(&url, &options));
            }
            Action::Open(key, name, options) => self.source(key, |_| file::open(&name, options)),
            Action::Publish(key, url, options) => {
                self.close(key);
                match rtmp::publish(&url, &options) {
                    Ok(target) => self.targets.push((key, target)),
                    Err(error) => self.events.push_back(Event::Over(key, error)),
                }
            }
            Action::Attach(key) => {
                let source = self.sources.iter().find(|(known, _)| *known == key);
                // A source that is gone meanwhile tells so by an event of its own.
                let _ = source.map(|(_, source)| source.attach());
            }
            Action::Close(key) => self.close(key),
            Action::WakeAt(at) => self.due = Some(at),
            Action::Status(phase, text, next) => runtime::set_status(phase, &text, next),
            Action::Log(level, text) => runtime::log(level, &text),
            Action::Finish => self.outcome = Some(Outcome::Finished),
            Action::GiveUp(why) => self.outcome = Some(Outcome::GaveUp(why)),
        }
    }

    fn source(&mut self, key: u32, open: impl FnOnce(&Self) -> Result<Source, IoError>) {
        self.close(key);
        match open(self) {
            Ok(source) => self.sources.push((key, source)),
            Err(error) => self.events.push_back(Event::Over(key, error)),
        }
    }

    fn close(&mut self, key: u32) {
        self.sources.retain(|(known, _)| *known != key);
        self.targets.retain(|(known, _)| *known != key);
    }

    fn key(&self, id: u32) -> Option<u32> {
        let ids = self.ids();
        ids.iter()
            .find(|(known, _)| *known == id)
            .map(|(_, key)| *key)
    }

    /// Which key each source and target has.
    fn ids(&self) -> Vec<(u32, u32)> {
        let sources = self.sources.iter().map(|(key, source)| (source.id(), *key));
        let targets = self.targets.iter().map(|(key, target)| (target.id(), *key));
        sources.chain(targets).collect()
    }

    /// Whoever comes after a trap must know what was open, and what was known.
    fn checkpoint(&mut self) {
        let state = join(&self.ids(), &self.policy.save());
        if state != self.saved {
            runtime::checkpoint(&state);
            self.saved = state;
        }
    }

    fn hand_over(self) -> Handover {
        Handover {
            state: join(&self.ids(), &self.policy.save()),
            sources: self.sources.into_iter().map(|(_, source)| source).collect(),
            targets: self.targets.into_iter().map(|(_, target)| target).collect(),
        }
    }
}

/// The keys of what is open, then the policy's own bytes.
fn join(ids: &[(u32, u32)], saved: &[u8]) -> Vec<u8> {
    let mut bytes = (ids.len() as u32).to_le_bytes().to_vec();
    for (id, key) in ids {
        bytes.extend(id.to_le_bytes());
        bytes.extend(key.to_le_bytes());
    }
    bytes.extend(saved);
    bytes
}

/// What [`join`] joined; bytes of another shape are ignored.
fn split(bytes: &[u8]) -> (Vec<(u32, u32)>, &[u8]) {
    let nothing = (Vec::new(), &[][..]);
    let Some((count, mut rest)) = bytes.split_first_chunk::<4>() else {
        return nothing;
    };
    let mut ids = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let Some((id, after)) = rest.split_first_chunk::<4>() else {
            return nothing;
        };
        let Some((key, after)) = after.split_first_chunk::<4>() else {
            return nothing;
        };
        ids.push((u32::from_le_bytes(*id), u32::from_le_bytes(*key)));
        rest = after;
    }
    (ids, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_bytes_survive_a_hand_over() {
        let ids = [(7, 1), (9, 2)];
        assert_eq!(split(&join(&ids, b"mine")), (ids.to_vec(), &b"mine"[..]));
        assert_eq!(split(&join(&[], b"")), (vec![], &b""[..]));
    }

    #[test]
    fn bytes_of_another_shape_are_ignored() {
        for bytes in [&b""[..], b"x", &[255; 40], &[2, 0, 0, 0, 1, 0, 0, 0]] {
            assert_eq!(split(bytes), (vec![], &b""[..]), "{bytes:?}");
        }
    }
}
