//! A client and a server session, joined by bytes.

use bytes::Bytes;
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::session::{
    ClientEvent, ClientSession, End, Media, MediaKind, Purpose, Refusal, RejectClass, Rejection,
    ServerConfig, ServerEvent, ServerSession, SessionError, Stage,
};
use restreamd_rtmp::{flv, type_id};

use crate::peer::{Heard, Pair, RawClient, RawServer, config, payload};

const URL: &str = "rtmp://user:secret@example.org/live/room/cam1?token=a/b";

fn accept(server: &mut ServerSession, event: &ServerEvent) {
    match event {
        ServerEvent::Connect { .. } => server.accept_connect(),
        ServerEvent::Publish { stream_id, .. } => server.accept_publish(*stream_id),
        ServerEvent::Play { stream_id, .. } => server.accept_play(*stream_id),
        _ => {}
    }
}

fn client_events(heard: &[Heard]) -> Vec<&ClientEvent> {
    let client = heard.iter().filter_map(|heard| match heard {
        Heard::Client(event) => Some(event),
        Heard::Server(_) => None,
    });
    client.collect()
}

fn server_events(heard: &[Heard]) -> Vec<&ServerEvent> {
    let server = heard.iter().filter_map(|heard| match heard {
        Heard::Server(event) => Some(event),
        Heard::Client(_) => None,
    });
    server.collect()
}

fn media(kind: MediaKind, timestamp: u32, payload: impl Into<Bytes>) -> Media {
    Media {
        kind,
        timestamp,
        payload: payload.into(),
    }
}

fn metadata() -> Bytes {
    let named = Value::EcmaArray(vec![("width".to_owned(), Value::Number(640.0))]);
    amf0::encode(&[Value::from("onMetaData"), named])
}

/// What a publisher sends and a player gets.
fn frames() -> Vec<Media> {
    vec![
        media(MediaKind::Data, 0, metadata()),
        media(MediaKind::Video, 0, &b"\x17\0\0\0\0config"[..]),
        media(MediaKind::Audio, 0, &b"\xAF\0\x12\x10"[..]),
        media(MediaKind::Video, 40, payload(150_000, 1)),
        media(MediaKind::Audio, 41, payload(300, 2)),
        media(MediaKind::Video, 0x0100_0000, payload(70_000, 3)),
        media(MediaKind::Audio, u32::MAX, Bytes::new()),
        media(MediaKind::Video, 7, payload(4_097, 4)),
    ]
}

