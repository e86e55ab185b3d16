//! What the origin plays: a clip, looped for ever, at a wanted bit rate.
//!
//! Pure. The clip's own pictures keep their proportions; each group of pictures
//! is padded to the same size with filler data that decoders skip, so that any
//! whole number of groups weighs the same. The padding of a picture holds the
//! time it was sent. Invariant: two sources of one rate send the same messages.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use restreamd_rtmp::flv::{self, PacketKind};
use restreamd_rtmp::session::{Media, MediaKind};

/// Ten seconds of H.264 at 25 pictures a second and AAC, the clip of the demo.
const CLIP: &[u8] = include_bytes!("../../../host/demo/clip.flv");
/// From one picture of the clip to the next.
const PICTURE: Duration = Duration::from_millis(40);
/// The clip plays faster by 11/10: 27.5 pictures and 47.4 sounds a second are the
/// 75 messages of a common encoder.
const FASTER: (u32, u32) = (11, 10);

/// H.264's NAL unit of filler data.
const FILLER: u8 = 0x0C;
/// Ends a NAL unit.
const TRAILING_BITS: u8 = 0x80;
/// Stands before the time.
const MARK: &[u8] = b"sent-at:";
/// The time: nanoseconds, in hexadecimal so that it never looks like a start code.
const DIGITS: usize = 16;
/// Length, type, mark, time, end.
const LEAST_PADDING: usize = 4 + 1 + MARK.len() + DIGITS + 1;

/// FLV's header of an AVC picture: codec, kind, composition time.
const PICTURE_HEADER: usize = 5;

/// What of a message of the clip is played.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Whole,
    /// Of pictures their header.
    Begin,
    Nothing,
}

/// A message and when it is due after the begin of the loop.
#[derive(Debug)]
struct Frame {
    due: Duration,
    media: Media,
}

/// A looped clip.
#[derive(Debug)]
pub(crate) struct Source {
    headers: Vec<Media>,
    frames: Vec<Frame>,
    period: Duration,
}

impl Source {
    /// The clip, padded to this rate.
    pub(crate) fn new(kbps: u32) -> anyhow::Result<Self> {
        Self::read(kbps, |_| Kept::Whole)
    }

    /// Its pictures without what they show, and no sound, at this rate: nothing that a
    /// decoder would like, but what a host does for each frame is the same.
    pub(crate) fn thin(kbps: u32) -> anyhow::Result<Self> {
        Self::read(kbps, |message| match message.kind {
            MediaKind::Video => Kept::Begin,
            MediaKind::Audio | MediaKind::Data => Kept::Nothing,
        })
    }

    fn read(kbps: u32, kept: impl Fn(&Media) -> Kept) -> anyhow::Result<Self> {
        let mut headers = Vec::new();
        let mut media = Vec::new();
        let mut reader = flv::Reader::new();
        reader.buffer().extend_from_slice(CLIP);
        while let Some(message) = reader.poll()? {
            let Some(mut message) = Media::from_message(message) else {
                continue;
            };
            let packet = packet(&message);
            match kept(&message) {
                Kept::Whole => {}
                Kept::Begin if packet != Some(PacketKind::Frame) => {}
                Kept::Begin => message.payload.truncate(PICTURE_HEADER),
                Kept::Nothing => continue,
            }
            match packet {
                Some(PacketKind::Frame) => media.push(message),
                Some(PacketKind::SequenceHeader) => headers.push(message),
                None if message.kind == MediaKind::Data => headers.push(message),
                _ => {}
            }
        }
        media.sort_by_key(|media| media.timestamp);
        let last = media.iter().rfind(|media| media.kind == MediaKind::Video);
        let last = last.context("the clip has no picture")?.timestamp;
        let period = faster(Duration::from_millis(u64::from(last)) + PICTURE);
        pad(&mut media, kbps, period)?;
        let frame = |media: Media| Frame {
            due: faster(Duration::from_millis(u64::from(media.timestamp))),
            media,
        };
        Ok(Self {
            headers,
            frames: media.into_iter().map(frame).collect(),
            period,
        })
    }

    /// What a player needs first.
    pub(crate) fn headers(&self) -> &[Media] {
        &self.headers
    }

    /// The n-th message of the endless loop, and when it is due after the begin.
    pub(crate) fn nth(&self, n: usize) -> (Duration, Media) {
        let rounds = u32::try_from(n / self.frames.len()).unwrap_or(u32::MAX);
        let frame = &self.frames[n % self.frames.len()];
        let due = frame.due + self.period * rounds;
        let timestamp = u32::try_from(due.as_millis()).unwrap_or(u32::MAX);
        let media = Media {
            timestamp,
            ..frame.media.clone()
        };
        (due, media)
    }

    /// Media bytes a second, without anything RTMP adds.
    pub(crate) fn bytes_per_second(&self) -> f64 {
        let bytes: usize = self.frames.iter().map(|f| f.media.payload.len()).sum();
        bytes as f64 / self.period.as_secs_f64()
    }

    /// Media messages a second.
    pub(crate) fn messages_per_second(&self) -> f64 {
        self.frames.len() as f64 / self.period.as_secs_f64()
    }
}

