//! Readers: a player at every node for each of some streams, that notes what it sees from
//! begin to end and comes again when it was sent away.

use std::time::Duration;

use crate::appends::Reigns;
use crate::eventually::eventually;
use crate::host::TestHost;
use crate::player::Player;
use crate::sightings::{self, Fault, Sitting};

/// One at a node called `n1` and so on, as in [`crate::cluster`].
#[derive(Debug)]
struct Reader {
    /// Counted from 0.
    node: usize,
    stream: String,
    former: Vec<Player>,
    player: Player,
}

impl Reader {
    fn attach(node: usize, stream: &str, nodes: &[TestHost]) -> Self {
        Self {
            node,
            stream: stream.to_owned(),
            former: Vec::new(),
            player: Player::attach(&nodes[node].url(stream)),
        }
    }

    /// Comes again, where the node is now. One that got nothing leaves nothing.
    fn attach_again(&mut self, nodes: &[TestHost]) {
        let url = nodes[self.node].url(&self.stream);
        let former = std::mem::replace(&mut self.player, Player::attach(&url));
        if former.count() > 0 {
            self.former.push(former);
        }
    }

    fn sittings(&self) -> impl Iterator<Item = Sitting> {
        let players = self.former.iter().chain([&self.player]);
        players.map(|player| Sitting {
            node: format!("n{}", self.node + 1),
            stream: self.stream.clone(),
            frames: player.frames(),
        })
    }
}

/// All of them. They leave at drop.
#[derive(Debug)]
pub struct Readers(Vec<Reader>);

impl Readers {
    /// One at each of these nodes for each of these streams.
    pub fn attach<'a>(
        nodes: &[TestHost],
        streams: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Self {
        let at = |node| {
            let streams = streams.clone().into_iter();
            streams.map(move |stream| Reader::attach(node, stream, nodes))
        };
        Self((0..nodes.len()).flat_map(at).collect())
    }

    /// Waits until every one has `more` frames more, or has come again and has so many.
    ///
    /// # Panics
    /// When one hangs, or is sent away again and again.
    pub fn wait_for_more(&mut self, nodes: &[TestHost], more: usize, within: Duration) {
        let goals = self.0.iter().map(|reader| reader.player.count() + more);
        let mut goals: Vec<usize> = goals.collect();
        eventually("every reader gets frames", within, || {
            let mut late = Vec::new();
            for (reader, goal) in self.0.iter_mut().zip(&mut goals) {
                let count = reader.player.count();
                let gone = reader.player.gone();
                if count < *goal {
                    let (node, stream) = (reader.node + 1, &reader.stream);
                    late.push(format!("{stream} at n{node}: {count} of {goal}, {gone:?}"));
                }
                if gone.is_some() {
                    reader.attach_again(nodes);
                    *goal = more;
                }
            }
            match late.is_empty() {
                true => Ok(()),
                false => Err(late.join("; ")),
            }
        });
    }

    /// # Panics
    /// When one was sent away.
    pub fn assert_attached(&self) {
        for reader in &self.0 {
            assert!(reader.former.is_empty(), "{} came again", reader.stream);
            reader.player.assert_attached();
        }
    }

    /// What they saw so far.
    #[must_use]
    pub fn sittings(&self) -> Vec<Sitting> {
        self.0.iter().flat_map(Reader::sittings).collect()
    }

    /// What is wrong with it, see [`sightings::judge`].
    #[must_use]
    pub fn judge(&self, reigns: &Reigns) -> Vec<Fault> {
        sightings::judge(&self.sittings(), reigns)
    }
}
