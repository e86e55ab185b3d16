//! The sources the node pulls: most of them misbehave in rough weather.

use restreamd_tests::clip::Clip;
use restreamd_tests::source::{Behaviour, Script, Source};

use super::weather::{Dice, Weather};

/// Sources that flap.
const FLAPPING: usize = 8;
/// One in so many pulls is of a source that does not.
const STEADY: usize = 10;

/// All of them.
pub(super) struct Sources {
    flapping: Vec<Source>,
    steady: Source,
}

impl Sources {
    pub(super) fn open() -> Self {
        let clip = Clip::small();
        let open = |_| {
            let bases = vec![0, 0, u32::MAX - 5_000, 4_000_000];
            let script = Script {
                bases,
                ..Script::default()
            };
            Source::scripted(&clip, script)
        };
        Self {
            flapping: (0..FLAPPING).map(open).collect(),
            steady: Source::open(&clip),
        }
    }

    /// Where pull `n` comes from.
    pub(super) fn url(&self, n: usize) -> String {
        match n % STEADY {
            0 => self.steady_url(n),
            _ => self.flapping[n % FLAPPING].url(&format!("live/s{n}")),
        }
    }

    /// Where it comes from when all else fails.
    pub(super) fn steady_url(&self, n: usize) -> String {
        self.steady.url(&format!("live/s{n}"))
    }

    /// Misbehaves while it is rough; all are well when it is calm.
    pub(super) fn flap(mut self, weather: &Weather) {
        let mut dice = Dice::new(1);
        weather.each_rough(|| {
            let which = dice.roll(FLAPPING as u64) as usize;
            let kind = dice.roll(9);
            let source = &mut self.flapping[which];
            let lasts = dice.time(500, 4_000);
            match kind {
                0 | 1 => source.hang_up(),
                2 => source.jump(dice.roll(1 << 32) as u32),
                3 => source.ask_to_reconnect(None),
                4 => {
                    source.go_away();
                    weather.rough_for(lasts);
                    source.come_back();
                }
                kind => {
                    source.set(match kind {
                        5 => Behaviour::Silent,
                        6 => Behaviour::AudioOnly,
                        7 => Behaviour::Frozen,
                        _ => Behaviour::NotFound,
                    });
                    if kind == 8 {
                        source.hang_up();
                    }
                    weather.rough_for(lasts);
                    source.set(Behaviour::Play);
                }
            }
            weather.rough_for(dice.time(200, 1_200));
        });
    }
}
