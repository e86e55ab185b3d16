//! The samples of one track, from its tables.
//!
//! Pure. The tables may say anything: what they do not cover is the end of the
//! track, and nothing is expanded, so that a few bytes never become many samples
//! in memory.

use mp4_atom::{CttsEntry, StscEntry, StszSamples, SttsEntry, Trak};

use crate::flv::Error;

/// Where a sample is, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) offset: u64,
    pub(super) size: u32,
    /// When it is decoded; negative for what comes before the start of the edit.
    pub(super) dts_ms: i64,
    /// How much later it is shown.
    pub(super) composition_ms: i32,
    /// Decoding can start here.
    pub(super) key: bool,
}

/// A track and a position in it.
#[derive(Debug)]
pub(super) struct Track {
    timescale: u32,
    /// What the edit list adds to all times, in the track's timescale.
    shift: i128,
    times: Vec<SttsEntry>,
    compositions: Vec<CttsEntry>,
    /// Numbers of the samples to start at, from 1; `None` for all.
    keys: Option<Vec<u32>>,
    runs: Vec<StscEntry>,
    sizes: StszSamples,
    chunks: Vec<u64>,
    at: Position,
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    sample: u32,
    time: u64,
    /// Entry and samples used of it.
    times: (usize, u32),
    compositions: (usize, u32),
    run: usize,
    chunk: usize,
    in_chunk: u32,
    /// From the chunk's begin.
    offset: u64,
}

impl Track {
    /// Before the first sample.
    pub(super) fn new(trak: &Trak, movie_scale: u32) -> Result<Self, Error> {
        let table = &trak.mdia.minf.stbl;
        let timescale = trak.mdia.mdhd.timescale;
        if timescale == 0 {
            return Err(Error::Damaged("a track has no timescale".to_owned()));
        }
        let described = |run: &StscEntry| run.sample_description_index == 1;
        if !table.stsc.entries.iter().all(described) {
            return Err(Error::Unsupported("a track changes its format".to_owned()));
        }
        let chunks = match (&table.stco, &table.co64) {
            (Some(stco), _) => stco.entries.iter().map(|at| (*at).into()).collect(),
            (None, Some(co64)) => co64.entries.clone(),
            (None, None) => Vec::new(),
        };
        let mut keys = table.stss.as_ref().map(|stss| stss.entries.clone());
        keys.iter_mut().for_each(|keys| keys.sort_unstable());
        let mut track = Self {
            timescale,
            shift: shift(trak, timescale, movie_scale),
            times: table.stts.entries.clone(),
            compositions: table
                .ctts
                .as_ref()
                .map_or_else(Vec::new, |ctts| ctts.entries.clone()),
            keys,
            runs: table.stsc.entries.clone(),
            sizes: table.stsz.samples.clone(),
            chunks,
            at: Position::default(),
        };
        track.rewind();
        Ok(track)
    }

    /// Back before the first sample.
    pub(super) fn rewind(&mut self) {
        self.at = Position::default();
        settle(&mut self.at.times, &self.times, |entry| entry.sample_count);
        settle(&mut self.at.compositions, &self.compositions, |entry| {
            entry.sample_count
        });
        self.settle_chunk();
    }

    /// The sample at the position.
    pub(super) fn peek(&self) -> Option<Sample> {
        let at = &self.at;
        let size = match &self.sizes {
            StszSamples::Identical { count, size } => (at.sample < *count).then_some(*size)?,
            StszSamples::Different { sizes } => *sizes.get(at.sample as usize)?,
        };
        self.times.get(at.times.0)?;
        let composition = self.compositions.get(at.compositions.0);
        let composition = composition.map_or(0, |entry| entry.sample_offset);
        let dts = i128::from(at.time) + self.shift;
        let dts_ms = self.millis(dts);
        let shown_ms = self.millis(dts + i128::from(composition));
        Some(Sample {
            offset: self.chunks.get(at.chunk)?.checked_add(at.offset)?,
            size,
            dts_ms,
            // FLV has 24 bits for it.
            composition_ms: shown_ms.saturating_sub(dts_ms).clamp(-0x80_0000, 0x7F_FFFF) as i32,
            key: match &self.keys {
                None => true,
                Some(keys) => keys.binary_search(&(at.sample + 1)).is_ok(),
            },
        })
    }

    /// The sample at the position, which moves on.
    pub(super) fn next(&mut self) -> Option<Sample> {
        let sample = self.peek()?;
        let delta = self.times.get(self.at.times.0)?.sample_delta;
        self.at.sample = self.at.sample.checked_add(1)?;
        self.at.time = self.at.time.checked_add(delta.into())?;
        self.at.times.1 += 1;
        settle(&mut self.at.times, &self.times, |entry| entry.sample_count);
        self.at.compositions.1 += 1;
        settle(&mut self.at.compositions, &self.compositions, |entry| {
            entry.sample_count
        });
        self.at.offset = self.at.offset.checked_add(sample.size.into())?;
        self.at.in_chunk += 1;
        self.settle_chunk();
        Some(sample)
    }

    /// On to the chunk that has the next sample.
    fn settle_chunk(&mut self) {
        while self.at.chunk < self.chunks.len() {
            let begins = |run: &StscEntry| run.first_chunk as usize <= self.at.chunk + 1;
            while self.runs.get(self.at.run + 1).is_some_and(begins) {
                self.at.run += 1;
            }
            let run = self.runs.get(self.at.run);
            if run.is_some_and(|run| self.at.in_chunk < run.samples_per_chunk) {
                return;
            }
            self.at.chunk += 1;
            (self.at.in_chunk, self.at.offset) = (0, 0);
        }
    }

    /// To the nearest millisecond.
    fn millis(&self, time: i128) -> i64 {
        let scale = i128::from(self.timescale);
        let millis = (time * 1000 + scale / 2).div_euclid(scale);
        i64::try_from(millis).unwrap_or(if millis < 0 { i64::MIN } else { i64::MAX })
    }
}

/// Passes over entries that are used up.
fn settle<T>(at: &mut (usize, u32), entries: &[T], count: impl Fn(&T) -> u32) {
    while entries.get(at.0).is_some_and(|entry| at.1 >= count(entry)) {
        *at = (at.0 + 1, 0);
    }
}

/// What the edit list moves: delays in front, then where in the media it starts.
fn shift(trak: &Trak, timescale: u32, movie_scale: u32) -> i128 {
    let list = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref());
    let mut shift = 0;
    for edit in list.into_iter().flat_map(|list| &list.entries) {
        match edit.media_time {
            None => {
                let delay = i128::from(edit.segment_duration) * i128::from(timescale);
                shift += delay / i128::from(movie_scale.max(1));
            }
            Some(start) => {
                shift -= i128::from(start);
                break;
            }
        }
    }
    shift
}
