//! Rate and channels from the synchronisation header of AC-3 and E-AC-3 frames
//! (ETSI TS 102 366, 4.3 and E.1.2).

use super::bits::Bits;
use super::sound::Sound;

const SYNC: u32 = 0x0B77;
const RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Full channels of each coding mode.
const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
/// The version in front of which a frame is AC-3; from here on E-AC-3.
const FIRST_ENHANCED: u8 = 11;

/// The version is at the same place in both, so the frame says what it is.
pub(super) fn frame(frame: &[u8]) -> Option<Sound> {
    let version = frame.get(5)? >> 3;
    let mut bits = Bits::new(frame);
    if bits.read(16)? != SYNC {
        return None;
    }
    if version < FIRST_ENHANCED {
        plain(&mut bits, version)
    } else {
        enhanced(&mut bits)
    }
}

fn plain(bits: &mut Bits<'_>, version: u8) -> Option<Sound> {
    bits.skip(16)?;
    let rate = RATES.get(bits.read(2)? as usize)?;
    bits.skip(6 + 5 + 3)?;
    let mode = bits.read(3)?;
    // Mix levels, which only some modes have.
    let levels = [mode & 1 != 0 && mode != 1, mode & 4 != 0, mode == 2];
    for _ in levels.into_iter().filter(|has| *has) {
        bits.skip(2)?;
    }
    // Two versions stand for half and a quarter of the rate.
    let sample_rate = rate >> version.saturating_sub(8);
    sound(sample_rate, mode, bits.flag()?)
}

fn enhanced(bits: &mut Bits<'_>) -> Option<Sound> {
    // Kind of the stream, its number, length of the frame.
    bits.skip(2 + 3 + 11)?;
    let rate = bits.read(2)? as usize;
    let half = bits.read(2)? as usize;
    let sample_rate = match RATES.get(rate) {
        Some(rate) => *rate,
        None => RATES.get(half)? / 2,
    };
    let mode = bits.read(3)?;
    sound(sample_rate, mode, bits.flag()?)
}

fn sound(sample_rate: u32, mode: u32, low_frequency: bool) -> Option<Sound> {
    let channels = CHANNELS.get(mode as usize)? + u8::from(low_frequency);
    Some(Sound {
        sample_rate,
        channels: Some(channels),
    })
}
