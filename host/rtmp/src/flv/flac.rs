//! Rate and channels from FLAC's STREAMINFO (RFC 9639, 8.2).

use super::bits::Bits;
use super::sound::Sound;

/// Length of STREAMINFO.
const INFO: usize = 34;

/// Enhanced RTMP wants the stream marker and the metadata blocks; ffmpeg sends the
/// body of the first block alone, and others send it with its block header.
pub(super) fn header(header: &[u8]) -> Option<Sound> {
    let block = header.strip_prefix(b"fLaC").unwrap_or(header);
    let body = match block {
        // The last block's type has its high bit set.
        [0 | 0x80, 0, 0, 34, body @ ..] if body.len() >= INFO => body,
        body if body.len() == INFO => body,
        _ => return None,
    };
    let mut bits = Bits::new(body);
    // Sizes of blocks and frames.
    bits.skip(16 + 16 + 24 + 24)?;
    let sample_rate = bits.read(20)?;
    let channels = bits.read(3)? + 1;
    (sample_rate > 0).then_some(Sound {
        sample_rate,
        channels: u8::try_from(channels).ok(),
    })
}
