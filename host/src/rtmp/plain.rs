//! A TCP socket that the connection's task shares with a stream's pump.
//!
//! The task reads, waits and writes words of its own; the pump writes frames while the
//! task does not. Who writes when is told by the tap, see `stream::pump`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::connection::Socket;
use crate::stream::Outlet;

/// The socket as its connection holds it.
#[derive(Debug)]
pub struct Plain {
    read: OwnedReadHalf,
    write: Arc<OwnedWriteHalf>,
}

impl From<TcpStream> for Plain {
    fn from(socket: TcpStream) -> Self {
        let (read, write) = socket.into_split();
        Self {
            read,
            write: Arc::new(write),
        }
    }
}

impl Outlet for OwnedWriteHalf {
    /// Whether the socket takes bytes is asked of nobody but the kernel: what the event
    /// loop knows of it is in another place of the memory.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        socket2::SockRef::from(self.as_ref()).send(bytes)
    }
}

impl Socket for Plain {
    fn join_writes(&self, join: bool) {
        let socket: &TcpStream = (*self.write).as_ref();
        let _ = socket.set_nodelay(!join);
    }

    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        Some(self.write.clone())
    }
}

impl Plain {
    /// Tries until the bytes would have to wait, and then waits for the socket.
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        attempt: impl Fn(&OwnedWriteHalf) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket: &TcpStream = (*self.write).as_ref();
        loop {
            ready!(socket.poll_write_ready(cx))?;
            match attempt(&self.write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |socket| socket.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket: &TcpStream = (*self.write).as_ref();
        Poll::Ready(socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write))
    }
}
