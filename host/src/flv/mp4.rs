//! MP4 files as media: H.264 and AAC, sample after sample as FLV carries them.
//!
//! The tables of the `moov` box are held, the samples are read one by one. It
//! carries out of the edit list what encoders write: a delay, and a start within
//! the media. Fragmented files are refused.

mod track;

use std::io::{Read, SeekFrom};

use bytes::{BufMut as _, Bytes, BytesMut};
use mp4_atom::{Atom as _, Codec, FourCC, Header, Moov, ReadFrom as _, Trak};
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::session::{Media, MediaKind};
use tracing::subscriber::{NoSubscriber, with_default};

use super::Error;
use super::demux::Storage;
use track::{Sample, Track};

/// A larger `moov` is none of a file within the default limit: a sample costs it some 20 bytes.
const MAX_MOOV: u64 = 16 << 20;
/// Boxes looked at before `moov`; files have a handful.
const MAX_BOXES: usize = 1_000;
/// A larger sample is no message that RTMP peers take.
const MAX_SAMPLE: u32 = 8 << 20;
/// AAC, 44 kHz, 16 bits, stereo: what FLV says of all AAC.
const AAC: u8 = 0xAF;

/// Whether a file's first eight bytes are an MP4's.
pub(super) fn is_mp4(begin: &[u8]) -> bool {
    let kinds: [&[u8]; 6] = [b"ftyp", b"styp", b"moov", b"mdat", b"free", b"wide"];
    begin.get(4..8).is_some_and(|kind| kinds.contains(&kind))
}

/// An open file.
pub(super) struct Mp4 {
    storage: Box<dyn Storage>,
    length: u64,
    /// Metadata and sequence headers.
    headers: Vec<(MediaKind, Bytes)>,
    tracks: Vec<(MediaKind, Track)>,
    /// Headers of this round that were given out.
    given: usize,
}

impl Mp4 {
    /// Reads the tables.
    pub(super) fn open(mut storage: Box<dyn Storage>) -> Result<Self, Error> {
        let length = storage.seek(SeekFrom::End(0))?;
        let moov = moov(storage.as_mut(), length)?;
        let mut file = Self {
            storage,
            length,
            headers: Vec::new(),
            tracks: Vec::new(),
            given: 0,
        };
        for trak in &moov.trak {
            file.add(trak, moov.mvhd.timescale)?;
        }
        if file.tracks.iter().all(|(_, track)| track.peek().is_none()) {
            return Err(match moov.mvex {
                Some(_) => Error::Unsupported("it is a fragmented MP4".to_owned()),
                None => Error::NoMedia,
            });
        }
        let metadata = metadata(&moov, &file.tracks);
        file.headers.insert(0, (MediaKind::Data, metadata));
        Ok(file)
    }

    /// The first video and the first audio track are played; texts and the like are not.
    fn add(&mut self, trak: &Trak, movie_scale: u32) -> Result<(), Error> {
        let kind = match trak.mdia.hdlr.handler {
            handler if handler == FourCC::new(b"vide") => MediaKind::Video,
            handler if handler == FourCC::new(b"soun") => MediaKind::Audio,
            _ => return Ok(()),
        };
        if self.tracks.iter().any(|(known, _)| *known == kind) {
            return Ok(());
        }
        let codec = trak.mdia.minf.stbl.stsd.codecs.first();
        let header = codec.and_then(sequence_header).ok_or_else(|| {
            let what = if kind == MediaKind::Video {
                "video is not H.264"
            } else {
                "audio is not AAC"
            };
            Error::Unsupported(format!("its {what}"))
        })?;
        self.headers.push((kind, header));
        self.tracks.push((kind, Track::new(trak, movie_scale)?));
        Ok(())
    }

