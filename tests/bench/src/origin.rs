//! The origin: an RTMP server that plays the looped clip to whoever asks.
//!
//! Every connection has a loop of its own that begins when it plays, whatever
//! the name. Messages leave when they are due; with a tick, those due within
//! it leave together. It never catches up a peer by leaving messages out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use clap::Args;
use restreamd_rtmp::chunk::{self, EGRESS_CHUNK_SIZE};
use restreamd_rtmp::session::{Media, MediaKind, ServerConfig, ServerEvent, ServerSession};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::source::{self, Source};
use crate::usage::monotonic_nanos;

/// A thousand pulls may come at once.
const BACKLOG: u32 = 4096;

/// What begins a line about a connection, before the monotonic nanoseconds.
pub(crate) const ACCEPTED: &str = "accepted ";

/// What it is to play, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where it listens.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// The rate of what it plays.
    #[arg(long)]
    pub(crate) kbps: u32,
    /// Messages due within so many milliseconds leave together.
    #[arg(long)]
    pub(crate) tick_millis: u64,
    /// Pictures of nothing but filler and no sound, for rates below the clip's.
    #[arg(long)]
    pub(crate) thin: bool,
    /// Says when connections come, a line each.
    #[arg(long)]
    pub(crate) tell: bool,
}

/// Serves until the process is ended.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let source = Arc::new(match options.thin {
        true => Source::thin(options.kbps)?,
        false => Source::new(options.kbps)?,
    });
    let tick = Duration::from_millis(options.tick_millis);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        let bound = socket.bind(options.listen);
        bound.context("the origin's port is taken")?;
        serve(socket.listen(BACKLOG)?, source, tick, options.tell).await
    })
}

async fn serve(
    listener: TcpListener,
    source: Arc<Source>,
    tick: Duration,
    tell: bool,
) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        if tell {
            println!("{ACCEPTED}{}", monotonic_nanos());
        }
        stream.set_nodelay(true)?;
        let mut connection = Connection::new(stream, source.clone(), tick);
        // A peer that leaves is no fault: the benchmark ends servers while they pull.
        tokio::spawn(async move { connection.run().await.ok() });
    }
}

struct Connection {
    stream: TcpStream,
    session: ServerSession,
    source: Arc<Source>,
    tick: Duration,
    playing: Option<Playing>,
}

struct Playing {
    stream_id: u32,
    begin: Instant,
    next: usize,
}

impl Connection {
    fn new(stream: TcpStream, source: Arc<Source>, tick: Duration) -> Self {
        Self {
            stream,
            session: ServerSession::new(ServerConfig::default()),
            source,
            tick,
            playing: None,
        }
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.answer().await?;
            let due = self.due();
            tokio::select! {
                read = self.stream.read_buf(self.session.buffer()) => match read? {
                    0 => return Ok(()),
                    read => self.session.received(read),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.send().await?;
                }
            }
        }
    }

    async fn answer(&mut self) -> anyhow::Result<()> {
        let mut begun = None;
        while let Some(event) = self.session.poll()? {
            match event {
                ServerEvent::Connect { .. } => self.session.accept_connect(),
                ServerEvent::Play { stream_id, .. } => {
                    self.session.accept_play(stream_id);
                    begun = Some(stream_id);
                }
                ServerEvent::PlayFinished { .. } => self.playing = None,
                _ => {}
            }
        }
        if let Some(bytes) = self.session.take_output() {
            self.stream.write_all(&bytes).await?;
        }
        if let Some(stream_id) = begun {
            self.begin(stream_id).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, stream_id: u32) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        for header in self.source.headers() {
            put(header, stream_id, &mut out);
        }
        self.stream.write_all(&out).await?;
        self.playing = Some(Playing {
            stream_id,
            begin: Instant::now(),
            next: 0,
        });
        Ok(())
    }

    /// When the next message leaves.
    fn due(&self) -> Option<Instant> {
        let playing = self.playing.as_ref()?;
        let (due, _) = self.source.nth(playing.next);
        let late = match self.tick.as_nanos() {
            0 => 0,
            tick => (tick - due.as_nanos() % tick) % tick,
        };
        let late = Duration::from_nanos(u64::try_from(late).unwrap_or_default());
        Some(playing.begin + due + late)
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        let Some(playing) = &mut self.playing else {
            return Ok(());
        };
        let now = Instant::now();
        let mut out = BytesMut::new();
        loop {
            let (due, mut media) = self.source.nth(playing.next);
            if playing.begin + due > now {
                break;
            }
            source::stamp(&mut media, monotonic_nanos());
            put(&media, playing.stream_id, &mut out);
            playing.next += 1;
        }
        self.stream.write_all(&out).await?;
        Ok(())
    }
}

/// Appends the chunks of a message.
pub(crate) fn put(media: &Media, stream_id: u32, out: &mut BytesMut) {
    let csid = match media.kind {
        MediaKind::Video => 4,
        MediaKind::Audio => 5,
        MediaKind::Data => 6,
    };
    chunk::encode(
        csid,
        media.kind.type_id(),
        stream_id,
        media.timestamp,
        &media.payload,
        EGRESS_CHUNK_SIZE,
        out,
    );
}
