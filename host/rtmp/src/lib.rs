//! RTMP without I/O: bytes in, events and bytes out.
//!
//! Responsible for the chunk protocol, AMF0, the handshake, the session state
//! machines of both sides, authentication, the headers of FLV media and RTMP URLs. It does not
//! know sockets, clocks, tasks, streams or who is allowed to do what: the
//! caller moves the bytes, keeps the time and takes the decisions.
//!
//! Invariant: no input from a peer panics, and memory grows with the bytes a
//! peer has sent, never with the bytes it has announced.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod amf0;
pub mod auth;
pub mod chunk;
pub mod flv;
pub mod handshake;
pub mod message;
mod rml;
pub mod session;
pub mod url;

pub use amf0::{Amf0Error, Value};
pub use chunk::{ChunkError, ChunkReader, EGRESS_CHUNK_SIZE, Limits, Wire};
pub use flv::{AudioHeader, Codec, PacketKind, VideoHeader};
pub use handshake::{Handshake, HandshakeError};
pub use message::{Message, type_id};
pub use session::{
    ClientConfig, ClientEvent, ClientSession, End, Media, MediaKind, Purpose, Refusal, RejectClass,
    Rejection, ServerConfig, ServerEvent, ServerSession, SessionError, Stage,
};
pub use url::{RtmpUrl, Scheme, UrlError};
