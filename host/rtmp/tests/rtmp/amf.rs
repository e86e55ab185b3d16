//! AMF0 values.

use restreamd_rtmp::amf0::{Amf0Error, Value, decode, encode};

fn all_kinds() -> Vec<Value> {
    vec![
        Value::Number(-1.5),
        Value::Boolean(true),
        Value::from("text"),
        Value::from("x".repeat(65_536 / 2)),
        Value::object([("b", Value::Null), ("a", Value::Undefined)]),
        Value::EcmaArray(vec![("n".to_owned(), Value::Number(f64::MAX))]),
        Value::StrictArray(vec![Value::Date(1.0), Value::Unsupported]),
        Value::Object(vec![]),
    ]
}

#[test]
fn values_survive_encoding_in_their_order() {
    assert_eq!(decode(&encode(&all_kinds())), Ok(all_kinds()));
}

#[test]
fn long_strings_dates_and_typed_objects_are_read() {
    let bytes = [
        &[0x0C, 0, 0, 0, 2, b'h', b'i'][..],
        &[0x0B, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x10, 0, 1, b'T', 0, 1, b'k', 0x05, 0, 0, 9],
        &[0x07, 0, 1],
    ]
    .concat();
    assert_eq!(
        decode(&bytes),
        Ok(vec![
            Value::from("hi"),
            Value::Date(2.0),
            Value::object([("k", Value::Null)]),
            Value::Unsupported,
        ])
    );
}

#[test]
fn string_beyond_16_bits_is_written_as_a_long_string() {
    let bytes = encode(&[Value::from("x".repeat(65_536))]);
    assert_eq!(bytes[..5], [0x0C, 0, 1, 0, 0]);
}

#[test]
fn every_cut_of_a_value_is_truncated() {
    let values = [Value::object([
        ("a", Value::Number(1.0)),
        ("b", Value::from("s")),
    ])];
    let bytes = encode(&values);
    for end in 1..bytes.len() {
        assert_eq!(decode(&bytes[..end]), Err(Amf0Error::Truncated), "at {end}");
    }
}

#[test]
fn counts_are_not_believed_and_values_are_counted() {
    assert_eq!(
        decode(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF]),
        Err(Amf0Error::Truncated)
    );
    assert_eq!(
        decode(&[0x0C, 0xFF, 0xFF, 0xFF, 0xFF]),
        Err(Amf0Error::Truncated)
    );
    assert_eq!(decode(&[0x05; 1_025]), Err(Amf0Error::Values));
    assert_eq!(decode(&[0x05; 1_024]).unwrap().len(), 1_024);
    assert_eq!(decode(&[0x04]), Err(Amf0Error::Marker(4)));
    assert_eq!(decode(&[0x11]), Err(Amf0Error::Amf3));
}

#[test]
fn last_property_of_a_name_wins() {
    let value = Value::object([("a", Value::Number(1.0)), ("a", Value::Number(2.0))]);
    assert_eq!(value.get("a").and_then(Value::as_f64), Some(2.0));
    assert_eq!(value.get("b"), None);
    assert_eq!(Value::Null.get("a"), None);
}

#[test]
fn invalid_utf8_is_replaced() {
    assert_eq!(
        decode(&[0x02, 0, 1, 0xFF]),
        Ok(vec![Value::from("\u{FFFD}")])
    );
}
