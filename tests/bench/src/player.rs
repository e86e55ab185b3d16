//! A player that reads every message, over RTMP or from the relay's bare chunks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use restreamd_rtmp::chunk::{ChunkReader, Limits};
use restreamd_rtmp::session::{ClientConfig, ClientEvent, ClientSession, Media, Purpose};
use restreamd_rtmp::url::RtmpUrl;
use rustix::net::sockopt::set_socket_recv_buffer_size;

/// The longest a server may be silent: a thousand pulls begin one after the other.
const SILENCE: Duration = Duration::from_secs(60);
/// Room for what comes between two visits, the largest keyframe included, so
/// that a server never waits for a player.
const RECEIVE_BUFFER: usize = 512 * 1024;

/// A player of one stream.
#[derive(Debug)]
pub(crate) struct Player {
    stream: TcpStream,
    dialect: Dialect,
    bytes: Vec<u8>,
}

/// What the server speaks.
#[derive(Debug)]
enum Dialect {
    Rtmp(Box<ClientSession>),
    /// Chunks from the first byte on; nobody is asked for anything.
    Chunks(ChunkReader),
}

impl Dialect {
    fn rtmp(url: RtmpUrl) -> Self {
        Self::Rtmp(Box::new(ClientSession::new(ClientConfig {
            url,
            purpose: Purpose::Play,
            flash_ver: None,
            swf_url: None,
            page_url: None,
            fc_subscribe: false,
        })))
    }

    fn take_in(&mut self, bytes: &[u8]) {
        match self {
            Self::Rtmp(session) => {
                session.buffer().extend_from_slice(bytes);
                session.received(bytes.len());
            }
            Self::Chunks(reader) => reader.buffer().extend_from_slice(bytes),
        }
    }

    /// The next message of media that is here.
    fn poll(&mut self) -> anyhow::Result<Option<Media>> {
        match self {
            Self::Rtmp(session) => {
                while let Some(event) = session.poll()? {
                    match event {
                        ClientEvent::Media(media) => return Ok(Some(media)),
                        ClientEvent::Ended(end) => bail!("the stream ended: {end:?}"),
                        ClientEvent::Rejected(no) => {
                            bail!("rejected: {} {}", no.code, no.description)
                        }
                        _ => {}
                    }
                }
            }
            Self::Chunks(reader) => {
                while let Some(message) = reader.next_message()? {
                    if let Some(media) = Media::from_message(message) {
                        return Ok(Some(media));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Player {
    /// Connects and plays until the first message of media is here.
    pub(crate) fn attach(url: &str) -> anyhow::Result<Self> {
        let url = RtmpUrl::parse(url)?;
        let stream = connect(&url)?;
        Self::new(stream, Dialect::rtmp(url))
    }

    /// The same of a server that sends chunks to whoever connects.
    pub(crate) fn attach_bare(url: &str) -> anyhow::Result<Self> {
        let stream = connect(&RtmpUrl::parse(url)?)?;
        Self::new(stream, Dialect::Chunks(ChunkReader::new(Limits::GRANTED)))
    }

    fn new(stream: TcpStream, dialect: Dialect) -> anyhow::Result<Self> {
        let mut player = Self {
            stream,
            dialect,
            bytes: vec![0; 64 * 1024],
        };
        player.next()?;
        Ok(player)
    }

    /// The next message of media.
    pub(crate) fn next(&mut self) -> anyhow::Result<Media> {
        loop {
            if let Some(media) = self.dialect.poll()? {
                return Ok(media);
            }
            self.flush()?;
            let read = self.stream.read(&mut self.bytes).context("reading")?;
            ensure!(read > 0, "the server closed the connection");
            self.dialect.take_in(&self.bytes[..read]);
        }
    }

    /// Leaves the socket, with the stream playing into it.
    pub(crate) fn into_stream(mut self) -> anyhow::Result<TcpStream> {
        self.flush()?;
        Ok(self.stream)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let Dialect::Rtmp(session) = &mut self.dialect else {
            return Ok(());
        };
        while let Some(output) = session.take_output() {
            self.stream.write_all(&output)?;
        }
        Ok(())
    }
}

fn connect(url: &RtmpUrl) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect((url.host(), url.port())).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    set_socket_recv_buffer_size(&stream, RECEIVE_BUFFER)?;
    Ok(stream)
}
