//! Accepts RTMP connections, as many as there may be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{Instrument, info, info_span, warn};

use super::connection::{self, Context};

/// Bytes the kernel may hold for a player beyond what is under way to it, so that the
/// decision what to leave out stays with us.
const UNSENT: u32 = 64 * 1024;
/// A peer that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Waiting connections; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    limit: Arc<Semaphore>,
}

impl Listener {
    /// Binds an address.
    pub fn bind(addr: SocketAddr, max_connections: usize) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(addr),
            socket2::Type::STREAM,
            None,
        )?;
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        Ok(Self {
            socket,
            limit: Arc::new(Semaphore::new(max_connections)),
        })
    }

    /// The address it is bound to.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the drain starts. At the limit a connection is closed at once.
    pub async fn run(self, context: Arc<Context>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = context.drain.started() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &context),
                Err(error) => {
                    // Out of descriptors or memory: wait for connections to end.
                    warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, context: &Arc<Context>) {
        let Ok(permit) = self.limit.clone().try_acquire_owned() else {
            info!(%peer, "connection refused: the node is at its limit");
            return;
        };
        prepare(&stream);
        let span = info_span!("rtmp", %peer, stream = tracing::field::Empty);
        let task = connection::serve(stream, context.clone());
        context.drain.spawn(
            async move {
                info!("connection opened");
                task.await;
                drop(permit);
            }
            .instrument(span),
        );
    }
}

/// Socket options are improvements; a socket that lacks one still works.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}
