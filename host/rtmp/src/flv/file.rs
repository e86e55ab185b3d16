//! FLV files: the header, tag headers for writing, a reader for whole files.
//!
//! It does not know codecs. Invariant: payloads are slices of the file, so a
//! reader holds no memory of its own.

use bytes::{Buf, Bytes};

use crate::message::Message;

/// The start of a file with audio and video, and the first back pointer.
pub const FILE_HEADER: [u8; 13] = *b"FLV\x01\x05\0\0\0\x09\0\0\0\0";

/// Type, length, timestamp and stream id of a tag.
const TAG_HEADER: usize = 11;
/// The back pointer after each tag.
const BACK_POINTER: usize = 4;
/// Signature, version, flags and header length.
const FIXED_HEADER: usize = 9;

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
    /// It ends inside a tag.
    #[error("flv file ends inside a tag")]
    Truncated,
    /// A tag is encrypted.
    #[error("flv tag is encrypted")]
    Encrypted,
}

/// Reads the tags of a whole file as messages of stream 0; ends at the first
/// error.
#[derive(Debug, Clone)]
pub struct Reader {
    rest: Bytes,
    started: bool,
}

impl Reader {
    /// Reads `file` from its start.
    #[must_use]
    pub fn new(file: &Bytes) -> Self {
        Self {
            rest: file.clone(),
            started: false,
        }
    }

    fn start(&mut self) -> Result<(), FileError> {
        let header: [u8; FIXED_HEADER] = *self.rest.first_chunk().ok_or(FileError::NotFlv)?;
        let [b'F', b'L', b'V', 1, _, o3, o2, o1, o0] = header else {
            return Err(FileError::NotFlv);
        };
        let offset = u32::from_be_bytes([o3, o2, o1, o0]) as usize;
        if offset < FIXED_HEADER || self.rest.len() - BACK_POINTER.min(self.rest.len()) < offset {
            return Err(FileError::NotFlv);
        }
        self.rest.advance(offset + BACK_POINTER);
        Ok(())
    }

    fn tag(&mut self) -> Result<Option<Message>, FileError> {
        if !std::mem::replace(&mut self.started, true) {
            self.start()?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let header: [u8; TAG_HEADER] = *self.rest.first_chunk().ok_or(FileError::Truncated)?;
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = header;
        if kind & 0x20 != 0 {
            return Err(FileError::Encrypted);
        }
        let length = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        if self.rest.len() < TAG_HEADER + length {
            return Err(FileError::Truncated);
        }
        self.rest.advance(TAG_HEADER);
        let payload = self.rest.split_to(length);
        // Writers that were stopped leave the last back pointer out.
        self.rest.advance(BACK_POINTER.min(self.rest.len()));
        Ok(Some(Message {
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            type_id: kind & 0x1F,
            stream_id: 0,
            payload,
        }))
    }
}

impl Iterator for Reader {
    type Item = Result<Message, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.tag();
        if tag.is_err() {
            self.rest.clear();
        }
        tag.transpose()
    }
}
