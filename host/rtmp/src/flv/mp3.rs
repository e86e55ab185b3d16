//! Rate and channels from the header of an MPEG audio frame (ISO 11172-3, 2.4.1.3).

use super::cursor::Cursor;
use super::sound::Sound;

/// Rates of MPEG-1; those of MPEG-2 are half of them, and of MPEG-2.5 a quarter.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];

pub(super) fn frame(frame: &[u8]) -> Option<Sound> {
    const MONO: u8 = 3;
    let [sync, version, rate, mode] = Cursor::new(frame).array()?;
    if sync != 0xFF || version & 0xE0 != 0xE0 || version & 0x06 == 0 {
        return None;
    }
    let halvings = match version >> 3 & 3 {
        3 => 0,
        2 => 1,
        0 => 2,
        _ => return None,
    };
    let rate = RATES.get(usize::from(rate >> 2 & 3))?;
    Some(Sound {
        sample_rate: rate >> halvings,
        channels: Some(if mode >> 6 == MONO { 1 } else { 2 }),
    })
}
