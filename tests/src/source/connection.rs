//! One dialler of a source.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::chunk::{ChunkReader, Limits};
use restreamd_rtmp::message::type_id;
use restreamd_rtmp::session::{Refusal, ServerConfig, ServerEvent, ServerSession};

use super::io::Io;
use super::playing::Playing;
use super::style::Writer;
use super::{Behaviour, Shared, TICK, lock};

/// C0, C1 and C2.
const HANDSHAKE: usize = 1 + 1536 + 1536;

pub(super) struct Connection {
    stream: Io,
    generation: u64,
    session: ServerSession,
    writer: Writer,
    playing: Option<Playing>,
    /// Reads what the dialler says a second time, for the notes.
    notes: ChunkReader,
    handshake: usize,
    moves: u64,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, generation: u64, shared: &Shared) -> anyhow::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        Ok(Self {
            stream: Io::new(stream, shared.script.tls.as_ref())?,
            generation,
            session: ServerSession::new(ServerConfig::default()),
            writer: Writer::new(shared.script.style),
            playing: None,
            notes: ChunkReader::new(Limits::GRANTED),
            handshake: HANDSHAKE,
            moves: lock(&shared.moves).0,
        })
    }

    pub(super) fn serve(mut self, shared: &Shared) -> anyhow::Result<()> {
        while shared.generation.load(Ordering::Relaxed) == self.generation {
            if !self.read(shared)? {
                break;
            }
            while let Some(event) = self.session.poll()? {
                // What was said before the event's answer goes out before it.
                self.flush()?;
                self.answer(&event, shared)?;
            }
            self.flush()?;
            self.ask_to_reconnect(shared)?;
            if let Some(playing) = &mut self.playing {
                let due = playing.due(shared);
                let bytes = self.writer.media(due);
                self.stream.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(bytes) = self.session.take_output() {
            let bytes = self.writer.session(bytes)?;
            self.stream.write_all(&bytes)?;
        }
        Ok(())
    }

    /// False when the peer has gone.
    fn read(&mut self, shared: &Shared) -> anyhow::Result<bool> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.session.buffer().extend_from_slice(&bytes[..n]);
                self.session.received(n);
                self.note(&bytes[..n], shared)?;
                Ok(true)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    fn note(&mut self, bytes: &[u8], shared: &Shared) -> anyhow::Result<()> {
        let shaking = self.handshake.min(bytes.len());
        self.handshake -= shaking;
        self.notes.buffer().extend_from_slice(&bytes[shaking..]);
        while let Some(message) = self.notes.next_message()? {
            if message.type_id == type_id::COMMAND_AMF0 {
                lock(&shared.commands).push(amf0::decode(&message.payload)?);
            }
        }
        Ok(())
    }

    fn answer(&mut self, event: &ServerEvent, shared: &Shared) -> anyhow::Result<()> {
        match event {
            ServerEvent::Connect { app, .. } => match shared.script.gate.refusal(app) {
                None => self.session.accept_connect(),
                Some(information) => self.refuse(information)?,
            },
            ServerEvent::Play {
                stream_id,
                app,
                name,
            } if shared.behaviour() == Behaviour::NotFound => {
                // Real servers repeat what they were asked for, as they were.
                let words = format!("no such stream: {app} {name}");
                self.session
                    .reject_play(*stream_id, Refusal::StreamNotFound, &words);
            }
            ServerEvent::Play { stream_id, .. } => {
                self.session.accept_play(*stream_id);
                self.playing = Some(Playing::new(*stream_id, shared.next_play()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Connect is refused, and the connection closed as real servers do it: after a word.
    fn refuse(&mut self, information: Value) -> anyhow::Result<()> {
        let error = [
            Value::from("_error"),
            Value::Number(1.0),
            Value::Null,
            information,
        ];
        let close = [Value::from("close"), Value::Number(0.0), Value::Null];
        for command in [&error[..], &close[..]] {
            let bytes = self.writer.command(amf0::encode(command), false);
            self.stream.write_all(&bytes)?;
        }
        Ok(())
    }

    fn ask_to_reconnect(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let (moves, tc_url) = lock(&shared.moves).clone();
        if moves == self.moves || self.playing.is_none() {
            return Ok(());
        }
        self.moves = moves;
        let named = [
            ("level", Value::from("status")),
            (
                "code",
                Value::from("NetConnection.Connect.ReconnectRequest"),
            ),
            ("description", Value::from("maintenance")),
        ];
        let tc_url = tc_url.map(|tc_url| ("tcUrl", Value::from(tc_url)));
        let status = [
            Value::from("onStatus"),
            Value::Number(0.0),
            Value::Null,
            Value::object(named.into_iter().chain(tc_url)),
        ];
        let bytes = self.writer.command(amf0::encode(&status), true);
        self.stream.write_all(&bytes)?;
        Ok(())
    }
}
