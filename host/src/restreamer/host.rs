//! What a policy may ask of the host.
//!
//! The seam between plugins and the rest: `plugin` calls this trait for a guest's
//! imports, `restreamer` implements it with real sources, and tests with scripts
//! and a virtual clock. Nothing here knows wasm, sockets or tasks.

pub mod news;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use crate::rtmp::dial::{Class, Failure, Options as DialOptions, Trust};
pub use crate::stream::{AudioFacts, MoreTracks, Stall, VideoFacts};

/// Names a source within its restreamer.
pub type SourceId = u32;

/// Names a target within its restreamer; no source there has the same number.
pub type TargetId = u32;

/// Properties in order, as text.
pub type Properties = Vec<(String, String)>;

/// Why a wait ended.
#[derive(Clone, PartialEq, Eq)]
pub enum Wake {
    /// The timeout passed.
    Timer,
    /// The facts of a source or target changed in kind, or it goes on as it was, see [`news`].
    Facts(SourceId),
    /// A source is over.
    SourceEnded(SourceId, Failure),
    /// A target is over.
    TargetEnded(TargetId, Failure),
    /// Media moves in the stream that is read.
    StreamBegan,
    /// Media moves no more in the stream that is read.
    StreamEnded,
    /// A host that failed before answers again.
    Reachable,
    /// The provision was updated.
    Reconfigured(Properties),
    /// Return `stopped` soon.
    Stop,
    /// Return `handed-over` soon.
    Upgrade,
}

/// Properties hold secrets and are not shown.
impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timer => f.write_str("Timer"),
            Self::Facts(id) => f.debug_tuple("Facts").field(id).finish(),
            Self::SourceEnded(id, failure) => f
                .debug_tuple("SourceEnded")
                .field(id)
                .field(failure)
                .finish(),
            Self::TargetEnded(id, failure) => f
                .debug_tuple("TargetEnded")
                .field(id)
                .field(failure)
                .finish(),
            Self::StreamBegan => f.write_str("StreamBegan"),
            Self::StreamEnded => f.write_str("StreamEnded"),
            Self::Reachable => f.write_str("Reachable"),
            Self::Reconfigured(_) => f.write_str("Reconfigured(***)"),
            Self::Stop => f.write_str("Stop"),
            Self::Upgrade => f.write_str("Upgrade"),
        }
    }
}

/// Where a source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not a frame yet.
    Dialing,
    /// Media comes.
    Flowing,
    /// Media came and stopped.
    Stalled,
    /// Over.
    Ended,
}

/// What the host knows of a source.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where it stands.
    pub state: SourceState,
    /// It was attached and no other was since.
    pub attached: bool,
    /// The stream plays it.
    pub on_air: bool,
    /// Video, and the age of its last frame.
    pub video: Option<(VideoFacts, Duration)>,
    /// Audio, and the age of its last frame.
    pub audio: Option<(AudioFacts, Duration)>,
    /// The tracks beside these.
    pub more: MoreTracks,
    /// Distance of the last two keyframes.
    pub gop: Option<Duration>,
    /// Media bytes.
    pub bytes: u64,
    /// How long media has flowed without a stall.
    pub flowing: Duration,
    /// How media has stopped.
    pub stall: Option<Stall>,
}

/// Where a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Not let in yet.
    Dialing,
    /// The local stream has nothing to send.
    Waiting,
    /// Media goes out.
    Flowing,
    /// The peer takes nothing of it.
    Stalled,
    /// Over.
    Ended,
}

/// What the host knows of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetFacts {
    /// Where it stands.
    pub state: TargetState,
    /// Bytes the peer has taken.
    pub bytes: u64,
    /// Frames the peer was given.
    pub frames: u64,
    /// Frames it was not given because it was slow.
    pub dropped: u64,
    /// How long media has flowed without a pause.
    pub flowing: Duration,
    /// How far what comes next is behind the stream.
    pub lag: Duration,
}

/// How to open a target.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// From dialing to the peer's consent.
    pub timeout: Duration,
    /// A peer that takes nothing for so long is over.
    pub stall: Duration,
    /// Frames are left out for a peer that is further behind.
    pub max_lag: Duration,
    /// What the protocol wants.
    pub dial: DialOptions,
}

