//! What parameter sets and frame headers say, of files that a current ffmpeg wrote.

use proptest::collection::vec;
use proptest::prelude::*;
use restreamd_rtmp::flv::{self, Codec, PacketKind, Picture, Sound};
use restreamd_rtmp::{Message, type_id};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().collect();
    digits
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn picture(payload: &[u8]) -> Option<Picture> {
    flv::video_parts(payload).find_map(|part| part.picture())
}

fn sound(payload: &[u8]) -> Option<Sound> {
    flv::audio_parts(payload).find_map(|part| part.sound())
}

/// Sequence headers as ffmpeg with x264 writes them: 4:4:4, cropped, interlaced
/// rates and the baseline profile without cropping to 16.
const X264: [(&str, u32, u32, f64); 3] = [
    (
        "170000000001f4001effe1001b67f4001e919b281405ff1380880000030008000003019078b16cb0\
         01000668ebe3c44844fff8f800",
        640,
        360,
        25.0,
    ),
    (
        "170000000001f40028ffe1001a67f40028919b280f0044fc4e022000007d20001d4c01e30632c001\
         000668ebe3c44844fff8f800",
        1920,
        1080,
        30_000.0 / 1_001.0,
    ),
    (
        "17000000000142c00cffe1001a6742c00cd90150878888c044000003000400000300783c50a92001\
         000568cb83cb20",
        322,
        242,
        15.0,
    ),
];

#[test]
fn size_and_rate_of_x264_sequence_headers_are_read() {
    for (text, width, height, fps) in X264 {
        let fps = Some(fps);
        assert_eq!(picture(&hex(text)), Some(Picture { width, height, fps }));
    }
}

/// Made by ffmpeg 9.0 with libx265, SVT-AV1, libvpx, VVenC, libopus and its own encoders.
const FILES: [(&str, &[u8]); 6] = [
    (
        "hevc_aac",
        include_bytes!("../../../../tests/testdata/ffmpeg_hevc_aac.flv"),
    ),
    (
        "av1_opus",
        include_bytes!("../../../../tests/testdata/ffmpeg_av1_opus.flv"),
    ),
    (
        "vp9_flac",
        include_bytes!("../../../../tests/testdata/ffmpeg_vp9_flac.flv"),
    ),
    (
        "vvc_eac3",
        include_bytes!("../../../../tests/testdata/ffmpeg_vvc_eac3.flv"),
    ),
    (
        "two_video_ac3",
        include_bytes!("../../../../tests/testdata/ffmpeg_two_video_ac3.flv"),
    ),
    (
        "two_audio_mp3_opus",
        include_bytes!("../../../../tests/testdata/ffmpeg_two_audio_mp3_opus.flv"),
    ),
];

fn messages(name: &str) -> Vec<Message> {
    let (_, file) = FILES.iter().find(|(known, _)| *known == name).unwrap();
    let mut reader = flv::Reader::new();
    reader.buffer().extend(*file);
    std::iter::from_fn(|| reader.poll().unwrap()).collect()
}

/// The first picture of each video track and the first sound of each audio track, by
/// the kind of part that told it.
type Told<T> = Vec<(u8, Codec, PacketKind, T)>;

fn told(name: &str) -> (Told<Picture>, Told<Sound>) {
    let (mut pictures, mut sounds) = (Told::new(), Told::new());
    for message in messages(name) {
        if message.type_id == type_id::VIDEO {
            for part in flv::video_parts(&message.payload) {
                if let Some(picture) = part.picture()
                    && pictures.iter().all(|(track, ..)| *track != part.track)
                {
                    pictures.push((part.track, part.codec, part.kind, picture));
                }
            }
        } else if message.type_id == type_id::AUDIO {
            for part in flv::audio_parts(&message.payload) {
                if let Some(sound) = part.sound()
                    && sounds.iter().all(|(track, ..)| *track != part.track)
                {
                    sounds.push((part.track, part.codec, part.kind, sound));
                }
            }
        }
    }
    (pictures, sounds)
}

