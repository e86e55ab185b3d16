//! A publisher of our own, for timestamps that no tool would send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Media, MediaKind, Purpose,
};
use restreamd_rtmp::url::RtmpUrl;

use crate::clip::{AUDIO, Clip, Tag, VIDEO};

/// A node lets a publisher in or refuses it within this.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a look for what the node says may take.
const TICK: Duration = Duration::from_millis(1);

/// A connection that publishes; the stream ends when it is dropped.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
    session: ClientSession,
}

impl Publisher {
    /// Connects and waits until it is let in.
    ///
    /// # Panics
    /// When it is not.
    pub fn connect(url: &str) -> Self {
        Self::open(url).unwrap_or_else(|e| panic!("{url}: {e:#}"))
    }

    fn open(url: &str) -> anyhow::Result<Self> {
        let url = RtmpUrl::parse(url)?;
        let stream = TcpStream::connect((url.host(), url.port())).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        let session = ClientSession::new(ClientConfig {
            url,
            purpose: Purpose::Publish,
            flash_ver: None,
            swf_url: None,
            page_url: None,
            fc_subscribe: false,
        });
        let mut publisher = Self { stream, session };
        let begin = Instant::now();
        while !publisher.listen()? {
            publisher.flush()?;
            ensure!(begin.elapsed() < ANSWER, "no answer");
        }
        Ok(publisher)
    }

    /// Hears what the node says; true when it lets the publisher in.
    fn listen(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => bail!("the connection was closed"),
            Ok(n) => {
                self.session.buffer().extend_from_slice(&bytes[..n]);
                self.session.received(n);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e.into()),
        }
        let mut accepted = false;
        while let Some(event) = self.session.poll()? {
            match event {
                ClientEvent::PublishAccepted => accepted = true,
                ClientEvent::Rejected(no) => bail!("{} {}", no.code, no.description),
                _ => {}
            }
        }
        Ok(accepted)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(output) = self.session.take_output() {
            self.stream.write_all(&output)?;
        }
        Ok(())
    }

    /// Sends one message of [`AUDIO`], [`VIDEO`] or data.
    ///
    /// # Panics
    /// When the node has closed the connection.
    pub fn message(&mut self, kind: u8, timestamp: u32, payload: &[u8]) {
        self.add(kind, timestamp, Bytes::copy_from_slice(payload));
        self.deliver();
    }

    /// Sends tags of a clip with timestamps of their own.
    ///
    /// # Panics
    /// When the node has closed the connection.
    pub fn send<'a>(&mut self, tags: impl IntoIterator<Item = (u32, &'a Tag)>) {
        for (timestamp, tag) in tags {
            self.add(tag.kind, timestamp, tag.body.clone());
        }
        self.deliver();
    }

    fn add(&mut self, kind: u8, timestamp: u32, payload: Bytes) {
        let kind = match kind {
            VIDEO => MediaKind::Video,
            AUDIO => MediaKind::Audio,
            _ => MediaKind::Data,
        };
        self.session.send_media(&Media {
            kind,
            timestamp,
            payload,
        });
    }

    fn deliver(&mut self) {
        let sent = self.flush().and_then(|()| self.listen());
        sent.unwrap_or_else(|e| panic!("publishing: {e:#}"));
    }

    /// Plays a clip in a loop at its own speed, on a clock that begins at `base`.
    pub fn play(&mut self, clip: &Clip, base: u32, lasts: Duration) {
        let frames = clip
            .tags()
            .iter()
            .filter(|tag| matches!(tag.kind, AUDIO | VIDEO) && !tag.is_sequence_header());
        let frames: Vec<&Tag> = frames.collect();
        let begin = Instant::now();
        let mut rounds = (0u32..).flat_map(|round| {
            let offset = round * clip.period();
            frames.iter().map(move |tag| (offset + tag.timestamp, *tag))
        });
        let mut next = rounds.next();
        while begin.elapsed() < lasts {
            let mut due = Vec::new();
            while let Some((at, tag)) = next
                && Duration::from_millis(at.into()) <= begin.elapsed()
            {
                due.push((base.wrapping_add(at), tag));
                next = rounds.next();
            }
            // Listening, it waits a tick.
            self.send(due);
        }
    }
}
