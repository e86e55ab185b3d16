//! What readers at all nodes saw of a source whose frames are stamped, and whether two
//! nodes can have appended at a time.
//!
//! When a frame was appended nobody outside a node knows; but not before its source sent
//! it, and not after any reader anywhere had it. Each [`Stamp`] brings the first of these
//! times, each arrival is the second, all on one clock. So nothing here rests on how long
//! frames lie in rings and in the buffers of kernels: what was appended in time may arrive
//! at any later time, from a node that stood still after minutes, and what the source sent
//! too late must not arrive at all. Beside it the logs of appends are held against what
//! was seen: a node cannot append more than it logs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::appends::{Reign, Reigns};
use crate::clip::{AUDIO, VIDEO};
use crate::player::Frame;
use crate::stamp::Stamp;

/// A kill cuts a log: what was appended after it was last written, 20 ms before when the
/// machine is not busy, is not in it. Well below the time after which another may begin.
const CUT: Duration = Duration::from_millis(500);

/// What one reader saw of a stream at a node, from its coming to its going.
#[derive(Clone, Debug)]
pub struct Sitting {
    /// There.
    pub node: String,
    /// Of this.
    pub stream: String,
    /// As they came.
    pub frames: Vec<Frame>,
}

/// What must not have been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are words of the module")]
pub enum Fault {
    /// A timestamp of a track went back.
    Back { node: String, stream: String },
    /// A reader got frames of a play after those of one that came later.
    Return {
        node: String,
        stream: String,
        play: u32,
    },
    /// The same frame was another for another reader.
    Differs { stream: String, stamp: Stamp },
    /// Of each play a frame was sent after one of the other had arrived: whichever began
    /// later, the former one was still appended then.
    AtOnce { stream: String, plays: [u32; 2] },
    /// No node has logged appends when all frames of a play can have been appended.
    Unlogged { stream: String, play: u32 },
}

/// What is known of a play.
#[derive(Debug)]
struct Play<'a> {
    number: u32,
    seen: Vec<(Stamp, &'a Frame)>,
}

impl Play<'_> {
    /// It was appended from, at that time at the latest.
    fn begun(&self) -> Duration {
        let arrived = self.seen.iter().map(|(_, frame)| frame.arrived);
        arrived.min().unwrap_or(Duration::MAX)
    }

    /// It was still appended from, then or later.
    fn lasted(&self) -> Duration {
        let sent = self.seen.iter().map(|(stamp, _)| stamp.sent);
        sent.max().unwrap_or_default()
    }

    fn can_precede(&self, other: &Self) -> bool {
        self.lasted() < other.begun()
    }

    /// Whether these reigns of a node can be when it was appended from.
    fn is_of(&self, reigns: &[&Reign]) -> bool {
        self.seen.iter().all(|(stamp, frame)| {
            let within =
                |reign: &&Reign| reign.first <= frame.arrived && stamp.sent <= reign.last + CUT;
            reigns.iter().any(within)
        })
    }
}

/// What is wrong with what was seen. Frames without a stamp are judged by their
/// timestamps alone.
#[must_use]
pub fn judge(sittings: &[Sitting], reigns: &Reigns) -> Vec<Fault> {
    let mut faults: Vec<Fault> = sittings.iter().flat_map(judge_sitting).collect();
    let mut streams: BTreeMap<&str, Vec<&Sitting>> = BTreeMap::new();
    for sitting in sittings {
        streams.entry(&sitting.stream).or_default().push(sitting);
    }
    for (stream, sittings) in streams {
        let plays = plays(&sittings);
        faults.extend(differences(stream, &plays));
        faults.extend(at_once(stream, &plays));
        let logged = reigns.get(stream).map_or(&[][..], Vec::as_slice);
        faults.extend(unlogged(stream, &plays, logged));
    }
    faults
}

/// How many plays of its source the readers of a stream saw: one more than moves.
#[must_use]
pub fn plays_of(stream: &str, sittings: &[Sitting]) -> usize {
    let of = sittings.iter().filter(|sitting| sitting.stream == stream);
    plays(&of.collect::<Vec<_>>()).len()
}

fn judge_sitting(sitting: &Sitting) -> Vec<Fault> {
    let (node, stream) = (&sitting.node, &sitting.stream);
    let mut faults = Vec::new();
    for kind in [AUDIO, VIDEO] {
        let track = sitting.frames.iter().filter(|frame| frame.kind == kind);
        if !track.is_sorted_by_key(|frame| frame.timestamp) {
            let (node, stream) = (node.clone(), stream.clone());
            faults.push(Fault::Back { node, stream });
        }
    }
    let stamps = sitting.frames.iter().filter_map(|frame| frame.stamp);
    let mut order: Vec<u32> = stamps.map(|stamp| stamp.play).collect();
    order.dedup();
    let returns = (1..order.len()).filter(|n| order[..*n].contains(&order[*n]));
    faults.extend(returns.map(|n| Fault::Return {
        node: node.clone(),
        stream: stream.clone(),
        play: order[n],
    }));
    faults
}

fn plays<'a>(sittings: &[&'a Sitting]) -> Vec<Play<'a>> {
    let mut plays: BTreeMap<u32, Play<'a>> = BTreeMap::new();
    for frame in sittings.iter().flat_map(|sitting| &sitting.frames) {
        let Some(stamp) = frame.stamp else {
            continue;
        };
        let play = plays.entry(stamp.play).or_insert_with(|| Play {
            number: stamp.play,
            seen: Vec::new(),
        });
        play.seen.push((stamp, frame));
    }
    plays.into_values().collect()
}