fn size(width: u32, height: u32, fps: Option<f64>) -> Picture {
    Picture { width, height, fps }
}

fn rate(sample_rate: u32, channels: u8) -> Sound {
    Sound {
        sample_rate,
        channels: Some(channels),
    }
}

use PacketKind::{Frame, SequenceHeader};

#[test]
fn size_and_rate_of_an_x265_sequence_header_are_read() {
    let fps = Some(30_000.0 / 1_001.0);
    let (pictures, sounds) = told("hevc_aac");
    // Coded in blocks of 8, so a window cuts.
    assert_eq!(
        pictures,
        [(0, Codec::Hevc, SequenceHeader, size(322, 178, fps))]
    );
    assert_eq!(sounds, [(0, Codec::Aac, SequenceHeader, rate(48_000, 1))]);
}

#[test]
fn size_of_an_av1_sequence_header_is_read_from_the_record_and_from_the_keyframe() {
    let (pictures, sounds) = told("av1_opus");
    let expected = size(322, 178, None);
    assert_eq!(pictures, [(0, Codec::Av1, SequenceHeader, expected)]);
    assert_eq!(sounds, [(0, Codec::Opus, SequenceHeader, rate(48_000, 2))]);
    let messages = messages("av1_opus");
    let mut frames = messages
        .iter()
        .filter(|m| m.payload.starts_with(b"\x91av01"));
    assert_eq!(picture(&frames.next().unwrap().payload), Some(expected));
}

#[test]
fn timing_of_an_av1_sequence_header_is_read() {
    // libaom as libwebrtc sets it up: 50 fps, a decoder model, two operating points.
    let mut bits = BitWriter::default();
    bits.put(3, 0).put(1, 0).put(1, 0).put(1, 1);
    bits.put(32, 1_001).put(32, 60_000).put(1, 1).put(3, 0b010);
    bits.put(1, 1).put(5, 9).put(32, 7).put(5, 3).put(5, 3);
    bits.put(1, 1).put(5, 1);
    for level in [8, 4] {
        bits.put(12, 0x101).put(5, level);
        if level > 7 {
            bits.put(1, 0);
        }
        bits.put(1, 1)
            .put(10, 5)
            .put(10, 5)
            .put(1, 0)
            .put(1, 1)
            .put(4, 9);
    }
    bits.put(4, 10)
        .put(4, 9)
        .put(11, 1_919)
        .put(10, 1_079 - 256);
    let obu = bits.done();
    let header = [&b"\x90av01\x81\0\x0C\0\x0A"[..], &[obu.len() as u8], &obu].concat();
    let fps = 60_000.0 / 1_001.0 / 2.0;
    assert_eq!(picture(&header), Some(size(1_920, 824, Some(fps))));
    // The record may be without OBUs.
    assert_eq!(picture(b"\x90av01\x81\0\x0C\0"), None);
}

#[test]
fn size_of_vp9_and_vp8_is_read_from_keyframes() {
    let (pictures, sounds) = told("vp9_flac");
    assert_eq!(pictures, [(0, Codec::Vp9, Frame, size(322, 178, None))]);
    assert_eq!(sounds, [(0, Codec::Flac, SequenceHeader, rate(44_100, 1))]);
    // libvpx by ffmpeg.
    let keyframe = hex("7010009d012a4201b200004708858588");
    let frame = |first: u8| [&[first][..], b"vp08", &keyframe].concat();
    assert_eq!(picture(&frame(0x91)), Some(size(322, 178, None)));
    assert_eq!(picture(&frame(0xA1)), None);
}

#[test]
fn vp9_profiles_with_more_bits_or_colours_are_read() {
    for (profile, fields) in [
        // Colour space, range; subsampling where the profile does not say it.
        (0, &[(3, 2), (1, 0)][..]),
        (1, &[(3, 2), (1, 0), (3, 0b010)]),
        (1, &[(3, 7), (1, 0)]),
        (2, &[(1, 0), (3, 2), (1, 0)]),
        (3, &[(1, 1), (3, 2), (1, 0), (3, 0b010)]),
    ] {
        let mut bits = BitWriter::default();
        bits.put(2, 2).put(1, profile & 1).put(1, profile >> 1);
        if profile == 3 {
            bits.put(1, 0);
        }
        bits.put(4, 0b0010).put(24, 0x49_8342);
        for (count, value) in fields {
            bits.put(*count, *value);
        }
        bits.put(16, 1_279).put(16, 719).put(1, 0);
        let frame = [b"\x91vp09", &bits.done()[..]].concat();
        assert_eq!(picture(&frame), Some(size(1_280, 720, None)), "{profile}");
    }
}

