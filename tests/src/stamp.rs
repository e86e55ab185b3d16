//! What a source writes at the end of a frame, so that whoever reads it knows which one it
//! is: no two frames of a source are equal. Decoders would stumble over it.

use std::time::Duration;

use bytes::Bytes;

/// Begins a stamp.
const MAGIC: &[u8; 4] = b"\xC5st\xC5";
/// Of a stamp: the magic, two numbers and a time.
const LENGTH: usize = 4 + 4 + 4 + 8;

/// Which frame of a source this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which play of the source's, from 0: one connection of one node.
    pub play: u32,
    /// Which message of that play, from 0.
    pub number: u32,
    /// When it was about to be sent, by [`crate::clock::since_boot`].
    pub sent: Duration,
}

impl Stamp {
    /// A payload with this stamp.
    #[must_use]
    pub fn on(&self, payload: &[u8]) -> Bytes {
        let sent = u64::try_from(self.sent.as_nanos()).unwrap_or(u64::MAX);
        let stamp = [
            &MAGIC[..],
            &self.play.to_be_bytes(),
            &self.number.to_be_bytes(),
            &sent.to_be_bytes(),
        ];
        [payload, &stamp.concat()].concat().into()
    }

    /// The stamp on a payload, if there is one.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<Self> {
        let stamp = payload.get(payload.len().checked_sub(LENGTH)?..)?;
        let (play, stamp) = stamp.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (number, stamp) = stamp.split_first_chunk()?;
        let (sent, _) = stamp.split_first_chunk()?;
        Some(Self {
            play: u32::from_be_bytes(*play),
            number: u32::from_be_bytes(*number),
            sent: Duration::from_nanos(u64::from_be_bytes(*sent)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_from_nothing_else() {
        let stamp = Stamp {
            play: 3,
            number: 70_000,
            sent: Duration::from_nanos(12_345_678_901),
        };
        assert_eq!(Stamp::of(&stamp.on(b"frame")), Some(stamp));
        for other in [&b""[..], b"frame", &[0; 60]] {
            assert_eq!(Stamp::of(other), None);
        }
    }
}
