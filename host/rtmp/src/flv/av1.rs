//! Picture size and frame rate from an AV1 sequence header.
//!
//! Reads the few fields of the sequence header OBU that an API shows (AV1 bitstream
//! specification, 5.5), in the configuration record or before a keyframe. Invariant:
//! looks at a few OBUs only; anything odd is `None`, never a panic.

use super::bits::Bits;
use super::cursor::Cursor;
use super::picture::Picture;

/// Temporal delimiter and padding may come before the sequence header; not more.
const MAX_OBUS: usize = 4;
const SEQUENCE_HEADER: u8 = 1;

/// The picture of an AV1CodecConfigurationRecord, which may hold no OBU.
pub(super) fn record(record: &[u8]) -> Option<Picture> {
    /// Marker and version.
    const FIRST: u8 = 0x81;
    let mut record = Cursor::new(record);
    let [first, ..] = record.array::<4>()?;
    (first == FIRST).then(|| frame(record.rest()))?
}

/// The picture of the OBUs of a frame.
pub(super) fn frame(obus: &[u8]) -> Option<Picture> {
    let mut cursor = Cursor::new(obus);
    for _ in 0..MAX_OBUS {
        let header = cursor.byte()?;
        if header & 0x04 != 0 {
            cursor.byte()?;
        }
        let size = if header & 0x02 != 0 {
            leb128(&mut cursor)?
        } else {
            cursor.rest().len()
        };
        let obu = cursor.take(size)?;
        if header >> 3 & 0x0F == SEQUENCE_HEADER {
            return sequence_header(obu);
        }
    }
    None
}

/// Seven bits a byte, the lowest first.
fn leb128(cursor: &mut Cursor<'_>) -> Option<usize> {
    let mut value = 0;
    // Four bytes are 28 bits: more than any message has.
    for shift in [0, 7, 14, 21] {
        let byte = cursor.byte()?;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn sequence_header(obu: &[u8]) -> Option<Picture> {
    let mut bits = Bits::new(obu);
    bits.skip(3)?;
    bits.skip(1)?;
    let reduced = bits.flag()?;
    let mut fps = None;
    if reduced {
        bits.skip(5)?;
    } else {
        let mut decoder_model = None;
        if bits.flag()? {
            fps = frame_rate(&mut bits)?;
            if bits.flag()? {
                decoder_model = Some(bits.read(5)? + 1);
                bits.skip(32 + 5 + 5)?;
            }
        }
        skip_operating_points(&mut bits, decoder_model)?;
    }
    let width_bits = bits.read(4)? + 1;
    let height_bits = bits.read(4)? + 1;
    let width = bits.read(width_bits)? + 1;
    let height = bits.read(height_bits)? + 1;
    Picture::new(width, height, fps)
}

/// The rate in the timing information, when it is a fixed one; the outer `None` is a
/// cut header.
fn frame_rate(bits: &mut Bits<'_>) -> Option<Option<f64>> {
    let units = bits.read(32)?;
    let scale = bits.read(32)?;
    if !bits.flag()? {
        return Some(None);
    }
    // The same code as exponential Golomb.
    let ticks = f64::from(bits.ue()?) + 1.0;
    let fps = f64::from(scale) / (f64::from(units) * ticks);
    Some((units != 0).then_some(fps))
}

fn skip_operating_points(bits: &mut Bits<'_>, decoder_model: Option<u32>) -> Option<()> {
    let delays = bits.flag()?;
    let points = bits.read(5)? + 1;
    for _ in 0..points {
        bits.skip(12)?;
        if bits.read(5)? > 7 {
            bits.skip(1)?;
        }
        if let Some(length) = decoder_model
            && bits.flag()?
        {
            bits.skip(2 * length + 1)?;
        }
        if delays && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}
