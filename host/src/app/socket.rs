//! HTTP connections as the listeners hand them on.
//!
//! Responses may be endless, and a client that stops reading one would hold its
//! connection for ever: here a write that gets nowhere ends it. Invariant: the
//! kernel holds little for a slow client, so that what to leave out stays our
//! decision.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tower_http::add_extension::AddExtension;

use crate::api::Room;
use crate::limits::{Limit, Limits};

/// A client that takes nothing for so long is gone; the same as for RTMP.
const NO_PROGRESS: Duration = Duration::from_secs(10);
/// What the kernel may hold for a client that reads slowly.
const SEND_BUFFER: usize = 256 * 1024;
/// A client that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections without a place that are told so, at a time and for so long each; more
/// are closed without a word.
const REFUSED: (usize, Duration) = (64, Duration::from_secs(5));

/// Gives each accepted connection a place, if there is one, and prepares it.
#[derive(Clone, Debug)]
pub(super) struct Acceptor {
    places: Arc<Semaphore>,
    farewells: Arc<Semaphore>,
    limits: Limits,
}

impl Acceptor {
    /// For a listener with so many places.
    pub(super) fn new(places: usize, limits: Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            farewells: Arc::new(Semaphore::new(REFUSED.0)),
            limits,
        }
    }

    /// A place, or one among those that are refused and the time it is kept.
    fn room(&self) -> io::Result<(Room, Option<Duration>)> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok((Room::granted(place), None));
        }
        let refused = self.limits.refused(Limit::ApiConnections, None);
        let place = self.farewells.clone().try_acquire_owned();
        let place = place.map_err(|_| io::Error::other("the listener is at its limit"))?;
        Ok((Room::refused(refused, place), Some(REFUSED.1)))
    }
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Impatient<TcpStream>;
    type Service = AddExtension<S, Room>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (room, time) = match self.room() {
            Ok(room) => room,
            Err(error) => return ready(Err(error)),
        };
        // Socket options are improvements; a socket that lacks one still works.
        let _ = stream.set_nodelay(true);
        let socket = socket2::SockRef::from(&stream);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let stream = Impatient::new(stream, time);
        ready(Ok((stream, AddExtension::new(service, room))))
    }
}

/// A connection whose writes fail when the peer takes nothing for ten seconds.
#[derive(Debug)]
pub(super) struct Impatient<T> {
    io: T,
    /// Runs while a write waits. Made once: writes wait often on a busy connection.
    alarm: Pin<Box<Sleep>>,
    waiting: bool,
    /// When nothing more is read, if ever.
    end: Option<Pin<Box<Sleep>>>,
}

impl<T> Impatient<T> {
    fn new(io: T, time: Option<Duration>) -> Self {
        Self {
            io,
            alarm: Box::pin(tokio::time::sleep(NO_PROGRESS)),
            waiting: false,
            end: time.map(|time| Box::pin(tokio::time::sleep(time))),
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
        let over = |end: &mut Pin<Box<Sleep>>| end.as_mut().poll(context).is_ready();
        if self.end.as_mut().is_some_and(over) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
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
        let mut near = Impatient::new(near, None);
        let begin = Instant::now();
        let error = near.write_all(b"more than four").await;
        assert_eq!(
            error.expect_err("nobody reads").kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(begin.elapsed().as_secs(), NO_PROGRESS.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_a_place_is_listened_to_for_seconds_only() {
        let acceptor = Acceptor::new(1, Limits::default());
        let mut rooms: Vec<_> = std::iter::from_fn(|| acceptor.room().ok()).collect();
        assert_eq!(rooms.len(), 1 + REFUSED.0);
        let (near, _far) = tokio::io::duplex(4);
        let mut near = Impatient::new(near, rooms[1].1);
        let begin = Instant::now();
        let error = near.read(&mut [0]).await.expect_err("it says nothing");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), REFUSED.1);
        rooms.remove(0);
        assert_eq!(acceptor.room().expect("free again").1, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_served_as_long_as_it_takes_something() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = Impatient::new(near, None);
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
