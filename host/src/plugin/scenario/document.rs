//! A scenario as its author writes it: TOML, every mistake named with its line.
//!
//! Holds what happens to a policy and what is expected of it. A value of these
//! types makes sense; what does not is refused while it is read.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::restreamer::host::{Class, Properties, Stall};

/// Longer than this nobody rehearses: a clock of milliseconds stays far from its end.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);
/// Runs with other randomness of one scenario.
const RUNS: RangeInclusive<u32> = 1..=1_000;
/// Entries of one list, so that looking things up stays quick.
const ENTRIES: usize = 1_000;

/// A whole scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Scenario {
    /// One sentence.
    #[serde(default)]
    pub(super) about: String,
    /// When the provision is deleted.
    pub(super) stop: Millis,
    /// Runs, each with other randomness.
    #[serde(default = "one", deserialize_with = "runs")]
    pub(super) runs: u32,
    /// What the policy is given.
    #[serde(default)]
    pub(super) properties: Scalars,
    /// The stream it works for.
    #[serde(default = "stream_guid")]
    pub(super) stream: String,
    /// What becomes of what it opens, sources and targets; the first rule that fits.
    #[serde(default, rename = "dial", deserialize_with = "list")]
    pub(super) dials: Vec<Rule>,
    /// What is answered to what it asks by HTTP; the first rule that fits.
    #[serde(default, rename = "answer", deserialize_with = "list")]
    pub(super) answers: Vec<Answer>,
    /// What else happens.
    #[serde(default, rename = "at", deserialize_with = "list")]
    pub(super) events: Vec<Spanned<Event>>,
    /// What is expected.
    #[serde(default)]
    pub(super) expect: Expect,
}

fn one() -> u32 {
    1
}

fn stream_guid() -> String {
    "live/scenario".to_owned()
}

fn runs<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let runs = u32::deserialize(from)?;
    let legal = RUNS.contains(&runs).then_some(runs);
    legal.ok_or_else(|| D::Error::custom("must be from 1 to 1000"))
}

fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(from)?;
    match list.len() <= ENTRIES {
        true => Ok(list),
        false => Err(D::Error::custom("at most 1000 of these")),
    }
}

/// A time or a span in milliseconds, written as `"250ms"`, `"1h 30m"` or `"24h"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Millis(pub(super) u64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

fn parse(text: &str) -> Result<Millis, String> {
    let wrong = || format!("{text:?} is no time: write \"250ms\", \"5s\", \"1h 30m\" or \"24h\"");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let span = Duration::try_from(span).map_err(|_| wrong())?;
    if span > LONGEST {
        return Err(format!("{text:?} is longer than 400 days"));
    }
    Ok(Millis(span.as_millis() as u64))
}

/// From the first to the second, both within; one alone means exactly that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window<T>(pub(super) T, pub(super) T);

impl<T: PartialOrd> Window<T> {
    pub(super) fn holds(&self, value: &T) -> bool {
        self.0 <= *value && *value <= self.1
    }
}

impl<'de, T: Deserialize<'de> + Copy + PartialOrd> Deserialize<'de> for Window<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Ends<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Copy + PartialOrd> Visitor<'de> for Ends<T> {
            type Value = Window<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one value, or [least, most]")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let value = T::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(Window(value, value))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                let value = T::deserialize(serde::de::value::I64Deserializer::new(number))?;
                Ok(Window(value, value))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Self::Value, A::Error> {
                let wrong = || A::Error::custom("must be [least, most]");
                let least = seq.next_element()?.ok_or_else(wrong)?;
                let most = seq.next_element()?.ok_or_else(wrong)?;
                let more: Option<T> = seq.next_element()?;
                match more.is_none() && least <= most {
                    true => Ok(Window(least, most)),
                    false => Err(wrong()),
                }
            }
        }
        from.deserialize_any(Ends(std::marker::PhantomData))
    }
}

/// Properties: any scalar, in the order they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scalars(pub(super) Properties);

impl<'de> Deserialize<'de> for Scalars {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Scalars;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of texts, numbers and booleans")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalars, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, Scalar(value))) = map.next_entry::<String, Scalar>()? {
                    pairs.push((key, value));
                }
                Ok(Scalars(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(from)? {
            toml::Value::String(text) => Ok(Self(text)),
            value @ (toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_)) => {
                Ok(Self(value.to_string()))
            }
            _ => Err(D::Error::custom("must be a text, a number or a boolean")),
        }
    }
}

