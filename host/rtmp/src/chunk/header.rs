//! The header of one chunk: basic header, message header and, for types 0 to
//! 2, the extended timestamp.
//!
//! It does not know earlier chunks, so the extended timestamp of a type 3
//! chunk is left to the reader. Invariant: parsing looks at no more than 18
//! bytes and allocates nothing.

/// The timestamp field that says "see the extended timestamp".
pub(super) const EXTENDED: u32 = 0x00FF_FFFF;

/// What the message header carries, by chunk type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fields {
    /// Type 0: all of it, the timestamp is absolute.
    Full {
        timestamp: u32,
        length: usize,
        type_id: u8,
        stream_id: u32,
    },
    /// Type 1: the stream id of the message before.
    SameStream {
        delta: u32,
        length: usize,
        type_id: u8,
    },
    /// Type 2: only the time moves on.
    Delta { delta: u32 },
    /// Type 3: nothing; goes on with a message or repeats its header.
    Nothing,
}

/// One parsed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) csid: u32,
    pub(super) fields: Fields,
    /// The timestamp field was [`EXTENDED`] (never set for type 3).
    pub(super) extended: bool,
    /// Bytes of the header.
    pub(super) size: usize,
}

impl Header {
    /// Reads a header; `None` when `bytes` ends before it does.
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        let mut cursor = Cursor { bytes, at: 0 };
        let first = cursor.byte()?;
        let csid = match first & 0x3F {
            0 => 64 + u32::from(cursor.byte()?),
            1 => {
                let low = u32::from(cursor.byte()?);
                64 + low + 256 * u32::from(cursor.byte()?)
            }
            small => u32::from(small),
        };
        let (fields, extended) = match first >> 6 {
            0 => {
                let time = cursor.u24()?;
                let length = cursor.u24()? as usize;
                let type_id = cursor.byte()?;
                let stream_id = cursor.u32_le()?;
                let timestamp = cursor.extended(time)?;
                let full = Fields::Full {
                    timestamp,
                    length,
                    type_id,
                    stream_id,
                };
                (full, time == EXTENDED)
            }
            1 => {
                let time = cursor.u24()?;
                let length = cursor.u24()? as usize;
                let type_id = cursor.byte()?;
                let delta = cursor.extended(time)?;
                let same = Fields::SameStream {
                    delta,
                    length,
                    type_id,
                };
                (same, time == EXTENDED)
            }
            2 => {
                let time = cursor.u24()?;
                let delta = cursor.extended(time)?;
                (Fields::Delta { delta }, time == EXTENDED)
            }
            _ => (Fields::Nothing, false),
        };
        Some(Header {
            csid,
            fields,
            extended,
            size: cursor.at,
        })
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u24(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes([
            0,
            self.byte()?,
            self.byte()?,
            self.byte()?,
        ]))
    }

    fn u32_be(&mut self) -> Option<u32> {
        Some(self.u32_le()?.swap_bytes())
    }

    fn u32_le(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes([
            self.byte()?,
            self.byte()?,
            self.byte()?,
            self.byte()?,
        ]))
    }

    fn extended(&mut self, time: u32) -> Option<u32> {
        if time == EXTENDED {
            self.u32_be()
        } else {
            Some(time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_basic_header_forms_give_their_chunk_stream() {
        let csid = |bytes: &[u8]| Header::parse(bytes).unwrap().csid;
        assert_eq!(csid(&[0xC0 | 3]), 3);
        assert_eq!(csid(&[0xC0, 0]), 64);
        assert_eq!(csid(&[0xC0, 255]), 319);
        assert_eq!(csid(&[0xC1, 0, 1]), 320);
        assert_eq!(csid(&[0xC1, 255, 255]), 65_599);
    }

    #[test]
    fn every_cut_header_waits_for_more() {
        let full = [0x03, 0xFF, 0xFF, 0xFF, 0, 0, 1, 8, 1, 0, 0, 0, 1, 2, 3, 4];
        for end in 0..full.len() {
            assert_eq!(Header::parse(&full[..end]), None);
        }
        let header = Header::parse(&full).unwrap();
        assert!(header.extended);
        assert_eq!(header.size, 16);
        assert_eq!(
            header.fields,
            Fields::Full {
                timestamp: 0x0102_0304,
                length: 1,
                type_id: 8,
                stream_id: 1
            }
        );
    }
}
