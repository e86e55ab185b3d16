//! Dialing out: from a URL to media, or to the one reason why not.
//!
//! Resolves, checks every address against the policy, connects to what it checked,
//! and drives the client session. It decides nothing about when to try again.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, End, Media, Purpose, RejectClass, SessionError,
};
use restreamd_rtmp::url::{RtmpUrl, Scheme};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::Instant;

use super::outbox::Outbox;
use super::policy::Policy;

/// Bytes asked of the socket at a time.
const READ: usize = 64 * 1024;
/// One address gets so long, so that a black hole leaves time for the next one.
const PER_ADDRESS: Duration = Duration::from_secs(5);
/// Addresses tried of one name.
const MAX_ADDRESSES: usize = 8;
/// A peer that receives our pings but says nothing gets one so often.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The classes of failure; policies wait by them, and the status shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "the words are the glossary's; design and WIT say what each means"
)]
pub enum Class {
    Dns,
    Refused,
    Unreachable,
    Timeout,
    Tls,
    Handshake,
    Protocol,
    Auth,
    NotFound,
    Rejected,
    Redirected,
    Closed,
    Ended,
    Stalled,
    Blocked,
    Cancelled,
    Other,
}

impl Class {
    /// The word of the API, the log and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Protocol => "protocol",
            Self::Auth => "auth",
            Self::NotFound => "not-found",
            Self::Rejected => "rejected",
            Self::Redirected => "redirected",
            Self::Closed => "closed",
            Self::Ended => "ended",
            Self::Stalled => "stalled",
            Self::Blocked => "blocked",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

/// Why there is no media (any more). The text never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What kind.
    pub class: Class,
    /// For people.
    pub text: String,
}

impl Failure {
    /// A failure of a class.
    pub fn new(class: Class, text: impl fmt::Display) -> Self {
        Self {
            class,
            text: text.to_string(),
        }
    }

    fn io(doing: &str, error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let class = match error.kind() {
            K::ConnectionRefused => Class::Refused,
            K::TimedOut => Class::Timeout,
            K::HostUnreachable | K::NetworkUnreachable | K::AddrNotAvailable | K::NetworkDown => {
                Class::Unreachable
            }
            K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => {
                Class::Closed
            }
            _ => Class::Other,
        };
        Self::new(class, format!("{doing}: {error}"))
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let class = if matches!(error, SessionError::Handshake(..)) {
            Class::Handshake
        } else {
            Class::Protocol
        };
        Self::new(class, error)
    }
}

/// How to dial.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `swfUrl` of connect.
    pub swf_url: Option<String>,
    /// `pageUrl` of connect.
    pub page_url: Option<String>,
    /// `flashVer` of connect.
    pub flash_ver: Option<String>,
    /// Send FCSubscribe before play.
    pub fc_subscribe: bool,
}

/// A connection to a remote RTMP server. [`Dialed::next`] is cancel safe.
#[derive(Debug)]
pub struct Dialed {
    io: TcpStream,
    session: ClientSession,
    outbox: Outbox,
    heard: Instant,
    born: Instant,
}

impl Dialed {
    /// Dials and asks for the stream; returns when the server granted it.
    pub async fn open(
        url: &RtmpUrl,
        purpose: Purpose,
        options: &Options,
        policy: &Arc<Policy>,
    ) -> Result<Self, Failure> {
        if url.scheme() == Scheme::Rtmps {
            return Err(Failure::new(
                Class::Tls,
                "rtmps:// sources are not supported by this version",
            ));
        }
        let io = connect(url.host(), url.port(), policy).await?;
        let config = ClientConfig {
            url: url.clone(),
            purpose,
            flash_ver: options.flash_ver.clone(),
            swf_url: options.swf_url.clone(),
            page_url: options.page_url.clone(),
            fc_subscribe: options.fc_subscribe,
        };
        let now = Instant::now();
        let session = ClientSession::new(config);
        let mut dialed = Self {
            io,
            session,
            outbox: Outbox::default(),
            heard: now,
            born: now,
        };
        loop {
            match dialed.event().await? {
                ClientEvent::PlayStarted | ClientEvent::PublishAccepted => return Ok(dialed),
                event => {
                    dialed.judge(event)?;
                }
            }
        }
    }