/// An error class by its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) Class);

const CLASSES: [Class; 20] = [
    Class::Dns,
    Class::Refused,
    Class::Unreachable,
    Class::Timeout,
    Class::Tls,
    Class::Handshake,
    Class::Protocol,
    Class::Auth,
    Class::NotFound,
    Class::Rejected,
    Class::Redirected,
    Class::Closed,
    Class::Ended,
    Class::Stalled,
    Class::Blocked,
    Class::Invalid,
    Class::Unsupported,
    Class::Limit,
    Class::Cancelled,
    Class::Other,
];

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        let class = CLASSES.into_iter().find(|class| class.as_str() == word);
        class.map(Self).ok_or_else(|| {
            let words = CLASSES.map(Class::as_str).join(", ");
            D::Error::custom(format!("{word:?} is no error class; there are {words}"))
        })
    }
}

/// What the far end does with what fits a rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawRule")]
pub(super) struct Rule {
    /// URLs it is for; a `*` at the end fits any rest.
    pub(super) url: Option<String>,
    /// When it is for them.
    pub(super) from: u64,
    pub(super) until: u64,
    /// How often it is good.
    pub(super) times: Option<u32>,
    pub(super) fate: Fate,
}

/// What becomes of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing is dialed: the call itself fails.
    Refuses(Class, String),
    /// It fails after so long.
    Fails(Class, String, u64),
    /// No frame ever comes.
    Hangs,
    /// Media comes.
    Plays(Play),
}

/// Media of one attempt; times count from the attempt, and from the first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Play {
    /// The first frame comes so long after the attempt.
    pub(super) after: u64,
    /// It ends so long after the first frame; else it goes on.
    pub(super) ends: Option<(u64, Class, String)>,
    /// It falls silent so long after the first frame, for so long, in this way.
    pub(super) silent: Option<(u64, Option<u64>, Stall)>,
    pub(super) video: bool,
    pub(super) audio: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRule {
    url: Option<String>,
    from: Option<Millis>,
    until: Option<Millis>,
    times: Option<u32>,
    refuses: Option<Word>,
    fails: Option<Word>,
    hangs: Option<bool>,
    plays: Option<Plays>,
    after: Option<Millis>,
    text: Option<String>,
    ends: Option<Word>,
    silent_after: Option<Millis>,
    silent_for: Option<Millis>,
    silence: Option<Silence>,
    video: Option<bool>,
    audio: Option<bool>,
}

/// How long media flows.
enum Plays {
    On,
    For(Millis),
}

impl<'de> Deserialize<'de> for Plays {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match String::deserialize(from)?.as_str() {
            "on" => Ok(Self::On),
            text => parse(text).map(Self::For).map_err(|error| {
                D::Error::custom(format!("{error}, or \"on\" for media that never ends"))
            }),
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Silence {
    Nothing,
    AudioOnly,
    VideoOnly,
    FrozenTimestamps,
}

impl From<Silence> for Stall {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Nothing => Self::Nothing,
            Silence::AudioOnly => Self::AudioOnly,
            Silence::VideoOnly => Self::VideoOnly,
            Silence::FrozenTimestamps => Self::FrozenTimestamps,
        }
    }
}

/// An attempt fails so soon when nothing else is said.
const FAILS_AFTER: u64 = 10;
/// And plays so soon.
const PLAYS_AFTER: u64 = 100;

impl TryFrom<RawRule> for Rule {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        let fates = [
            raw.refuses.is_some(),
            raw.fails.is_some(),
            raw.hangs == Some(true),
            raw.plays.is_some(),
        ];
        if fates.iter().filter(|given| **given).count() != 1 {
            return Err(
                "a [[dial]] has exactly one of refuses, fails, hangs = true and plays".to_owned(),
            );
        }
        raw.only_what_belongs()?;
        let (url, times) = (raw.url.clone(), raw.times);
        let from = raw.from.unwrap_or_default().0;
        let until = raw.until.map_or(u64::MAX, |until| until.0);
        Ok(Self {
            url,
            from,
            until,
            times,
            fate: raw.fate(),
        })
    }
}

