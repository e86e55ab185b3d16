//! The relay: what the same bytes cost when nothing but copying them is done.
//!
//! One thread reads the origin's stream once and writes its media messages, as
//! the origin encodes them, to every socket that is connected: one write for
//! all that was gathered. No handshake, no late joiners, no slow players: one
//! whose socket does not take everything at once is let go.

use std::fmt;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{BufMut as _, BytesMut};
use clap::{Args, ValueEnum};
use restreamd_rtmp::chunk::{self, EGRESS_CHUNK_SIZE};
use restreamd_rtmp::message::type_id;
use restreamd_rtmp::session::MediaKind;

use crate::origin;
use crate::player::Player;

/// What `Grain::Window` gathers.
const WINDOW: Duration = Duration::from_millis(100);
/// Chunk stream of protocol control.
const CONTROL: u8 = 2;
/// Chunks have this size until the relay's first message says otherwise.
const FIRST_CHUNK: u32 = 128;

/// What is written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Grain {
    /// Every message alone, as restreamd does in low mode when messages come one by one.
    Message,
    /// A picture and the sound that came before it.
    Picture,
    /// All of 100 ms.
    Window,
}

impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "message",
            Self::Picture => "picture",
            Self::Window => "100 ms",
        })
    }
}

/// What to relay.
#[derive(Args, Clone, Debug)]
pub(crate) struct Relay {
    /// The origin's URL of the stream.
    #[arg(long)]
    from: String,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    grain: Grain,
}

/// Relays until the origin ends.
pub(crate) fn run(relay: &Relay) -> anyhow::Result<()> {
    let listener = TcpListener::bind(relay.listen).context("the relay's port is taken")?;
    listener.set_nonblocking(true)?;
    let mut origin = Player::attach(&relay.from).context("attaching to the origin")?;
    let mut players = Vec::new();
    let mut gathered = BytesMut::new();
    let mut since = Instant::now();
    loop {
        let media = origin.next()?;
        if gathered.is_empty() {
            since = Instant::now();
        }
        origin::put(&media, 1, &mut gathered);
        let due = match relay.grain {
            Grain::Message => true,
            Grain::Picture => media.kind == MediaKind::Video,
            Grain::Window => since.elapsed() >= WINDOW,
        };
        if due {
            take_in(&listener, &mut players)?;
            players.retain_mut(|player| took_all(player, &gathered));
            gathered.clear();
        }
    }
}

/// Takes those in that have connected; they begin with the next write.
fn take_in(listener: &TcpListener, players: &mut Vec<TcpStream>) -> anyhow::Result<()> {
    while let Ok((mut player, _)) = listener.accept() {
        player.set_nodelay(true)?;
        player.set_nonblocking(true)?;
        if player.write_all(&chunk_size()).is_ok() {
            players.push(player);
        }
    }
    Ok(())
}

fn took_all(player: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(player.write(bytes), Ok(written) if written == bytes.len())
}

/// The message that says how large the chunks are.
fn chunk_size() -> BytesMut {
    let mut payload = BytesMut::new();
    payload.put_u32(EGRESS_CHUNK_SIZE);
    let mut out = BytesMut::new();
    let kind = type_id::SET_CHUNK_SIZE;
    chunk::encode(CONTROL, kind, 0, 0, &payload, FIRST_CHUNK, &mut out);
    out
}
