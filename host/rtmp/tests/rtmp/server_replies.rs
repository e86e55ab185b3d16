//! What the server session says to the habits of real clients.

use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::session::{ServerEvent, SessionError, Stage};
use restreamd_rtmp::type_id;

use crate::peer::{RawClient, command, message, values};

fn text(value: &str) -> Value {
    Value::from(value)
}

fn number(value: f64) -> Value {
    Value::Number(value)
}

#[test]
fn connect_is_answered_with_window_bandwidth_chunk_size_and_result() {
    for enhanced in [false, true] {
        let mut client = RawClient::handshaken();
        let mut object = vec![("app", text("live?x=1")), ("objectEncoding", number(3.0))];
        if enhanced {
            object.push(("fourCcList", Value::StrictArray(vec![text("hvc1")])));
        }
        let connect = [text("connect"), number(1.0), Value::object(object)];
        let events = client.say(&command(0, &connect)).unwrap();
        assert!(matches!(&events[0], ServerEvent::Connect { app, .. } if app == "live?x=1"));
        assert!(!format!("{events:?}").contains("x=1"));
        assert_eq!(client.server.stage(), Stage::Connect);
        client.server.accept_connect();
        assert_eq!(client.server.stage(), Stage::Ready);
        let heard = client.hear();
        let kinds: Vec<u8> = heard.iter().map(|m| m.type_id).collect();
        // The reader obeys and swallows Set Chunk Size.
        assert_eq!(
            kinds,
            [
                type_id::WINDOW_ACK_SIZE,
                type_id::SET_PEER_BANDWIDTH,
                type_id::COMMAND_AMF0
            ]
        );
        let result = values(&heard[2]);
        assert_eq!(result[..2], [text("_result"), number(1.0)]);
        let code = result[3].get("code").unwrap();
        assert_eq!(code, &text("NetConnection.Connect.Success"));
        assert_eq!(result[3].get("objectEncoding"), Some(&number(0.0)));
        let list = Value::StrictArray(vec![text("*")]);
        assert_eq!(result[3].get("fourCcList"), enhanced.then_some(&list));
        assert_eq!(result[3].get("capsEx").is_some(), enhanced);
    }
}

#[test]
fn habits_of_encoders_and_players_get_their_result_but_transaction_0_gets_none() {
    for name in [
        "releaseStream",
        "FCPublish",
        "FCUnpublish",
        "FCSubscribe",
        "getStreamLength",
        "_checkbw",
        "pause",
        "seek",
        "receiveAudio",
        "receiveVideo",
    ] {
        let mut client = RawClient::connected();
        assert_eq!(
            client.call(0, name, 4.5, &[text("cam")]),
            Ok(vec![]),
            "{name}"
        );
        let heard = client.hear_commands();
        assert_eq!(heard[0][..2], [text("_result"), number(4.5)], "{name}");
        assert_eq!(client.call(0, name, 0.0, &[text("cam")]), Ok(vec![]));
        let heard = client.hear_commands();
        assert!(heard.iter().all(|c| c[0] != text("_result")), "{name}");
        // xiu's pulls give some of them the number of their connect, and would begin anew.
        if !["getStreamLength", "_checkbw"].contains(&name) {
            assert_eq!(client.call(0, name, 1.0, &[text("cam")]), Ok(vec![]));
            let heard = client.hear_commands();
            assert!(heard.iter().all(|c| c[0] != text("_result")), "{name}");
        }
    }
    let mut client = RawClient::connected();
    client.call(0, "FCSubscribe", 3.0, &[text("cam")]).unwrap();
    assert_eq!(client.hear_commands()[1][0], text("onFCSubscribe"));
    client.call(0, "FCPublish", 3.0, &[text("cam")]).unwrap();
    assert_eq!(client.hear_commands()[1][0], text("onFCPublish"));
    client.call(0, "somethingElse", 3.0, &[]).unwrap();
    assert_eq!(client.hear_commands()[0][0], text("_error"));
}