impl RawRule {
    /// A key that means nothing here is a mistake.
    fn only_what_belongs(&self) -> Result<(), String> {
        let plays = self.plays.is_some();
        let ends = matches!(self.plays, Some(Plays::For(_)));
        let fails = self.fails.is_some();
        let refuses = self.refuses.is_some();
        let silent = self.silent_after.is_some();
        let belongs = [
            ("after", self.after.is_none() || plays || fails),
            ("text", self.text.is_none() || ends || fails || refuses),
            ("ends", self.ends.is_none() || ends),
            ("silent-after", !silent || plays),
            ("silent-for", self.silent_for.is_none() || silent),
            ("silence", self.silence.is_none() || silent),
            ("video", self.video.is_none() || plays),
            ("audio", self.audio.is_none() || plays),
        ];
        match belongs.iter().find(|(_, belongs)| !belongs) {
            Some((key, _)) => Err(format!("{key} means nothing in this [[dial]]")),
            None => Ok(()),
        }
    }

    fn fate(self) -> Fate {
        let text = self.text.unwrap_or_else(|| "scripted".to_owned());
        match (self.refuses, self.fails, self.plays) {
            (Some(Word(class)), ..) => Fate::Refuses(class, text),
            (_, Some(Word(class)), _) => {
                Fate::Fails(class, text, self.after.map_or(FAILS_AFTER, |after| after.0))
            }
            (_, _, Some(plays)) => Fate::Plays(Play {
                after: self.after.map_or(PLAYS_AFTER, |after| after.0),
                ends: match plays {
                    Plays::On => None,
                    Plays::For(long) => {
                        let class = self.ends.map_or(Class::Closed, |word| word.0);
                        Some((long.0, class, text))
                    }
                },
                silent: self.silent_after.map(|after| {
                    let kind = self.silence.unwrap_or(Silence::Nothing).into();
                    (after.0, self.silent_for.map(|long| long.0), kind)
                }),
                video: self.video.unwrap_or(true),
                audio: self.audio.unwrap_or(true),
            }),
            (None, None, None) => Fate::Hangs,
        }
    }
}

/// What an HTTP server says.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawAnswer")]
pub(super) struct Answer {
    pub(super) url: Option<String>,
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) times: Option<u32>,
    /// It takes so long.
    pub(super) after: u64,
    pub(super) says: Result<(u16, Vec<u8>), (Class, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAnswer {
    url: Option<String>,
    from: Option<Millis>,
    until: Option<Millis>,
    times: Option<u32>,
    after: Option<Millis>,
    status: Option<u16>,
    body: Option<String>,
    fails: Option<Word>,
    text: Option<String>,
}

impl TryFrom<RawAnswer> for Answer {
    type Error = &'static str;

    fn try_from(raw: RawAnswer) -> Result<Self, Self::Error> {
        let text = raw.text.unwrap_or_else(|| "scripted".to_owned());
        let says = match (raw.status, raw.fails) {
            (Some(status), None) => Ok((status, raw.body.unwrap_or_default().into_bytes())),
            (None, Some(Word(class))) if raw.body.is_none() => Err((class, text)),
            _ => return Err("an [[answer]] has either a status, and a body, or fails"),
        };
        Ok(Self {
            url: raw.url,
            from: raw.from.unwrap_or_default().0,
            until: raw.until.map_or(u64::MAX, |until| until.0),
            times: raw.times,
            after: raw.after.map_or(FAILS_AFTER, |after| after.0),
            says,
        })
    }
}

/// Something that happens to the restreamer at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawEvent")]
pub(super) struct Event {
    pub(super) time: u64,
    pub(super) what: What,
}

/// See [`Event`].
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A newer build waits.
    Upgrade,
    /// The instance traps, and a new one takes its place.
    Trap,
    /// A host that failed answers again.
    Reachable,
    /// Media moves in the stream that is read.
    StreamBegan,
    /// Its publisher left, and its targets end.
    StreamEnded,
    /// Its media pauses, and its targets wait.
    StreamPaused,
    /// The provision was updated; these are all its properties now.
    Reconfigured(Properties),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    time: Millis,
    event: Kind,
    properties: Option<Scalars>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Upgrade,
    Trap,
    Reachable,
    StreamBegan,
    StreamEnded,
    StreamPaused,
    Reconfigured,
}

impl TryFrom<RawEvent> for Event {
    type Error = &'static str;

