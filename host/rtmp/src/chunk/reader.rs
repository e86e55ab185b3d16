//! Puts messages together from chunks.
//!
//! Responsible for per chunk stream assembly, Set Chunk Size and Abort. It
//! does not know what messages mean. Invariants: nothing is reserved for bytes
//! that have only been announced; [`Limits`] bound what is held; after an
//! error the reader gives the same error for ever.

use std::fmt;

use bytes::{Buf, BytesMut};

use super::head::Head;
use super::header::{Fields, Header};
use super::{ChunkError, Limits};
use crate::aggregate::Tags;
use crate::message::{Message, type_id};

/// The chunk size until the peer sets another one (specification 5.4.1).
const DEFAULT_CHUNK_SIZE: usize = 128;

/// Larger chunk sizes mean the same: a message length has 24 bits.
const MAX_CHUNK_SIZE: usize = 0x00FF_FFFF;

/// Reads messages from the bytes of one direction of a connection.
pub struct ChunkReader {
    buffer: BytesMut,
    limits: Limits,
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    partial: usize,
    aggregate: Option<Tags>,
    repeats_extended: Option<bool>,
    failed: Option<ChunkError>,
}

/// The header state and the unfinished message of one chunk stream.
struct ChunkStream {
    csid: u32,
    head: Head,
    partial: BytesMut,
}

/// A chunk that is wholly in the read buffer.
struct Chunk {
    slot: Option<usize>,
    csid: u32,
    head: Head,
    /// It begins a message (and drops what the chunk stream had).
    starts: bool,
    header_size: usize,
    payload_size: usize,
}