    /// The next message, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Media>, Error> {
        // The track that is behind, the earlier one at a tie.
        let front = self.tracks.iter().enumerate();
        let front = front.filter_map(|(at, (_, track))| Some((track.peek()?.dts_ms, at)));
        let Some((dts_ms, at)) = front.min() else {
            return Ok(None);
        };
        let timestamp = dts_ms as u32; // modulo 2^32, as RTMP counts
        if let Some((kind, payload)) = self.headers.get(self.given).cloned() {
            self.given += 1;
            return Ok(Some(Media {
                kind,
                timestamp,
                payload,
            }));
        }
        let (kind, track) = &mut self.tracks[at];
        let kind = *kind;
        let Some(sample) = track.next() else {
            return Ok(None);
        };
        let payload = self.read(kind, &sample)?;
        Ok(Some(Media {
            kind,
            timestamp,
            payload,
        }))
    }

    /// Back to the first sample.
    pub(super) fn rewind(&mut self) {
        self.given = 0;
        self.tracks.iter_mut().for_each(|(_, track)| track.rewind());
    }

    /// A sample behind its FLV header.
    fn read(&mut self, kind: MediaKind, sample: &Sample) -> Result<Bytes, Error> {
        let end = sample.offset.checked_add(sample.size.into());
        if sample.size > MAX_SAMPLE || end.is_none_or(|end| end > self.length) {
            return Err(Error::Damaged("a sample is not within the file".to_owned()));
        }
        let mut payload = BytesMut::with_capacity(sample.size as usize + 5);
        match kind {
            MediaKind::Audio => payload.put_slice(&[AAC, 1]),
            _ => {
                payload.put_slice(&[if sample.key { 0x17 } else { 0x27 }, 1]);
                payload.put_slice(&sample.composition_ms.to_be_bytes()[1..]);
            }
        }
        let begin = payload.len();
        payload.resize(begin + sample.size as usize, 0);
        self.storage.seek(SeekFrom::Start(sample.offset))?;
        self.storage.read_exact(&mut payload[begin..])?;
        Ok(payload.freeze())
    }
}

/// Finds the movie box.
fn moov(storage: &mut dyn Storage, length: u64) -> Result<Moov, Error> {
    let mut at = 0;
    for _ in 0..MAX_BOXES {
        storage.seek(SeekFrom::Start(at))?;
        let header = <Option<Header>>::read_from(storage).map_err(damaged)?;
        let Some(Header { kind, size }) = header else {
            break;
        };
        let body = storage.stream_position()?;
        let rest = length.saturating_sub(body);
        let size = size.map_or(rest, |size| size as u64);
        if kind == Moov::KIND {
            if size > MAX_MOOV.min(rest) {
                return Err(Error::Damaged("its movie box is too large".to_owned()));
            }
            let mut bytes = Vec::new();
            storage.take(size).read_to_end(&mut bytes)?;
            return decode(&bytes);
        }
        at = body.saturating_add(size);
    }
    Err(Error::Damaged("it has no movie box".to_owned()))
}

/// The parser's warnings of boxes it does not know would be noise in the operator's log.
fn decode(bytes: &[u8]) -> Result<Moov, Error> {
    let decoded = with_default(NoSubscriber::new(), || Moov::decode_body(&mut &*bytes));
    decoded.map_err(damaged)
}

fn damaged(error: mp4_atom::Error) -> Error {
    Error::Damaged(error.to_string())
}

/// What a decoder needs first, behind its FLV header; `None` for codecs that are not played.
fn sequence_header(codec: &Codec) -> Option<Bytes> {
    match codec {
        Codec::Avc1(avc) => {
            let mut header = vec![0x17, 0, 0, 0, 0];
            avc.avcc.encode_body(&mut header).ok()?;
            Some(header.into())
        }
        Codec::Mp4a(aac) => {
            let config = &aac.esds.es_desc.dec_config;
            // The object types of MPEG-4 and MPEG-2 AAC.
            let is_aac = matches!(config.object_type_indication, 0x40 | 0x66..=0x68);
            let config = config.dec_specific.as_ref().filter(|_| is_aac)?;
            Some([&[AAC, 0], config.raw.as_slice()].concat().into())
        }
        _ => None,
    }
}

