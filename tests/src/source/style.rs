//! How a source puts its messages on the wire.
//!
//! All but the plain style keep the chunk size every connection begins with, 128
//! bytes, so that a frame is cut into many chunks.

use bytes::{BufMut, Bytes, BytesMut};
use restreamd_rtmp::Message;
use restreamd_rtmp::chunk::{ChunkReader, EGRESS_CHUNK_SIZE, Limits, Wire, encode};
use restreamd_rtmp::message::type_id;

/// The chunk size before any is announced.
const CHUNK: usize = 128;
/// Media messages that are put together, where a style does that.
const TOGETHER: usize = 8;
/// S0, S1 and S2.
const HANDSHAKE: usize = 1 + 1536 + 1536;
/// The first timestamp that needs the extended field.
const EXTENDED: u32 = 0x00FF_FFFF;

/// A way to write messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// One after the other, in large chunks.
    #[default]
    Plain,
    /// Several frames in one aggregate message.
    Aggregate,
    /// Chunks of sound and picture in turn.
    Interleaved,
    /// Timestamps beyond 24 bits, whose extended field only the first chunk of a message has.
    BareExtended,
    /// Commands and data in AMF3 envelopes.
    Amf3,
}

/// Writes in a style.
pub(super) struct Writer {
    style: Style,
    /// Bytes of the handshake that are still to come.
    handshake: usize,
    reader: ChunkReader,
    held: Vec<Message>,
}

impl Writer {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            handshake: HANDSHAKE,
            reader: ChunkReader::new(Limits::GRANTED),
            held: Vec::new(),
        }
    }

    /// What the session wants to say, said in this style.
    pub(super) fn session(&mut self, output: Bytes) -> anyhow::Result<Bytes> {
        if self.style == Style::Plain {
            return Ok(output);
        }
        let shaking = self.handshake.min(output.len());
        self.handshake -= shaking;
        let mut out = BytesMut::from(&output[..shaking]);
        self.reader.buffer().extend_from_slice(&output[shaking..]);
        while let Some(message) = self.reader.next_message()? {
            if message.type_id != type_id::SET_CHUNK_SIZE {
                put(&self.enveloped(message), 3, &mut out);
            }
        }
        Ok(out.freeze())
    }

    /// A command of the source's own, before or after connect was accepted: the session
    /// announces its chunk size with that.
    pub(super) fn command(&self, payload: Bytes, connected: bool) -> Bytes {
        let message = Message {
            timestamp: 0,
            type_id: type_id::COMMAND_AMF0,
            stream_id: 0,
            payload,
        };
        let mut out = BytesMut::new();
        let message = self.enveloped(message);
        let size = match self.style == Style::Plain && connected {
            true => EGRESS_CHUNK_SIZE,
            false => CHUNK as u32,
        };
        let (kind, stream) = (message.type_id, message.stream_id);
        encode(3, kind, stream, 0, &message.payload, size, &mut out);
        out.freeze()
    }

    /// Media that is due.
    pub(super) fn media(&mut self, due: Vec<Message>) -> Bytes {
        let mut out = BytesMut::new();
        self.held.extend(due);
        let together = match self.style {
            Style::Aggregate | Style::Interleaved => TOGETHER,
            _ => 1,
        };
        while self.held.len() >= together {
            let messages: Vec<Message> = self.held.drain(..together).collect();
            self.write(messages, &mut out);
        }
        out.freeze()
    }

    fn write(&self, messages: Vec<Message>, out: &mut BytesMut) {
        match self.style {
            Style::Plain => messages.iter().for_each(|message| {
                let wire = Wire::media(message.type_id, message.timestamp, &message.payload);
                let (head, rest) = wire.for_stream(message.stream_id);
                out.extend_from_slice(&head);
                out.extend_from_slice(&rest);
            }),
            Style::Aggregate => {
                // Metadata comes by itself: ffmpeg begins when it has seen it.
                let (data, frames): (Vec<_>, Vec<_>) = messages
                    .into_iter()
                    .partition(|message| message.type_id == type_id::DATA_AMF0);
                data.iter().for_each(|message| put(message, 6, out));
                put(&aggregate(&frames), 4, out);
            }
            Style::Interleaved => interleave(&messages, out),
            Style::BareExtended => messages.iter().for_each(|message| bare(message, out)),
            Style::Amf3 => messages.into_iter().for_each(|message| {
                let csid = csid(&message);
                put(&self.enveloped(message), csid, out);
            }),
        }
    }

    fn enveloped(&self, mut message: Message) -> Message {
        let amf3 = match message.type_id {
            type_id::COMMAND_AMF0 => type_id::COMMAND_AMF3,
            type_id::DATA_AMF0 => type_id::DATA_AMF3,
            _ => return message,
        };
        if self.style == Style::Amf3 {
            message.type_id = amf3;
            message.payload = [&[0], &message.payload[..]].concat().into();
        }
        message
    }
}

