//! Nodes in one process: each with its streams, a real RTMP listener and its edges; who
//! holds what is told by the test.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use restreamd_rtmp::flv;
use restreamd_rtmp::session::{Media, Purpose};
use restreamd_rtmp::url::RtmpUrl;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::dials::{AT_ONCE, TURN};
use super::{Config, Edges, Holders, Origin};
use crate::auth::{Auth, Errand, Secret, Settings};
use crate::drain::Drain;
use crate::gate::{Access, Gate, Protocol, Rules};
use crate::id::{NodeId, StreamGuid};
use crate::limits::{Bounds, Limits};
use crate::rtmp::connection::Context;
use crate::rtmp::dial::{Class, Dialed, Failure, Heard, Options, OwnPulls};
use crate::rtmp::listener::Listener;
use crate::rtmp::policy::{self, Policy};
use crate::stream::latency::Latency;
use crate::stream::timeline::Lane;
use crate::stream::unit::{Content, Unit};
use crate::stream::{Batch, Feeder, Stream, Streams, Subscriber};

/// A busy machine may take its time.
const SOON: Duration = Duration::from_secs(20);
const ORPHAN_WAIT: Duration = Duration::from_millis(1_500);
const LINGER: Duration = Duration::from_millis(300);

/// What all nodes hear of.
#[derive(Clone, Default)]
struct Board {
    holders: Arc<Mutex<HashMap<StreamGuid, Option<Origin>>>>,
    latency: Arc<Mutex<Option<Latency>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Board {
    /// Somebody holds the stream.
    fn held(&self, guid: &StreamGuid, node: &Node, epoch: u64) {
        self.say(guid, Some(node.origin(epoch)));
    }

    /// It is to go on, and nobody holds it.
    fn waits(&self, guid: &StreamGuid) {
        self.say(guid, None);
    }

    fn say(&self, guid: &StreamGuid, holder: Option<Origin>) {
        self.holders.lock().insert(guid.clone(), holder);
        self.changed.send_replace(());
    }

    /// It is no more.
    fn forget(&self, guid: &StreamGuid) {
        self.holders.lock().remove(guid);
        self.changed.send_replace(());
    }
}

/// The board as a node sees it: itself left out.
struct View {
    me: NodeId,
    board: Board,
}

impl Holders for View {
    fn holder(&self, stream: &StreamGuid) -> Option<Origin> {
        let holder = self.board.holders.lock().get(stream).cloned().flatten();
        holder.filter(|origin| origin.node != self.me)
    }

    fn exists(&self, stream: &StreamGuid) -> bool {
        self.board.holders.lock().contains_key(stream)
    }

    fn latency(&self, _: &StreamGuid) -> Option<Latency> {
        *self.board.latency.lock()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.board.changed.subscribe()
    }
}

struct Node {
    id: NodeId,
    streams: Streams,
    edges: Edges,
    auth: Auth,
    limits: Limits,
    rtmp: SocketAddr,
    drain: Drain,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain.start();
    }
}

fn auth() -> Auth {
    let settings = Settings {
        admin_user: "admin".to_owned(),
        admin_password: Secret::new("right"),
        jwt_secret: Secret::new("0123456789abcdef0123456789abcdef"),
        token_ttl: Duration::from_secs(60),
    };
    Auth::new(&settings).expect("good settings")
}

impl Node {
    fn new(id: &str, board: &Board) -> Self {
        Self::with(id, board, Access::Open)
    }

    fn with(id: &str, board: &Board, play: Access) -> Self {
        let id: NodeId = id.parse().expect("legal");
        let (drain, auth) = (Drain::new(), auth());
        let streams = Streams::new(crate::stream::Config::default());
        let bounds = Bounds {
            subscribers: Some(2),
            ..Bounds::default()
        };
        let limits = Limits::new(bounds, [], None);
        let rules = Rules {
            publish: Access::Open,
            play,
            webhook: None,
        };
        let context = Context {
            streams: streams.clone(),
            config: crate::rtmp::Config::default(),
            gate: Gate::new(rules, BTreeMap::new(), auth.clone()),
            protocol: Protocol::Rtmp,
            limits: limits.clone(),
            own_pulls: OwnPulls::default(),
            elsewhere: Arc::new(|_| None),
            drain: drain.clone(),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, 100).expect("loopback");
        let rtmp = listener.addr().expect("bound");
        drain.spawn(listener.run(Arc::new(context)));
        let view = View {
            me: id.clone(),
            board: board.clone(),
        };
        let config = Config {
            orphan_wait: ORPHAN_WAIT,
            linger: LINGER,
        };
        let edges = Edges::start(
            id.clone(),
            &streams,
            Arc::new(view),
            auth.clone(),
            config,
            drain.clone(),
        );
        Self {
            id,
            streams,
            edges,
            auth,
            limits,
            rtmp,
            drain,
        }
    }

