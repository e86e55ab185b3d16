//! Picture size from a VP9 keyframe: the configuration record has none.
//!
//! Reads the uncompressed header (VP9 bitstream specification, 6.2). A superframe
//! begins with its first frame, so it needs no care.

use super::bits::Bits;
use super::picture::Picture;

const FRAME_MARKER: u32 = 2;
const SYNC_CODE: u32 = 0x49_8342;
/// The colour space that has no subsampling.
const RGB: u32 = 7;

pub(super) fn frame(frame: &[u8]) -> Option<Picture> {
    let mut bits = Bits::new(frame);
    if bits.read(2)? != FRAME_MARKER {
        return None;
    }
    let profile = u32::from(bits.flag()?) | u32::from(bits.flag()?) << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (shows_existing, is_inter) = (bits.flag()?, bits.flag()?);
    bits.skip(2)?;
    if shows_existing || is_inter || bits.read(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    let chroma_told = profile == 1 || profile == 3;
    if bits.read(3)? == RGB {
        bits.skip(if chroma_told { 1 } else { 0 })?;
    } else {
        bits.skip(if chroma_told { 4 } else { 1 })?;
    }
    let width = bits.read(16)? + 1;
    let height = bits.read(16)? + 1;
    Picture::new(width, height, None)
}