fn csid(message: &Message) -> u8 {
    match message.type_id {
        type_id::VIDEO => 4,
        type_id::AUDIO => 5,
        _ => 6,
    }
}

fn put(message: &Message, csid: u8, out: &mut BytesMut) {
    encode(
        csid,
        message.type_id,
        message.stream_id,
        message.timestamp,
        &message.payload,
        CHUNK as u32,
        out,
    );
}

fn aggregate(messages: &[Message]) -> Message {
    let mut payload = BytesMut::new();
    for message in messages {
        let length = message.payload.len();
        payload.put_u8(message.type_id);
        payload.put_uint(length as u64, 3);
        payload.put_uint(u64::from(message.timestamp & 0x00FF_FFFF), 3);
        payload.put_u8((message.timestamp >> 24) as u8);
        payload.put_uint(0, 3);
        payload.put_slice(&message.payload);
        payload.put_u32(length as u32 + 11);
    }
    Message {
        type_id: type_id::AGGREGATE,
        payload: payload.freeze(),
        ..messages[0].clone()
    }
}

/// One chunk of each chunk stream in turn; messages of one stay in order.
fn interleave(messages: &[Message], out: &mut BytesMut) {
    let mut lanes: Vec<(u8, Vec<Bytes>)> = Vec::new();
    for message in messages {
        let csid = csid(message);
        let chunks = chunks(message, csid);
        match lanes.iter_mut().find(|(lane, _)| *lane == csid) {
            Some((_, lane)) => lane.extend(chunks),
            None => lanes.push((csid, chunks)),
        }
    }
    let longest = lanes.iter().map(|(_, lane)| lane.len()).max().unwrap_or(0);
    for turn in 0..longest {
        for chunk in lanes.iter().filter_map(|(_, lane)| lane.get(turn)) {
            out.put_slice(chunk);
        }
    }
}

/// The chunks of a message with a short timestamp.
fn chunks(message: &Message, csid: u8) -> Vec<Bytes> {
    let mut whole = BytesMut::new();
    put(message, csid, &mut whole);
    let mut chunks = Vec::new();
    let mut size = 12 + CHUNK;
    while !whole.is_empty() {
        chunks.push(whole.split_to(size.min(whole.len())).freeze());
        size = 1 + CHUNK;
    }
    chunks
}

/// A message whose timestamp is moved beyond 24 bits, without the extended field in
/// chunks of type 3.
fn bare(message: &Message, out: &mut BytesMut) {
    let csid = csid(message);
    out.put_u8(csid);
    out.put_uint(u64::from(EXTENDED), 3);
    out.put_uint(message.payload.len() as u64, 3);
    out.put_u8(message.type_id);
    out.put_u32_le(message.stream_id);
    out.put_u32(message.timestamp.wrapping_add(EXTENDED));
    for (index, part) in message.payload.chunks(CHUNK).enumerate() {
        if index > 0 {
            out.put_u8(0xC0 | csid);
        }
        out.put_slice(part);
    }
}