/// How to open a source.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// From dialing to the first frame.
    pub timeout: Duration,
    /// When silence is a stall; `None` never.
    pub stall: Option<Duration>,
    /// What the protocol wants.
    pub dial: DialOptions,
}

/// How to play a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Begin again when it ends.
    pub looped: bool,
}

/// One HTTP request.
#[derive(Clone)]
pub struct Request {
    /// As HTTP writes it.
    pub method: String,
    /// Where.
    pub url: String,
    /// Beside those that are the host's.
    pub headers: Vec<(String, String)>,
    /// Empty for none.
    pub body: Vec<u8>,
    /// For all of it.
    pub timeout: Duration,
    /// Of `https`.
    pub trust: Trust,
}

/// URLs, headers and bodies hold secrets and are not shown.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// What was answered.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the WIT record's")]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Headers and bodies hold secrets and are not shown.
impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// What a policy claims about a time without media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing to do.
    Waiting,
    /// Sleeping before the next attempt.
    BackingOff,
}

/// A guest's log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the usual levels")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// A future that a guest's blocking-looking import waits on.
pub type WaitFuture<'a> = Pin<Box<dyn Future<Output = Wake> + Send + 'a>>;

/// The same of an HTTP request.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send + 'a>>;

/// The host of one run of a policy. See the WIT contract for the meaning of each call.
pub trait Host: Send + 'static {
    /// Begins to pull.
    fn connect(&mut self, url: &str, options: ConnectOptions) -> Result<SourceId, Failure>;
    /// Begins to push the local stream.
    fn publish(&mut self, url: &str, options: PublishOptions) -> Result<TargetId, Failure>;
    /// The URL a target was opened with.
    fn target_url(&mut self, id: TargetId) -> String;
    /// What is known of a target.
    fn target_facts(&mut self, id: TargetId) -> TargetFacts;
    /// Closes a target.
    fn close_target(&mut self, id: TargetId);
    /// Begins to play a file of the media directory.
    fn open_file(&mut self, name: &str, options: FileOptions) -> Result<SourceId, Failure>;
    /// The URL a source was opened with.
    fn url(&mut self, id: SourceId) -> String;
    /// What is known of a source.
    fn facts(&mut self, id: SourceId) -> Facts;
    /// The source goes on air at its next keyframe.
    fn attach(&mut self, id: SourceId) -> Result<(), Failure>;
    /// Closes a source.
    fn close(&mut self, id: SourceId);
    /// Asks an HTTP server, and waits for its answer.
    fn fetch(&mut self, request: Request) -> FetchFuture<'_>;
    /// The place where a policy waits. Cancel safe.
    fn wait(&mut self, timeout: Option<Duration>) -> WaitFuture<'_>;
    /// One line of log.
    fn log(&mut self, level: Level, message: &str);
    /// A clock that never goes back, milliseconds.
    fn now_ms(&mut self) -> u64;
    /// Randomness.
    fn random(&mut self) -> u32;
    /// What the status says while no media flows.
    fn set_status(&mut self, claim: Claim, text: &str, next_attempt: Option<Duration>);
    /// Bytes for the next instance, should this one trap.
    fn checkpoint(&mut self, state: Vec<u8>);
}

/// What a policy is to carry out.
#[derive(Clone)]
#[allow(missing_docs, reason = "the fields are the WIT record's")]
pub struct Job {
    pub provision_guid: String,
    pub stream_guid: String,
    pub kind: String,
    pub properties: Properties,
}

/// Properties hold secrets and are not shown.
impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("provision", &self.provision_guid)
            .field("stream", &self.stream_guid)
            .finish_non_exhaustive()
    }
}

/// What a former instance left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// Sources still open.
    pub sources: Vec<SourceId>,
    /// Targets still open.
    pub targets: Vec<TargetId>,
    /// Its own bytes.
    pub state: Vec<u8>,
}

/// How a run ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done for good.
    Finished,
    /// As wanted.
    Stopped,
    /// It will not try again.
    GaveUp(String),
    /// As wanted, with all it has.
    HandedOver(Handover),
}