impl ChunkReader {
    /// A reader at the start of a chunk stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            buffer: BytesMut::new(),
            limits,
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Vec::new(),
            partial: 0,
            aggregate: None,
            repeats_extended: None,
            failed: None,
        }
    }

    /// Replaces the limits; they hold from the next message on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Where received bytes go. Reserve, read, then call
    /// [`next_message`](Self::next_message) until it gives `None`: left alone
    /// the buffer holds at most one chunk.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The bytes of unfinished messages that are held outside the buffer.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.partial
    }

    /// The next whole message; `None` when more bytes are needed. A payload that came
    /// in one chunk is a slice of the buffer: whoever keeps it for long copies it. Set Chunk
    /// Size and Abort are obeyed and not delivered, aggregates are delivered
    /// as the messages they hold.
    pub fn next_message(&mut self) -> Result<Option<Message>, ChunkError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| {
            self.failed = Some(error.clone());
            self.streams.clear();
            self.partial = 0;
        })
    }

    fn advance(&mut self) -> Result<Option<Message>, ChunkError> {
        loop {
            if let Some(message) = self.aggregate.as_mut().and_then(Iterator::next) {
                return Ok(Some(message));
            }
            self.aggregate = None;
            let Some(chunk) = self.next_chunk()? else {
                return Ok(None);
            };
            let Some(message) = self.take(chunk)? else {
                continue;
            };
            match message.type_id {
                type_id::SET_CHUNK_SIZE => self.set_chunk_size(&message.payload)?,
                type_id::ABORT => self.abort(&message.payload),
                type_id::AGGREGATE => self.aggregate = Some(Tags::new(message)),
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Finds the next chunk without taking it from the buffer, because its
    /// header is parsed again when the rest of it has arrived.
    fn next_chunk(&mut self) -> Result<Option<Chunk>, ChunkError> {
        let Some(header) = Header::parse(&self.buffer) else {
            return Ok(None);
        };
        let csid = header.csid;
        let slot = self.streams.iter().position(|stream| stream.csid == csid);
        let last = slot.map(|slot| self.streams[slot].head);
        let held = slot.map_or(0, |slot| self.streams[slot].partial.len());
        let starts = held == 0 || header.fields != Fields::Nothing;

        let mut header_size = header.size;
        if let (Fields::Nothing, Some(last)) = (header.fields, last) {
            match self.repeated_extended(header.size, &last) {
                Some(size) => header_size += size,
                None => return Ok(None),
            }
        }
        let head = match (header.fields, last) {
            (Fields::Nothing, Some(last)) if !starts => last,
            (_, last) => Head::after(last, &header).ok_or(ChunkError::NoHeader { csid })?,
        };
        if starts {
            self.check_new(slot, &head)?;
        }
        let missing = head.length - if starts { 0 } else { held };
        let payload_size = missing.min(self.chunk_size);
        if self.buffer.len() - header_size < payload_size {
            return Ok(None);
        }
        Ok(Some(Chunk {
            slot,
            csid,
            head,
            starts,
            header_size,
            payload_size,
        }))
    }

    fn check_new(&self, slot: Option<usize>, head: &Head) -> Result<(), ChunkError> {
        let limit = self.limits.message;
        if head.length > limit {
            let length = head.length;
            return Err(ChunkError::MessageTooLarge { length, limit });
        }
        let limit = self.limits.chunk_streams;
        if slot.is_none() && self.streams.len() >= limit {
            return Err(ChunkError::TooManyChunkStreams { limit });
        }
        Ok(())
    }

    /// The size of the extended timestamp in a type 3 chunk: 4 or 0, `None`
    /// when more bytes are needed to tell. Older librtmp senders leave it out,
    /// so the first one is compared with what a repetition would be; the
    /// answer then holds for the connection.
    fn repeated_extended(&mut self, at: usize, last: &Head) -> Option<usize> {
        let Some(field) = last.extended else {
            return Some(0);
        };
        let seen = &self.buffer[at..];
        let repeats = match self.repeats_extended {
            Some(repeats) => repeats,
            None => {
                let seen = &seen[..seen.len().min(4)];
                let like = |value: u32| value.to_be_bytes().starts_with(seen);
                let repeats = like(field) || like(last.timestamp);
                if repeats && seen.len() < 4 {
                    return None;
                }
                self.repeats_extended = Some(repeats);
                repeats
            }
        };
        match repeats {
            false => Some(0),
            true if seen.len() < 4 => None,
            true => Some(4),
        }
    }

    /// Takes a chunk from the buffer; gives its message when it is the last.
    fn take(&mut self, chunk: Chunk) -> Result<Option<Message>, ChunkError> {
        let slot = chunk.slot.unwrap_or_else(|| {
            self.streams.push(ChunkStream {
                csid: chunk.csid,
                head: chunk.head,
                partial: BytesMut::new(),
            });
            self.streams.len() - 1
        });
        let stream = &mut self.streams[slot];
        stream.head = chunk.head;
        if chunk.starts {
            self.partial -= std::mem::take(&mut stream.partial).len();
        }
        self.buffer.advance(chunk.header_size);
        let payload = if chunk.starts && chunk.payload_size == chunk.head.length {
            self.buffer.split_to(chunk.payload_size).freeze()
        } else {
            let limit = self.limits.partial;
            if self.partial + chunk.payload_size > limit {
                return Err(ChunkError::PartialTooLarge { limit });
            }
            let (data, _) = self.buffer.split_at(chunk.payload_size);
            stream.partial.extend_from_slice(data);
            self.buffer.advance(chunk.payload_size);
            self.partial += chunk.payload_size;
            if stream.partial.len() < chunk.head.length {
                return Ok(None);
            }
            self.partial -= stream.partial.len();
            std::mem::take(&mut stream.partial).freeze()
        };
        Ok(Some(Message {
            timestamp: chunk.head.timestamp,
            type_id: chunk.head.type_id,
            stream_id: chunk.head.stream_id,
            payload,
        }))
    }

    /// Zero and a set high bit are against the specification and would stop
    /// or confuse the assembly; anything above 24 bits means "whole messages".
    fn set_chunk_size(&mut self, payload: &[u8]) -> Result<(), ChunkError> {
        match first_u32(payload) {
            Some(size @ 1..=0x7FFF_FFFF) => {
                self.chunk_size = (size as usize).min(MAX_CHUNK_SIZE);
                Ok(())
            }
            _ => Err(ChunkError::ChunkSize),
        }
    }

    fn abort(&mut self, payload: &[u8]) {
        let csid = first_u32(payload);
        if let Some(stream) = self.streams.iter_mut().find(|s| Some(s.csid) == csid) {
            self.partial -= std::mem::take(&mut stream.partial).len();
        }
    }
}

// Buffers hold media and credentials: neither belongs in a log line.
impl fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkReader")
            .field("limits", &self.limits)
            .field("chunk_size", &self.chunk_size)
            .field("chunk_streams", &self.streams.len())
            .field("partial", &self.partial)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

fn first_u32(payload: &[u8]) -> Option<u32> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}
