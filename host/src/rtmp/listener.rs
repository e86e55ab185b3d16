//! Accepts RTMP connections, as many as there may be.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{Instrument, info, info_span, warn};

use super::connection::{self, Context, Socket};
use super::plain::Plain;
use super::refusal::{self, Farewells};
use crate::limits::{Limit, Refused};

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
    farewells: Farewells,
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
            farewells: Farewells::default(),
            tls: None,
        })
    }

    /// Binds another address, for RTMPS; both are at their limit together.
    pub fn bind_tls(&self, addr: SocketAddr, tls: Tls) -> io::Result<Self> {
        Ok(Self {
            limit: self.limit.clone(),
            farewells: self.farewells.clone(),
            tls: Some(tls),
            ..Self::bind(addr, 0)?
        })
    }

    /// The address it is bound to.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the drain starts. At a limit a connection is told so, and closed.
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
        let permit = self.limit.clone().try_acquire_owned();
        let permit = permit.map_err(|_| context.limits.refused(Limit::Connections, None));
        let place = permit.and_then(|permit| Ok((permit, context.limits.address(peer.ip())?)));
        prepare(&stream);
        let tls = self.tls.as_ref().map(|tls| tls());
        let place = match place {
            Ok(place) => place,
            Err(refused) => return self.refuse(stream, peer, tls, refused, context),
        };
        let span = info_span!("rtmp", %peer, stream = tracing::field::Empty);
        // Boxed apart, so that a plain connection is not as large as one with TLS.
        let context = context.clone();
        let drain = context.drain.clone();
        let task: Pin<Box<dyn Future<Output = ()> + Send>> = match tls {
            None => Box::pin(connection::serve(Plain::from(stream), peer, context)),
            Some(tls) => Box::pin(serve_tls(stream, peer, tls, context)),
        };
        drain.spawn(
            async move {
                info!("connection opened");
                task.await;
                drop(place);
            }
            .instrument(span),
        );
    }

    fn refuse(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        refused: Refused,
        context: &Context,
    ) {
        let span = info_span!("rtmp", %peer);
        let Some(place) = self.farewells.enter() else {
            return span.in_scope(|| info!(told = false, reason = %refused, "connection refused"));
        };
        context.drain.spawn(
            async move {
                match tls {
                    None => refusal::refuse(stream, refused).await,
                    Some(tls) => {
                        if let Some(stream) = secure(stream, tls).await {
                            refusal::refuse(stream, refused).await;
                        }
                    }
                }
                drop(place);
            }
            .instrument(span),
        );
    }
}

async fn serve_tls(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    context: Arc<Context>,
) {
    let Some(mut stream) = secure(stream, tls).await else {
        return;
    };
    connection::serve(&mut stream, peer, context).await;
    // Without a farewell a TLS peer takes the end for an attack.
    let _ = tokio::time::timeout(TLS_FAREWELL, stream.shutdown()).await;
}

/// The TLS handshake; when it fails the connection is closed, and the log says so.
async fn secure(stream: TcpStream, tls: Arc<rustls::ServerConfig>) -> Option<TlsStream<TcpStream>> {
    let handshake = TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(TLS_HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            info!(reason = %error, "connection closed");
            None
        }
        Err(_) => {
            let reason = "the TLS handshake took too long";
            info!(reason, "connection closed");
            None
        }
    }
}

/// Socket options are improvements; a socket that lacks one still works.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

impl Socket for TlsStream<TcpStream> {
    fn join_writes(&self, join: bool) {
        let _ = self.get_ref().0.set_nodelay(!join);
    }
}
