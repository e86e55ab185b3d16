//! Accepts RTMP connections, as many as there may be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, info, info_span, warn};

use super::connection::{self, Context};

/// Bytes the kernel may hold for a player beyond what is under way to it, so that the
/// decision what to leave out stays with us.
const UNSENT: u32 = 64 * 1024;
/// A peer that acknowledges nothing for so long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Waiting connections; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// A TLS handshake gets so long, and a farewell less, as slow peers hold memory.
const TLS_HANDSHAKE: Duration = Duration::from_secs(5);
/// See [`TLS_HANDSHAKE`].
const TLS_FAREWELL: Duration = Duration::from_secs(1);

/// The TLS settings for the next connection: certificates are renewed while we run.
pub type Tls = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// A bound listener.
pub struct Listener {
    socket: TcpListener,
    limit: Arc<Semaphore>,
    tls: Option<Tls>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
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
            tls: None,
        })
    }

    /// Binds another address, for RTMPS; both are at their limit together.
    pub fn bind_tls(&self, addr: SocketAddr, tls: Tls) -> io::Result<Self> {
        Ok(Self {
            limit: self.limit.clone(),
            tls: Some(tls),
            ..Self::bind(addr, 0)?
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
        let batching = context.streams.config().window_millis > 0;
        prepare(&stream, batching);
        let span = info_span!("rtmp", %peer, stream = tracing::field::Empty);
        let tls = self.tls.as_ref().map(|tls| tls());
        let task = serve(stream, peer, tls, context.clone());
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

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    context: Arc<Context>,
) {
    let Some(tls) = tls else {
        return connection::serve(stream, peer, context).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let mut stream = match tokio::time::timeout(TLS_HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            info!(reason = %error, "connection closed");
            return;
        }
        Err(_) => {
            info!(
                reason = "the TLS handshake took too long",
                "connection closed"
            );
            return;
        }
    };
    connection::serve(&mut stream, peer, context).await;
    // Without a farewell a TLS peer takes the end for an attack.
    let _ = tokio::time::timeout(TLS_FAREWELL, stream.shutdown()).await;
}

/// Socket options are improvements; a socket that lacks one still works.
fn prepare(stream: &TcpStream, batching: bool) {
    // Who waits for a window anyway gains by letting the kernel join small writes while
    // earlier ones are under way, as nginx-rtmp does.
    let _ = stream.set_nodelay(!batching);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}