#[test]
fn vvc_has_a_name_and_no_size() {
    let (pictures, sounds) = told("vvc_eac3");
    assert_eq!(pictures, []);
    assert_eq!(sounds, [(0, Codec::Eac3, Frame, rate(48_000, 2))]);
}

#[test]
fn each_track_tells_of_itself() {
    let (pictures, sounds) = told("two_video_ac3");
    let fps = Some(25.0);
    assert_eq!(
        pictures,
        [
            (0, Codec::Hevc, SequenceHeader, size(322, 178, fps)),
            (1, Codec::Avc, SequenceHeader, size(160, 90, fps)),
        ]
    );
    assert_eq!(sounds, [(0, Codec::Ac3, Frame, rate(48_000, 6))]);
    let (pictures, sounds) = told("two_audio_mp3_opus");
    assert_eq!(pictures.len(), 1);
    assert_eq!(
        sounds,
        [
            (1, Codec::Opus, SequenceHeader, rate(48_000, 2)),
            (0, Codec::Mp3, Frame, rate(44_100, 1)),
        ]
    );
}

#[test]
fn flac_headers_are_read_in_every_form_that_is_sent() {
    // ffmpeg's own .flac file.
    let file =
        hex("664c614300000022029a029a0000f500013107d002f000000c805d93437385147dbfab333d735e22c52a");
    let last = [&b"\x80\0\0\x22"[..], &file[8..]].concat();
    for form in [&file[..], &file[4..], &file[8..], &last] {
        let header = [b"\x90fLaC", form].concat();
        assert_eq!(sound(&header), Some(rate(32_000, 2)));
        assert_eq!(sound(&header[..header.len() - 1]), None);
    }
}

#[test]
fn aac_configurations_tell_the_rate_that_is_played() {
    for (config, expected) in [
        (&[0x12, 0x10][..], Some(rate(44_100, 2))),
        (&[0x11, 0xB0], Some(rate(48_000, 6))),
        // HE-AAC of 24 kHz, and its second version of one channel.
        (&[0x2B, 0x11, 0x88], Some(rate(48_000, 2))),
        (&[0xEB, 0x09, 0x88], Some(rate(48_000, 2))),
        // A rate written out: 37800.
        (&[0x17, 0x80, 0x49, 0xD4, 0x08], Some(rate(37_800, 1))),
        (&[0x16, 0x90], None),
        (&[0x12], None),
    ] {
        let header = [&[0xAF, 0], config].concat();
        assert_eq!(sound(&header), expected, "{config:02x?}");
        assert_eq!(sound(&[b"\x90mp4a", config].concat()), expected);
    }
    let unnamed = sound(&[0xAF, 0, 0x12, 0x00]).unwrap();
    assert_eq!((unnamed.sample_rate, unnamed.channels), (44_100, None));
}