#[test]
fn create_stream_gives_the_smallest_free_id_and_the_transaction_back() {
    let mut client = RawClient::connected();
    let mut create = |transaction| {
        client.call(0, "createStream", transaction, &[]).unwrap();
        client.hear_commands().remove(0)
    };
    assert_eq!(create(4.0)[1..], [number(4.0), Value::Null, number(1.0)]);
    assert_eq!(create(2.25)[1..], [number(2.25), Value::Null, number(2.0)]);
    for _ in 0..6 {
        create(1.0);
    }
    assert_eq!(create(9.0)[0], text("_error"));
    client.call(0, "deleteStream", 0.0, &[number(1.0)]).unwrap();
    client.call(0, "createStream", 5.0, &[]).unwrap();
    assert_eq!(client.hear_commands()[0][3], number(1.0));
}

#[test]
fn play_is_begun_by_stream_begin_reset_and_start_in_this_order() {
    let mut client = RawClient::connected();
    client.call(0, "createStream", 2.0, &[]).unwrap();
    let asked = client.call(1, "play", 0.0, &[text("mp4:cam?k=v"), number(-2000.0)]);
    let play = ServerEvent::Play {
        stream_id: 1,
        app: "live".to_owned(),
        name: "mp4:cam?k=v".to_owned(),
    };
    assert_eq!(asked, Ok(vec![play]));
    client.hear();
    client.server.accept_play(1);
    let heard = client.hear();
    assert_eq!(
        (heard[0].type_id, heard[0].stream_id),
        (type_id::USER_CONTROL, 0)
    );
    assert_eq!(heard[0].payload[..], [0, 0, 0, 0, 0, 1]);
    let codes: Vec<_> = heard[1..]
        .iter()
        .map(|m| (m.stream_id, values(m)[3].get("code").cloned().unwrap()))
        .collect();
    let (reset, start) = ("NetStream.Play.Reset", "NetStream.Play.Start");
    assert_eq!(codes, [(1, text(reset)), (1, text(start))]);

    client.server.end_play(1);
    let heard = client.hear();
    assert_eq!(heard[0].payload[..], [0, 1, 0, 0, 0, 1]);
    let (gone, stop) = ("NetStream.Play.UnpublishNotify", "NetStream.Play.Stop");
    assert_eq!(values(&heard[1])[3].get("code"), Some(&text(gone)));
    assert_eq!(values(&heard[2])[3].get("code"), Some(&text(stop)));
    client.server.end_play(1);
    assert!(client.hear().is_empty(), "an end is said once");
}

#[test]
fn publish_mode_is_lower_case_and_live_when_missing() {
    for (arguments, expected) in [
        (vec![text("cam")], "live"),
        (vec![text("cam"), text("LIVE")], "live"),
        (vec![text("cam"), text("Record")], "record"),
    ] {
        let mut client = RawClient::connected();
        client.call(0, "createStream", 2.0, &[]).unwrap();
        let events = client.call(1, "publish", 0.0, &arguments).unwrap();
        assert!(matches!(&events[..], [ServerEvent::Publish { mode, .. }] if mode == expected));
    }
}

#[test]
fn media_is_delivered_only_on_a_stream_whose_publish_was_accepted() {
    let audio = |stream| message(5, type_id::AUDIO, stream, b"\xAF\x01x", 128);
    let mut client = RawClient::connected();
    assert_eq!(client.say(&audio(1)), Ok(vec![]));
    client.call(0, "createStream", 2.0, &[]).unwrap();
    client.call(1, "publish", 3.0, &[text("cam")]).unwrap();
    assert_eq!(client.say(&audio(1)), Ok(vec![]));
    client.server.accept_publish(1);
    assert_eq!(client.say(&audio(1)).unwrap().len(), 1);
    assert_eq!(client.say(&audio(2)), Ok(vec![]));
    let done = ServerEvent::PublishFinished { stream_id: 1 };
    assert_eq!(
        client.call(0, "deleteStream", 0.0, &[number(1.0)]),
        Ok(vec![done])
    );
    assert_eq!(client.say(&audio(1)), Ok(vec![]));
}

