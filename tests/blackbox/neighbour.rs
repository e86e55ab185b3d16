//! A pull that has nothing to do with what else happens on its node, and must not notice it.

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::host::TestHost;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;

use crate::SOON;

/// A well-behaved pull on the same node, watched by a player.
pub(crate) struct Neighbour {
    clip: Clip,
    source: Source,
    pub(crate) player: Player,
}

impl Neighbour {
    pub(crate) fn start(host: &TestHost, api: &Api) -> Self {
        let clip = Clip::small();
        let source = Source::open(&clip);
        let pull = Provision::pull("neighbour", "live/neighbour", &source.url("live/stream1"));
        api.start(&pull);
        let player = Player::attach(&host.url("live/neighbour"));
        player.wait_for_more(60, SOON);
        Self {
            clip,
            source,
            player,
        }
    }

    /// # Panics
    /// When the neighbour's player lost a frame or its source was dialled again.
    pub(crate) fn is_unharmed(&self) {
        self.player.wait_for_more(60, SOON);
        self.player.assert_unbroken(&self.clip);
        self.player.assert_monotonic();
        assert_eq!(self.source.dials(), 1, "the neighbour was dialled again");
    }
}