/// Writes the time into a picture of a source; leaves other payloads alone.
pub(crate) fn stamp(media: &mut Media, nanos: u64) {
    let Some(at) = stamp_at(&media.payload) else {
        return;
    };
    let mut payload = BytesMut::from(&media.payload[..]);
    payload[at..at + DIGITS].copy_from_slice(format!("{nanos:016x}").as_bytes());
    media.payload = payload.freeze();
}

/// The time in a picture of a source.
pub(crate) fn stamped(payload: &[u8]) -> Option<u64> {
    let at = stamp_at(payload)?;
    let digits = std::str::from_utf8(&payload[at..at + DIGITS]).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

fn stamp_at(payload: &[u8]) -> Option<usize> {
    let at = payload.len().checked_sub(DIGITS + 1)?;
    payload[..at].ends_with(MARK).then_some(at)
}

fn faster(time: Duration) -> Duration {
    time * FASTER.1 / FASTER.0
}

fn packet(media: &Media) -> Option<PacketKind> {
    match media.kind {
        MediaKind::Video => flv::video(&media.payload).map(|header| header.kind),
        MediaKind::Audio => flv::audio(&media.payload).map(|header| header.kind),
        MediaKind::Data => None,
    }
}

fn is_keyframe(media: &Media) -> bool {
    media.kind == MediaKind::Video
        && flv::video(&media.payload).is_some_and(|header| header.keyframe)
}

/// Pads every group of pictures to its share of the rate.
fn pad(media: &mut [Media], kbps: u32, period: Duration) -> anyhow::Result<()> {
    let sound: usize = media
        .iter()
        .filter(|media| media.kind == MediaKind::Audio)
        .map(|media| media.payload.len())
        .sum();
    let groups = media.iter().filter(|media| is_keyframe(media)).count();
    ensure!(groups > 0, "the clip has no keyframe");
    let wanted = f64::from(kbps) * 125.0 * period.as_secs_f64();
    let group_bytes = (wanted - sound as f64) / groups as f64;

    let mut pictures: Vec<&mut Media> = media
        .iter_mut()
        .filter(|media| media.kind == MediaKind::Video)
        .collect();
    let is_next = |_: &&mut Media, next: &&mut Media| !is_keyframe(next);
    for group in pictures.chunk_by_mut(is_next) {
        let bytes: usize = group.iter().map(|media| media.payload.len()).sum();
        let grow = group_bytes / bytes as f64;
        ensure!(
            grow > 1.0,
            "{kbps} kbit/s are less than the clip has without padding"
        );
        for picture in group {
            let size = (picture.payload.len() as f64 * grow).round() as usize;
            picture.payload = padded(&picture.payload, size);
        }
    }
    Ok(())
}

/// A picture with filler behind it, of this size, or as near above as the filler's own parts allow.
fn padded(picture: &Bytes, size: usize) -> Bytes {
    let padding = size.saturating_sub(picture.len()).max(LEAST_PADDING);
    let mut out = BytesMut::with_capacity(picture.len() + padding);
    out.put_slice(picture);
    out.put_u32((padding - 4) as u32);
    out.put_u8(FILLER);
    out.put_bytes(0xFF, padding - LEAST_PADDING);
    out.put_slice(MARK);
    out.put_bytes(b'0', DIGITS);
    out.put_u8(TRAILING_BITS);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sends_the_wanted_rate_in_about_75_messages() {
        for kbps in [600, 6_000] {
            let source = Source::new(kbps).expect("the clip reads");
            let wanted = f64::from(kbps) * 125.0;
            let off = (source.bytes_per_second() - wanted).abs() / wanted;
            assert!(off < 0.01, "{kbps} kbit/s: {}", source.bytes_per_second());
            let messages = source.messages_per_second();
            assert!((70.0..80.0).contains(&messages), "{messages}");
        }
    }

    #[test]
    fn a_thin_one_has_the_pictures_alone_at_a_low_rate() {
        let source = Source::thin(100).expect("the clip reads");
        let off = (source.bytes_per_second() - 12_500.0).abs() / 12_500.0;
        assert!(off < 0.01, "{}", source.bytes_per_second());
        assert!((27.0..28.0).contains(&source.messages_per_second()));
        let keyframes = (0..275).filter(|n| is_keyframe(&source.nth(*n).1));
        assert_eq!(keyframes.count(), 11, "eleven groups in ten seconds");
        assert!(source.headers().iter().all(|h| h.kind == MediaKind::Video));
    }

    #[test]
    fn the_loop_goes_on_without_a_step_back() {
        let source = Source::new(600).expect("the clip reads");
        let mut before = Duration::ZERO;
        for n in 0..3_000 {
            let (due, media) = source.nth(n);
            assert!(due >= before, "message {n}");
            assert_eq!(u128::from(media.timestamp), due.as_millis());
            before = due;
        }
    }

    #[test]
    fn a_picture_carries_the_time_it_was_sent_at() {
        let source = Source::new(600).expect("the clip reads");
        let (_, mut media) = (0..)
            .map(|n| source.nth(n))
            .find(|(_, media)| media.kind == MediaKind::Video)
            .expect("it has pictures");
        stamp(&mut media, 123_456_789);
        assert_eq!(stamped(&media.payload), Some(123_456_789));
        assert_eq!(stamped(b"sound"), None);
    }
}
