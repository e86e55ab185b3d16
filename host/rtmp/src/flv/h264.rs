//! Picture size and frame rate from an H.264 sequence header.
//!
//! Responsible for the few fields of the sequence parameter set that an API
//! shows. It does not know pictures. Invariant: reads at most the bytes of the
//! set; anything odd is `None`, never a panic.

use super::bits::{Bits, without_emulation_prevention};
use super::cursor::Cursor;
use super::picture::{MAX_FPS, Picture};

/// Level 6.2 ends below 16,888 pixels a side (specification A.3.1).
const MAX_SIDE: u32 = 16_888;
/// A parameter set is some dozens of bytes; scaling lists make it hundreds.
const MAX_SPS: usize = 4 * 1024;

/// The picture of a configuration record (ISO 14496-15, 5.3.3.1).
pub(super) fn record(record: &[u8]) -> Option<Picture> {
    let mut record = Cursor::new(record);
    let [
        version,
        _profile,
        _compatibility,
        _level,
        _length_size,
        count,
    ] = record.array()?;
    if version != 1 || count & 0x1F == 0 {
        return None;
    }
    let length = u16::from_be_bytes(record.array()?);
    parse(record.take(usize::from(length))?)
}

fn parse(unit: &[u8]) -> Option<Picture> {
    const SPS: u8 = 7;
    let (&first, rest) = unit.split_first()?;
    if first & 0x1F != SPS || rest.len() > MAX_SPS {
        return None;
    }
    let raw = without_emulation_prevention(rest);
    let mut bits = Bits::new(&raw);

    let profile = bits.read(8)?;
    bits.skip(16)?;
    bits.ue()?;
    let mut chroma = 1;
    let mut separate_planes = false;
    if has_chroma_fields(profile) {
        chroma = bits.ue()?;
        if chroma == 3 {
            separate_planes = bits.flag()?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
        if bits.flag()? {
            skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.ue()?;
    skip_picture_order(&mut bits)?;
    bits.ue()?;
    bits.skip(1)?;
    let columns = bits.ue()?.checked_add(1)?;
    let rows = bits.ue()?.checked_add(1)?;
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let fields = if frames_only { 1 } else { 2 };
    let (crop_x, crop_y) = cropping(&mut bits, chroma, separate_planes, fields)?;
    let width = columns.checked_mul(16)?.checked_sub(crop_x)?;
    let height = rows.checked_mul(16 * fields)?.checked_sub(crop_y)?;
    if width > MAX_SIDE || height > MAX_SIDE {
        return None;
    }
    // A set that ends early still has a size; only the rate is unknown then.
    let fps = frame_rate(&mut bits).flatten();
    Picture::new(width, height, fps)
}

fn has_chroma_fields(profile: u32) -> bool {
    matches!(
        profile,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
    )
}

fn skip_scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !bits.flag()? {
            continue;
        }
        let size = if list < 6 { 16 } else { 64 };
        let mut next = 8_i32;
        for _ in 0..size {
            next = (next + bits.se()?.rem_euclid(256)) % 256;
            if next == 0 {
                break;
            }
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.skip(1)?;
            bits.ue()?;
            bits.ue()?;
            // 255 is the most the specification allows.
            for _ in 0..bits.ue().filter(|count| *count <= 255)? {
                bits.ue()?;
            }
        }
        2 => {}
        _ => return None,
    }
    Some(())
}

/// Cropped pixels, horizontally and vertically.
fn cropping(bits: &mut Bits<'_>, chroma: u32, planes: bool, fields: u32) -> Option<(u32, u32)> {
    if !bits.flag()? {
        return Some((0, 0));
    }
    let (unit_x, unit_y) = match chroma {
        1 if !planes => (2, 2),
        2 if !planes => (2, 1),
        _ => (1, 1),
    };
    let sides = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?];
    let x = sides[0].checked_add(sides[1])?.checked_mul(unit_x)?;
    let y = sides[2]
        .checked_add(sides[3])?
        .checked_mul(unit_y * fields)?;
    Some((x, y))
}

/// The rate in the usability information; the outer `None` is a cut set.
fn frame_rate(bits: &mut Bits<'_>) -> Option<Option<f64>> {
    const EXTENDED_SAR: u32 = 255;
    if !bits.flag()? {
        return Some(None);
    }
    if bits.flag()? && bits.read(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    if !bits.flag()? {
        return Some(None);
    }
    let units = bits.read(32)?;
    let scale = bits.read(32)?;
    let fps = f64::from(scale) / (2.0 * f64::from(units));
    // Encoders without a fixed rate write clock rates here.
    Some((units != 0 && fps > 0.0 && fps <= MAX_FPS).then_some(fps))
}
