//! FLV files: the header, tag headers for writing, a reader.
//!
//! It does not know codecs or where the bytes come from. Invariant: a reader holds
//! at most one tag that is not whole yet, and no input panics.

use bytes::{Buf, BytesMut};

use crate::message::Message;

/// The start of a file with audio and video, and the first back pointer.
pub const FILE_HEADER: [u8; 13] = *b"FLV\x01\x05\0\0\0\x09\0\0\0\0";

/// Type, length, timestamp and stream id of a tag.
const TAG_HEADER: usize = 11;
/// The back pointer after each tag.
const BACK_POINTER: usize = 4;
/// Signature, version, flags and header length.
const FIXED_HEADER: usize = 9;
/// The format lets a header grow, and none ever did; a longer one is a damaged file.
const MAX_HEADER: usize = 64 * 1024;
/// Name and version.
const SIGNATURE: [u8; 4] = *b"FLV\x01";

/// The header of a tag. Lengths beyond 24 bits are cut there.
#[must_use]
pub fn tag_header(type_id: u8, data_len: usize, timestamp: u32) -> [u8; TAG_HEADER] {
    let [_, l2, l1, l0] = u32::try_from(data_len.min(0x00FF_FFFF))
        .unwrap_or(0x00FF_FFFF)
        .to_be_bytes();
    let [t3, t2, t1, t0] = timestamp.to_be_bytes();
    [type_id, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0]
}

/// The back pointer that follows a tag's data.
#[must_use]
pub fn tag_trailer(data_len: usize) -> [u8; BACK_POINTER] {
    u32::try_from(data_len.min(0x00FF_FFFF) + TAG_HEADER)
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

/// Why a file cannot be read (on).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not begin like an FLV file.
    #[error("not an flv file")]
    NotFlv,
    /// It ends inside its header or a tag.
    #[error("flv file ends inside its header or a tag")]
    Truncated,
    /// A tag is encrypted.
    #[error("flv tag is encrypted")]
    Encrypted,
}

/// Reads the tags of a file as messages of stream 0. Bytes go in through
/// [`Reader::buffer`], messages come out of [`Reader::poll`]; after an error
/// there are none any more.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    started: bool,
    /// Bytes to pass over: what is left of the header, or a back pointer.
    skip: usize,
    broken: bool,
}

impl Reader {
    /// A reader at the start of a file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the file's bytes are appended, in any portions. It holds at most the
    /// tag that is not whole yet, beside what was appended since the last poll.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next message; `None` when it needs more bytes.
    ///
    /// # Errors
    /// When this is no FLV file, or one that is not readable. The reader is over then.
    pub fn poll(&mut self) -> Result<Option<Message>, FileError> {
        if self.broken {
            return Ok(None);
        }
        let polled = self.step();
        self.broken = polled.is_err();
        polled
    }

    /// Whether the file may end here. Writers that were stopped leave the last back
    /// pointer out; that is no error.
    ///
    /// # Errors
    /// When it ends inside its header or a tag.
    pub fn finish(&self) -> Result<(), FileError> {
        match (self.started, self.buffer.is_empty()) {
            _ if self.broken => Ok(()),
            (false, _) => Err(FileError::NotFlv),
            (true, false) if self.skip == 0 => Err(FileError::Truncated),
            // More than a back pointer is left to pass over: a header with an extension.
            (true, _) if self.skip > BACK_POINTER => Err(FileError::Truncated),
            (true, _) => Ok(()),
        }
    }

    fn step(&mut self) -> Result<Option<Message>, FileError> {
        if !self.started && !self.start()? {
            return Ok(None);
        }
        let skipped = self.skip.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return Ok(None);
        }
        let Some(header) = self.buffer.first_chunk::<TAG_HEADER>() else {
            return Ok(None);
        };
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = *header;
        if kind & 0x20 != 0 {
            return Err(FileError::Encrypted);
        }
        let length = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        if self.buffer.len() < TAG_HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(TAG_HEADER);
        let payload = self.buffer.split_to(length).freeze();
        self.skip = BACK_POINTER;
        Ok(Some(Message {
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            type_id: kind & 0x1F,
            stream_id: 0,
            payload,
        }))
    }

    fn start(&mut self) -> Result<bool, FileError> {
        let begin = self.buffer.len().min(SIGNATURE.len());
        if self.buffer[..begin] != SIGNATURE[..begin] {
            return Err(FileError::NotFlv);
        }
        let Some(header) = self.buffer.first_chunk::<FIXED_HEADER>() else {
            return Ok(false);
        };
        let [.., o3, o2, o1, o0] = *header;
        let offset = u32::from_be_bytes([o3, o2, o1, o0]) as usize;
        if !(FIXED_HEADER..=MAX_HEADER).contains(&offset) {
            return Err(FileError::NotFlv);
        }
        self.skip = offset + BACK_POINTER;
        self.started = true;
        Ok(true)
    }
}
