//! Picture size from a VP8 keyframe (RFC 6386, 9.1).

use super::cursor::Cursor;
use super::picture::Picture;

/// Frame tag, start code, and the sides with their scales in the two high bits.
pub(super) fn frame(frame: &[u8]) -> Option<Picture> {
    let mut frame = Cursor::new(frame);
    let [tag, _, _] = frame.array()?;
    let start = frame.array()?;
    if tag & 1 != 0 || start != [0x9D, 0x01, 0x2A] {
        return None;
    }
    let mut side = || Some(u32::from(u16::from_le_bytes(frame.array()?) & 0x3FFF));
    Picture::new(side()?, side()?, None)
}
