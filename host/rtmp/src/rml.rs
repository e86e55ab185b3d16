//! Everything that `rml_rtmp` and `rml_amf0` do for us, and nothing else.
//!
//! Responsible for the handshake packets and for encoding control messages,
//! commands and AMF0 scalars. Invariant: besides the bounded bytes of the
//! handshake no byte from a peer gets here; all decoding is our own, because
//! these libraries panic on some inputs and recurse without end on others.

use bytes::{BufMut, Bytes, BytesMut};
use rml_amf0::Amf0Value;
use rml_rtmp::handshake::{HandshakeError as RmlError, HandshakeProcessResult, PeerType};
use rml_rtmp::messages::{MessagePayload, PeerBandwidthLimitType, RtmpMessage};
use rml_rtmp::messages::{UserControlEventType, UserControlEventType as Event};
use rml_rtmp::time::RtmpTimestamp;

use crate::amf0::Value;
use crate::handshake::HandshakeError;
use crate::message::Message;

/// The library's handshake.
pub(crate) struct Handshake(rml_rtmp::handshake::Handshake);

impl Handshake {
    pub(crate) fn server() -> Self {
        Self(rml_rtmp::handshake::Handshake::new(PeerType::Server))
    }

    /// A client's handshake and its first packets.
    pub(crate) fn client() -> (Self, Vec<u8>) {
        let mut inner = rml_rtmp::handshake::Handshake::new(PeerType::Client);
        let first = inner
            .generate_outbound_p0_and_p1()
            .expect("random bytes and a digest over them cannot fail");
        (Self(inner), first)
    }

    /// Takes bytes of the peer, at most its side of the handshake; gives the
    /// answer to them.
    pub(crate) fn process(&mut self, bytes: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        match self.0.process_bytes(bytes) {
            Ok(
                HandshakeProcessResult::InProgress { response_bytes }
                | HandshakeProcessResult::Completed { response_bytes, .. },
            ) => Ok(response_bytes),
            Err(RmlError::BadVersionId) => Err(HandshakeError::Version),
            Err(other) => Err(HandshakeError::Packet(other.to_string())),
        }
    }
}

/// The control messages we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    SetChunkSize(u32),
    Acknowledgement(u32),
    WindowAckSize(u32),
    /// The limit type is always dynamic, as servers in the field send it.
    PeerBandwidth(u32),
    StreamBegin(u32),
    StreamEof(u32),
    SetBufferLength {
        stream_id: u32,
        milliseconds: u32,
    },
    Ping(u32),
    Pong(u32),
}

/// A control message, ready for the chunk writer.
pub(crate) fn control(control: Control) -> Message {
    message(match control {
        // The encoder refuses a set high bit, so it is cut here.
        Control::SetChunkSize(size) => RtmpMessage::SetChunkSize {
            size: size & 0x7FFF_FFFF,
        },
        Control::Acknowledgement(sequence_number) => {
            RtmpMessage::Acknowledgement { sequence_number }
        }
        Control::WindowAckSize(size) => RtmpMessage::WindowAcknowledgement { size },
        Control::PeerBandwidth(size) => RtmpMessage::SetPeerBandwidth {
            size,
            limit_type: PeerBandwidthLimitType::Dynamic,
        },
        Control::StreamBegin(id) => user(Event::StreamBegin, Some(id), None, None),
        Control::StreamEof(id) => user(Event::StreamEof, Some(id), None, None),
        Control::SetBufferLength {
            stream_id,
            milliseconds,
        } => user(
            Event::SetBufferLength,
            Some(stream_id),
            Some(milliseconds),
            None,
        ),
        Control::Ping(timestamp) => user(Event::PingRequest, None, None, Some(timestamp)),
        Control::Pong(timestamp) => user(Event::PingResponse, None, None, Some(timestamp)),
    })
}

fn user(
    event_type: UserControlEventType,
    stream_id: Option<u32>,
    buffer_length: Option<u32>,
    timestamp: Option<u32>,
) -> RtmpMessage {
    RtmpMessage::UserControl {
        event_type,
        stream_id,
        buffer_length,
        timestamp: timestamp.map(RtmpTimestamp::new),
    }
}

fn message(message: RtmpMessage) -> Message {
    let payload = MessagePayload::from_rtmp_message(message, RtmpTimestamp::new(0), 0)
        .expect("control messages have all their fields and write to memory");
    Message {
        timestamp: payload.timestamp.value,
        type_id: payload.type_id,
        stream_id: payload.message_stream_id,
        payload: payload.data,
    }
}

/// AMF0 values one after the other. Objects and associative arrays are written
/// here: the library keeps them in hash maps and would lose their order.
pub(crate) fn amf0(values: &[Value]) -> Bytes {
    let mut out = BytesMut::new();
    for value in values {
        put_value(value, &mut out);
    }
    out.freeze()
}

fn put_value(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Number(number) => put_scalar(Amf0Value::Number(*number), out),
        Value::Boolean(truth) => put_scalar(Amf0Value::Boolean(*truth), out),
        Value::Null => put_scalar(Amf0Value::Null, out),
        Value::Undefined => put_scalar(Amf0Value::Undefined, out),
        Value::String(text) if text.len() <= usize::from(u16::MAX) => {
            put_scalar(Amf0Value::Utf8String(text.clone()), out);
        }
        Value::String(text) => {
            out.put_u8(0x0C);
            out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
            out.put_slice(text.as_bytes());
        }
        Value::Object(named) => {
            out.put_u8(0x03);
            put_named(named, out);
        }
        Value::EcmaArray(named) => {
            out.put_u8(0x08);
            out.put_u32(u32::try_from(named.len()).unwrap_or(u32::MAX));
            put_named(named, out);
        }
        Value::StrictArray(values) => {
            out.put_u8(0x0A);
            out.put_u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
            for value in values {
                put_value(value, out);
            }
        }
        Value::Date(milliseconds) => {
            out.put_u8(0x0B);
            out.put_f64(*milliseconds);
            out.put_i16(0);
        }
        Value::Unsupported => out.put_u8(0x0D),
    }
}

fn put_named(named: &[(String, Value)], out: &mut BytesMut) {
    for (name, value) in named {
        let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
        out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
        out.put_slice(name);
        put_value(value, out);
    }
    out.put_slice(&[0, 0, 0x09]);
}

fn put_scalar(value: Amf0Value, out: &mut BytesMut) {
    let bytes = rml_amf0::serialize(&vec![value])
        .expect("numbers, booleans and short strings write to memory");
    out.put_slice(&bytes);
}
