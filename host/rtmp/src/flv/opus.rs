//! Rate and channels from an Opus identification header (RFC 7845, 5.1).

use super::cursor::Cursor;
use super::sound::Sound;

/// Opus is decoded at this rate, whatever it was made from.
const RATE: u32 = 48_000;

pub(super) fn header(header: &[u8]) -> Option<Sound> {
    let mut header = Cursor::new(header);
    let magic: [u8; 8] = header.array()?;
    let version = header.byte()?;
    let channels = header.byte()?;
    // The high half counts changes that older readers cannot follow.
    if magic != *b"OpusHead" || version >> 4 != 0 || channels == 0 {
        return None;
    }
    Some(Sound {
        sample_rate: RATE,
        channels: Some(channels),
    })
}
