//! Pulls of this node from itself, so that none of them closes a loop.
//!
//! Two streams that pull each other would send round for ever what they had last, and
//! look LIVE. A dialler notes which stream its connection is to feed before it says a
//! word; the listener knows the connection by its address and asks when it wants to
//! play. Invariant: an entry lives as long as its connection. Loops over other nodes are
//! not seen.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::StreamGuid;
use crate::rtmp::address::plain;

/// A pull of this node from itself.
#[derive(Debug)]
struct Pull {
    feeds: StreamGuid,
    /// Known from when it was let in.
    plays: Option<StreamGuid>,
}

/// The pulls, by the address their connections come from. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct OwnPulls(Arc<Mutex<HashMap<SocketAddr, Pull>>>);

/// A play that would close a loop: the streams of it, from the one that wants to be fed
/// round to itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Loop(Vec<StreamGuid>);

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this would make a loop: ")?;
        for (at, stream) in self.0.iter().enumerate() {
            let arrow = if at == 0 { "" } else { " -> " };
            write!(f, "{arrow}{stream}")?;
        }
        Ok(())
    }
}

/// Who dials, and for which stream.
#[derive(Clone, Debug)]
pub struct Feeding {
    /// The stream.
    pub stream: StreamGuid,
    /// Where this node looks its own pulls up.
    pub pulls: OwnPulls,
}

impl Feeding {
    /// Notes a connection that comes from this address, until it is dropped.
    pub(super) fn from(&self, addr: SocketAddr) -> Noted {
        let pull = Pull {
            feeds: self.stream.clone(),
            plays: None,
        };
        let addr = key(addr);
        self.pulls.0.lock().insert(addr, pull);
        Noted {
            addr,
            pulls: self.pulls.clone(),
        }
    }
}

/// A connection that is noted.
#[derive(Debug)]
pub(super) struct Noted {
    addr: SocketAddr,
    pulls: OwnPulls,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.pulls.0.lock().remove(&self.addr);
    }
}

impl OwnPulls {
    /// A connection from this address wants to play a stream. Fine when it is none of
    /// ours, or when what it feeds does not feed that stream in turn.
    pub fn play(&self, peer: SocketAddr, stream: &StreamGuid) -> Result<(), Loop> {
        let peer = key(peer);
        let mut pulls = self.0.lock();
        let Some(fed) = pulls.get(&peer).map(|pull| pull.feeds.clone()) else {
            return Ok(());
        };
        if let Some(way) = way(&pulls, stream, &fed) {
            let round = std::iter::once(fed).chain(way).collect();
            return Err(Loop(round));
        }
        if let Some(pull) = pulls.get_mut(&peer) {
            pull.plays = Some(stream.clone());
        }
        Ok(())
    }
}

/// The way from a stream over what it is fed from to another one, both included.
fn way(
    pulls: &HashMap<SocketAddr, Pull>,
    from: &StreamGuid,
    to: &StreamGuid,
) -> Option<Vec<StreamGuid>> {
    let mut ways = vec![vec![from.clone()]];
    let mut seen = vec![from.clone()];
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        if last == to {
            return Some(way);
        }
        for pull in pulls.values().filter(|pull| pull.feeds == *last) {
            if let Some(next) = &pull.plays
                && !seen.contains(next)
            {
                seen.push(next.clone());
                ways.push(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

fn key(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(plain(addr.ip()), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guid(name: &str) -> StreamGuid {
        format!("live/{name}").parse().expect("legal")
    }

    /// Pulls of this shape: who is fed, and from whom. The first that is refused, if any.
    fn pull(pulls: &OwnPulls, edges: &[(&str, &str)]) -> (Vec<Noted>, Option<String>) {
        let mut noted = Vec::new();
        for (n, (feeds, plays)) in edges.iter().enumerate() {
            let pulls = pulls.clone();
            let stream = guid(feeds);
            let addr = SocketAddr::from(([127, 0, 0, 1], 1 + n as u16));
            noted.push(
                Feeding {
                    stream,
                    pulls: pulls.clone(),
                }
                .from(addr),
            );
            if let Err(refused) = pulls.play(addr, &guid(plays)) {
                return (noted, Some(refused.to_string()));
            }
        }
        (noted, None)
    }

    fn refused(edges: &[(&str, &str)]) -> Option<String> {
        pull(&OwnPulls::default(), edges).1
    }

    #[test]
    fn what_comes_back_to_itself_is_refused_and_named() {
        let loops = [
            (&[("a", "a")][..], "live/a -> live/a"),
            (&[("a", "b"), ("b", "a")], "live/b -> live/a -> live/b"),
            (
                &[("a", "b"), ("x", "b"), ("b", "c"), ("b", "y"), ("c", "a")],
                "live/c -> live/a -> live/b -> live/c",
            ),
        ];
        for (edges, round) in loops {
            let expected = format!("this would make a loop: {round}");
            assert_eq!(refused(edges), Some(expected));
        }
    }

    #[test]
    fn chains_and_diamonds_are_let_in() {
        assert_eq!(refused(&[("a", "b"), ("b", "c"), ("c", "d")]), None);
        let diamond = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "e")];
        assert_eq!(refused(&diamond), None);
    }

    #[test]
    fn a_connection_is_forgotten_with_its_end_and_known_in_either_form() {
        let pulls = OwnPulls::default();
        let (noted, _) = pull(&pulls, &[("a", "b")]);
        let mapped = "[::ffff:127.0.0.1]:1".parse().expect("an address");
        assert!(pulls.play(mapped, &guid("a")).is_err());
        let stranger = "127.0.0.1:9".parse().expect("an address");
        assert!(pulls.play(stranger, &guid("a")).is_ok());
        drop(noted);
        assert!(pulls.0.lock().is_empty());
    }
}
