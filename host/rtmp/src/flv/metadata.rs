//! Finds stream metadata in AMF0 data messages.
//!
//! It does not decode it: players get the bytes the publisher sent.

use bytes::Bytes;

const SHORT_STRING: u8 = 0x02;

/// The metadata in a data message, from `"onMetaData"` on: what publishers
/// wrap in `@setDataFrame` and players want without it. `None` for any other
/// data message and for metadata without a value.
#[must_use]
pub fn metadata_payload(data: &Bytes) -> Option<Bytes> {
    let start = match after_string(data, b"@setDataFrame") {
        Some(rest) => data.len() - rest.len(),
        None => 0,
    };
    let value = after_string(&data[start..], b"onMetaData")?;
    (!value.is_empty()).then(|| data.slice(start..))
}

fn after_string<'a>(bytes: &'a [u8], text: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_first_chunk::<3>()?;
    let length = u16::from_be_bytes([head[1], head[2]]);
    if head[0] != SHORT_STRING || usize::from(length) != text.len() {
        return None;
    }
    rest.strip_prefix(text)
}
