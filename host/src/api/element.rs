//! The element of every list of streams: Red5's fields first, ours behind them.
//!
//! All fields are always there; what is not known is null. `state` is LIVE only while
//! media moves.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::State;
use super::caller::Viewer;
use crate::cluster::Node;
use crate::figures;
use crate::id::{NodeGroup, NodeId, ProvisionGuid, RestreamType, StreamGuid};
use crate::restreamer::{self, Phase, Status, TargetFacts, TargetState};
use crate::stream::{AudioFacts, MoreTracks, StreamSnapshot, VideoFacts};

const LIVE: Cow<'static, str> = Cow::Borrowed("LIVE");
const WAIT: Cow<'static, str> = Cow::Borrowed("WAIT");

/// A stream, where it is, and how it is doing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StreamElement {
    stream_guid: String,
    /// Where to publish to or subscribe at.
    server_address: Option<String>,
    node_role: Option<String>,
    sub_group: Option<String>,
    /// `INSERVICE`, or `FAULT` when the node is gone.
    node_state: Option<String>,
    subscribers: Option<u64>,
    /// How long frames wait to be sent together; 0 when they do not.
    latency_ms: Option<u64>,
    duration_ms: Option<u64>,
    /// `WAIT` or `LIVE`.
    state: Cow<'static, str>,
    provision_guid: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// `waiting`, `dialing`, `live`, `stalled`, `backing-off`, `stopping` or `failed`.
    phase: Option<Cow<'static, str>>,
    /// Since when it is in this phase.
    since: Option<String>,
    /// What is dialled, masked.
    source: Option<String>,
    /// How often it was dialled.
    attempt: Option<u64>,
    next_attempt_ms: Option<u64>,
    /// What the plugin says of its wait.
    status_text: Option<String>,
    /// Why it is not live.
    error: Option<String>,
    history: Option<Vec<Incident>>,
    media: Option<Media>,
    bytes_in: Option<u64>,
    /// Where the provision's restreamer pushes the stream to.
    targets: Option<Vec<Target>>,
    plugin: Option<PluginName>,
    /// Counts how often the provision was placed.
    epoch: Option<u64>,
}

/// Something that went wrong before.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Incident {
    at: String,
    /// `dns`, `refused`, `unreachable`, `timeout`, … as in the plugin contract.
    class: String,
    text: String,
}

/// A remote that the stream is pushed to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    /// Masked, the stream's key there too.
    url: String,
    /// `dialing`, `waiting`, `flowing`, `stalled` or `ended`.
    state: Cow<'static, str>,
    /// How long media has flowed without a pause.
    flowing_ms: u64,
    /// Bytes it has taken.
    bytes_out: u64,
    frames: u64,
    /// Frames left out because it was too slow.
    dropped_frames: u64,
    /// How far what it gets next is behind the stream.
    lag_ms: u64,
}

impl From<(String, TargetFacts)> for Target {
    fn from((url, facts): (String, TargetFacts)) -> Self {
        Self {
            url,
            state: match facts.state {
                TargetState::Dialing => "dialing",
                TargetState::Waiting => "waiting",
                TargetState::Flowing => "flowing",
                TargetState::Stalled => "stalled",
                TargetState::Ended => "ended",
            }
            .into(),
            flowing_ms: millis(facts.flowing),
            bytes_out: facts.bytes,
            frames: facts.frames,
            dropped_frames: facts.dropped,
            lag_ms: millis(facts.lag),
        }
    }
}

/// What the stream carries.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Media {
    video: Option<Video>,
    audio: Option<Audio>,
    gop_ms: Option<u64>,
    /// Tracks beside the default one (Enhanced RTMP), by their number.
    more_video: Vec<MoreVideo>,
    /// The same of sound.
    more_audio: Vec<MoreAudio>,
}

/// The stream's picture.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Video {
    codec: Cow<'static, str>,
    width: Option<u32>,
    height: Option<u32>,
    fps: Option<f64>,
    kbps: Option<u64>,
}

