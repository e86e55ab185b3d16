//! Looking at a source: its policy runs on a stream that nobody can find, until enough
//! is known.
//!
//! The policy dials, as it would for a real restreamer, so every type can be looked
//! at. Bounded in number and time. Invariant: whoever stops waiting ends the run.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::host::{AudioFacts, Facts, MoreTracks, VideoFacts};
use super::session::{Local, Shared};
use super::{Assigned, Restreamers};
use crate::stream::Stream;

/// Probes at a time: each may hold as many sources as a restreamer.
pub(super) const PROBES: usize = 4;
/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// A track that has not come by then is not there.
const OTHER_TRACK: Duration = Duration::from_secs(2);

/// As many probes as may be are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PROBES} probes are under way; try again later")]
pub struct TooManyProbes;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Media came.
    pub reachable: bool,
    /// Why it ended, or did not begin.
    pub class: Option<String>,
    /// The same for people.
    pub error: Option<String>,
    /// What is known of the video.
    pub video: Option<VideoFacts>,
    /// What is known of the audio.
    pub audio: Option<AudioFacts>,
    /// The tracks beside these.
    pub more: MoreTracks,
    /// Distance of the first keyframes.
    pub gop: Option<Duration>,
    /// From dialing to the grant.
    pub dial: Option<Duration>,
    /// From dialing to the first frame.
    pub first_frame: Option<Duration>,
}

/// What a source shows at a moment.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) facts: Facts,
    pub(super) dial: Option<Duration>,
    pub(super) first_frame: Option<Duration>,
}

/// Ends the run, also when the caller has gone.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.close();
        if let Some(stream) = &self.0.local.feeds {
            stream.end();
        }
        self.0.inbox.stop();
    }
}

impl Restreamers {
    /// Runs a policy until its source is known, has failed, or the time is over.
    pub async fn probe(
        &self,
        assigned: Assigned,
        timeout: Duration,
    ) -> Result<Report, TooManyProbes> {
        let permit = self.0.probes.clone().try_acquire_owned();
        let _permit = permit.map_err(|_| TooManyProbes)?;
        let stream = Stream::detached(assigned.stream.clone(), self.0.streams.config());
        let local = Local {
            feeds: Some(stream),
            guid: assigned.stream.clone(),
            streams: None,
        };
        let shared = self.shared(local, &assigned);
        let over = Over(shared.clone());
        self.spawn(assigned, shared);
        tokio::select! {
            report = watch(&over.0, timeout) => Ok(report),
            () = self.0.drain.started() => Ok(Report {
                class: Some("cancelled".to_owned()),
                error: Some("the node stops".to_owned()),
                ..Report::default()
            }),
        }
    }
}

async fn watch(shared: &Shared, timeout: Duration) -> Report {
    let deadline = Instant::now() + timeout;
    let mut report = Report::default();
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        if let Some(sight) = shared.sight() {
            report.see(&sight);
            if is_complete(&sight.facts) {
                return report;
            }
        }
        let incident = shared.board.lock().history.front().cloned();
        if let Some(incident) = incident {
            (report.class, report.error) = (Some(incident.class), Some(incident.text));
            return report;
        }
        if Instant::now() >= deadline {
            if !report.reachable {
                report.class = Some("timeout".to_owned());
                report.error = Some(format!("no media within {} ms", timeout.as_millis()));
            }
            return report;
        }
    }
}

impl Report {
    fn see(&mut self, sight: &Sight) {
        self.dial = sight.dial.or(self.dial);
        self.first_frame = sight.first_frame.or(self.first_frame);
        self.reachable |= sight.first_frame.is_some();
        if sight.facts.video.is_some() || sight.facts.audio.is_some() {
            self.video = sight.facts.video.clone().map(|(facts, _)| facts);
            self.audio = sight.facts.audio.clone().map(|(facts, _)| facts);
            self.more = sight.facts.more.clone();
            self.gop = sight.facts.gop;
        }
    }
}

fn is_complete(facts: &Facts) -> bool {
    let waited = facts.flowing >= OTHER_TRACK;
    let video = match &facts.video {
        Some((video, _)) => video.kbps.is_some() && video.fps.is_some() && facts.gop.is_some(),
        None => waited,
    };
    let audio = match &facts.audio {
        Some((audio, _)) => audio.kbps.is_some(),
        None => waited,
    };
    video && audio
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restreamer::host::SourceState;

    fn facts(flowing: u64) -> Facts {
        Facts {
            state: SourceState::Flowing,
            attached: true,
            on_air: true,
            video: None,
            audio: None,
            more: MoreTracks::default(),
            gop: None,
            bytes: 0,
            flowing: Duration::from_secs(flowing),
            stall: None,
        }
    }

    #[test]
    fn a_source_is_known_when_all_its_tracks_are_measured() {
        let age = Duration::ZERO;
        let video = |kbps| VideoFacts {
            codec: "avc",
            width: None,
            height: None,
            fps: Some(25.0),
            kbps,
        };
        let audio = |kbps| AudioFacts {
            codec: "aac",
            kbps,
            ..AudioFacts::default()
        };
        let mut seen = facts(1);
        seen.video = Some((video(Some(900)), age));
        assert!(!is_complete(&seen), "one keyframe");
        seen.gop = Some(Duration::from_secs(1));
        assert!(!is_complete(&seen), "sound may come");
        seen.flowing = OTHER_TRACK;
        assert!(is_complete(&seen));
        seen.audio = Some((audio(None), age));
        assert!(!is_complete(&seen));
        seen.audio = Some((audio(Some(64)), age));
        assert!(is_complete(&seen));
        seen.video = Some((video(None), age));
        assert!(!is_complete(&seen));
    }
}