#[test]
fn every_way_to_stop_publishing_is_understood_once() {
    let ways: [(u32, &str, Vec<Value>); 5] = [
        (0, "FCUnpublish", vec![text("cam")]),
        (1, "closeStream", vec![]),
        (0, "closeStream", vec![number(1.0)]),
        (0, "deleteStream", vec![number(1.0)]),
        (1, "publish", vec![Value::Boolean(false)]),
    ];
    for (stream, name, arguments) in ways {
        let mut client = RawClient::publishing();
        let done = ServerEvent::PublishFinished { stream_id: 1 };
        assert_eq!(
            client.call(stream, name, 0.0, &arguments),
            Ok(vec![done]),
            "{name}"
        );
        assert_eq!(
            client.call(stream, name, 0.0, &arguments),
            Ok(vec![]),
            "{name}"
        );
    }
}

#[test]
fn second_play_on_a_stream_switches_and_play_false_stops() {
    let mut client = RawClient::connected();
    client.call(0, "createStream", 2.0, &[]).unwrap();
    client.call(1, "play", 0.0, &[text("a")]).unwrap();
    client.server.accept_play(1);
    let events = client.call(1, "play", 0.0, &[text("b")]).unwrap();
    assert_eq!(events[0], ServerEvent::PlayFinished { stream_id: 1 });
    assert!(matches!(&events[1], ServerEvent::Play { name, .. } if name == "b"));
    let events = client.call(1, "play", 0.0, &[Value::Boolean(false)]);
    assert_eq!(events, Ok(vec![ServerEvent::PlayFinished { stream_id: 1 }]));
    client.hear();
    client.server.accept_play(1);
    assert!(
        client.hear().is_empty(),
        "a decision that comes too late says nothing"
    );
}

