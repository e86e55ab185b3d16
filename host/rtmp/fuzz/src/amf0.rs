//! AMF0: decoding any bytes, and writing again what was decoded.

use restreamd_rtmp::amf0::{self, Amf0Error, Value};

/// Values a message may have, and levels below the first.
const MAX_VALUES: usize = 1_024;
const MAX_DEPTH: usize = 16;
/// Decoding takes no more.
const MAX_BYTES: usize = 64 * 1024;

/// The input is what a peer sends.
pub fn run(data: &[u8]) {
    let Ok(values) = amf0::decode(data) else {
        return;
    };
    assert!(data.len() <= MAX_BYTES);
    assert!(values.iter().map(|value| count(value, 0)).sum::<usize>() <= MAX_VALUES);

    // Compared as bytes, because some numbers are not equal to themselves.
    let written = amf0::encode(&values);
    match amf0::decode(&written) {
        Ok(again) => assert_eq!(amf0::encode(&again), written),
        // Each byte that is not UTF-8 becomes three.
        Err(error) => {
            assert_eq!(error, Amf0Error::Size);
            assert!(written.len() > MAX_BYTES);
        }
    }
}

/// Values in a value, itself included; looks at all of them on the way.
fn count(value: &Value, depth: usize) -> usize {
    assert!(depth <= MAX_DEPTH);
    let _ = (value.as_f64(), value.as_str(), value.as_bool());
    let inside: usize = match value {
        Value::StrictArray(values) => values.iter().map(|value| count(value, depth + 1)).sum(),
        other => {
            let named = other.properties().unwrap_or_default();
            named
                .iter()
                .map(|(name, value)| {
                    assert!(other.get(name).is_some());
                    count(value, depth + 1)
                })
                .sum()
        }
    };
    1 + inside
}
