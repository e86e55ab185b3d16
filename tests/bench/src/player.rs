//! A player that reads every message.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
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
    session: ClientSession,
    bytes: Vec<u8>,
}

impl Player {
    /// Connects and plays until the first message of media is here.
    pub(crate) fn attach(url: &str) -> anyhow::Result<Self> {
        let url = RtmpUrl::parse(url)?;
        let stream = TcpStream::connect((url.host(), url.port())).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        set_socket_recv_buffer_size(&stream, RECEIVE_BUFFER)?;
        let session = ClientSession::new(ClientConfig {
            url,
            purpose: Purpose::Play,
            flash_ver: None,
            swf_url: None,
            page_url: None,
            fc_subscribe: false,
        });
        let mut player = Self {
            stream,
            session,
            bytes: vec![0; 64 * 1024],
        };
        player.next()?;
        Ok(player)
    }

    /// The next message of media.
    pub(crate) fn next(&mut self) -> anyhow::Result<Media> {
        loop {
            while let Some(event) = self.session.poll()? {
                match event {
                    ClientEvent::Media(media) => return Ok(media),
                    ClientEvent::Ended(end) => bail!("the stream ended: {end:?}"),
                    ClientEvent::Rejected(no) => bail!("rejected: {} {}", no.code, no.description),
                    _ => {}
                }
            }
            self.flush()?;
            let read = self.stream.read(&mut self.bytes).context("reading")?;
            ensure!(read > 0, "the server closed the connection");
            self.session.buffer().extend_from_slice(&self.bytes[..read]);
            self.session.received(read);
        }
    }

    /// Leaves the socket, with the stream playing into it.
    pub(crate) fn into_stream(mut self) -> anyhow::Result<TcpStream> {
        self.flush()?;
        Ok(self.stream)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(output) = self.session.take_output() {
            self.stream.write_all(&output)?;
        }
        Ok(())
    }
}