#[test]
fn publish_without_a_stream_or_a_name_is_refused_and_the_session_goes_on() {
    let mut client = RawClient::connected();
    for (stream, name) in [(0, "cam"), (7, "cam")] {
        assert_eq!(
            client.call(stream, "publish", 0.0, &[text(name)]),
            Ok(vec![])
        );
        let status = client.hear_commands().remove(0);
        assert_eq!(status[3].get("level"), Some(&text("error")));
    }
    client.call(0, "createStream", 2.0, &[]).unwrap();
    client.hear();
    assert_eq!(client.call(1, "publish", 0.0, &[text("")]), Ok(vec![]));
    assert_eq!(client.hear_commands()[0][0], text("onStatus"));
    assert_eq!(
        client
            .call(0, "publish", 0.0, &[text("cam")])
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn amf3_envelopes_are_opened() {
    let mut client = RawClient::connected();
    let mut body = vec![0];
    body.extend(amf0::encode(&[
        text("createStream"),
        number(2.0),
        Value::Null,
    ]));
    let bytes = message(3, type_id::COMMAND_AMF3, 0, &body, 128);
    client.say(&bytes).unwrap();
    assert_eq!(client.hear_commands()[0][0], text("_result"));

    let mut client = RawClient::publishing();
    let inner = amf0::encode(&[text("@setDataFrame"), text("onMetaData"), Value::Null]);
    let mut body = vec![0];
    body.extend(&inner);
    let events = client
        .say(&message(5, type_id::DATA_AMF3, 1, &body, 128))
        .unwrap();
    assert!(matches!(&events[..], [ServerEvent::Media { media, .. }] if media.payload == inner));
}

#[test]
fn unknown_user_control_and_short_control_messages_are_ignored() {
    let mut client = RawClient::connected();
    for event in [3_u8, 22, 26, 27, 30, 33, 255] {
        let body = [0, event, 0, 0, 0, 1, 0, 0, 0, 9];
        let bytes = message(2, type_id::USER_CONTROL, 0, &body, 128);
        assert_eq!(client.say(&bytes), Ok(vec![]));
    }
    for kind in [2, 3, 4, 5, 6, 7, 16, 19, 22, 99] {
        assert_eq!(client.say(&message(2, kind, 0, b"", 128)), Ok(vec![]));
        assert_eq!(client.say(&message(2, kind, 0, &[0, 6], 128)), Ok(vec![]));
    }
    assert!(client.hear().is_empty());
}

#[test]
fn acknowledgements_count_up_from_the_first_byte() {
    let mut client = RawClient::publishing();
    let window = message(
        2,
        type_id::WINDOW_ACK_SIZE,
        0,
        &8_192_u32.to_be_bytes(),
        128,
    );
    client.say(&window).unwrap();
    let mut counts = Vec::new();
    for _ in 0..40 {
        client
            .say(&message(5, type_id::AUDIO, 1, &[0; 1_000], 128))
            .unwrap();
        for heard in client.hear() {
            assert_eq!(heard.type_id, type_id::ACKNOWLEDGEMENT);
            counts.push(u32::from_be_bytes(heard.payload[..].try_into().unwrap()));
        }
    }
    assert!(
        counts.len() >= 8,
        "five messages are more than half the window"
    );
    assert!(counts.windows(2).all(|two| two[0] < two[1]));
    assert!(counts.last().unwrap() > &36_000);
}

#[test]
fn commands_pipelined_behind_connect_wait_for_the_decision() {
    let mut client = RawClient::handshaken();
    let object = Value::object([("app", text("live"))]);
    let mut bytes = command(0, &[text("connect"), number(1.0), object]);
    bytes.extend(command(
        0,
        &[text("createStream"), number(2.0), Value::Null],
    ));
    assert_eq!(client.say(&bytes).unwrap().len(), 1);
    assert!(client.hear().is_empty());
    client.server.accept_connect();
    assert_eq!(client.say(&[]), Ok(vec![]));
    assert_eq!(client.hear_commands().len(), 2);
}

#[test]
fn what_is_sent_into_an_undecided_or_rejected_connect_is_bounded() {
    for reject in [false, true] {
        let mut client = RawClient::handshaken();
        let object = Value::object([("app", text("live"))]);
        client
            .say(&command(0, &[text("connect"), number(1.0), object]))
            .unwrap();
        if reject {
            client.server.reject_connect("no");
        }
        let error = (0..1_000).find_map(|_| client.say(&[0; 1_024]).err());
        assert!(matches!(error, Some(SessionError::Protocol(_))));
        assert!(client.server.buffer().len() < 300 * 1_024);
    }
}

#[test]
fn publish_and_play_requests_are_counted() {
    let mut client = RawClient::publishing();
    let error = (0..1_000)
        .find_map(|_| client.call(1, "publish", 0.0, &[text("cam")]).err())
        .unwrap();
    assert!(matches!(error, SessionError::Protocol(_)));
}

#[test]
fn only_a_client_that_says_it_obeys_is_asked_to_reconnect() {
    for (caps_ex, asked) in [
        (None, false),
        (Some(14.0), false),
        (Some(15.0), true),
        (Some(f64::NAN), false),
        (Some(f64::INFINITY), false),
    ] {
        let mut client = RawClient::handshaken();
        let mut object = vec![("app", text("live"))];
        object.extend(caps_ex.map(|bits| ("capsEx", number(bits))));
        let connect = [text("connect"), number(1.0), Value::object(object)];
        client.say(&command(0, &connect)).unwrap();
        let elsewhere = "rtmp://b.example/live";
        assert!(!client.server.request_reconnect(elsewhere, "leaving"));
        client.server.accept_connect();
        client.hear();
        let sent = client.server.request_reconnect(elsewhere, "leaving");
        assert_eq!(sent, asked, "{caps_ex:?}");
        let heard = client.hear_commands();
        assert_eq!(heard.len(), usize::from(asked));
        if let Some(status) = heard.first() {
            assert_eq!(status[0], text("onStatus"));
            let code = "NetConnection.Connect.ReconnectRequest";
            assert_eq!(status[3].get("code"), Some(&text(code)));
            assert_eq!(status[3].get("tcUrl"), Some(&text(elsewhere)));
        }
    }
}