    /// The next media message, or why there is none.
    pub async fn next(&mut self) -> Result<Media, Failure> {
        loop {
            let event = self.event().await?;
            if let Some(media) = self.judge(event)? {
                return Ok(media);
            }
        }
    }

    /// Sends one media message, for a connection that publishes.
    pub async fn send(&mut self, media: &Media) -> Result<(), Failure> {
        self.session.send_media(media);
        self.flush().await
    }

    /// Says goodbye, for a connection that publishes.
    pub async fn finish(mut self) {
        self.session.finish();
        // The peer may be gone already; it will notice the closed socket anyway.
        let _ = self.flush().await;
    }

    fn judge(&mut self, event: ClientEvent) -> Result<Option<Media>, Failure> {
        match event {
            ClientEvent::Media(media) => Ok(Some(media)),
            ClientEvent::Ended(end) => Err(ended(end)),
            ClientEvent::Rejected(rejection) => {
                let class = match &rejection.class {
                    RejectClass::Auth => Class::Auth,
                    RejectClass::NotFound => Class::NotFound,
                    RejectClass::Redirected { .. } => Class::Redirected,
                    RejectClass::Rejected => Class::Rejected,
                };
                let text = format!("{} {}", rejection.code, printable(&rejection.description));
                Err(Failure::new(class, text.trim()))
            }
            ClientEvent::Connected
            | ClientEvent::PlayStarted
            | ClientEvent::PublishAccepted
            | ClientEvent::Reconnect { .. }
            | ClientEvent::Pong { .. } => Ok(None),
        }
    }

    async fn event(&mut self) -> Result<ClientEvent, Failure> {
        loop {
            let event = self.session.poll();
            self.flush().await?;
            if let Some(event) = event? {
                return Ok(event);
            }
            self.read().await?;
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if let Some(bytes) = self.session.take_output() {
            self.outbox.push(bytes);
        }
        self.outbox
            .flush(&mut self.io)
            .await
            .map_err(|e| Failure::io("sending", &e))
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let buffer = self.session.buffer();
        buffer.reserve(READ);
        match tokio::time::timeout_at(self.heard + PING_EVERY, self.io.read_buf(buffer)).await {
            Ok(Ok(0)) => Err(Failure::new(
                Class::Closed,
                "the peer closed the connection",
            )),
            Ok(Ok(read)) => {
                self.heard = Instant::now();
                self.session.received(read);
                Ok(())
            }
            Ok(Err(error)) => Err(Failure::io("receiving", &error)),
            Err(_) => {
                self.heard = Instant::now();
                self.session.ping(self.born.elapsed().as_millis() as u32);
                Ok(())
            }
        }
    }
}

fn ended(end: End) -> Failure {
    let text = match end {
        End::StreamEof => "the peer sent StreamEOF",
        End::UnpublishNotify => "the peer said that its publisher left (UnpublishNotify)",
        End::Stop => "the peer stopped playing (Play.Stop)",
        End::StreamDry => "the peer has no more media (StreamDry)",
        End::Complete => "the peer finished playing (Play.Complete)",
        End::Closed => return Failure::new(Class::Closed, "the peer closed the stream"),
    };
    Failure::new(Class::Ended, text)
}

/// A peer's own words, fit for a log line and a status.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

async fn connect(host: &str, port: u16, policy: &Policy) -> Result<TcpStream, Failure> {
    let addresses = lookup_host((host, port))
        .await
        .map_err(|e| Failure::new(Class::Dns, format!("{host}: {e}")))?;
    let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
    let allowed: Vec<SocketAddr> = addresses
        .iter()
        .copied()
        .filter(|addr| policy.allows(host, *addr))
        .collect();
    let mut failure = match addresses.first() {
        None => Failure::new(Class::Dns, format!("{host} has no address")),
        Some(_) => Failure::new(
            Class::Blocked,
            format!("the dial policy allows no address of {host}:{port}"),
        ),
    };
    for addr in allowed {
        match tokio::time::timeout(PER_ADDRESS, connect_to(addr)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = Failure::io(&format!("connecting to {addr}"), &error),
            Err(_) => {
                failure = Failure::new(Class::Timeout, format!("connecting to {addr}: no answer"))
            }
        }
    }
    Err(failure)
}

async fn connect_to(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_nodelay(true)?;
    socket.connect(addr).await
}
