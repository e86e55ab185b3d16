//! A media file, taken apart into messages.
//!
//! Blocking reads in small portions; it knows neither time nor loops.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use restreamd_rtmp::flv::{FileError, Reader};
use restreamd_rtmp::session::Media;
use tracing::warn;

use super::Error;
use super::mp4::{Mp4, is_mp4};

/// Bytes read at a time.
const READ: u64 = 64 * 1024;

/// Where a file's bytes are.
pub(super) trait Storage: Read + Seek + Send + 'static {}
impl<T: Read + Seek + Send + 'static> Storage for T {}

/// An open file.
pub(super) enum Demux {
    Flv(Flv),
    Mp4(Box<Mp4>),
}

impl fmt::Debug for Demux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demux").finish_non_exhaustive()
    }
}

impl Demux {
    /// Looks at a file's first bytes.
    pub(super) fn open(mut storage: Box<dyn Storage>) -> Result<Self, Error> {
        let mut begin = Vec::new();
        storage.by_ref().take(8).read_to_end(&mut begin)?;
        storage.seek(SeekFrom::Start(0))?;
        match begin.as_slice() {
            [b'F', b'L', b'V', ..] => Ok(Self::Flv(Flv::new(storage))),
            begin if is_mp4(begin) => Ok(Self::Mp4(Box::new(Mp4::open(storage)?))),
            _ => Err(Error::Unknown),
        }
    }

    /// The next message, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Media>, Error> {
        match self {
            Self::Flv(file) => file.next(),
            Self::Mp4(file) => file.next(),
        }
    }

    /// Back to the first message.
    pub(super) fn rewind(&mut self) -> Result<(), Error> {
        match self {
            Self::Flv(file) => file.rewind(),
            Self::Mp4(file) => {
                file.rewind();
                Ok(())
            }
        }
    }
}

/// An open FLV file.
pub(super) struct Flv {
    storage: Box<dyn Storage>,
    reader: Reader,
    /// It had a message.
    begun: bool,
    /// That it is cut was told.
    told: bool,
}

impl Flv {
    fn new(storage: Box<dyn Storage>) -> Self {
        Self {
            storage,
            reader: Reader::new(),
            begun: false,
            told: false,
        }
    }

    fn next(&mut self) -> Result<Option<Media>, Error> {
        loop {
            while let Some(message) = self.reader.poll()? {
                if let Some(media) = Media::from_message(message) {
                    self.begun = true;
                    return Ok(Some(media));
                }
            }
            if !self.read()? {
                return self.end().map(|()| None);
            }
        }
    }

    /// A recorder that was killed leaves half a tag: that is where its file ends.
    fn end(&mut self) -> Result<(), Error> {
        match self.reader.finish() {
            Err(FileError::Truncated) if self.begun => {
                if !std::mem::replace(&mut self.told, true) {
                    warn!("the file ends inside a tag; it is played up to there");
                }
                Ok(())
            }
            end => Ok(end?),
        }
    }

    fn rewind(&mut self) -> Result<(), Error> {
        self.storage.seek(SeekFrom::Start(0))?;
        self.reader = Reader::new();
        Ok(())
    }

    fn read(&mut self) -> Result<bool, Error> {
        let mut portion = Vec::with_capacity(READ as usize);
        self.storage.by_ref().take(READ).read_to_end(&mut portion)?;
        self.reader.buffer().extend_from_slice(&portion);
        Ok(!portion.is_empty())
    }
}
