//! The handshake of both sides, simple and digest form.
//!
//! Responsible for how many bytes belong to it; the packets themselves are
//! made by a library behind the `rml` module. Invariant: it takes exactly the
//! 3,073 bytes a peer's side of the handshake has and leaves the rest, because
//! clients send their last packet and `connect` in one segment.

use bytes::{Buf, BytesMut};

use crate::rml;

/// One version byte and two packets of 1,536 bytes, in either direction.
const PEER_BYTES: usize = 1 + 1_536 + 1_536;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first byte is not 3: not RTMP, or an encrypted form of it.
    #[error("handshake version is not 3")]
    Version,
    /// A packet was refused.
    #[error("handshake failed: {0}")]
    Packet(String),
}

/// One side of one handshake.
pub struct Handshake {
    inner: rml::Handshake,
    taken: usize,
}

impl Handshake {
    /// Waits for a client.
    #[must_use]
    pub fn server() -> Self {
        Self {
            inner: rml::Handshake::server(),
            taken: 0,
        }
    }

    /// Begins with a server: the first packets are in `out`.
    pub fn client(out: &mut BytesMut) -> Self {
        let (inner, first) = rml::Handshake::client();
        out.extend_from_slice(&first);
        Self { inner, taken: 0 }
    }

    /// Whether the peer's side is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.taken == PEER_BYTES
    }

    /// Takes what belongs to the handshake from `input`, puts what is to be
    /// sent into `out`, and says whether it is complete. A server answers
    /// nothing before the client has sent something.
    pub fn advance(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<bool, HandshakeError> {
        let size = input.len().min(PEER_BYTES - self.taken);
        if size > 0 {
            let reply = self.inner.process(&input[..size])?;
            out.extend_from_slice(&reply);
            input.advance(size);
            self.taken += size;
        }
        Ok(self.is_complete())
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
