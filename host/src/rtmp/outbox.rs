//! Bytes on their way to one peer.
//!
//! Collects shared buffers and writes many of them at once. A message that was
//! begun is always finished. Bounded by its callers, who fill it only when empty.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Buffers handed to the kernel at once; Linux takes up to 1024.
const SLICES: usize = 64;
/// A peer that takes nothing for so long is gone.
const NO_PROGRESS: Duration = Duration::from_secs(10);

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    sent: u64,
}

impl Outbox {
    /// Adds a buffer.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queue.push_back(bytes);
        }
    }

    /// Whether all was written.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes written so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Gives the memory of the queue back, when it is empty.
    pub fn shrink(&mut self) {
        self.queue.shrink_to(0);
    }

    /// Bytes that another wrote to the peer, before what waits here.
    pub fn count(&mut self, written: u64) {
        self.sent += written;
    }

    /// Writes all there is. Fails when the peer takes nothing for ten seconds.
    pub async fn flush(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.queue.is_empty() {
            match tokio::time::timeout(NO_PROGRESS, self.write_some(to)).await {
                Ok(written) => written?,
                Err(_) => return Err(stuck()),
            }
        }
        // TLS may have taken the last bytes without having sent them.
        match tokio::time::timeout(NO_PROGRESS, to.flush()).await {
            Ok(flushed) => flushed,
            Err(_) => Err(stuck()),
        }
    }

    /// One write of what there is, which may not be all. Cancel safe.
    pub async fn write_some(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = self.queue.len().min(SLICES);
        for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
        }
        match to.write_vectored(&slices[..filled]).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => {
                self.advance(written);
                Ok(())
            }
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.sent += written as u64;
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.queue.pop_front();
        }
    }
}

fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_narrow_pipe() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for n in 0..200u8 {
            let bytes = vec![n; usize::from(n % 13)];
            expected.extend_from_slice(&bytes);
            outbox.push(bytes.into());
        }
        let total = expected.len();
        let reader = tokio::spawn(async move {
            let mut got = vec![0; total];
            far.read_exact(&mut got).await.map(|_| got)
        });
        outbox.flush(&mut near).await.expect("the peer reads");
        assert_eq!(reader.await.expect("no panic").expect("read"), expected);
        assert_eq!(outbox.sent(), total as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut near, _far) = tokio::io::duplex(4);
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"more than four bytes"));
        let error = outbox.flush(&mut near).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