/// The stream's sound.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Audio {
    codec: Cow<'static, str>,
    /// Samples a second.
    sample_rate: Option<u32>,
    channels: Option<u8>,
    kbps: Option<u64>,
}

/// Another picture of the stream.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct MoreVideo {
    track: u8,
    #[serde(flatten)]
    video: Video,
}

/// Another sound of the stream.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct MoreAudio {
    track: u8,
    #[serde(flatten)]
    audio: Audio,
}

impl From<VideoFacts> for Video {
    fn from(facts: VideoFacts) -> Self {
        Self {
            codec: facts.codec.into(),
            width: facts.width,
            height: facts.height,
            fps: facts.fps,
            kbps: facts.kbps,
        }
    }
}

impl From<AudioFacts> for Audio {
    fn from(facts: AudioFacts) -> Self {
        Self {
            codec: facts.codec.into(),
            sample_rate: facts.sample_rate,
            channels: facts.channels,
            kbps: facts.kbps,
        }
    }
}

/// The build that runs it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct PluginName {
    name: String,
    version: String,
}

/// What a stream is asked about.
pub(super) struct Subject<'a> {
    pub(super) stream: &'a StreamGuid,
    /// The provision that carries it, with its type.
    pub(super) provision: Option<(&'a ProvisionGuid, &'a RestreamType)>,
    /// Whether that provision feeds the stream; one that reads it is live by its own doing.
    pub(super) feeds: bool,
    pub(super) place: Place<'a>,
}

impl Subject<'_> {
    /// Whether what moves under the stream's name is what it is asked about: of a provision,
    /// only what its own restreamer feeds or reads.
    fn owns(&self, snapshot: &StreamSnapshot, status: Option<&Status>) -> bool {
        self.provision.is_none() || (status.is_some() && !(self.feeds && snapshot.published))
    }
}

/// Where a stream is.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// Nowhere yet.
    Nowhere,
    /// On this node of the group.
    Node(&'a Node),
    /// On a node that is gone.
    Gone,
}

impl State {
    /// Puts together what is known about a stream: of this node at first hand, of another one what it told lately.
    pub(super) fn element(
        &self,
        subject: &Subject<'_>,
        epoch: Option<u64>,
        viewer: Viewer,
    ) -> StreamElement {
        let element = match subject.place {
            Place::Node(node) if node.id != self.cluster.this_node() => self.far(subject, node),
            Place::Gone => describe(subject, false, None, None),
            Place::Nowhere | Place::Node(_) => self.near(subject),
        };
        let element = StreamElement { epoch, ..element };
        if viewer == Viewer::Admin {
            element
        } else {
            element.without_secrets()
        }
    }

    /// A stream as this node has it.
    fn near(&self, subject: &Subject<'_>) -> StreamElement {
        let snapshot = self.streams.snapshot(subject.stream);
        let status = subject
            .provision
            .and_then(|(provision, _)| self.restreamers.status(provision, subject.stream));
        describe(subject, true, snapshot.as_ref(), status)
    }

    /// A stream as another node told it. Where that is, and whether it may be fed there, is known in any case.
    fn far(&self, subject: &Subject<'_>, node: &Node) -> StreamElement {
        let known = describe(subject, false, None, None);
        let of = figures::Subject {
            stream: subject.stream.clone(),
            provision: subject.provision.map(|(guid, _)| guid.clone()),
        };
        match self.figures.stream::<StreamElement>(&node.id, &of) {
            Some(told) => StreamElement {
                stream_guid: known.stream_guid,
                server_address: known.server_address,
                node_role: known.node_role,
                sub_group: known.sub_group,
                node_state: known.node_state,
                provision_guid: known.provision_guid,
                kind: known.kind,
                ..told
            },
            None => {
                let holder = self.cluster.claimed_by(&node.group, subject.stream);
                let held = subject.feeds && holder.as_ref() == Some(&node.id);
                StreamElement {
                    state: if held { LIVE } else { WAIT },
                    ..known
                }
            }
        }
    }

