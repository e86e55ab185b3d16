//! HTTP connections as the listeners hand them on.
//!
//! Responses may be endless, and a client that stops reading one would hold its
//! connection for ever: here a write that gets nowhere ends it. Invariant: the
//! kernel holds little for a slow client, so that what to leave out stays our
//! decision.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A client that takes nothing for so long is gone; the same as for RTMP.
const NO_PROGRESS: Duration = Duration::from_secs(10);
/// What the kernel may hold for a client that reads slowly.
const SEND_BUFFER: usize = 256 * 1024;
/// A client that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Prepares each accepted connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acceptor;

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Impatient<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Socket options are improvements; a socket that lacks one still works.
        let _ = stream.set_nodelay(true);
        let socket = socket2::SockRef::from(&stream);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        ready(Ok((Impatient::new(stream), service)))
    }
}

/// A connection whose writes fail when the peer takes nothing for ten seconds.
#[derive(Debug)]
pub(super) struct Impatient<T> {
    io: T,
    /// Runs while a write waits. Made once: writes wait often on a busy connection.
    alarm: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<T> Impatient<T> {
    fn new(io: T) -> Self {
        Self {
            io,
            alarm: Box::pin(tokio::time::sleep(NO_PROGRESS)),
            waiting: false,
        }
    }

    fn judge<R>(
        &mut self,
        written: Poll<io::Result<R>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        if !std::mem::replace(&mut self.waiting, true) {
            self.alarm.as_mut().reset(Instant::now() + NO_PROGRESS);
        }
        ready!(self.alarm.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes no bytes",
        )))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(4);
        let mut near = Impatient::new(near);
        let begin = Instant::now();
        let error = near.write_all(b"more than four").await;
        assert_eq!(
            error.expect_err("nobody reads").kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(begin.elapsed().as_secs(), NO_PROGRESS.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_served_as_long_as_it_takes_something() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = Impatient::new(near);
        let reader = tokio::spawn(async move {
            let mut taken = [0; 4];
            for _ in 0..5 {
                tokio::time::sleep(NO_PROGRESS - Duration::from_secs(1)).await;
                far.read_exact(&mut taken).await.expect("open");
            }
        });
        near.write_all(&[7; 20]).await.expect("it reads");
        reader.await.expect("no panic");
    }
}