#[test]
fn dolby_and_mpeg_frames_of_other_versions_are_read() {
    // AC-3: 3/2 with all mix levels, 2/0 with its surround mode, half rate.
    for (bytes, expected) in [
        (
            &[0x0B, 0x77, 0, 0, 0x50, 0x40, 0xE1, 0][..],
            rate(44_100, 6),
        ),
        (&[0x0B, 0x77, 0, 0, 0x80, 0x40, 0x44, 0], rate(32_000, 3)),
        (&[0x0B, 0x77, 0, 0, 0x10, 0x48, 0x20, 0], rate(24_000, 1)),
        // E-AC-3 of half the rate, 5.1.
        (&[0x0B, 0x77, 0, 0xBF, 0xDF, 0x80, 0, 0], rate(22_050, 6)),
    ] {
        assert_eq!(sound(&[b"\x91ac-3", bytes].concat()), Some(expected));
    }
    assert_eq!(sound(b"\x91ac-3\x0B\x76\0\0\0\x40\0\0"), None);
    for (bytes, expected) in [
        ([0xFF, 0xFB, 0x90, 0xC0], Some(rate(44_100, 1))),
        ([0xFF, 0xF3, 0x94, 0x00], Some(rate(24_000, 2))),
        ([0xFF, 0xE3, 0x98, 0x00], Some(rate(8_000, 2))),
        ([0xFF, 0xEB, 0x90, 0x00], None),
        ([0xFE, 0xFB, 0x90, 0x00], None),
        ([0xFF, 0xFB, 0x9C, 0x00], None),
    ] {
        assert_eq!(sound(&[&[0x2F], &bytes[..]].concat()), expected);
    }
}

#[test]
fn hevc_sets_with_everything_in_front_of_the_rate_are_read() {
    let fps = Some(60.0);
    assert_eq!(picture(&hevc(&sps(true))), Some(size(1_920, 1_080, fps)));
    let mut cut = hevc(&sps(false));
    assert_eq!(picture(&cut), Some(size(1_920, 1_080, None)));
    // The record has a place for an average, in 256ths.
    cut[5 + 19..][..2].copy_from_slice(&(24_u16 * 256).to_be_bytes());
    assert_eq!(picture(&cut), Some(size(1_920, 1_080, Some(24.0))));
}

/// A configuration record with one array of one parameter set.
fn hevc(sps: &[u8]) -> Vec<u8> {
    let length = u16::try_from(sps.len()).unwrap().to_be_bytes();
    let mut record = b"\x90hvc1\x01".to_vec();
    record.extend([0; 21]);
    record.extend([1, 33, 0, 1]);
    record.extend(length);
    record.extend(sps);
    record
}

/// A parameter set with sub-layers, a window, scaling lists, PCM, predicted reference
/// sets and long-term references; and with a rate or cut off before it.
fn sps(whole: bool) -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.put(16, 33 << 9).put(4, 0).put(3, 1).put(1, 1);
    (0..3).for_each(|_| {
        bits.put(32, 0x5555_5555);
    });
    bits.put(2, 3).put(14, 0);
    (0..3).for_each(|_| {
        bits.put(32, 0x5555_5555);
    });
    bits.ue(0).ue(1).ue(1_920).ue(1_088).put(1, 1);
    bits.ue(0).ue(0).ue(0).ue(4);
    bits.ue(0).ue(0).ue(4).put(1, 1);
    (0..6).for_each(|_| {
        bits.ue(1);
    });
    (0..6).for_each(|_| {
        bits.ue(0);
    });
    bits.put(2, 3);
    for list in 0..20 {
        let coefficients = match list {
            0..6 => 16,
            6..12 => 64,
            _ => 65,
        };
        bits.put(1, list % 2);
        if list % 2 == 0 {
            bits.ue(0);
        } else {
            (0..coefficients).for_each(|_| {
                bits.ue(2);
            });
        }
    }
    bits.put(2, 3).put(1, 1).put(8, 0x77).ue(0).ue(0).put(1, 0);
    // Three sets: -1 -3 +2; of those one later -2 and +1; all of these five earlier.
    bits.ue(3).ue(2).ue(1);
    bits.ue(0).put(1, 1).ue(1).put(1, 1).ue(1).put(1, 1);
    bits.put(1, 1)
        .put(1, 0)
        .ue(0)
        .put(1, 1)
        .put(1, 1)
        .put(2, 0)
        .put(2, 1);
    bits.put(1, 1).put(1, 1).ue(4).put(3, 0b111);
    bits.put(1, 1).ue(2).put(9, 3).put(9, 5).put(2, 3);
    if !whole {
        return bits.done();
    }
    bits.put(1, 1);
    bits.put(1, 1)
        .put(8, 255)
        .put(32, 0)
        .put(2, 3)
        .put(1, 1)
        .put(5, 11)
        .put(24, 0x01_0101);
    bits.put(1, 1)
        .ue(0)
        .ue(0)
        .put(3, 0)
        .put(1, 1)
        .ue(0)
        .ue(0)
        .ue(0)
        .ue(1);
    bits.put(1, 1).put(32, 1).put(32, 60).put(8, 0);
    // Without emulation prevention the reader would find less than was written.
    let raw = bits.done();
    let mut escaped: Vec<u8> = Vec::new();
    for byte in raw {
        if byte <= 3 && escaped.ends_with(&[0, 0]) {
            escaped.push(3);
        }
        escaped.push(byte);
    }
    escaped
}