    /// Whether another node told that a provision's policy ended there by its own decision.
    pub(super) fn has_given_up(
        &self,
        node: &Node,
        provision: &ProvisionGuid,
        stream: &StreamGuid,
    ) -> bool {
        let of = figures::Subject {
            stream: stream.clone(),
            provision: Some(provision.clone()),
        };
        let told = self.figures.stream::<StreamElement>(&node.id, &of);
        told.is_some_and(|told| told.has_given_up())
    }

    /// What other nodes are told of a stream that is here: all but what they know.
    pub(super) fn figure(&self, subject: &Subject<'_>) -> Map<String, Value> {
        let told = StreamElement {
            stream_guid: String::new(),
            provision_guid: None,
            kind: None,
            ..self.near(subject)
        };
        let Ok(Value::Object(mut fields)) = serde_json::to_value(told) else {
            return Map::new();
        };
        fields.retain(|field, value| !value.is_null() && field != "streamGuid");
        fields
    }

    /// The node a provision or stream was given to, if it still is in the group.
    pub(super) fn node(&self, group: &NodeGroup, id: &NodeId) -> Option<Node> {
        self.cluster
            .nodes(group)
            .into_iter()
            .find(|node| node.id == *id)
    }
}

impl StreamElement {
    fn has_given_up(&self) -> bool {
        let last = self.history.iter().flatten().last();
        self.phase.as_deref() == Some(Phase::Failed.as_str())
            && last.is_some_and(|incident| restreamer::is_own_decision(&incident.class))
    }

    /// The same with the viewers on another node, as far as its own are known.
    pub(super) fn with_viewers_of(mut self, edge: &Self) -> Self {
        let elsewhere = edge.subscribers.unwrap_or_default();
        // Another node may say anything.
        self.subscribers = self.subscribers.map(|own| own.saturating_add(elsewhere));
        self
    }

    /// As a node has it that gets it from another one.
    pub(super) fn at_edge(mut self, stream: &StreamGuid, node: &Node, viewer: Viewer) -> Self {
        self.stream_guid = stream.to_string();
        self.set_place(Place::Node(node));
        self.node_role = Some("edge".to_owned());
        match viewer {
            Viewer::Admin => self,
            Viewer::Anonymous => self.without_secrets(),
        }
    }

    /// What everyone may see.
    fn without_secrets(self) -> Self {
        Self {
            source: None,
            error: None,
            status_text: None,
            history: None,
            targets: None,
            provision_guid: None,
            plugin: None,
            ..self
        }
    }
}

fn describe(
    subject: &Subject<'_>,
    here: bool,
    snapshot: Option<&StreamSnapshot>,
    status: Option<Status>,
) -> StreamElement {
    let snapshot = snapshot.filter(|snapshot| subject.owns(snapshot, status.as_ref()));
    let media_moves = snapshot.is_some_and(|snapshot| snapshot.live);
    let live = match &status {
        Some(status) if !subject.feeds => matches!(status.phase, Phase::Live),
        _ => subject.feeds && media_moves,
    };
    // Of a stream that is here, the absence of a figure is itself known.
    let figure = |of: fn(&StreamSnapshot) -> u64| snapshot.map(of).or(here.then_some(0));
    let mut element = StreamElement {
        stream_guid: subject.stream.to_string(),
        subscribers: figure(|snapshot| snapshot.subscribers),
        latency_ms: snapshot.map(|snapshot| millis(snapshot.latency)),
        duration_ms: figure(|snapshot| millis(snapshot.duration)),
        bytes_in: figure(|snapshot| snapshot.bytes_in),
        media: snapshot.and_then(media),
        state: if live { LIVE } else { WAIT },
        phase: here.then_some(if live { "live" } else { "waiting" }.into()),
        since: snapshot
            .and_then(|snapshot| snapshot.since)
            .map(|since| since.to_string()),
        provision_guid: subject.provision.map(|(guid, _)| guid.to_string()),
        kind: subject.provision.map(|(_, kind)| kind.to_string()),
        ..StreamElement::default()
    };
    element.set_place(subject.place);
    if let Some(status) = status {
        element.set_status(status);
    }
    element
}

