//! The chunk layer: messages cut into chunks and put together again.
//!
//! It does not know sessions or media. Invariant: what a peer can make us hold
//! is bounded by [`Limits`].

mod head;
mod header;
mod reader;
mod slab;
mod writer;

pub use reader::ChunkReader;
pub use slab::Slab;
pub(crate) use writer::media_csid;
pub use writer::{EGRESS_CHUNK_SIZE, Wire, encode};

/// What a peer may make the reader hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in bytes.
    pub message: usize,
    /// All unfinished messages of the connection together, in bytes.
    pub partial: usize,
    /// Chunk streams in use on the connection.
    pub chunk_streams: usize,
}

/// Chunk streams a connection may use: real senders use 3 to 8.
const CHUNK_STREAMS: usize = 64;

impl Limits {
    /// Before play or publish is granted. 64 KiB is the largest command that
    /// AMF0 decoding reads; four of them may be under way.
    pub const BEFORE_GRANT: Limits = Limits {
        message: 64 * 1024,
        partial: 4 * 64 * 1024,
        chunk_streams: CHUNK_STREAMS,
    };
    /// After it. 8 MiB is several times the largest keyframe seen (4K, low
    /// quantiser); two of them may be under way.
    pub const GRANTED: Limits = Limits {
        message: 8 * 1024 * 1024,
        partial: 16 * 1024 * 1024,
        chunk_streams: CHUNK_STREAMS,
    };
}

/// Why a chunk stream cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A message is announced that is larger than the limit.
    #[error("message of {length} bytes is over the limit of {limit}")]
    MessageTooLarge {
        /// The announced length.
        length: usize,
        /// The limit in force.
        limit: usize,
    },
    /// Too much is unfinished at the same time.
    #[error("unfinished messages are over the limit of {limit} bytes")]
    PartialTooLarge {
        /// The limit in force.
        limit: usize,
    },
    /// Too many chunk streams are in use.
    #[error("more than {limit} chunk streams")]
    TooManyChunkStreams {
        /// The limit in force.
        limit: usize,
    },
    /// A chunk refers to a header that was never sent.
    #[error("chunk stream {csid} continues without a first header")]
    NoHeader {
        /// The chunk stream.
        csid: u32,
    },
    /// Set Chunk Size carries no usable number.
    #[error("chunk size is not valid")]
    ChunkSize,
}
