//! The bounded AMF0 reader.
//!
//! Responsible for every byte of AMF0 that comes from a peer. Counts in the
//! input (array lengths, string lengths) are checked against what is there
//! and never used to reserve memory.

use super::{Amf0Error, Value};

/// Real metadata nests two or three levels; 16 leaves room and keeps the
/// stack a few kilobytes deep.
pub(super) const MAX_DEPTH: usize = 16;
/// Real metadata has some thirty values; keyframe indexes have a few hundred.
pub(super) const MAX_VALUES: usize = 1_024;
/// The largest message that is accepted before play or publish is granted.
pub(super) const MAX_BYTES: usize = 64 * 1024;

const OBJECT_END: u8 = 0x09;

/// Reads all values in `bytes`.
pub fn decode(bytes: &[u8]) -> Result<Vec<Value>, Amf0Error> {
    if bytes.len() > MAX_BYTES {
        return Err(Amf0Error::Size);
    }
    let mut reader = Reader { bytes, values: 0 };
    let mut values = Vec::new();
    while !reader.bytes.is_empty() {
        values.push(reader.value(0)?);
    }
    Ok(values)
}

struct Reader<'a> {
    bytes: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Amf0Error> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Amf0Error::Values);
        }
        if depth > MAX_DEPTH {
            return Err(Amf0Error::Depth);
        }
        let [marker] = self.array()?;
        Ok(match marker {
            0x00 => Value::Number(self.number()?),
            0x01 => Value::Boolean(self.array::<1>()? != [0]),
            0x02 => Value::String(self.short_string()?),
            0x03 => Value::Object(self.named(depth)?),
            0x05 => Value::Null,
            0x06 => Value::Undefined,
            0x07 => self.array::<2>().map(|_| Value::Unsupported)?,
            0x08 => {
                self.array::<4>()?;
                Value::EcmaArray(self.named(depth)?)
            }
            0x0A => Value::StrictArray(self.positional(depth)?),
            0x0B => {
                let date = self.number()?;
                self.array::<2>()?;
                Value::Date(date)
            }
            0x0C | 0x0F => Value::String(self.long_string()?),
            0x0D => Value::Unsupported,
            0x10 => {
                self.short_string()?;
                Value::Object(self.named(depth)?)
            }
            0x11 => return Err(Amf0Error::Amf3),
            other => return Err(Amf0Error::Marker(other)),
        })
    }

    fn named(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Amf0Error> {
        let mut named = Vec::new();
        loop {
            if let Some(rest) = self.bytes.strip_prefix(&[0, 0, OBJECT_END]) {
                self.bytes = rest;
                return Ok(named);
            }
            let name = self.short_string()?;
            named.push((name, self.value(depth + 1)?));
        }
    }

    fn positional(&mut self, depth: usize) -> Result<Vec<Value>, Amf0Error> {
        let count = u32::from_be_bytes(self.array()?);
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }

    fn number(&mut self) -> Result<f64, Amf0Error> {
        self.array().map(f64::from_be_bytes)
    }

    fn short_string(&mut self) -> Result<String, Amf0Error> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn long_string(&mut self) -> Result<String, Amf0Error> {
        let length = u32::from_be_bytes(self.array()?);
        self.text(length as usize)
    }

    fn text(&mut self, length: usize) -> Result<String, Amf0Error> {
        let (text, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(Amf0Error::Truncated)?;
        self.bytes = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Amf0Error> {
        let (head, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(Amf0Error::Truncated)?;
        self.bytes = rest;
        Ok(*head)
    }
}
