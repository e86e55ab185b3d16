//! Connections for which there is no room: they are told why, and closed.
//!
//! Nothing else is done for them. Invariant: they are few at a time, and each is over
//! in seconds, so that being refused costs us less than being served.

use std::sync::Arc;
use std::time::Duration;

use restreamd_rtmp::session::{ServerConfig, ServerEvent, ServerSession};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

use crate::limits::Refused;

/// Refusals at a time; connections beyond them are closed without a word. Their memory is
/// that of so many sessions before connect, 64 KiB each.
const AT_A_TIME: usize = 64;
/// Handshake, connect and farewell together take no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes asked of the socket at a time.
const READ: usize = 2 * 1024;

/// The places of those that are being refused.
#[derive(Clone, Debug)]
pub(super) struct Farewells(Arc<Semaphore>);

impl Default for Farewells {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

impl Farewells {
    /// A place for one more.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// Listens until connect, rejects it, and waits for the peer to leave.
pub(super) async fn refuse(io: impl AsyncRead + AsyncWrite + Unpin, refused: Refused) {
    let told = tokio::time::timeout(PATIENCE, farewell(io, &refused.to_string())).await;
    let told = matches!(told, Ok(Some(())));
    info!(told, reason = %refused, "connection refused");
}

/// `None` when it left before it was told.
async fn farewell(mut io: impl AsyncRead + AsyncWrite + Unpin, why: &str) -> Option<()> {
    let mut session = ServerSession::new(ServerConfig::default());
    loop {
        let event = session.poll().ok()?;
        if matches!(event, Some(ServerEvent::Connect { .. })) {
            session.reject_connect(why);
        }
        if let Some(bytes) = session.take_output() {
            io.write_all(&bytes).await.ok()?;
        }
        match event {
            Some(ServerEvent::Connect { .. }) => break,
            Some(_) => continue,
            None => {}
        }
        let buffer = session.buffer();
        buffer.reserve(READ);
        let read = io.read_buf(buffer).await.ok().filter(|read| *read > 0)?;
        session.received(read);
    }
    io.flush().await.ok()?;
    let _ = io.shutdown().await;
    // Bytes that nobody reads would make the kernel reset the connection and with it
    // what we said.
    let mut rest = [0; READ];
    let left = async { while io.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(PATIENCE / 2, left).await;
    Some(())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::limits::{Limit, Limits};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_holds_its_place_for_seconds_only() {
        let farewells = Farewells::default();
        let places: Vec<_> = std::iter::from_fn(|| farewells.enter()).collect();
        assert_eq!(places.len(), AT_A_TIME);
        let refused = Limits::default().refused(Limit::Connections, None);
        let (near, _far) = tokio::io::duplex(64);
        let begin = Instant::now();
        refuse(near, refused).await;
        assert_eq!(begin.elapsed(), PATIENCE);
        drop(places);
        assert!(farewells.enter().is_some());
    }
}