#[derive(Default)]
struct BitWriter {
    bits: Vec<bool>,
}

impl BitWriter {
    fn put(&mut self, count: u32, value: u32) -> &mut Self {
        let bits = (0..count).rev().map(|bit| value >> bit & 1 == 1);
        self.bits.extend(bits);
        self
    }

    fn ue(&mut self, value: u32) -> &mut Self {
        let length = 32 - (value + 1).leading_zeros();
        self.put(length - 1, 0).put(length, value + 1)
    }

    fn done(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            let set = |(at, bit): (usize, &bool)| u8::from(*bit) << (7 - at);
            bits.iter().enumerate().map(set).sum()
        };
        self.bits.chunks(8).map(byte).collect()
    }
}

/// Asks for everything there is to be told.
fn ask(payload: &[u8]) {
    for part in flv::video_parts(payload) {
        if let Some(picture) = part.picture() {
            assert!(picture.width > 0 && picture.height > 0);
            assert!(picture.fps.is_none_or(|fps| fps > 0.0 && fps <= 1_000.0));
        }
    }
    for part in flv::audio_parts(payload) {
        assert!(part.sound().is_none_or(|sound| sound.sample_rate > 0));
    }
}

#[test]
fn damaged_headers_give_nothing_or_something_but_never_panic() {
    let captured = FILES.iter().flat_map(|(name, _)| messages(name));
    let made = [hevc(&sps(true)), hex(X264[0].0)];
    let payloads = captured.map(|m| m.payload.to_vec()).chain(made);
    for payload in payloads.filter(|payload| payload.len() < 400) {
        for end in 0..payload.len() {
            ask(&payload[..end]);
        }
        for at in 0..payload.len() {
            for bit in 0..8 {
                let mut damaged = payload.clone();
                damaged[at] ^= 1 << bit;
                ask(&damaged);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn parameter_sets_take_any_bytes(
        head in prop::sample::select(&HEADS[..]),
        rest in vec(any::<u8>(), 0..300),
        ones in any::<bool>(),
    ) {
        let fill = if ones { 0xFF } else { 0 };
        let payload = [head, &rest].concat();
        ask(&payload);
        // Long runs of one bit are the long codes and the large numbers.
        let run: Vec<u8> = rest.iter().map(|byte| if byte % 8 < 7 { fill } else { *byte }).collect();
        ask(&[head, &run].concat());
    }
}

/// What comes before a parameter set or a frame of each codec.
const HEADS: [&[u8]; 15] = [
    &[0x17, 0, 0, 0, 0, 1, 100, 0, 30, 0xFF, 0xE1, 0, 200, 0x67],
    b"\x90hvc1\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x21\0\x01\0\x80\x42\x01",
    b"\x90av01\x81\0\0\0\x0A\x20",
    b"\x90av01\x81\0\0\0\x0A\x20\x04",
    b"\x91av01\x12\0",
    b"\x91vp09\x82\x49\x83\x42",
    b"\x91vp08\0\0\0\x9D\x01\x2A",
    b"\x96\x20",
    b"\x90mp4a",
    b"\x90Opus",
    b"\x90fLaC\0\0\0\x22",
    b"\x91ac-3\x0B\x77",
    b"\x91ec-3\x0B\x77\0\0\0\x80",
    b"\x91.mp3\xFF",
    b"\x95\x11Opus",
];
