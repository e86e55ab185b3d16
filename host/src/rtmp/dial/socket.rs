//! The socket of a plain connection, which leaves the event loop while nobody waits for it.
//!
//! A source that is read once a window would wake a thread for each arrival between, and
//! that costs more than the reads. Parked, it is not watched: it is looked at when its time
//! has come. Invariant: whoever waits or writes has it watched.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::lent;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket(State);

#[derive(Debug)]
enum State {
    Watched(TcpStream),
    Parked(std::net::TcpStream),
    /// It could not be moved from one to the other.
    Lost,
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Self(State::Watched(socket))
    }
}

impl Socket {
    /// Leaves the event loop.
    pub(super) fn park(&mut self) -> io::Result<()> {
        if let State::Watched(_) = self.0
            && let State::Watched(socket) = mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Parked(socket.into_std()?);
        }
        Ok(())
    }

    /// The socket itself, for its options.
    pub(super) fn socket(&self) -> Option<socket2::SockRef<'_>> {
        match &self.0 {
            State::Watched(socket) => Some(socket.into()),
            State::Parked(socket) => Some(socket.into()),
            State::Lost => None,
        }
    }

    /// Comes back into the event loop.
    pub(super) fn watch(&mut self) -> io::Result<&TcpStream> {
        if let State::Parked(_) = self.0
            && let State::Parked(socket) = mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Watched(TcpStream::from_std(socket)?);
        }
        match &self.0 {
            State::Watched(socket) => Ok(socket),
            State::Parked(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.watch()?;
        match &mut self.0 {
            State::Watched(socket) => Ok(Pin::new(socket)),
            State::Parked(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What a parked socket has, into a buffer that is lent for it; `WouldBlock` when it
    /// has nothing.
    pub(super) fn look(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match &mut self.0 {
            State::Parked(socket) => {
                acknowledge_later(socket);
                lent::read(socket, buffer)
            }
            State::Watched(_) | State::Lost => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits for bytes, into a buffer that is lent when they are there.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let socket = self.watch()?;
        loop {
            ready!(socket.poll_read_ready(cx))?;
            lent::lend(buffer);
            match socket.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => lent::take_back(buffer),
                read => return Poll::Ready(read),
            }
        }
    }
}

/// The read that follows sends no acknowledgement at once: of a socket that is read seldom
/// the kernel has acknowledged nearly all before, and sends the rest within its delay of
/// 40 ms (tcp(7), `TCP_QUICKACK`, which has to be said anew). That was a tenth of a read
/// source's cost. It costs nothing but time where it fails.
fn acknowledge_later(socket: &std::net::TcpStream) {
    let _ = socket2::SockRef::from(socket).set_tcp_quickack(false);
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().watched()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().watched()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().watched()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().watched()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let addr = listener.local_addr().expect("bound");
        let near = TcpStream::connect(addr).await.expect("it listens");
        let (far, _) = listener.accept().await.expect("it came");
        (near.into(), far)
    }

    async fn receive(socket: &mut Socket, buffer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|cx| socket.poll_receive(cx, buffer)).await
    }

    #[tokio::test]
    async fn what_came_while_it_was_parked_is_there_to_look_at_or_to_wait_for() {
        let (mut socket, mut far) = pair().await;
        let mut buffer = BytesMut::new();
        socket.park().expect("it leaves");
        let empty = socket.look(&mut buffer).map_err(|error| error.kind());
        assert_eq!(empty, Err(io::ErrorKind::WouldBlock));
        // Loopback delivers before the write returns.
        far.write_all(b"0123456789").await.expect("open");
        assert_eq!(socket.look(&mut buffer).expect("there"), 10);
        far.write_all(b"ab").await.expect("open");
        assert_eq!(receive(&mut socket, &mut buffer).await.expect("there"), 2);
        assert!(matches!(socket.0, State::Watched(_)), "who waits has it so");
        assert_eq!(&buffer[..], b"0123456789ab");
        socket.park().expect("it leaves");
        drop(far);
        assert_eq!(socket.look(&mut buffer).expect("the end"), 0);
    }

    #[tokio::test]
    async fn a_parked_socket_writes() {
        let (mut socket, far) = pair().await;
        socket.park().expect("it leaves");
        socket.write_all(b"hello").await.expect("open");
        let mut got = BytesMut::new();
        let mut far = Socket::from(far);
        while got.len() < 5 {
            receive(&mut far, &mut got).await.expect("open");
        }
        assert_eq!(&got[..], b"hello");
    }
}