    fn try_from(raw: RawEvent) -> Result<Self, Self::Error> {
        let what = match (raw.event, raw.properties) {
            (Kind::Reconfigured, Some(Scalars(properties))) => What::Reconfigured(properties),
            (Kind::Reconfigured, None) => return Err("reconfigured needs properties"),
            (_, Some(_)) => return Err("properties belong to reconfigured"),
            (Kind::Upgrade, None) => What::Upgrade,
            (Kind::Trap, None) => What::Trap,
            (Kind::Reachable, None) => What::Reachable,
            (Kind::StreamBegan, None) => What::StreamBegan,
            (Kind::StreamEnded, None) => What::StreamEnded,
            (Kind::StreamPaused, None) => What::StreamPaused,
        };
        Ok(Self {
            time: raw.time.0,
            what,
        })
    }
}

/// What is expected of the policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Expect {
    /// How the last run ended.
    pub(super) outcome: Option<Spanned<Ending>>,
    /// What the reason of `gave-up` contains.
    pub(super) reason: Option<Spanned<String>>,
    /// When the last run ended.
    pub(super) ended: Option<Spanned<Window<Millis>>>,
    /// The properties that `check` complains of; nothing runs then.
    pub(super) problems: Option<Spanned<Vec<String>>>,
    /// Sources that were open at once, at most.
    pub(super) open_at_once: Option<Spanned<Window<u64>>>,
    /// Single attempts.
    #[serde(default, rename = "dial", deserialize_with = "list")]
    pub(super) dial: Vec<Spanned<Dial>>,
    /// Attempts in a span of time.
    #[serde(default, rename = "dials", deserialize_with = "list")]
    pub(super) dials: Vec<Spanned<Dials>>,
    /// Questions by HTTP in a span of time; `waited` is from question to question.
    #[serde(default, rename = "fetches", deserialize_with = "list")]
    pub(super) fetches: Vec<Spanned<Dials>>,
    /// What the status says at a time.
    #[serde(default, rename = "status", deserialize_with = "list")]
    pub(super) status: Vec<Spanned<Status>>,
    /// Lines in the log.
    #[serde(default, rename = "log", deserialize_with = "list")]
    pub(super) log: Vec<Spanned<Line>>,
}

impl Expect {
    /// Whether anything is expected of what runs.
    pub(super) fn of_a_run(&self) -> bool {
        self.outcome.is_some()
            || self.reason.is_some()
            || self.ended.is_some()
            || self.open_at_once.is_some()
            || !(self.dial.is_empty() && self.dials.is_empty() && self.fetches.is_empty())
            || !(self.status.is_empty() && self.log.is_empty())
    }
}

/// The ways a run ends.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ending {
    Finished,
    Stopped,
    GaveUp,
}

impl Ending {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::GaveUp => "gave-up",
        }
    }
}

/// The `nth` attempt, counted from 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Dial {
    pub(super) nth: usize,
    pub(super) url: Option<String>,
    /// When it was made.
    pub(super) at: Option<Window<Millis>>,
    /// How long after the attempt before it had failed or ended.
    pub(super) waited: Option<Window<Millis>>,
}

/// Attempts in a span of time, the second end excluded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Dials {
    pub(super) url: Option<String>,
    pub(super) from: Option<Millis>,
    pub(super) until: Option<Millis>,
    pub(super) count: Option<Window<u64>>,
    /// How long each came after the one before had failed or ended.
    pub(super) waited: Option<Window<Millis>>,
}

/// What the status says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Status {
    pub(super) at: Millis,
    pub(super) phase: Option<Phase>,
    /// The URL that is on air; empty for none.
    pub(super) on_air: Option<String>,
    /// How long until the next attempt.
    pub(super) next_attempt: Option<Window<Millis>>,
}

/// The phases that a scenario can see.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    Waiting,
    Dialing,
    Live,
    Stalled,
    BackingOff,
}

impl Phase {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialing => "dialing",
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::BackingOff => "backing-off",
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Line {
    pub(super) contains: String,
    /// How many there are; at least one when it is not said.
    pub(super) count: Option<Window<u64>>,
}

/// Whether a URL fits a pattern: equal, or equal up to a `*` at the end.
pub(super) fn fits(pattern: Option<&str>, url: &str) -> bool {
    match pattern {
        None => true,
        Some(pattern) => match pattern.strip_suffix('*') {
            Some(begin) => url.starts_with(begin),
            None => url == pattern,
        },
    }
}