impl StreamElement {
    fn set_place(&mut self, place: Place<'_>) {
        match place {
            Place::Nowhere => {}
            Place::Gone => self.node_state = Some("FAULT".into()),
            Place::Node(node) => {
                self.server_address = Some(node.address.clone());
                self.node_role = Some(node.role.clone());
                self.sub_group = Some(node.sub_group.clone());
                self.node_state = Some(node.state.to_owned());
            }
        }
    }

    fn set_status(&mut self, status: Status) {
        let incident = |incident: crate::restreamer::Incident| Incident {
            at: incident.at.to_string(),
            class: incident.class,
            text: incident.text,
        };
        self.phase = Some(status.phase.as_str().into());
        self.since = Some(status.since.to_string());
        self.source = status.source;
        self.attempt = Some(status.attempt);
        self.next_attempt_ms = status.next_attempt.map(millis);
        self.status_text = status.text;
        self.error = status.error;
        self.history = Some(status.history.into_iter().map(incident).collect());
        self.targets = Some(status.targets.into_iter().map(Target::from).collect());
        self.plugin = status
            .plugin
            .map(|(name, version)| PluginName { name, version });
    }
}

fn media(snapshot: &StreamSnapshot) -> Option<Media> {
    let (video, audio) = (snapshot.video.clone(), snapshot.audio.clone());
    media_of(video, audio, snapshot.more.clone(), snapshot.gop)
}

/// What was measured, if anything was.
pub(super) fn media_of(
    video: Option<VideoFacts>,
    audio: Option<AudioFacts>,
    more: MoreTracks,
    gop: Option<std::time::Duration>,
) -> Option<Media> {
    let any = video.is_some() || audio.is_some();
    any.then(|| Media {
        video: video.map(Video::from),
        audio: audio.map(Audio::from),
        gop_ms: gop.map(millis),
        more_video: more.video.into_iter().map(more_video).collect(),
        more_audio: more.audio.into_iter().map(more_audio).collect(),
    })
}

fn more_video((track, facts): (u8, VideoFacts)) -> MoreVideo {
    let video = facts.into();
    MoreVideo { track, video }
}

