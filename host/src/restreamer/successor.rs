//! The connection that is to take over from one whose peer asked to be left.
//!
//! Dials beside the old connection and reads until there is something to begin with.
//! Bounded by the time a first dial would have and by a few units. Dropping it gives
//! the attempt up.

use std::collections::VecDeque;
use std::sync::Arc;

use restreamd_rtmp::session::Purpose;
use restreamd_rtmp::url::RtmpUrl;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::host::{Class, ConnectOptions, Failure};
use super::hosts::Hosts;
use crate::rtmp::dial::{Dialed, Heard};
use crate::stream::Unit;
use crate::stream::headers::Headers;
use crate::stream::timeline::Lane;

/// Units kept from before the first frame: metadata and a header per track.
const KEPT: usize = 32;
/// None of these is larger; see `stream::headers`.
const KEPT_BYTES: usize = 64 * 1024;
/// Audio so long without any video is a source without video.
const AUDIO_ONLY_AFTER_MS: u32 = 1_000;

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Successor(JoinHandle<Result<Ready, Failure>>);

/// A connection that can take over.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) dialed: Dialed,
    /// What it brought: headers, and a frame to begin with at the end.
    pub(super) units: VecDeque<Unit>,
}

impl Successor {
    /// Begins to dial.
    pub(super) fn dial(url: RtmpUrl, options: ConnectOptions, hosts: Arc<Hosts>) -> Self {
        let attempt = async move {
            let opened = open(&url, &options, &hosts);
            let late = "the new connection brought nothing to begin with in time";
            tokio::time::timeout(options.timeout, opened)
                .await
                .unwrap_or_else(|_| Err(Failure::new(Class::Timeout, late)))
        };
        Self(tokio::spawn(attempt.in_current_span()))
    }

    /// Resolves when the attempt is over; never without one. Cancel safe.
    pub(super) async fn over(attempt: &mut Option<Self>) -> Result<Ready, Failure> {
        let Some(successor) = attempt else {
            return std::future::pending().await;
        };
        let ready = (&mut successor.0).await;
        *attempt = None;
        ready.unwrap_or_else(|_| Err(Failure::new(Class::Other, "the attempt failed")))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn open(url: &RtmpUrl, options: &ConnectOptions, hosts: &Hosts) -> Result<Ready, Failure> {
    hosts.admit(url.host(), url.port()).await;
    let mut dialed = Dialed::open(url, Purpose::Play, &options.dial, hosts.policy()).await?;
    let mut opening = Opening::default();
    loop {
        // Another request to move on waits until this one is done.
        let Heard::Media(media) = dialed.next().await? else {
            continue;
        };
        if let Some(unit) = Unit::classify(media)
            && opening.take(unit)
        {
            let units = opening.units;
            return Ok(Ready { dialed, units });
        }
    }
}

/// Waits for a frame that a stream can begin with.
#[derive(Debug, Default)]
struct Opening {
    units: VecDeque<Unit>,
    headers: Headers,
    first_audio: Option<u32>,
    video: bool,
}

impl Opening {
    /// True when the unit is that frame.
    fn take(&mut self, unit: Unit) -> bool {
        use crate::stream::unit::Content;
        self.video |= unit.lane == Lane::Video;
        self.headers.take(&unit);
        let begins = match self.headers.judge(&unit).content {
            Content::Keyframe => true,
            Content::Frame if unit.lane == Lane::Audio && !self.video => {
                let first = *self.first_audio.get_or_insert(unit.timestamp);
                unit.timestamp.wrapping_sub(first) >= AUDIO_ONLY_AFTER_MS
            }
            _ => false,
        };
        let introduces = matches!(unit.content, Content::Header { .. } | Content::Metadata)
            && unit.payload.len() <= KEPT_BYTES;
        if begins || introduces {
            if self.units.len() == KEPT {
                self.units.pop_front();
            }
            self.units.push_back(unit.apart());
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stream::unit::Content;

    fn unit(lane: Lane, content: Content, timestamp: u32) -> Unit {
        Unit {
            timestamp,
            lane,
            content,
            codec: None,
            payload: Bytes::from_static(b"x"),
        }
    }

    #[test]
    fn a_stream_begins_with_its_headers_and_a_keyframe() {
        let mut opening = Opening::default();
        let header = Content::Header { track: 0 };
        assert!(!opening.take(unit(Lane::Video, header, 0)));
        assert!(!opening.take(unit(Lane::Video, Content::Frame, 0)));
        assert!(!opening.take(unit(Lane::Audio, Content::Frame, 5_000)));
        assert!(opening.take(unit(Lane::Video, Content::Keyframe, 40)));
        let kept: Vec<Content> = opening.units.iter().map(|unit| unit.content).collect();
        assert_eq!(kept, [header, Content::Keyframe]);
    }

    #[test]
    fn a_keyframe_of_another_track_than_the_default_one_begins_nothing() {
        let mut opening = Opening::default();
        let of = |payload, content| Unit {
            payload: Bytes::from_static(payload),
            ..unit(Lane::Video, content, 0)
        };
        let header = |track| Content::Header { track };
        assert!(!opening.take(of(b"\x90hvc1", header(0))));
        assert!(!opening.take(of(b"\x96\x00hvc1\x01", header(1))));
        assert!(!opening.take(of(b"\x96\x03hvc1\x01", Content::Keyframe)));
        assert!(opening.take(of(b"\x93hvc1", Content::Keyframe)));
    }

    #[test]
    fn sound_alone_is_enough_after_a_second() {
        let mut opening = Opening::default();
        assert!(!opening.take(unit(Lane::Audio, Content::Frame, 7)));
        assert!(!opening.take(unit(Lane::Audio, Content::Frame, 1_006)));
        assert!(opening.take(unit(Lane::Audio, Content::Frame, 1_007)));
    }

    #[test]
    fn what_is_kept_before_a_frame_is_bounded() {
        let mut opening = Opening::default();
        let large = |content, at| Unit {
            payload: Bytes::from(vec![0; KEPT_BYTES + 1]),
            ..unit(Lane::Data, content, at)
        };
        for n in 0..100 {
            opening.take(unit(Lane::Data, Content::Data, n));
            opening.take(large(Content::Data, n));
            opening.take(large(Content::Metadata, n));
        }
        assert!(opening.units.is_empty(), "data, and what is large");
        for n in 0..100 {
            opening.take(unit(Lane::Data, Content::Metadata, n));
        }
        assert_eq!(opening.units.len(), KEPT);
    }
}
