//! The current group of pictures of a feed that is not on air, so that it can go
//! on air without waiting for its next keyframe.

use super::ring::FRAME_COST;
use super::unit::{Content, Unit};

/// Bytes of one group kept; a larger one is not worth its memory, and the feed
/// starts at its next keyframe.
const MAX_BYTES: usize = 4 << 20;

/// Units from the newest keyframe on. Empty before the first one.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    units: Vec<Unit>,
    bytes: usize,
}

impl Backlog {
    /// Takes a unit in, in the order it came.
    pub(super) fn push(&mut self, unit: &Unit) {
        if unit.content == Content::Keyframe {
            self.clear();
        } else if self.units.is_empty() {
            return;
        }
        self.bytes += unit.payload.len() + FRAME_COST;
        if self.bytes > MAX_BYTES {
            self.clear();
        } else if !matches!(
            unit.content,
            Content::Header { .. } | Content::Setting { .. } | Content::Metadata
        ) {
            self.units.push(unit.apart());
        }
    }

    /// The units, oldest first.
    pub(super) fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stream::timeline::Lane;

    fn unit(content: Content, bytes: usize) -> Unit {
        Unit {
            timestamp: 0,
            lane: Lane::Video,
            content,
            codec: None,
            payload: Bytes::from(vec![0; bytes]),
        }
    }

    #[test]
    fn units_without_a_payload_are_bounded_too() {
        let mut backlog = Backlog::default();
        backlog.push(&unit(Content::Keyframe, 1));
        for _ in 0..MAX_BYTES / FRAME_COST {
            backlog.push(&unit(Content::Frame, 1));
        }
        assert!(backlog.units().is_empty());
    }

    #[test]
    fn it_begins_at_a_keyframe_and_is_bounded() {
        let mut backlog = Backlog::default();
        backlog.push(&unit(Content::Frame, 10));
        assert!(backlog.units().is_empty());
        backlog.push(&unit(Content::Keyframe, 10));
        backlog.push(&unit(Content::Frame, 10));
        assert_eq!(backlog.units().len(), 2);
        backlog.push(&unit(Content::Keyframe, 10));
        assert_eq!(backlog.units().len(), 1);
        for _ in 0..100 {
            backlog.push(&unit(Content::Frame, 1 << 20));
        }
        assert!(backlog.units().is_empty());
    }
}