#[test]
fn publish_goes_through_however_the_bytes_are_cut() {
    for piece in [usize::MAX, 65_536, 4_096, 1_537, 128, 7, 1] {
        let mut pair = Pair::new(config(URL, Purpose::Publish), piece);
        let heard = pair.run(accept);
        assert_eq!(
            client_events(&heard),
            [&ClientEvent::Connected, &ClientEvent::PublishAccepted]
        );
        let asked = server_events(&heard);
        let ServerEvent::Connect {
            app,
            tc_url,
            object,
            ..
        } = asked[0]
        else {
            panic!("{asked:?}");
        };
        assert_eq!(app, "live/room");
        assert_eq!(tc_url.as_deref(), Some("rtmp://example.org/live/room"));
        assert!(object.get("fourCcList").is_some());
        let publish = ServerEvent::Publish {
            stream_id: 1,
            app: "live/room".to_owned(),
            name: "cam1?token=a/b".to_owned(),
            mode: "live".to_owned(),
        };
        assert_eq!(asked[1], &publish);
        assert_eq!(pair.server.stage(), Stage::Granted);

        for frame in frames() {
            pair.client.send_media(&frame);
        }
        let heard = pair.run(accept);
        let got: Vec<Media> = server_events(&heard)
            .into_iter()
            .map(|event| match event {
                ServerEvent::Media {
                    stream_id: 1,
                    media,
                } => media.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        let mut expected = frames();
        let framed = amf0::encode(&[Value::from("@setDataFrame")]);
        expected[0].payload = [framed, metadata()].concat().into();
        assert_eq!(got, expected);
        assert_eq!(flv::metadata_payload(&got[0].payload), Some(metadata()));

        pair.client.finish();
        let heard = pair.run(accept);
        assert_eq!(
            server_events(&heard),
            [&ServerEvent::PublishFinished { stream_id: 1 }]
        );
    }
}

#[test]
fn play_goes_through_however_the_bytes_are_cut() {
    for piece in [usize::MAX, 65_536, 4_096, 1_537, 128, 7, 1] {
        let mut wanted = config(URL, Purpose::Play);
        wanted.fc_subscribe = true;
        let mut pair = Pair::new(wanted, piece);
        let heard = pair.run(accept);
        assert_eq!(
            client_events(&heard),
            [&ClientEvent::Connected, &ClientEvent::PlayStarted]
        );
        let play = ServerEvent::Play {
            stream_id: 1,
            app: "live/room".to_owned(),
            name: "cam1?token=a/b".to_owned(),
        };
        assert_eq!(server_events(&heard)[1], &play);

        for frame in frames() {
            let wire = Wire::media(frame.kind.type_id(), frame.timestamp, &frame.payload);
            pair.inject(wire.bytes());
        }
        let heard = pair.run(accept);
        let expected: Vec<Heard> = frames()
            .into_iter()
            .map(|frame| Heard::Client(ClientEvent::Media(frame)))
            .collect();
        assert_eq!(heard, expected);

        pair.server.end_play(1);
        let heard = pair.run(accept);
        assert_eq!(heard, [Heard::Client(ClientEvent::Ended(End::StreamEof))]);
    }
}

#[test]
fn player_that_leaves_is_reported() {
    let mut pair = Pair::new(config(URL, Purpose::Play), usize::MAX);
    pair.run(accept);
    pair.client.finish();
    let heard = pair.run(accept);
    assert_eq!(
        heard,
        [Heard::Server(ServerEvent::PlayFinished { stream_id: 1 })]
    );
}

#[test]
fn a_ping_during_the_handshake_is_left_out() {
    let mut client = ClientSession::new(config(URL, Purpose::Play));
    let first = client.take_output().expect("it begins");
    client.ping(1);
    assert_eq!((first.len(), client.output_pending()), (1 + 1536, 0));
}

#[test]
fn pings_are_answered_in_both_directions() {
    let mut pair = Pair::new(config(URL, Purpose::Play), 1);
    pair.run(accept);
    pair.server.ping(7);
    pair.client.ping(u32::MAX);
    let heard = pair.run(accept);
    let client = ClientEvent::Pong {
        timestamp: u32::MAX,
    };
    assert_eq!(client_events(&heard), [&client]);
    let server = ServerEvent::Pong { timestamp: 7 };
    assert_eq!(server_events(&heard), [&server]);
}

fn rejection_of(
    purpose: Purpose,
    mut decide: impl FnMut(&mut ServerSession, &ServerEvent),
) -> Rejection {
    let mut pair = Pair::new(config(URL, purpose), 11);
    let heard = pair.run(&mut decide);
    let Some(ClientEvent::Rejected(rejection)) = client_events(&heard).pop() else {
        panic!("{heard:?}");
    };
    rejection.clone()
}

#[test]
fn refused_connect_reaches_the_client_with_its_reason() {
    let rejection = rejection_of(Purpose::Play, |server, _| server.reject_connect("go away"));
    assert_eq!(rejection.class, RejectClass::Rejected);
    assert_eq!(rejection.code, "NetConnection.Connect.Rejected");
    assert_eq!(rejection.description, "go away");
}

#[test]
fn refused_publish_and_play_reach_the_client_with_their_class() {
    let class = |purpose, refusal| {
        let rejection = rejection_of(purpose, |server, event| match event {
            ServerEvent::Publish { stream_id, .. } => {
                server.reject_publish(*stream_id, refusal, "no");
            }
            ServerEvent::Play { stream_id, .. } => server.reject_play(*stream_id, refusal, "no"),
            other => accept(server, other),
        });
        (rejection.class, rejection.code)
    };
    let expected = [
        (
            Purpose::Publish,
            Refusal::BadName,
            RejectClass::Rejected,
            "NetStream.Publish.BadName",
        ),
        (
            Purpose::Publish,
            Refusal::Unauthorized,
            RejectClass::Auth,
            "NetStream.Publish.Unauthorized",
        ),
        (
            Purpose::Publish,
            Refusal::Limit,
            RejectClass::Rejected,
            "NetStream.Publish.Failed",
        ),
        (
            Purpose::Play,
            Refusal::StreamNotFound,
            RejectClass::NotFound,
            "NetStream.Play.StreamNotFound",
        ),
        (
            Purpose::Play,
            Refusal::Unauthorized,
            RejectClass::Auth,
            "NetStream.Play.Failed",
        ),
        (
            Purpose::Play,
            Refusal::BadName,
            RejectClass::Rejected,
            "NetStream.Play.Failed",
        ),
        (
            Purpose::Play,
            Refusal::Limit,
            RejectClass::Rejected,
            "NetStream.Play.Failed",
        ),
    ];
    for (purpose, refusal, kind, code) in expected {
        assert_eq!(
            class(purpose, refusal),
            (kind, code.to_owned()),
            "{refusal:?}"
        );
    }
}

#[test]
fn stream_that_ends_before_play_was_accepted_is_not_found() {
    let rejection = rejection_of(Purpose::Play, |server, event| match event {
        ServerEvent::Play { stream_id, .. } => server.end_play(*stream_id),
        other => accept(server, other),
    });
    assert_eq!(rejection.class, RejectClass::NotFound);
}

#[test]
fn rejections_of_real_servers_get_their_class() {
    let class = |code: &str, description: &str| {
        let mut server = RawServer::handshaken(Purpose::Publish);
        let information = Value::object([
            ("level", Value::from("error")),
            ("code", Value::from(code)),
            ("description", Value::from(description)),
        ]);
        let error = Value::from("_error");
        let events = server.say_command(0, &[error, Value::Number(1.0), Value::Null, information]);
        let Ok([ClientEvent::Rejected(rejection)]) = events.as_deref() else {
            panic!("{events:?}");
        };
        assert!(!format!("{rejection:?}").contains("challenge="));
        rejection.class.clone()
    };
    let rejected = "NetConnection.Connect.Rejected";
    let adobe = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
    let challenge =
        "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=u&salt=s&challenge=c";
    assert_eq!(class(rejected, adobe), RejectClass::Auth);
    assert_eq!(class(rejected, challenge), RejectClass::Auth);
    assert_eq!(class(rejected, "Unauthorized"), RejectClass::Auth);
    assert_eq!(
        class("NetConnection.Connect.InvalidApp", ""),
        RejectClass::NotFound
    );
    assert_eq!(
        class(rejected, "application not found"),
        RejectClass::NotFound
    );
    assert_eq!(class(rejected, "full"), RejectClass::Rejected);
}

#[test]
fn redirect_of_connect_is_reported_with_its_target() {
    let mut server = RawServer::handshaken(Purpose::Play);
    let ex = Value::object([
        ("code", Value::Number(302.0)),
        ("redirect", Value::from("rtmp://other/live?t=1")),
    ]);
    let information = Value::object([
        ("level", Value::from("error")),
        ("code", Value::from("NetConnection.Connect.Rejected")),
        ("ex", ex),
    ]);
    let error = Value::from("_error");
    let events = server
        .say_command(0, &[error, Value::Number(1.0), Value::Null, information])
        .unwrap();
    let [ClientEvent::Rejected(rejection)] = &events[..] else {
        panic!("{events:?}");
    };
    let to = "rtmp://other/live?t=1".to_owned();
    assert_eq!(rejection.class, RejectClass::Redirected { to });
    assert!(!format!("{events:?}").contains("t=1"));
}

#[test]
fn reconnect_request_is_reported_and_the_stream_goes_on() {
    let mut server = RawServer::playing();
    let information = Value::object([
        ("level", Value::from("status")),
        (
            "code",
            Value::from("NetConnection.Connect.ReconnectRequest"),
        ),
        ("tcUrl", Value::from("rtmp://other/live")),
        ("description", Value::from("maintenance")),
    ]);
    let status = Value::from("onStatus");
    let events = server.say_command(0, &[status, Value::Number(0.0), Value::Null, information]);
    assert_eq!(
        events,
        Ok(vec![ClientEvent::Reconnect {
            tc_url: Some("rtmp://other/live".to_owned()),
            description: Some("maintenance".to_owned()),
        }])
    );
    let audio = crate::peer::message(5, type_id::AUDIO, 1, b"x", 128);
    assert_eq!(server.say(&audio).unwrap().len(), 1);
}

#[test]
fn every_end_is_reported_once_until_the_stream_goes_on() {
    let user = |event: u8| vec![0, event, 0, 0, 0, 1];
    let control = |event| crate::peer::message(2, type_id::USER_CONTROL, 0, &user(event), 128);
    let ended = |end| Ok(vec![ClientEvent::Ended(end)]);
    let mut server = RawServer::playing();
    assert_eq!(server.say(&control(1)), ended(End::StreamEof));
    assert_eq!(
        server.status("status", "NetStream.Play.UnpublishNotify", ""),
        Ok(vec![])
    );
    assert_eq!(
        server.status("status", "NetStream.Play.Stop", ""),
        Ok(vec![])
    );
    // A new publisher: the second start is silent, the next end is not.
    assert_eq!(
        server.status("status", "NetStream.Play.Start", ""),
        Ok(vec![])
    );
    assert_eq!(server.say(&control(2)), ended(End::StreamDry));
    let audio = crate::peer::message(5, type_id::AUDIO, 1, b"x", 128);
    assert_eq!(server.say(&audio).unwrap().len(), 1);
    let unpublished = server.status("status", "NetStream.Play.UnpublishNotify", "");
    assert_eq!(unpublished, ended(End::UnpublishNotify));
    for (code, end) in [
        ("NetStream.Play.Stop", End::Stop),
        ("NetStream.Play.Complete", End::Complete),
        ("NetConnection.Connect.Closed", End::Closed),
    ] {
        assert_eq!(RawServer::playing().status("status", code, ""), ended(end));
    }
    let complete = Value::object([("code", Value::from("NetStream.Play.Complete"))]);
    let data = amf0::encode(&[Value::from("onPlayStatus"), complete]);
    let data = crate::peer::message(5, type_id::DATA_AMF0, 1, &data, 128);
    assert_eq!(RawServer::playing().say(&data), ended(End::Complete));
}

#[test]
fn media_before_play_start_is_kept_behind_the_start() {
    let mut server = RawServer::asked(Purpose::Play);
    let data = crate::peer::message(5, type_id::DATA_AMF0, 1, &metadata(), 128);
    assert_eq!(server.say(&data), Ok(vec![]));
    let video = crate::peer::message(4, type_id::VIDEO, 1, b"\x17\0\0\0\0", 128);
    let events = server.say(&video).unwrap();
    assert_eq!(events[0], ClientEvent::PlayStarted);
    assert!(matches!(&events[1], ClientEvent::Media(m) if m.kind == MediaKind::Data));
    assert!(matches!(&events[2], ClientEvent::Media(m) if m.kind == MediaKind::Video));
    assert_eq!(
        server.status("status", "NetStream.Play.Start", ""),
        Ok(vec![])
    );
}

#[test]
fn data_about_the_connection_is_not_media() {
    let mut server = RawServer::playing();
    for name in ["|RtmpSampleAccess", "onStatus", "onPlayStatus"] {
        let data = amf0::encode(&[Value::from(name), Value::Boolean(true)]);
        let data = crate::peer::message(5, type_id::DATA_AMF0, 1, &data, 128);
        assert_eq!(server.say(&data), Ok(vec![]), "{name}");
    }
    let cue = amf0::encode(&[Value::from("onCuePoint"), Value::Null]);
    let mut prefixed = vec![0];
    prefixed.extend(&cue);
    let data = crate::peer::message(5, type_id::DATA_AMF3, 1, &prefixed, 128);
    let events = server.say(&data).unwrap();
    assert!(matches!(&events[..], [ClientEvent::Media(m)] if m.payload == cue));
}

#[test]
fn client_says_what_servers_want_to_hear() {
    let mut wanted = config("rtmp://example.org:1936/live/cam", Purpose::Play);
    wanted.swf_url = Some("http://example.org/p.swf".to_owned());
    wanted.page_url = Some("http://example.org/".to_owned());
    wanted.flash_ver = Some("WIN 32".to_owned());
    let mut pair = Pair::new(wanted, usize::MAX);
    pair.client.set_app_query("?authmod=adobe&user=u");
    let heard = pair.run(accept);
    let ServerEvent::Connect {
        app,
        tc_url,
        flash_ver,
        object,
    } = server_events(&heard)[0]
    else {
        panic!("{heard:?}");
    };
    assert_eq!(app, "live?authmod=adobe&user=u");
    assert_eq!(
        tc_url.as_deref(),
        Some("rtmp://example.org:1936/live?authmod=adobe&user=u")
    );
    assert_eq!(flash_ver.as_deref(), Some("WIN 32"));
    let text = |key| object.get(key).and_then(Value::as_str);
    assert_eq!(text("swfUrl"), Some("http://example.org/p.swf"));
    assert_eq!(text("pageUrl"), Some("http://example.org/"));
    let number = |key| object.get(key).and_then(Value::as_f64);
    assert_eq!(number("objectEncoding"), Some(0.0));
    assert_eq!(number("capabilities"), Some(239.0));
    assert_eq!(number("videoFunction"), Some(7.0));
    assert_eq!(object.get("fpad"), Some(&Value::Boolean(false)));
    assert!(!format!("{heard:?}").contains("user=u"));
}

#[test]
fn client_answers_peer_bandwidth_and_bandwidth_checks() {
    let mut server = RawServer::playing();
    let body = [0, 0x10, 0, 0, 2];
    let bandwidth = crate::peer::message(2, type_id::SET_PEER_BANDWIDTH, 0, &body, 128);
    server.say(&bandwidth).unwrap();
    let heard = server.hear();
    assert_eq!(heard[0].type_id, type_id::WINDOW_ACK_SIZE);
    assert_eq!(heard[0].payload[..], body[..4]);
    server.say(&bandwidth).unwrap();
    assert!(server.hear().is_empty(), "the same size is answered once");
    server
        .say_command(
            0,
            &[Value::from("_onbwcheck"), Value::Number(9.0), Value::Null],
        )
        .unwrap();
    let heard = server.hear_commands();
    assert_eq!(heard[0][..2], [Value::from("_result"), Value::Number(9.0)]);
}

#[test]
fn client_rejects_nothing_twice_and_stays_silent_after() {
    let mut server = RawServer::asked(Purpose::Play);
    let events = server.status("error", "NetStream.Play.StreamNotFound", "");
    assert_eq!(events.unwrap().len(), 1);
    assert_eq!(
        server.status("error", "NetStream.Play.Failed", ""),
        Ok(vec![])
    );
    assert_eq!(
        server.status("status", "NetStream.Play.Start", ""),
        Ok(vec![])
    );
}

/// The error stays, and nothing of what comes after it is read or kept.
fn stays_failed<E: std::fmt::Debug + PartialEq>(
    first: Result<Option<E>, SessionError>,
    mut say_and_poll: impl FnMut(&[u8]) -> (Result<Option<E>, SessionError>, usize),
) {
    assert!(first.is_err(), "{first:?}");
    let good = crate::peer::command(0, &[Value::from("_checkbw"), Value::Number(9.0)]);
    for bytes in [&good[..], b"", &[0xFF; 70_000]] {
        let (again, kept) = say_and_poll(bytes);
        assert_eq!(again, first);
        assert_eq!(kept, 0, "{} bytes were sent", bytes.len());
    }
}

#[test]
fn an_error_of_a_server_session_is_its_last_word() {
    let nameless = crate::peer::command(0, &[Value::Number(1.0)]);
    let connect = crate::peer::command(0, &[Value::from("connect"), Value::Number(1.0)]);
    for bytes in [&nameless[..], &connect, &[0x07; 12]] {
        let mut client = RawClient::connected();
        let server = &mut client.server;
        server.buffer().extend_from_slice(bytes);
        // Good messages behind the bad one.
        let ping = crate::peer::message(2, type_id::USER_CONTROL, 0, &[0, 6, 0, 0, 0, 7], 128);
        server.buffer().extend_from_slice(&ping);
        stays_failed(server.poll(), |bytes| {
            server.buffer().extend_from_slice(bytes);
            (server.poll(), server.buffer().len())
        });
        assert_eq!(server.take_output(), None, "it answers nothing any more");
    }
    let mut server = ServerSession::new(ServerConfig::default());
    server.buffer().extend_from_slice(&[9; 4_000]);
    let first = server.poll();
    assert!(
        matches!(first, Err(SessionError::Handshake(_))),
        "{first:?}"
    );
    stays_failed(first, |bytes| {
        server.buffer().extend_from_slice(bytes);
        (server.poll(), server.buffer().len())
    });
}

#[test]
fn an_error_of_a_client_session_is_its_last_word() {
    let nameless = crate::peer::command(1, &[Value::Number(1.0)]);
    let mut server = RawServer::playing();
    let client = &mut server.client;
    client.buffer().extend_from_slice(&nameless);
    stays_failed(client.poll(), |bytes| {
        client.buffer().extend_from_slice(bytes);
        (client.poll(), client.buffer().len())
    });
    let mut client = ClientSession::new(config(URL, Purpose::Play));
    client.buffer().extend_from_slice(&[9; 4_000]);
    stays_failed(client.poll(), |bytes| {
        client.buffer().extend_from_slice(bytes);
        (client.poll(), client.buffer().len())
    });
}

#[test]
fn debug_of_sessions_and_events_shows_no_secret() {
    let mut pair = Pair::new(config(URL, Purpose::Publish), usize::MAX);
    pair.client.set_app_query("?token=a/b");
    let before = format!("{:?} {:?}", pair.client, pair.server);
    let heard = pair.run(accept);
    pair.client.finish();
    let shown = format!("{before} {heard:?} {:?} {:?}", pair.client, pair.server);
    assert!(
        !shown.contains("a/b") && !shown.contains("secret"),
        "{shown}"
    );
}
