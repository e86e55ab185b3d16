//! Rate and channels from an AAC AudioSpecificConfig (ISO 14496-3, 1.6.2.1).

use super::bits::Bits;
use super::sound::Sound;

const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// Spectral band replication and parametric stereo: the rate that is played follows.
const SBR: u32 = 5;
const PARAMETRIC_STEREO: u32 = 29;

pub(super) fn config(config: &[u8]) -> Option<Sound> {
    let mut bits = Bits::new(config);
    let object = object_type(&mut bits)?;
    let coded_rate = rate(&mut bits)?;
    let layout = bits.read(4)?;
    let sample_rate = if object == SBR || object == PARAMETRIC_STEREO {
        rate(&mut bits)?
    } else {
        coded_rate
    };
    let channels = match layout {
        // One channel is coded, and two are made of it.
        1 if object == PARAMETRIC_STEREO => Some(2),
        1..=6 => u8::try_from(layout).ok(),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => None,
    };
    (sample_rate > 0).then_some(Sound {
        sample_rate,
        channels,
    })
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    const ESCAPE: u32 = 31;
    match bits.read(5)? {
        ESCAPE => Some(32 + bits.read(6)?),
        object => Some(object),
    }
}

fn rate(bits: &mut Bits<'_>) -> Option<u32> {
    const ESCAPE: u32 = 15;
    match bits.read(4)? {
        ESCAPE => bits.read(24),
        index => RATES.get(usize::try_from(index).ok()?).copied(),
    }
}
