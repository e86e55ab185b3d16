//! Picture size and frame rate from an H.264 sequence header.
//!
//! Responsible for the few fields of the sequence parameter set that an API
//! shows. It does not know pictures. Invariant: reads at most the bytes of the
//! set; anything odd is `None`, never a panic.

use super::cursor::Cursor;

/// What the sequence parameter set says about the pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpsInfo {
    /// Width after cropping, in pixels.
    pub width: u32,
    /// Height after cropping, in pixels.
    pub height: u32,
    /// Frames a second, when the set says so.
    pub fps: Option<f64>,
}

/// The FLV header in front of the configuration record: five bytes, both in
/// the classic form and in the enhanced one with its FourCC.
const FLV_HEADER: usize = 5;
/// Level 6.2 ends below 16,888 pixels a side (specification A.3.1).
const MAX_SIDE: u32 = 16_888;
/// A parameter set is some dozens of bytes; scaling lists make it hundreds.
const MAX_SPS: usize = 4 * 1024;

/// Reads the first parameter set of an AVC sequence header message.
#[must_use]
pub fn from_sequence_header(payload: &[u8]) -> Option<SpsInfo> {
    let header = super::video(payload)?;
    if header.codec != super::Codec::Avc || header.kind != super::PacketKind::SequenceHeader {
        return None;
    }
    let mut record = Cursor::new(payload.get(FLV_HEADER..)?);
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

fn parse(unit: &[u8]) -> Option<SpsInfo> {
    const SPS: u8 = 7;
    let (&first, rest) = unit.split_first()?;
    if first & 0x1F != SPS || rest.len() > MAX_SPS {
        return None;
    }
    let raw = without_emulation_prevention(rest);
    let mut bits = Bits { bytes: &raw, at: 0 };

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
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return None;
    }
    // A set that ends early still has a size; only the rate is unknown then.
    let fps = frame_rate(&mut bits).flatten();
    Some(SpsInfo { width, height, fps })
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
    Some((units != 0 && fps > 0.0 && fps <= 1_000.0).then_some(fps))
}

/// Drops the byte 3 that keeps start codes out of the set.
fn without_emulation_prevention(bytes: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        raw.push(byte);
    }
    raw
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.read(count).map(|_| ())
    }

    /// Unsigned exponential Golomb; 31 zeros is the most that fits 32 bits.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.read(zeros)?;
        Some((1_u32 << zeros) - 1 + rest)
    }

    /// Signed exponential Golomb.
    fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let value = if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        };
        i32::try_from(value).ok()
    }
}