/// `onMetaData`, as an encoder would send it.
fn metadata(moov: &Moov, tracks: &[(MediaKind, Track)]) -> Bytes {
    let mut values = Vec::new();
    let mut put = |name: &str, value: f64| values.push((name.to_owned(), Value::Number(value)));
    for (kind, _) in tracks {
        match kind {
            MediaKind::Video => put("videocodecid", 7.0),
            _ => put("audiocodecid", 10.0),
        }
    }
    let codecs = moov
        .trak
        .iter()
        .flat_map(|trak| &trak.mdia.minf.stbl.stsd.codecs);
    if let Some(Codec::Avc1(avc)) = codecs
        .into_iter()
        .find(|codec| matches!(codec, Codec::Avc1(_)))
    {
        put("width", avc.visual.width.into());
        put("height", avc.visual.height.into());
    }
    let name = Value::String("onMetaData".to_owned());
    amf0::encode(&[name, Value::EcmaArray(values)])
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use restreamd_rtmp::flv;

    use super::super::demux::Demux;
    use super::super::rounds::{Rounds, is_frame};
    use super::*;

    const MP4: &[u8] = include_bytes!("../../../tests/testdata/ffmpeg_bframes.mp4");
    /// The same, remuxed by ffmpeg.
    const FLV: &[u8] = include_bytes!("../../../tests/testdata/ffmpeg_bframes.flv");
    const FRAGMENTED: &[u8] = include_bytes!("../../../tests/testdata/ffmpeg_fragmented.mp4");

    fn rounds(file: impl Into<Vec<u8>>, looped: bool) -> Result<Rounds, Error> {
        let demux = Demux::open(Box::new(Cursor::new(file.into())))?;
        Ok(Rounds::new(demux, looped))
    }

    fn played(file: &[u8]) -> Vec<Media> {
        let mut rounds = rounds(file, false).expect("a good file");
        let next = || rounds.next().expect("a good file");
        std::iter::from_fn(next).collect()
    }

    fn of(kind: MediaKind, all: &[Media]) -> Vec<Media> {
        all.iter()
            .filter(|media| media.kind == kind)
            .cloned()
            .collect()
    }

    #[test]
    fn an_mp4_with_b_frames_and_an_edit_list_gives_what_ffmpeg_makes_of_it() {
        let (ours, theirs) = (played(MP4), played(FLV));
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let (ours, theirs) = (of(kind, &ours), of(kind, &theirs));
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let apart = ours.timestamp.wrapping_sub(theirs.timestamp) as i32;
                assert!(apart.abs() <= 1, "{ours:?} {theirs:?}");
                let (ours, theirs) = (&ours.payload, &theirs.payload);
                if kind == MediaKind::Video {
                    let header = |payload| flv::video(payload).expect("a header");
                    let (ours, theirs) = (header(ours), header(theirs));
                    assert_eq!((ours.kind, ours.keyframe), (theirs.kind, theirs.keyframe));
                    let apart = ours.composition_ms - theirs.composition_ms;
                    assert!(apart.abs() <= 1, "{ours:?} {theirs:?}");
                }
                let begin = if kind == MediaKind::Video { 5 } else { 2 };
                assert_eq!(ours[begin..], theirs[begin..]);
            }
        }
    }

    #[test]
    fn the_second_round_gives_the_headers_and_the_samples_again() {
        let once = played(MP4);
        let mut rounds = rounds(MP4, true).expect("a good file");
        for round in 0..3 {
            for first in &once {
                let media = rounds.next().expect("a good file").expect("it loops");
                assert_eq!(
                    (media.kind, &media.payload),
                    (first.kind, &first.payload),
                    "{round}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_played_is_said() {
        let why = |file: &[u8]| rounds(file, false).err().map(|error| error.to_string());
        let why = |file: &[u8]| why(file).unwrap_or_default();
        assert!(
            why(FRAGMENTED).contains("fragmented"),
            "{}",
            why(FRAGMENTED)
        );
        let mut hevc = MP4.to_vec();
        let at = hevc
            .windows(4)
            .position(|four| four == b"avc1")
            .expect("a brand");
        let at = at
            + 4
            + hevc[at + 4..]
                .windows(4)
                .position(|four| four == b"avc1")
                .expect("an entry");
        hevc[at..at + 4].copy_from_slice(b"xvid");
        assert!(why(&hevc).contains("not H.264"), "{}", why(&hevc));
        assert!(
            why(&MP4[..200]).contains("movie box"),
            "{}",
            why(&MP4[..200])
        );
        let large = [&u32::MAX.to_be_bytes()[..], b"moov", &[0; 64]].concat();
        assert!(why(&large).contains("too large"), "{}", why(&large));
        let endless = b"\0\0\0\x08free".repeat(MAX_BOXES + 1);
        assert!(why(&endless).contains("no movie box"));
        let mut cut = rounds(&MP4[..MP4.len() - 100], false).expect("the tables are whole");
        let error = loop {
            match cut.next() {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert!(matches!(error, Err(Error::Damaged(_))), "{error:?}");
    }

    proptest! {
        #[test]
        fn damaged_and_cut_files_end_in_an_error_or_play_on(
            damage in proptest::collection::vec((0usize..4_000, any::<u8>()), 1..12),
            cut in 0usize..40_000,
        ) {
            let mut file = MP4.to_vec();
            for (at, byte) in damage {
                file[at] = byte;
            }
            file.truncate(cut.max(100));
            if let Ok(mut rounds) = rounds(file, false) {
                // Bounded by the file: no sample is empty and counted for ever.
                let mut frames = 0;
                while let Ok(Some(media)) = rounds.next() {
                    frames += usize::from(is_frame(&media));
                    prop_assert!(frames < 200_000);
                }
            }
        }
    }
}
