//! Picture size and frame rate from an H.265 sequence header.
//!
//! Reads the few fields of the sequence parameter set that an API shows (ITU-T H.265,
//! 7.3.2.2), and all before them. Invariant: reads at most the bytes of the set;
//! anything odd is `None`, never a panic.

use super::bits::{Bits, without_emulation_prevention};
use super::cursor::Cursor;
use super::picture::Picture;

/// Level 7.2 ends below 33,776 pixels a side.
const MAX_SIDE: u32 = 33_776;
/// A parameter set is some dozens of bytes; scaling lists make it hundreds.
const MAX_SPS: usize = 4 * 1024;
/// Arrays of a record and units of an array that are looked at: VPS, SPS, PPS, SEI.
const MAX_UNITS: usize = 16;
/// Pictures a set may refer to (A.4.2).
const MAX_REFERENCES: usize = 16;
/// The most reference picture sets that the specification allows.
const MAX_SETS: u32 = 64;

/// The picture of a configuration record (ISO 14496-15, 8.3.3.1).
pub(super) fn record(record: &[u8]) -> Option<Picture> {
    const SPS: u8 = 33;
    let mut record = Cursor::new(record);
    // Profile, level and formats, and an average rate that most leave at 0.
    let head: [u8; 22] = record.array()?;
    let average = f64::from(u16::from_be_bytes([head[19], head[20]])) / 256.0;
    // Encoders before the standard was done wrote version 0.
    if head[0] > 1 {
        return None;
    }
    let arrays = record.byte()?;
    for _ in 0..usize::from(arrays).min(MAX_UNITS) {
        let kind = record.byte()? & 0x3F;
        let units = u16::from_be_bytes(record.array()?);
        for _ in 0..usize::from(units).min(MAX_UNITS) {
            let length = u16::from_be_bytes(record.array()?);
            let unit = record.take(usize::from(length))?;
            if kind == SPS {
                let picture = parse(unit)?;
                let fps = picture.fps.or(Some(average));
                return Picture::new(picture.width, picture.height, fps);
            }
        }
    }
    None
}

fn parse(unit: &[u8]) -> Option<Picture> {
    let (_header, rest) = unit.split_at_checked(2)?;
    if rest.len() > MAX_SPS {
        return None;
    }
    let raw = without_emulation_prevention(rest);
    let mut bits = Bits::new(&raw);
    bits.skip(4)?;
    let sub_layers = bits.read(3)?;
    bits.skip(1)?;
    skip_profile(&mut bits, sub_layers)?;
    bits.ue()?;
    let chroma = bits.ue()?;
    let separate_planes = chroma == 3 && bits.flag()?;
    let (coded_width, coded_height) = (bits.ue()?, bits.ue()?);
    let (crop_x, crop_y) = window(&mut bits, chroma, separate_planes)?;
    let width = coded_width.checked_sub(crop_x)?;
    let height = coded_height.checked_sub(crop_y)?;
    if width > MAX_SIDE || height > MAX_SIDE {
        return None;
    }
    // A set that ends early still has a size; only the rate is unknown then.
    let fps = frame_rate(&mut bits, sub_layers).flatten();
    Picture::new(width, height, fps)
}

fn skip_profile(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE: u32 = 88;
    const LEVEL: u32 = 8;
    bits.skip(PROFILE + LEVEL)?;
    let mut present = 0;
    for _ in 0..sub_layers {
        present += u32::from(bits.flag()?) * PROFILE + u32::from(bits.flag()?) * LEVEL;
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers))?;
    }
    bits.skip(present)
}

/// What the conformance window cuts off, horizontally and vertically.
fn window(bits: &mut Bits<'_>, chroma: u32, planes: bool) -> Option<(u32, u32)> {
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
    let y = sides[2].checked_add(sides[3])?.checked_mul(unit_y)?;
    Some((x, y))
}

/// The rate in the usability information; the outer `None` is a cut set.
fn frame_rate(bits: &mut Bits<'_>, sub_layers: u32) -> Option<Option<f64>> {
    bits.ue()?;
    bits.ue()?;
    let order_bits = bits.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
    let each_layer = bits.flag()?;
    for _ in 0..if each_layer { sub_layers + 1 } else { 1 } {
        skip_ue(bits, 3)?;
    }
    skip_ue(bits, 6)?;
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(8)?;
        skip_ue(bits, 2)?;
        bits.skip(1)?;
    }
    skip_reference_sets(bits)?;
    if bits.flag()? {
        // 32 is the most the specification allows.
        for _ in 0..bits.ue().filter(|count| *count <= 32)? {
            bits.skip(order_bits + 1)?;
        }
    }
    bits.skip(2)?;
    if !bits.flag()? {
        return Some(None);
    }
    usability(bits)
}

fn skip_ue(bits: &mut Bits<'_>, count: usize) -> Option<()> {
    (0..count).try_for_each(|_| bits.ue().map(|_| ()))
}

fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4_u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.flag()? {
                bits.ue()?;
                continue;
            }
            let direct = usize::from(size > 1);
            let coefficients = 64.min(1_usize << (4 + 2 * size));
            skip_ue(bits, direct + coefficients)?;
        }
    }
    Some(())
}

/// The sets of pictures that others refer to. One may be told by its difference to the
/// one before, so the distances have to be known.
fn skip_reference_sets(bits: &mut Bits<'_>) -> Option<()> {
    let sets = bits.ue().filter(|sets| *sets <= MAX_SETS)?;
    let mut former: Vec<i32> = Vec::new();
    for set in 0..sets {
        former = if set > 0 && bits.flag()? {
            predicted_set(bits, &former)?
        } else {
            own_set(bits)?
        };
    }
    Some(())
}

fn own_set(bits: &mut Bits<'_>) -> Option<Vec<i32>> {
    let counts = [bits.ue()?, bits.ue()?];
    let mut set = Vec::new();
    for (count, sign) in counts.into_iter().zip([-1, 1]) {
        let mut distance = 0_i32;
        for _ in 0..count {
            let step = i32::try_from(bits.ue()?).ok()?.checked_add(1)?;
            distance = distance.checked_add(step)?;
            bits.skip(1)?;
            set.push(sign * distance);
            if set.len() > MAX_REFERENCES {
                return None;
            }
        }
    }
    Some(set)
}

fn predicted_set(bits: &mut Bits<'_>, former: &[i32]) -> Option<Vec<i32>> {
    let negative = bits.flag()?;
    let step = i32::try_from(bits.ue()?).ok()?.checked_add(1)?;
    let step = if negative { -step } else { step };
    let mut set = Vec::new();
    // The picture that the former set was for is a candidate as well.
    for distance in former.iter().copied().chain([0]) {
        let used = bits.flag()?;
        let kept = used || bits.flag()?;
        let distance = distance.checked_add(step)?;
        if kept && distance != 0 {
            set.push(distance);
        }
    }
    // In a set, those before come first, the nearest first; so do those after.
    set.sort_by_key(|distance| (*distance > 0, distance.unsigned_abs()));
    (set.len() <= MAX_REFERENCES).then_some(set)
}

/// The usability information up to its rate (E.2.1).
fn usability(bits: &mut Bits<'_>) -> Option<Option<f64>> {
    const EXTENDED_SAR: u32 = 255;
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
        skip_ue(bits, 2)?;
    }
    bits.skip(3)?;
    if bits.flag()? {
        skip_ue(bits, 4)?;
    }
    if !bits.flag()? {
        return Some(None);
    }
    let units = bits.read(32)?;
    let scale = bits.read(32)?;
    Some((units != 0).then(|| f64::from(scale) / f64::from(units)))
}
