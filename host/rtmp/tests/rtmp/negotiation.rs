//! What is said about Enhanced RTMP with connect, by both sides.

use restreamd_rtmp::amf0::Value;
use restreamd_rtmp::session::{ClientEvent, Purpose, ServerEvent, Stage};

use crate::peer::{Heard, Pair, RawClient, RawServer, command, config, values};

/// Properties of a connect or of its answer that only Enhanced RTMP has.
const KEYS: [&str; 4] = [
    "fourCcList",
    "videoFourCcInfoMap",
    "audioFourCcInfoMap",
    "capsEx",
];

fn list(codes: &[&str]) -> Value {
    Value::StrictArray(codes.iter().map(|code| Value::from(*code)).collect())
}

fn map(code: &str, flags: f64) -> Value {
    Value::object([(code, Value::Number(flags))])
}

/// What a client that offers this hears: the properties and the information of the result.
fn answered(offer: &[(&str, Value)]) -> [Value; 2] {
    let mut client = RawClient::handshaken();
    let mut object = vec![("app", Value::from("live"))];
    object.extend(offer.iter().cloned());
    let connect = [
        Value::from("connect"),
        Value::Number(1.0),
        Value::object(object),
    ];
    client.say(&command(0, &connect)).unwrap();
    client.server.accept_connect();
    assert_eq!(client.server.stage(), Stage::Ready);
    let heard = client.hear();
    let result = values(heard.last().unwrap());
    assert_eq!(result[0], Value::from("_result"));
    [result[2].clone(), result[3].clone()]
}

#[test]
fn any_word_of_enhanced_rtmp_is_answered_with_all_that_is_passed_on() {
    let offers = [
        ("fourCcList", list(&["hvc1", "av01"])),
        ("videoFourCcInfoMap", map("vp09", 1.0)),
        ("audioFourCcInfoMap", map("Opus", 3.0)),
        ("capsEx", Value::Number(2.0)),
    ];
    for offer in offers {
        for told in answered(&[offer]) {
            assert_eq!(told.get("fourCcList"), Some(&list(&["*"])));
            assert_eq!(told.get("videoFourCcInfoMap"), Some(&map("*", 4.0)));
            assert_eq!(told.get("audioFourCcInfoMap"), Some(&map("*", 4.0)));
            // Multitrack, modifiers, nanosecond offsets; no requests to reconnect.
            assert_eq!(told.get("capsEx"), Some(&Value::Number(14.0)));
        }
    }
}

#[test]
fn who_speaks_no_enhanced_rtmp_hears_none() {
    for told in answered(&[("videoCodecs", Value::Number(252.0))]) {
        assert!(KEYS.iter().all(|key| told.get(key).is_none()), "{told:?}");
    }
}

/// Offers that make no sense; some of them are seen in the field.
fn nonsense() -> Vec<Value> {
    vec![
        Value::Null,
        Value::Undefined,
        Value::from("hvc1,av01"),
        Value::Number(f64::NAN),
        Value::Number(-1.0),
        Value::StrictArray(vec![Value::Number(1.0), Value::Null, Value::from("")]),
        Value::StrictArray(vec![]),
        map("*", f64::INFINITY),
        Value::EcmaArray(vec![("0".to_owned(), Value::from("xxxx"))]),
    ]
}

#[test]
fn no_offer_of_a_client_is_a_reason_to_refuse_it() {
    for value in nonsense() {
        let offer = KEYS.map(|key| (key, value.clone()));
        let [_, told] = answered(&offer);
        assert_eq!(told.get("fourCcList"), Some(&list(&["*"])), "{value:?}");
    }
}

#[test]
fn a_pull_offers_everything_and_obeys_requests_to_reconnect() {
    for (purpose, caps) in [(Purpose::Play, 15.0), (Purpose::Publish, 14.0)] {
        let mut pair = Pair::new(config("rtmp://example.org/live/cam", purpose), usize::MAX);
        let heard = pair.run(|_, _| {});
        let connect = heard.iter().find_map(|heard| match heard {
            Heard::Server(ServerEvent::Connect { object, .. }) => Some(object),
            _ => None,
        });
        let object = connect.unwrap();
        assert_eq!(object.get("fourCcList"), Some(&list(&["*"])));
        assert_eq!(object.get("videoFourCcInfoMap"), Some(&map("*", 4.0)));
        assert_eq!(object.get("audioFourCcInfoMap"), Some(&map("*", 4.0)));
        assert_eq!(object.get("capsEx"), Some(&Value::Number(caps)));
        assert_eq!(object.get("videoFunction"), Some(&Value::Number(7.0)));
    }
}

#[test]
fn no_answer_of_a_server_is_a_reason_to_leave() {
    for value in nonsense() {
        let mut server = RawServer::handshaken(Purpose::Play);
        let told = Value::object(KEYS.map(|key| (key, value.clone())));
        let result = [
            Value::from("_result"),
            Value::Number(1.0),
            told.clone(),
            told,
        ];
        let events = server.say_command(0, &result).unwrap();
        assert_eq!(events, [ClientEvent::Connected], "{value:?}");
    }
}
