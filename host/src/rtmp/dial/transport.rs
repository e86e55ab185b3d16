//! What the bytes of a dialled connection travel on: TCP, or TLS over it.
//!
//! An enum and not a box of a trait: the plain path stays a direct call with the
//! kernel's vectored write.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::socket::Socket;

/// A connection's transport.
#[derive(Debug)]
pub(super) enum Transport {
    /// `rtmp://`.
    Plain(Socket),
    /// `rtmps://`.
    Tls(Box<TlsStream<TcpStream>>),
    /// Whatever a test plays with.
    #[cfg(test)]
    Rehearsed(Box<dyn Io>),
}

impl Transport {
    /// The socket below.
    pub(super) fn socket(&self) -> Option<socket2::SockRef<'_>> {
        match self {
            Self::Plain(io) => io.socket(),
            Self::Tls(io) => Some(io.get_ref().0.into()),
            #[cfg(test)]
            Self::Rehearsed(_) => None,
        }
    }
}

/// What a test plays with.
#[cfg(test)]
pub(crate) trait Io:
    AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin + 'static
{
}

#[cfg(test)]
impl<T: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin + 'static> Io for T {}

impl Transport {
    /// Waits for bytes. Cancel safe. Of a plain connection the buffer is lent when they
    /// are there; else `room` is what it may grow by.
    pub(super) async fn receive(
        &mut self,
        buffer: &mut BytesMut,
        room: usize,
    ) -> io::Result<usize> {
        match self {
            Self::Plain(io) => poll_fn(|cx| io.poll_receive(cx, buffer)).await,
            Self::Tls(io) => {
                buffer.reserve(room);
                io.read_buf(buffer).await
            }
            #[cfg(test)]
            Self::Rehearsed(io) => {
                buffer.reserve(room);
                io.read_buf(buffer).await
            }
        }
    }

    /// The socket of a plain connection, which can be parked.
    pub(super) fn plain(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Plain(io) => Some(io),
            _ => None,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
            #[cfg(test)]
            Self::Rehearsed(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
            #[cfg(test)]
            Self::Rehearsed(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            #[cfg(test)]
            Self::Rehearsed(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
            #[cfg(test)]
            Self::Rehearsed(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
            #[cfg(test)]
            Self::Rehearsed(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
            #[cfg(test)]
            Self::Rehearsed(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
