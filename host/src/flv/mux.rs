//! Frames of a stream as the bytes of one FLV response.
//!
//! Tags get headers of their own, with timestamps that begin at 0; their data are
//! slices of the frames all subscribers share. Pure: it knows neither sockets nor
//! clocks. Invariant: no timestamp reaches 2^31, since FLV's are signed.

use bytes::{BufMut, Bytes, BytesMut};
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::flv::{FILE_HEADER, tag_header, tag_trailer};
use restreamd_rtmp::message::type_id;

/// Players die at 2^31 ms (24.8 days): a response ends a minute before.
const LONGEST_MS: u64 = (1 << 31) - 60_000;
/// Header and back pointer of one tag.
const AROUND_A_TAG: usize = 11 + 4;
/// Where the header says what follows, and how.
const FLAGS_AT: usize = 4;
/// See [`FLAGS_AT`].
const AUDIO: u8 = 4;
/// See [`FLAGS_AT`].
const VIDEO: u8 = 1;

/// A frame and its place on the stream's timeline, in milliseconds.
pub type Timed = (u64, Wire);

/// Whether the response may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    More,
    /// The next tag would be too late for FLV.
    Full,
}

/// The bytes of one response, made a batch at a time.
#[derive(Debug, Default)]
pub struct Muxer {
    /// The time of the first frame, which is 0 in this response.
    base: Option<u64>,
}

impl Muxer {
    /// Adds a batch to `out`: the file's header before the first, and whole tags only.
    pub fn write(&mut self, batch: &[Timed], out: &mut impl Extend<Bytes>) -> Room {
        let Some((first, _)) = batch.first() else {
            return Room::More;
        };
        let mut glue = BytesMut::with_capacity(FILE_HEADER.len() + batch.len() * AROUND_A_TAG);
        let base = *self.base.get_or_insert_with(|| {
            glue.put_slice(&file_header(batch));
            *first
        });
        let mut room = Room::More;
        for (at, wire) in batch {
            // A straggler of another track may be a little older than the first frame.
            let at = at.saturating_sub(base);
            if at > LONGEST_MS {
                room = Room::Full;
                break;
            }
            let length = wire.payload_len();
            glue.put_slice(&tag_header(wire.message_type(), length, at as u32));
            out.extend([glue.split().freeze()]);
            out.extend(wire.payload_parts());
            glue.put_slice(&tag_trailer(length));
        }
        // Players wait for a tag's back pointer before they look at it.
        out.extend((!glue.is_empty()).then(|| glue.freeze()));
        room
    }
}

/// Says which tracks there are: players wait for those that were promised.
fn file_header(batch: &[Timed]) -> [u8; FILE_HEADER.len()] {
    let has = |kind| batch.iter().any(|(_, wire)| wire.message_type() == kind);
    let mut header = FILE_HEADER;
    header[FLAGS_AT] = match (has(type_id::AUDIO), has(type_id::VIDEO)) {
        (true, false) => AUDIO,
        (false, true) => VIDEO,
        _ => AUDIO | VIDEO,
    };
    header
}

#[cfg(test)]
mod tests {
    use restreamd_rtmp::flv::Reader;

    use super::*;

    fn frame(kind: u8, at: u64, bytes: usize) -> Timed {
        let payload: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
        (at, Wire::media(kind, at as u32, &payload))
    }

    fn joined(out: &[Bytes]) -> Bytes {
        out.concat().into()
    }

    /// Type, timestamp and payload of each tag.
    fn tags(file: &Bytes) -> Vec<(u8, u32, Bytes)> {
        let mut reader = Reader::new();
        reader.buffer().extend_from_slice(file);
        std::iter::from_fn(|| reader.poll().expect("a legal file"))
            .map(|m| (m.type_id, m.timestamp, m.payload))
            .collect()
    }

    #[test]
    fn a_response_begins_at_0_wherever_the_stream_is() {
        for begin in [0, 1 << 24, (1 << 31) - 20, (1 << 32) - 20, 1 << 40] {
            let mut muxer = Muxer::default();
            let mut out = Vec::new();
            // The wire's extended timestamps must not reach the payload.
            let batch = [
                frame(type_id::VIDEO, begin, 70_000),
                frame(type_id::AUDIO, begin, 9),
            ];
            assert_eq!(muxer.write(&batch, &mut out), Room::More);
            let next = [frame(type_id::VIDEO, begin + 40, 200_000)];
            assert_eq!(muxer.write(&next, &mut out), Room::More);
            let read = tags(&joined(&out));
            let times: Vec<_> = read.iter().map(|(kind, at, _)| (*kind, *at)).collect();
            assert_eq!(times, [(9, 0), (8, 0), (9, 40)], "{begin}");
            for ((_, wire), (.., payload)) in batch.iter().chain(&next).zip(&read) {
                let sent: Vec<Bytes> = wire.payload_parts().collect();
                assert_eq!(joined(&sent), payload);
            }
        }
    }

    #[test]
    fn payloads_are_not_copied() {
        let batch = [frame(type_id::VIDEO, 0, 130_000)];
        let mut out: Vec<Bytes> = Vec::new();
        Muxer::default().write(&batch, &mut out);
        let shared = batch[0].1.bytes().as_ptr_range();
        let slices = out
            .iter()
            .filter(|b| shared.contains(&b.as_ptr()))
            .map(Bytes::len);
        assert_eq!(slices.sum::<usize>(), 130_000);
    }

    #[test]
    fn a_response_ends_before_times_turn_negative() {
        let mut muxer = Muxer::default();
        let mut out = Vec::new();
        muxer.write(&[frame(type_id::VIDEO, 5, 10)], &mut out);
        let late = [
            frame(type_id::VIDEO, 5 + LONGEST_MS, 10),
            frame(type_id::VIDEO, 6 + LONGEST_MS, 10),
        ];
        assert_eq!(muxer.write(&late, &mut out), Room::Full);
        let read = tags(&joined(&out));
        assert_eq!(
            read.last().map(|tag| u64::from(tag.1)),
            Some(LONGEST_MS),
            "whole tags up to the bound"
        );
    }

    #[test]
    fn the_header_promises_only_the_tracks_there_are() {
        let flags = |kinds: &[u8]| {
            let batch: Vec<_> = kinds.iter().map(|kind| frame(*kind, 0, 5)).collect();
            let mut out = Vec::new();
            Muxer::default().write(&batch, &mut out);
            joined(&out)[FLAGS_AT]
        };
        assert_eq!(flags(&[type_id::DATA_AMF0, type_id::VIDEO]), 1);
        assert_eq!(flags(&[type_id::AUDIO]), 4);
        assert_eq!(flags(&[type_id::VIDEO, type_id::AUDIO]), 5);
    }

    #[test]
    fn nothing_is_written_of_nothing() {
        let mut out: Vec<Bytes> = Vec::new();
        assert_eq!(Muxer::default().write(&[], &mut out), Room::More);
        assert!(out.is_empty());
    }
}