    fn origin(&self, epoch: u64) -> Origin {
        Origin {
            node: self.id.clone(),
            instance: "0".to_owned(),
            epoch,
            rtmp: self.rtmp,
        }
    }

    fn viewer(&self, guid: &StreamGuid) -> Viewer {
        let stream = self.streams.play(guid).expect("there is such a stream");
        Viewer::of(&stream)
    }

    /// Dials it as players and nodes do.
    async fn dial(&self, guid: &StreamGuid, token: Option<String>) -> Result<Dialed, Failure> {
        let token = token.map_or(String::new(), |token| format!("?token={token}"));
        let url = format!("rtmp://{}/{guid}{token}", self.rtmp);
        let url = RtmpUrl::parse(&url).expect("legal");
        let rules = policy::Config {
            allow: vec!["127.0.0.0/8".parse().expect("a rule")],
            deny: Vec::new(),
        };
        let policy = Arc::new(Policy::new(rules, Vec::new()));
        let options = Options::default();
        let dialed = Dialed::open(&url, Purpose::Play, &options, &policy);
        timeout(SOON, dialed).await.expect("an answer")
    }
}

/// Notes the time and the last byte of each frame.
struct Viewer {
    subscriber: Subscriber,
    frames: Vec<(u64, u8)>,
    over: Option<Batch>,
}

impl Viewer {
    fn of(stream: &Arc<Stream>) -> Self {
        Self {
            subscriber: Subscriber::new(stream.clone()),
            frames: Vec::new(),
            over: None,
        }
    }

    fn look(&mut self) {
        loop {
            let frames = &mut self.frames;
            let taken = self.subscriber.take_each(|at, wire| {
                let last = wire.payload_parts().last().and_then(|p| p.last().copied());
                frames.push((at, last.unwrap_or_default()));
            });
            match taken {
                Batch::Frames => {}
                Batch::Empty => return,
                over => return self.over = Some(over),
            }
        }
    }

    /// Until a frame with this mark is there.
    async fn sees(&mut self, mark: u8) {
        let from = self.frames.len();
        let seen = async {
            loop {
                self.look();
                if self.frames[from..].iter().any(|(_, last)| *last == mark) {
                    return;
                }
                assert!(self.over.is_none(), "the stream ended");
                self.subscriber.ready().await;
            }
        };
        timeout(SOON, seen).await.expect("media");
    }

    /// Until the stream is over.
    async fn ends(&mut self) {
        let over = async {
            while self.over.is_none() {
                self.subscriber.ready().await;
                self.look();
            }
        };
        timeout(SOON, over).await.expect("an end");
        assert_eq!(self.over, Some(Batch::Ended));
    }

    fn is_monotonic(&self) -> bool {
        self.frames.is_sorted_by_key(|(at, _)| *at)
    }
}

fn video(content: Content, timestamp: u32, mark: u8) -> Unit {
    let packet = u8::from(!matches!(content, Content::Header { .. }));
    let kind = if content == Content::Frame {
        0x27
    } else {
        0x17
    };
    Unit {
        timestamp,
        lane: Lane::Video,
        content,
        codec: None,
        payload: Bytes::from(vec![kind, packet, 0, 0, 0, mark]),
    }
}