fn differences(stream: &str, plays: &[Play<'_>]) -> Vec<Fault> {
    let mut known: HashMap<(u32, u32), &Frame> = HashMap::new();
    let mut faults = Vec::new();
    for (stamp, frame) in plays.iter().flat_map(|play| &play.seen) {
        let first = known.entry((stamp.play, stamp.number)).or_insert(frame);
        if (first.kind, first.hash) != (frame.kind, frame.hash) {
            let (stream, stamp) = (stream.to_owned(), *stamp);
            faults.push(Fault::Differs { stream, stamp });
        }
    }
    faults
}

fn at_once(stream: &str, plays: &[Play<'_>]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (n, one) in plays.iter().enumerate() {
        for other in &plays[..n] {
            if !one.can_precede(other) && !other.can_precede(one) {
                faults.push(Fault::AtOnce {
                    stream: stream.to_owned(),
                    plays: [other.number, one.number],
                });
            }
        }
    }
    faults
}

fn unlogged(stream: &str, plays: &[Play<'_>], reigns: &[Reign]) -> Vec<Fault> {
    let mut nodes: BTreeMap<&str, Vec<&Reign>> = BTreeMap::new();
    for reign in reigns {
        nodes.entry(&reign.node).or_default().push(reign);
    }
    let logged = |play: &&Play<'_>| !nodes.values().any(|reigns| play.is_of(reigns));
    let unlogged = plays.iter().filter(logged);
    unlogged
        .map(|play| Fault::Unlogged {
            stream: stream.to_owned(),
            play: play.number,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const STREAM: &str = "live/a";

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The frame of a play that was sent then, and arrived then.
    fn frame(play: u32, sent: u64, arrived: u64) -> Frame {
        Frame {
            kind: VIDEO,
            timestamp: sent as u32,
            at: Instant::now(),
            arrived: ms(arrived),
            sequence_header: false,
            hash: sent,
            stamp: Some(Stamp {
                play,
                number: sent as u32,
                sent: ms(sent),
            }),
        }
    }

    fn at(node: &str, frames: impl IntoIterator<Item = Frame>) -> Sitting {
        Sitting {
            node: node.to_owned(),
            stream: STREAM.to_owned(),
            frames: frames.into_iter().collect(),
        }
    }

    fn reigns(of: &[(&str, u64, u64)]) -> Reigns {
        let reign = |(n, (node, first, last)): (usize, &(&str, u64, u64))| Reign {
            node: (*node).to_owned(),
            epoch: n as u64 + 1,
            first: ms(*first),
            last: ms(*last),
        };
        [(
            STREAM.to_owned(),
            of.iter().enumerate().map(reign).collect(),
        )]
        .into()
    }

    /// Two nodes, one after the other.
    fn both() -> Reigns {
        reigns(&[("n1", 1_001, 2_001), ("n2", 6_001, 9_001)])
    }

    #[test]
    fn what_was_appended_in_time_may_arrive_late() {
        let sittings = [
            // From a ring of a node that stood still, behind which comes what n2 appends.
            at(
                "n1",
                [
                    frame(0, 1_000, 1_002),
                    frame(0, 2_000, 8_000),
                    frame(1, 6_500, 8_001),
                ],
            ),
            at("n2", [frame(0, 1_000, 1_003), frame(1, 6_000, 6_002)]),
            at("n2", [frame(1, 8_000, 8_002)]),
        ];
        assert_eq!(judge(&sittings, &both()), []);
        assert_eq!(plays_of(STREAM, &sittings), 2);
        assert_eq!(plays_of("live/b", &sittings), 0);
    }

    #[test]
    fn what_the_source_sent_after_the_next_one_had_begun_must_not_arrive() {
        let sittings = [
            at("n1", [frame(0, 1_000, 1_002), frame(0, 7_000, 8_000)]),
            at("n2", [frame(1, 6_000, 6_002), frame(1, 7_500, 7_502)]),
        ];
        let faults = judge(&sittings, &both());
        let stream = STREAM.to_owned();
        let plays = [0, 1];
        assert!(faults.contains(&Fault::AtOnce { stream, plays }));
        // The log of n1 does not say so, either.
        let stream = STREAM.to_owned();
        assert!(faults.contains(&Fault::Unlogged { stream, play: 0 }));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn a_frame_that_arrives_before_its_node_appends_is_of_nobody() {
        let early = [at("n1", [frame(0, 900, 1_000)])];
        let stream = STREAM.to_owned();
        assert_eq!(
            judge(&early, &both()),
            [Fault::Unlogged { stream, play: 0 }]
        );
        // One play is one node's.
        let between = [at("n1", [frame(0, 1_500, 1_600), frame(0, 7_000, 7_100)])];
        assert_eq!(judge(&between, &both()).len(), 1);
    }

    #[test]
    fn a_play_that_was_left_does_not_come_back() {
        let frames = [
            frame(0, 1_000, 1_002),
            frame(1, 6_000, 6_002),
            frame(0, 1_500, 6_003),
        ];
        let faults = judge(&[at("n1", frames)], &both());
        let (node, stream) = ("n1".to_owned(), STREAM.to_owned());
        let play = 0;
        assert!(faults.contains(&Fault::Return { node, stream, play }));
        let (node, stream) = ("n1".to_owned(), STREAM.to_owned());
        assert!(faults.contains(&Fault::Back { node, stream }));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn a_frame_is_the_same_for_all_readers() {
        let mut other = frame(0, 1_500, 1_502);
        other.hash += 1;
        let sittings = [at("n1", [frame(0, 1_500, 1_501)]), at("n2", [other])];
        let faults = judge(&sittings, &both());
        assert!(
            matches!(&faults[..], [Fault::Differs { stamp, .. }] if stamp.number == 1_500),
            "{faults:?}"
        );
    }
}