fn more_audio((track, facts): (u8, AudioFacts)) -> MoreAudio {
    let audio = facts.into();
    MoreAudio { track, audio }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn status(phase: Phase) -> Status {
        Status {
            phase,
            since: jiff::Timestamp::UNIX_EPOCH,
            source: Some("rtmp://***@host/live/a?***".into()),
            attempt: 3,
            next_attempt: Some(Duration::from_millis(250)),
            text: None,
            error: Some("refused".into()),
            history: vec![crate::restreamer::Incident {
                at: jiff::Timestamp::UNIX_EPOCH,
                class: "refused".into(),
                text: "connection refused".into(),
            }],
            targets: Vec::new(),
            plugin: Some(("rtmp".into(), "0.1.0".into())),
            epoch: 7,
        }
    }

    fn element(feeds: bool, status: Option<Status>) -> StreamElement {
        let (stream, guid, kind) = (
            "live/a".parse().expect("x"),
            "p-1".parse().expect("x"),
            "rtmp".parse().expect("x"),
        );
        let subject = Subject {
            stream: &stream,
            provision: Some((&guid, &kind)),
            feeds,
            place: Place::Nowhere,
        };
        describe(&subject, true, None, status)
    }

    #[test]
    fn no_field_is_ever_missing() {
        let known =
            serde_json::to_value(element(true, Some(status(Phase::BackingOff)))).expect("JSON");
        let bare = serde_json::to_value(StreamElement::default()).expect("JSON");
        let keys = |value: &serde_json::Value| {
            value
                .as_object()
                .map(|object| object.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(keys(&known), keys(&bare));
        assert_eq!(known["nextAttemptMs"], 250);
        assert_eq!(known["history"][0]["class"], "refused");
        assert_eq!(
            (&known["state"], &known["phase"]),
            (&"WAIT".into(), &"backing-off".into())
        );
    }

    #[test]
    fn a_feeder_is_live_only_while_media_moves() {
        assert_eq!(element(true, Some(status(Phase::Live))).state, "WAIT");
        assert_eq!(element(false, Some(status(Phase::Live))).state, "LIVE");
    }

    #[test]
    fn viewers_of_all_nodes_are_added_up_whatever_a_node_says() {
        let of = |subscribers| StreamElement {
            subscribers,
            ..StreamElement::default()
        };
        let (three, unknown) = (of(Some(3)), of(None));
        let all = |own: &StreamElement, edge: &StreamElement| own.clone().with_viewers_of(edge);
        assert_eq!(all(&three, &three).subscribers, Some(6));
        assert_eq!(all(&three, &unknown).subscribers, Some(3));
        assert_eq!(all(&unknown, &three).subscribers, None);
        let most = of(Some(u64::MAX));
        assert_eq!(all(&three, &most).subscribers, Some(u64::MAX));
    }

    #[test]
    fn what_others_publish_makes_no_provision_live() {
        let snapshot = |published| StreamSnapshot {
            guid: "live/a".parse().expect("x"),
            live: true,
            published,
            edge: false,
            since: None,
            duration: Duration::from_secs(1),
            latency: Duration::ZERO,
            subscribers: 1,
            bytes_in: 9,
            ring_bytes: 9,
            video: Some(VideoFacts {
                codec: "avc1",
                width: None,
                height: None,
                fps: None,
                kbps: None,
            }),
            audio: None,
            more: MoreTracks::default(),
            gop: None,
        };
        let (stream, guid, kind) = (
            "live/a".parse().expect("x"),
            "p-1".parse().expect("x"),
            "rtmp".parse().expect("x"),
        );
        let element = |provision, published, status| {
            let subject = Subject {
                stream: &stream,
                provision,
                feeds: true,
                place: Place::Nowhere,
            };
            let element = describe(&subject, true, Some(&snapshot(published)), status);
            (element.state, element.media.is_some(), element.bytes_in)
        };
        let provision = Some((&guid, &kind));
        let nothing = (WAIT, false, Some(0));
        assert_eq!(element(provision, true, None), nothing, "no restreamer");
        let failed = Some(status(Phase::Failed));
        assert_eq!(element(provision, true, failed), nothing, "not its own");
        let live = Some(status(Phase::Live));
        assert_eq!(element(provision, false, live), (LIVE, true, Some(9)));
        assert_eq!(element(None, true, None), (LIVE, true, Some(9)));
    }

    #[test]
    fn what_a_node_tells_of_itself_is_read_as_it_was() {
        let mut told = element(true, Some(status(Phase::BackingOff)));
        told.media = media_of(
            Some(VideoFacts {
                codec: "avc1",
                width: Some(1280),
                height: Some(720),
                fps: Some(29.97),
                kbps: Some(2_500),
            }),
            None,
            MoreTracks::default(),
            Some(Duration::from_secs(2)),
        );
        let value = serde_json::to_value(&told).expect("JSON");
        let read: StreamElement = serde_json::from_value(value.clone()).expect("reads");
        assert_eq!(serde_json::to_value(read).expect("JSON"), value);
        // Nulls are left out, and a later version says more.
        let mut fields = value.as_object().cloned().expect("an object");
        fields.retain(|_, value| !value.is_null());
        fields.insert("moons".to_owned(), 2.into());
        let read: StreamElement = serde_json::from_value(fields.into()).expect("reads");
        assert_eq!(serde_json::to_value(read).expect("JSON"), value);
    }

    #[test]
    fn strangers_see_nothing_that_could_hold_a_secret() {
        let shown = element(true, Some(status(Phase::Failed))).without_secrets();
        assert!(shown.source.is_none() && shown.error.is_none() && shown.history.is_none());
        assert!(shown.provision_guid.is_none() && shown.plugin.is_none());
        assert_eq!(shown.attempt, Some(3));
    }
}