/// Feeds a stream with marked keyframes, as its restreamer would, until it is dropped.
fn feed(stream: &Arc<Stream>, mark: u8) -> AbortOnDropHandle<()> {
    let mut feed = stream.feed(None);
    feed.attach();
    AbortOnDropHandle::new(tokio::spawn(async move {
        feed.push(&video(Content::Header { track: 0 }, 0, mark));
        for at in (0..).step_by(20) {
            feed.push(&video(Content::Keyframe, at, mark));
            feed.depart();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }))
}

fn guid() -> StreamGuid {
    "live/a".parse().expect("legal")
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn viewers_of_another_nodes_stream_cause_one_pull_that_goes_with_the_last_of_them() {
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    assert!(b.streams.play(&guid()).is_none(), "nobody has it");
    let source = a.streams.open(&guid()).expect("free");
    let _feed = feed(&source, 1);
    board.held(&guid(), &a, 1);
    // By RTMP, as players come, and otherwise.
    let mut player = b.dial(&guid(), None).await.expect("granted");
    let (mut first, mut second) = (b.viewer(&guid()), b.viewer(&guid()));
    first.sees(1).await;
    second.sees(1).await;
    let heard = timeout(SOON, player.next()).await.expect("media");
    assert!(matches!(heard, Ok(Heard::Media(_))), "{heard:?}");
    assert_eq!((source.nodes(), source.viewers()), (1, 0));
    assert_eq!(source.snapshot().subscribers, 0, "a node is no viewer");
    let here = b.streams.snapshot(&guid()).expect("it is here");
    assert!(here.edge && !here.published && here.subscribers == 3);
    drop((player, first));
    second.sees(1).await;
    assert_eq!(source.nodes(), 1);
    drop(second);
    eventually("the pull goes", || source.nodes() == 0).await;
    eventually("the stream too", || b.streams.find(&guid()).is_none()).await;
    assert_eq!(b.edges.count(), 0);
    // And again.
    b.viewer(&guid()).sees(1).await;
}

#[tokio::test]
async fn a_node_may_play_where_viewers_may_not_and_takes_none_of_their_places() {
    let board = Board::default();
    let a = Node::with("a", &board, Access::Off);
    let source = a.streams.open(&guid()).expect("free");
    let _feed = feed(&source, 1);
    let refused = a.dial(&guid(), None).await.expect_err("play is off");
    assert_eq!(refused.class, Class::Auth, "{refused}");
    let places: Vec<_> = (0..2).map(|_| a.limits.subscriber(&guid())).collect();
    assert!(places.iter().all(Result::is_ok) && a.limits.subscriber(&guid()).is_err());
    let token = a
        .auth
        .node_token(&"b".parse().expect("legal"), Errand::Play);
    let node = a.dial(&guid(), Some(token)).await;
    assert!(node.is_ok(), "{node:?}");
    let other = a
        .auth
        .node_token(&"b".parse().expect("legal"), Errand::Figures);
    assert!(a.dial(&guid(), Some(other)).await.is_err());
}

#[tokio::test]
async fn an_edge_is_never_served_from_an_edge() {
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    let source = a.streams.open(&guid()).expect("free");
    let _feed = feed(&source, 1);
    board.held(&guid(), &a, 1);
    let mut viewer = b.viewer(&guid());
    viewer.sees(1).await;
    let token = || {
        Some(
            a.auth
                .node_token(&"c".parse().expect("legal"), Errand::Play),
        )
    };
    let refused = b.dial(&guid(), token()).await.expect_err("it is an edge");
    assert_eq!(refused.class, Class::NotFound, "{refused}");
    assert!(b.dial(&guid(), None).await.is_ok(), "a viewer is welcome");
    // A node that is asked for what it has not brings nothing.
    let other: StreamGuid = "live/b".parse().expect("legal");
    board.held(&other, &a, 1);
    let refused = b.dial(&other, token()).await.expect_err("not here");
    assert_eq!(refused.class, Class::NotFound, "{refused}");
    assert!(b.streams.find(&other).is_none());
}

#[tokio::test]
async fn a_node_that_plays_is_sent_away_when_the_stream_becomes_an_edge() {
    let board = Board::default();
    let a = Node::new("a", &board);
    let source = a.streams.open(&guid()).expect("free");
    let source_feed = feed(&source, 1);
    let token = a
        .auth
        .node_token(&"b".parse().expect("legal"), Errand::Play);
    let mut node = a.dial(&guid(), Some(token)).await.expect("granted");
    let mut viewer = a.viewer(&guid());
    viewer.sees(1).await;
    board.waits(&guid());
    a.streams.leave(&source);
    // Its media still comes for a moment: that is what must not go round.
    let end = async {
        loop {
            if let Err(failure) = node.next().await {
                return failure;
            }
        }
    };
    let failure = timeout(SOON, end).await.expect("an end");
    assert_eq!(failure.class, Class::Ended, "{failure}");
    assert!(!source.is_ended());
    drop(source_feed);
}

#[tokio::test]
async fn after_a_move_viewers_go_on_at_the_new_holder_on_the_same_timeline() {
    let board = Board::default();
    let (a, b, c) = (
        Node::new("a", &board),
        Node::new("b", &board),
        Node::new("c", &board),
    );
    let source = a.streams.open(&guid()).expect("free");
    let first = feed(&source, 1);
    board.held(&guid(), &a, 1);
    let mut viewer = b.viewer(&guid());
    viewer.sees(1).await;
    let stream = b.streams.find(&guid()).expect("here");
    // The node is gone, and after a while another one has the stream.
    drop(first);
    a.streams.end(&source);
    board.waits(&guid());
    eventually("the pull is over", || stream.on_air().is_none()).await;
    let other = c.streams.open(&guid()).expect("free");
    let _second = feed(&other, 2);
    board.held(&guid(), &c, 2);
    viewer.sees(2).await;
    assert!(viewer.is_monotonic(), "{:?}", viewer.frames);
    assert_eq!((other.nodes(), stream.viewers()), (1, 1));
}

#[tokio::test]
async fn while_the_new_holder_is_dialed_the_old_one_is_read_on() {
    let board = Board::default();
    let (a, b, c) = (
        Node::new("a", &board),
        Node::new("b", &board),
        Node::new("c", &board),
    );
    let source = a.streams.open(&guid()).expect("free");
    let _first = feed(&source, 1);
    board.held(&guid(), &a, 1);
    let mut viewer = b.viewer(&guid());
    viewer.sees(1).await;
    // It has no media yet.
    let other = c.streams.open(&guid()).expect("free");
    board.held(&guid(), &c, 2);
    eventually("it is dialed", || other.nodes() == 1).await;
    viewer.sees(1).await;
    assert_eq!(source.nodes(), 1);
    let _second = feed(&other, 2);
    viewer.sees(2).await;
    eventually("the old one is left", || source.nodes() == 0).await;
    assert!(viewer.is_monotonic());
}

#[tokio::test]
async fn viewers_of_a_node_that_lost_a_stream_follow_it_and_come_back_with_it() {
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    let stream = a.streams.open(&guid()).expect("free");
    let first = feed(&stream, 1);
    board.held(&guid(), &a, 1);
    let mut viewer = a.viewer(&guid());
    viewer.sees(1).await;
    drop(first);
    board.waits(&guid());
    a.streams.leave(&stream);
    let there = b.streams.open(&guid()).expect("free");
    let second = feed(&there, 2);
    board.held(&guid(), &b, 2);
    viewer.sees(2).await;
    assert_eq!((stream.feeder(), there.nodes()), (Feeder::Edge, 1));
    // Another viewer joins here meanwhile.
    a.viewer(&guid()).sees(2).await;
    // And back.
    drop(second);
    b.streams.leave(&there);
    assert!(there.is_ended(), "nobody watched it there");
    let back = a.streams.open(&guid()).expect("free");
    assert!(Arc::ptr_eq(&back, &stream));
    board.held(&guid(), &a, 3);
    let _third = feed(&back, 3);
    viewer.sees(3).await;
    assert!(viewer.is_monotonic(), "{:?}", viewer.frames);
    eventually("the edge lets go", || a.edges.count() == 0).await;
    viewer.sees(3).await;
    assert!(!stream.is_ended());
}

#[tokio::test]
async fn until_media_of_its_own_is_on_air_a_node_shows_that_of_the_former_holder() {
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    let source = a.streams.open(&guid()).expect("free");
    let _first = feed(&source, 1);
    board.held(&guid(), &a, 1);
    let mut viewer = b.viewer(&guid());
    viewer.sees(1).await;
    // The stream is to move here, and has no media here yet.
    let stream = b.streams.open(&guid()).expect("an edge holds no name");
    viewer.sees(1).await;
    assert_eq!(source.nodes(), 1);
    let _second = feed(&stream, 2);
    viewer.sees(2).await;
    eventually("the pull goes", || source.nodes() == 0).await;
    eventually("the edge too", || b.edges.count() == 0).await;
    assert!(viewer.is_monotonic() && !stream.is_ended());
}

#[tokio::test]
async fn without_a_holder_viewers_are_told_the_end_after_the_orphan_wait() {
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    let source = a.streams.open(&guid()).expect("free");
    let _feed = feed(&source, 1);
    board.held(&guid(), &a, 1);
    let mut viewer = b.viewer(&guid());
    viewer.sees(1).await;
    let begin = Instant::now();
    // As if its node were gone: nothing is told, and the stream is to go on.
    board.waits(&guid());
    viewer.ends().await;
    assert!(begin.elapsed() >= ORPHAN_WAIT, "{:?}", begin.elapsed());
    assert!(b.streams.find(&guid()).is_none());
    eventually("nothing is left", || b.edges.count() == 0).await;
}

#[tokio::test]
async fn the_end_of_a_publication_is_the_end_for_viewers_elsewhere_too() {
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    let published = a.streams.publish(&guid()).expect("free");
    let _feed = feed(&published, 1);
    board.held(&guid(), &a, 0);
    let mut viewer = b.viewer(&guid());
    viewer.sees(1).await;
    let begin = Instant::now();
    board.forget(&guid());
    a.streams.end(&published);
    viewer.ends().await;
    assert!(begin.elapsed() < ORPHAN_WAIT, "{:?}", begin.elapsed());
    // The name is free at once for a publisher here.
    assert!(b.streams.publish(&guid()).is_ok());
}

#[tokio::test]
async fn tracks_of_enhanced_rtmp_pass_as_they_are() {
    let file = include_bytes!("../../../tests/testdata/ffmpeg_two_video_ac3.flv");
    let mut reader = flv::Reader::new();
    reader.buffer().extend_from_slice(file);
    let messages = std::iter::from_fn(|| reader.poll().expect("a good file"));
    let units = messages.filter_map(Media::from_message);
    let units: Vec<Unit> = units.filter_map(Unit::classify).collect();
    let start = units
        .iter()
        .position(|unit| unit.content == Content::Keyframe);
    let (head, rest) = units.split_at(start.expect("a keyframe") + 1);
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    let source = a.streams.open(&guid()).expect("free");
    let mut feed = source.feed(None);
    feed.attach();
    head.iter().for_each(|unit| feed.push(unit));
    feed.depart();
    board.held(&guid(), &a, 1);
    let stream = b.streams.play(&guid()).expect("it exists");
    let mut player = Subscriber::new(stream.clone());
    eventually("it is on air", || stream.on_air().is_some()).await;
    rest.iter().for_each(|unit| feed.push(unit));
    feed.depart();
    let mut seen = Vec::new();
    let all = async {
        loop {
            player.take_each(|_, wire| {
                seen.push(wire.payload_parts().flatten().collect::<Vec<u8>>())
            });
            if seen.last().map(Vec::as_slice) == rest.last().map(|unit| &unit.payload[..]) {
                return;
            }
            player.ready().await;
        }
    };
    timeout(SOON, all).await.expect("all of it");
    for unit in rest.iter().filter(|unit| unit.is_frame()) {
        let there = seen.iter().any(|payload| *payload == unit.payload);
        assert!(there, "{:?} at {} is missing", unit.content, unit.timestamp);
    }
    for unit in head
        .iter()
        .filter(|unit| matches!(unit.content, Content::Header { .. }))
    {
        assert!(
            seen.iter().any(|payload| *payload == unit.payload),
            "a header"
        );
    }
}

#[tokio::test]
async fn an_edge_keeps_the_window_of_the_streams_provision_and_follows_its_change() {
    let board = Board::default();
    let (a, b) = (Node::new("a", &board), Node::new("b", &board));
    let source = a.streams.open(&guid()).expect("free");
    let _feed = feed(&source, 1);
    board.held(&guid(), &a, 1);
    *board.latency.lock() = Latency::millis(250).ok();
    let mut viewer = b.viewer(&guid());
    viewer.sees(1).await;
    let stream = b.streams.find(&guid()).expect("here");
    assert_eq!(stream.window().as_millis(), 250);
    *board.latency.lock() = Some(Latency::LOW);
    eventually("it is low", || !stream.batches()).await;
    *board.latency.lock() = None;
    let default = Latency::default().window();
    eventually("it is the node's", || stream.window() == default).await;
}

#[tokio::test]
async fn many_streams_wanted_at_once_dial_their_node_a_few_at_a_time() {
    let board = Board::default();
    let b = Node::new("b", &board);
    // A node that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let silent = silent.expect("loopback");
    let origin = Origin {
        node: "a".parse().expect("legal"),
        instance: "0".to_owned(),
        epoch: 1,
        rtmp: silent.local_addr().expect("bound"),
    };
    let names = (0..AT_ONCE + 8).map(|n| format!("live/many{n}"));
    let names: Vec<StreamGuid> = names.map(|name| name.parse().expect("legal")).collect();
    let holders = names
        .iter()
        .map(|name| (name.clone(), Some(origin.clone())));
    board.holders.lock().extend(holders);
    let _viewers: Vec<_> = names.iter().map(|name| b.viewer(name)).collect();
    let mut dials = Vec::new();
    while dials.len() < names.len() {
        let (dial, _) = timeout(SOON, silent.accept())
            .await
            .expect("a dial")
            .expect("one");
        dials.push((dial, Instant::now()));
    }
    let [first, last, next] = [0, AT_ONCE - 1, AT_ONCE].map(|n| dials[n].1);
    assert!(next - first > TURN / 2, "{:?} later", next - first);
    assert!(next > last);
}
