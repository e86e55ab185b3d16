//! What both sides of a session share: handshake, chunks, acknowledgements,
//! pings, and the bytes to send.
//!
//! It does not know commands. Invariants: nothing is sent between the packets
//! of the handshake; answers that wait to be taken are bounded; a failed link
//! holds nothing of what the peer sends.

use bytes::{Bytes, BytesMut};

use super::SessionError;
use crate::amf0::{self, Value};
use crate::chunk::{self, ChunkReader, EGRESS_CHUNK_SIZE, Limits};
use crate::handshake::Handshake;
use crate::message::{Message, type_id};
use crate::rml::{self, Control};

/// Protocol control messages travel on chunk stream 2 (specification 5.4).
const CONTROL_CSID: u8 = 2;
/// Commands travel on a chunk stream of their own.
const COMMAND_CSID: u8 = 3;
/// The chunk size until we announce another one.
const DEFAULT_CHUNK_SIZE: u32 = 128;

/// A peer that asks to be acknowledged every few bytes would turn each of its
/// bytes into sixteen of ours.
const MIN_WINDOW: u32 = 4_096;
/// What servers and players announce in the field; holds until the peer has.
pub(super) const DEFAULT_WINDOW: u32 = 2_500_000;
/// Answers to the commands of one peer are a few kilobytes; a megabyte means
/// that it asks and does not read.
const MAX_ANSWERS: usize = 1024 * 1024;

/// User control events (specification 7.1.7) that are not handled here.
pub(super) mod user_control {
    pub(in crate::session) const STREAM_EOF: u16 = 1;
    pub(in crate::session) const STREAM_DRY: u16 = 2;
    pub(in crate::session) const PONG: u16 = 7;
    pub(super) const PING: u16 = 6;
}

/// What the other side said.
#[derive(Debug)]
pub(super) enum Inbound {
    /// The handshake is done; comes once, before everything else.
    HandshakeDone,
    /// User control, other than a ping; `value` is a stream id or a timestamp.
    UserControl { event: u16, value: u32 },
    /// Set Peer Bandwidth.
    PeerBandwidth(u32),
    /// A command, data or media message.
    Message(Message),
}

pub(super) struct Link {
    handshake: Handshake,
    handshake_reported: bool,
    reader: ChunkReader,
    output: BytesMut,
    /// Bytes of `output` that answer the peer, as opposed to media.
    answers: usize,
    chunk_size: u32,
    received: u64,
    acknowledged: u64,
    window: u32,
    /// Why the session is over.
    failed: Option<SessionError>,
}

impl Link {
    pub(super) fn server() -> Self {
        Self::new(Handshake::server(), BytesMut::new())
    }

    /// A link whose first handshake packets are ready to be sent.
    pub(super) fn client() -> Self {
        let mut output = BytesMut::new();
        let handshake = Handshake::client(&mut output);
        Self::new(handshake, output)
    }

    fn new(handshake: Handshake, output: BytesMut) -> Self {
        Self {
            handshake,
            handshake_reported: false,
            reader: ChunkReader::new(Limits::BEFORE_GRANT),
            output,
            answers: 0,
            chunk_size: DEFAULT_CHUNK_SIZE,
            received: 0,
            acknowledged: 0,
            window: DEFAULT_WINDOW,
            failed: None,
        }
    }

    /// The error that ended the session, once there was one. What has come since is
    /// dropped unread.
    pub(super) fn check(&mut self) -> Result<(), SessionError> {
        match &self.failed {
            None => Ok(()),
            Some(error) => {
                self.reader.buffer().clear();
                Err(error.clone())
            }
        }
    }

    /// Notes the error of a session, which is its last word.
    pub(super) fn note<T>(&mut self, polled: &Result<T, SessionError>) {
        if let Err(error) = polled {
            self.failed = Some(error.clone());
            self.reader = ChunkReader::new(Limits::BEFORE_GRANT);
        }
    }

    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.reader.buffer()
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.received = self.received.wrapping_add(bytes as u64);
    }

    pub(super) fn grant(&mut self) {
        self.reader.set_limits(Limits::GRANTED);
    }

    pub(super) fn next(&mut self) -> Result<Option<Inbound>, SessionError> {
        if !self.handshake_reported {
            let input = self.reader.buffer();
            if !self.handshake.advance(input, &mut self.output)? {
                return Ok(None);
            }
            self.handshake_reported = true;
            return Ok(Some(Inbound::HandshakeDone));
        }
        self.acknowledge();
        loop {
            if self.answers > MAX_ANSWERS {
                return Err(SessionError::OutputFull { limit: MAX_ANSWERS });
            }
            let Some(message) = self.reader.next_message()? else {
                return Ok(None);
            };
            if let Some(inbound) = self.sort(message) {
                return Ok(Some(inbound));
            }
        }
    }

    /// Control messages that are too short to mean anything are dropped.
    fn sort(&mut self, message: Message) -> Option<Inbound> {
        let payload = &message.payload[..];
        match message.type_id {
            type_id::ACKNOWLEDGEMENT => None,
            type_id::WINDOW_ACK_SIZE => {
                self.window = u32_at(payload, 0)?.max(MIN_WINDOW);
                None
            }
            type_id::SET_PEER_BANDWIDTH => Some(Inbound::PeerBandwidth(u32_at(payload, 0)?)),
            type_id::USER_CONTROL => {
                let event = u16::from_be_bytes(*payload.first_chunk()?);
                let value = u32_at(payload, 2)?;
                if event == user_control::PING {
                    self.control(Control::Pong(value));
                    return None;
                }
                Some(Inbound::UserControl { event, value })
            }
            _ => Some(Inbound::Message(message)),
        }
    }

    /// Acknowledges at half the window, so that a peer that stops at the
    /// window never waits for us. The number counts up from the first byte of
    /// the connection and wraps.
    fn acknowledge(&mut self) {
        let open = self.received.wrapping_sub(self.acknowledged);
        if open >= u64::from(self.window / 2) {
            self.acknowledged = self.received;
            #[expect(clippy::cast_possible_truncation, reason = "the count wraps at 2^32")]
            let total = self.received as u32;
            self.control(Control::Acknowledgement(total));
        }
    }

    pub(super) fn control(&mut self, control: Control) {
        let message = rml::control(control);
        let before = self.output.len();
        chunk::encode(
            CONTROL_CSID,
            message.type_id,
            message.stream_id,
            message.timestamp,
            &message.payload,
            self.chunk_size,
            &mut self.output,
        );
        self.answers += self.output.len() - before;
    }

    /// Announces our chunk size; everything after it is cut by it.
    pub(super) fn announce_chunk_size(&mut self) {
        self.control(Control::SetChunkSize(EGRESS_CHUNK_SIZE));
        self.chunk_size = EGRESS_CHUNK_SIZE;
    }

    pub(super) fn command(&mut self, stream_id: u32, values: &[Value]) {
        let payload = amf0::encode(values);
        let before = self.output.len();
        chunk::encode(
            COMMAND_CSID,
            type_id::COMMAND_AMF0,
            stream_id,
            0,
            &payload,
            self.chunk_size,
            &mut self.output,
        );
        self.answers += self.output.len() - before;
    }

    pub(super) fn media(&mut self, type_id: u8, stream_id: u32, timestamp: u32, payload: &[u8]) {
        chunk::encode(
            chunk::media_csid(type_id),
            type_id,
            stream_id,
            timestamp,
            payload,
            self.chunk_size,
            &mut self.output,
        );
    }

    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        self.answers = 0;
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    pub(super) fn output_pending(&self) -> usize {
        self.output.len()
    }
}

fn u32_at(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}
