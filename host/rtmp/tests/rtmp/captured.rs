//! Real peers, byte for byte as they were captured, replayed without sockets.
//!
//! `testdata/README.md` says who said what to whom, and how to take them again.

use std::fs;
use std::path::Path;

use bytes::BytesMut;
use restreamd_rtmp::amf0::Value;
use restreamd_rtmp::session::{
    ClientEvent, ClientSession, Media, MediaKind, Purpose, ServerConfig, ServerEvent, ServerSession,
};
use restreamd_rtmp::{ChunkReader, Limits, Message, flv, type_id};

use crate::peer::{config, read_all, values};

/// Version byte and two packets, in either direction.
const HANDSHAKE: usize = 1 + 2 * 1_536;
/// At once, as a slow network would, and along and across the packets of the handshake.
const PIECES: [usize; 4] = [usize::MAX, 1, 1_537, 128];

fn captured(name: &str) -> Vec<u8> {
    let path = format!("tests/testdata/{name}.bin");
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What a session said, behind the handshake.
fn messages(output: &[u8]) -> Vec<Message> {
    read_all(&mut ChunkReader::new(Limits::GRANTED), &output[HANDSHAKE..])
}

/// What a server session makes of a client, and what it answers. Everything is granted.
struct Client {
    events: Vec<ServerEvent>,
    answers: Vec<Message>,
}

impl Client {
    fn replay(name: &str) -> Client {
        let replays = PIECES.map(|piece| Client::in_pieces(&captured(name), piece));
        for other in &replays[1..] {
            assert_eq!(other.events, replays[0].events, "{name}: pieces matter");
        }
        let [first, ..] = replays;
        first
    }

    fn in_pieces(bytes: &[u8], piece: usize) -> Client {
        let mut server = ServerSession::new(ServerConfig::default());
        let (mut events, mut output) = (Vec::new(), BytesMut::new());
        for part in bytes.chunks(piece) {
            server.buffer().extend_from_slice(part);
            server.received(part.len());
            while let Some(event) = server.poll().unwrap() {
                match &event {
                    ServerEvent::Connect { .. } => server.accept_connect(),
                    ServerEvent::Publish { stream_id, .. } => server.accept_publish(*stream_id),
                    ServerEvent::Play { stream_id, .. } => server.accept_play(*stream_id),
                    _ => {}
                }
                events.push(event);
            }
            output.extend_from_slice(&server.take_output().unwrap_or_default());
        }
        let answers = messages(&output);
        Client { events, answers }
    }

    /// Connect, and then publish or play as it was asked for.
    fn asks(&self) -> (&str, &ServerEvent) {
        let ServerEvent::Connect { app, .. } = &self.events[0] else {
            panic!("{:?}", self.events[0]);
        };
        (app, &self.events[1])
    }

    fn media(&self) -> Vec<&Media> {
        let media = self.events.iter().filter_map(|event| match event {
            ServerEvent::Media { media, .. } => Some(media),
            _ => None,
        });
        media.collect()
    }

    /// Commands it was answered with: name and transaction.
    fn heard(&self) -> Vec<(String, f64)> {
        let commands = self
            .answers
            .iter()
            .filter(|m| m.type_id == type_id::COMMAND_AMF0);
        commands
            .map(|message| {
                let values = values(message);
                let name = values[0].as_str().unwrap().to_owned();
                (name, values[1].as_f64().unwrap())
            })
            .collect()
    }

    /// The transactions that have their result.
    fn results(&self) -> Vec<f64> {
        let heard = self.heard();
        assert!(heard.iter().all(|(name, _)| name != "_error"), "{heard:?}");
        let results = heard.into_iter().filter(|(name, _)| name == "_result");
        results.map(|(_, transaction)| transaction).collect()
    }
}

fn publish(name: &str) -> ServerEvent {
    ServerEvent::Publish {
        stream_id: 1,
        app: "live".to_owned(),
        name: name.to_owned(),
        mode: "live".to_owned(),
    }
}

fn play(name: &str) -> ServerEvent {
    ServerEvent::Play {
        stream_id: 1,
        app: "live".to_owned(),
        name: name.to_owned(),
    }
}

/// Pictures and sound: metadata, both sequence headers, and clocks that go on.
fn is_a_stream(media: &[&Media]) {
    let of = |kind| media.iter().filter(move |media| media.kind == kind);
    let metadata = of(MediaKind::Data).next().expect("metadata");
    let metadata = flv::metadata_payload(&metadata.payload).expect("metadata");
    assert!(metadata.starts_with(b"\x02\0\x0AonMetaData"));
    let picture = of(MediaKind::Video).next().expect("a picture");
    assert!(picture.payload.starts_with(&[0x17, 0]), "a sequence header");
    let sound = of(MediaKind::Audio).next().expect("a sound");
    assert!(sound.payload.starts_with(&[0xAF, 0]), "a sequence header");
    for kind in [MediaKind::Audio, MediaKind::Video] {
        let times: Vec<u32> = of(kind).map(|media| media.timestamp).collect();
        assert!(
            !times.is_empty() && times.is_sorted(),
            "{kind:?}: {times:?}"
        );
    }
}

fn publishes(file: &str, name: &str, results: &[f64]) -> Client {
    let client = Client::replay(file);
    assert_eq!(client.asks(), ("live", &publish(name)));
    assert_eq!(client.results(), results, "{file}");
    is_a_stream(&client.media());
    client
}

#[test]
fn ffmpeg_publishes_with_a_result_for_each_of_its_calls() {
    // connect, releaseStream, FCPublish, createStream.
    publishes("ffmpeg_publish", "cam?key=1", &[1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn librtmp_publishes_with_a_result_for_each_of_its_calls() {
    publishes("librtmp_publish", "cam", &[1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn gstreamer_publishes_and_its_calls_of_transaction_0_are_not_answered() {
    // releaseStream and FCPublish are of transaction 0, and so is publish.
    publishes("gstreamer_publish", "cam", &[1.0, 2.0]);
}

#[test]
fn nginx_pushes_without_fc_publish_and_begins_its_stream_itself() {
    let client = Client::replay("nginx_push");
    assert_eq!(client.asks(), ("live", &publish("cam")));
    assert_eq!(client.results(), [1.0, 2.0]);
    // It says StreamBegin as a server would, and sends sound until the next keyframe.
    let media = client.media();
    assert_eq!(media[0].kind, MediaKind::Data);
    assert!(media[1].payload.starts_with(&[0xAF, 0]), "{:?}", media[1]);
}

/// A publisher that plays a second and leaves is seen to leave, once.
fn leaves(file: &str) {
    let client = Client::replay(file);
    is_a_stream(&client.media());
    let ended = |event: &&ServerEvent| **event == ServerEvent::PublishFinished { stream_id: 1 };
    assert_eq!(client.events.iter().filter(ended).count(), 1, "{file}");
    let last = client.events.last().unwrap();
    assert_eq!(*last, ServerEvent::PublishFinished { stream_id: 1 });
    let keyframes = client.media();
    let keyframes = keyframes
        .iter()
        .filter(|media| media.payload.starts_with(&[0x17, 1]));
    assert_eq!(keyframes.count(), 1, "{file}");
}

#[test]
fn ffmpeg_is_seen_to_leave_once() {
    leaves("ffmpeg_publish_once");
}

#[test]
fn librtmp_is_seen_to_leave_once() {
    leaves("librtmp_publish_once");
}

#[test]
fn gstreamer_is_seen_to_leave_once() {
    leaves("gstreamer_publish_once");
}

fn plays(file: &str, name: &str, results: &[f64]) -> Client {
    let client = Client::replay(file);
    assert_eq!(client.asks(), ("live", &play(name)));
    assert_eq!(client.events.len(), 2, "{:?}", client.events);
    assert_eq!(client.results(), results, "{file}");
    let heard = client.heard();
    let status = heard.iter().filter(|(name, _)| name == "onStatus");
    assert_eq!(status.count(), 2, "reset and start: {heard:?}");
    client
}

#[test]
fn ffmpeg_asks_for_the_length_of_a_live_stream_and_plays_any() {
    plays("ffmpeg_play", "cam?key=1", &[1.0, 2.0, 3.0]);
}

#[test]
fn ffmpeg_has_its_bandwidth_check_answered() {
    // connect, createStream, _checkbw, getStreamLength.
    plays("ffmpeg_play_checked", "cam?key=1", &[1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn librtmp_subscribes_before_it_plays_live() {
    let client = plays("librtmp_play_live", "cam?key=1", &[1.0, 2.0, 3.0]);
    let heard = client.heard();
    assert!(
        heard.contains(&("onFCSubscribe".to_owned(), 0.0)),
        "{heard:?}"
    );
}

#[test]
fn librtmp_plays_a_live_stream_that_it_takes_for_a_recording() {
    plays("librtmp_play", "cam?key=1", &[1.0, 2.0]);
}

#[test]
fn librtmp_has_its_bandwidth_check_answered() {
    plays("librtmp_play_checked", "cam?key=1", &[1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn gstreamer_plays_with_transaction_0() {
    plays("gstreamer_play", "cam", &[1.0, 2.0]);
}

#[test]
fn nginx_plays_with_a_start_and_a_length() {
    plays("nginx_pull", "cam", &[1.0, 2.0]);
}

/// What a client session makes of a server, and what it says.
fn served(file: &str) -> (Vec<ClientEvent>, Vec<Message>) {
    let replays = PIECES.map(|piece| {
        let mut client = ClientSession::new(config("rtmp://host/live/cam", Purpose::Play));
        let (mut events, mut output) = (Vec::new(), Vec::new());
        for part in captured(file).chunks(piece) {
            client.buffer().extend_from_slice(part);
            client.received(part.len());
            while let Some(event) = client.poll().unwrap() {
                events.push(event);
            }
            output.extend(client.take_output().unwrap_or_default());
        }
        (events, messages(&output))
    });
    for other in &replays[1..] {
        assert_eq!(other.0, replays[0].0, "{file}: pieces matter");
    }
    let [first, ..] = replays;
    first
}

fn serves(file: &str) -> Vec<Message> {
    let (events, said) = served(file);
    let [connected, started, rest @ ..] = &events[..] else {
        panic!("{events:?}");
    };
    let begun = (ClientEvent::Connected, ClientEvent::PlayStarted);
    assert_eq!((connected, started), (&begun.0, &begun.1));
    let media = rest.iter().map(|event| match event {
        ClientEvent::Media(media) => media,
        other => panic!("{other:?}"),
    });
    is_a_stream(&media.collect::<Vec<_>>());
    said
}

#[test]
fn nginx_serves_with_sample_access_and_sound_before_its_picture() {
    let said = serves("nginx_serve");
    // Its peer bandwidth is answered with a window.
    assert!(said.iter().any(|m| m.type_id == type_id::WINDOW_ACK_SIZE));
}

#[test]
fn ffmpeg_serves_on_message_stream_0_and_frames_its_metadata_as_a_publisher_does() {
    let said = serves("ffmpeg_serve");
    // onBWDone asks for nothing.
    let commands = said.iter().filter(|m| m.type_id == type_id::COMMAND_AMF0);
    let names: Vec<_> = commands.map(|m| values(m)[0].clone()).collect();
    assert_eq!(names, ["connect", "createStream", "play"].map(Value::from));
    let begin = captured("ffmpeg_serve").split_off(HANDSHAKE);
    let heard = read_all(&mut ChunkReader::new(Limits::GRANTED), &begin);
    let media = heard.iter().filter(|m| m.type_id == type_id::VIDEO);
    assert!(media.clone().count() > 0 && media.map(|m| m.stream_id).all(|id| id == 0));
}
