//! The clip as one connection gets it: in a loop, at its own speed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use restreamd_rtmp::Message;

use super::{Behaviour, Shared};
use crate::clip::{AUDIO, Clip, Tag, VIDEO};
use crate::clock::since_boot;
use crate::stamp::Stamp;

/// One run of the clip, in a loop, at its own speed.
pub(super) struct Playing {
    stream_id: u32,
    /// Which play of the source's it is.
    play: usize,
    /// Frames so far.
    frames: u32,
    begun: Instant,
    next: usize,
    /// Where this connection's clock begins.
    base: u32,
    /// Milliseconds of the loops that are behind.
    offset: u32,
    last: u32,
    /// Kinds whose sequence header, or metadata, this peer has.
    introduced: Vec<u8>,
}

impl Playing {
    pub(super) fn new(stream_id: u32, (play, base): (usize, u32)) -> Self {
        Self {
            stream_id,
            play,
            frames: 0,
            base,
            begun: Instant::now(),
            next: 0,
            offset: 0,
            last: 0,
            introduced: Vec::new(),
        }
    }

    /// What is due now, as messages.
    pub(super) fn due(&mut self, shared: &Shared) -> Vec<Message> {
        if self.introduced.is_empty() && shared.behaviour() == Behaviour::Silent {
            self.begun = Instant::now();
        }
        let mut messages = Vec::new();
        while let Some((tag, timestamp)) = self.next_tag(&shared.clip) {
            let timestamp = match shared.behaviour() {
                Behaviour::Silent => continue,
                Behaviour::AudioOnly if tag.kind == VIDEO => continue,
                Behaviour::HeadersAndSound if tag.kind == VIDEO && !tag.is_sequence_header() => {
                    continue;
                }
                Behaviour::VideoOnly if tag.kind == AUDIO => continue,
                _ if self.knows(tag) => continue,
                Behaviour::Frozen => self.last,
                _ => shared.clock(self.base).wrapping_add(timestamp),
            };
            self.last = timestamp;
            messages.push(Message {
                timestamp,
                type_id: tag.kind,
                stream_id: self.stream_id,
                payload: self.payload(tag, shared.script.stamps),
            });
        }
        messages
    }

    fn payload(&mut self, tag: &Tag, stamps: bool) -> Bytes {
        if !stamps || !matches!(tag.kind, AUDIO | VIDEO) || tag.is_sequence_header() {
            return tag.body.clone();
        }
        let stamp = Stamp {
            play: u32::try_from(self.play).unwrap_or(u32::MAX),
            number: self.frames,
            sent: since_boot(),
        };
        self.frames += 1;
        stamp.on(&tag.body)
    }

    /// The next tag, when its time has come, and its timestamp over all loops.
    fn next_tag<'a>(&mut self, clip: &'a Clip) -> Option<(&'a Tag, u32)> {
        if self.next == clip.tags().len() {
            self.next = 0;
            self.offset += clip.period();
        }
        let tag = &clip.tags()[self.next];
        let timestamp = self.offset + tag.timestamp;
        let due = self.begun.elapsed() >= Duration::from_millis(timestamp.into());
        self.next += usize::from(due);
        due.then_some((tag, timestamp))
    }

    /// Whether the tag introduces what this peer knows already: a later loop's headers.
    fn knows(&mut self, tag: &Tag) -> bool {
        if matches!(tag.kind, AUDIO | VIDEO) && !tag.is_sequence_header() {
            return false;
        }
        let known = self.introduced.contains(&tag.kind);
        if !known {
            self.introduced.push(tag.kind);
        }
        known
    }
}
