//! A peer that follows the protocol as far as an input says: it makes whole
//! chunks of messages and commands, so that an input reaches states which random
//! bytes would not.

use bytes::BytesMut;
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::chunk::encode;
use restreamd_rtmp::type_id;

use super::input::Input;

/// Part of every query that a script puts into a name; nothing may show it.
pub const SECRET: &str = "S3cr3tS3cr3t";

/// All bytes of one script. Above what may wait before connect (256 KiB), and
/// enough for a megabyte of answers.
const BUDGET: usize = 640 * 1024;
/// The chunk size until the peer announces another.
const CHUNK_SIZE: u32 = 128;

/// What both peers say in names, codes and properties.
const TEXTS: &[&str] = &[
    "",
    "live",
    "cam",
    "cam?key=S3cr3tS3cr3t",
    "live",
    "LIVE",
    "rtmp://other/live?key=S3cr3tS3cr3t",
    "app",
    "tcUrl",
    "flashVer",
    "fourCcList",
    "videoFourCcInfoMap",
    "streamName",
    "code",
    "level",
    "description",
    "ex",
    "redirect",
    "status",
    "error",
    "authmod=adobe : ?reason=needauth&challenge=S3cr3tS3cr3t",
    "onMetaData",
    "@setDataFrame",
    "|RtmpSampleAccess",
    "onPlayStatus",
    "onStatus",
    "NetConnection.Connect.Success",
    "NetConnection.Connect.Rejected",
    "NetConnection.Connect.Closed",
    "NetConnection.Connect.ReconnectRequest",
    "NetStream.Play.Start",
    "NetStream.Play.Stop",
    "NetStream.Play.Complete",
    "NetStream.Play.UnpublishNotify",
    "NetStream.Play.StreamNotFound",
    "NetStream.Publish.Start",
    "NetStream.Publish.BadName",
    "NetStream.Unpublish.Success",
    "authmod=adobe code=403 need auth",
    "authmod=llnw : ?reason=needauth&nonce=a&opaque=b&salt=c",
    "authmod=llnw : ?reason=authfailed",
];

const CHUNK_SIZES: &[u32] = &[128, 1, 2, 4_096, 60_000, 0x7FFF_FFFF, 0, 0x8000_0000];
const MEDIA: &[u8] = &[
    type_id::AUDIO,
    type_id::VIDEO,
    type_id::DATA_AMF0,
    type_id::DATA_AMF3,
];
const CONTROL: &[u8] = &[
    type_id::ABORT,
    type_id::ACKNOWLEDGEMENT,
    type_id::WINDOW_ACK_SIZE,
    type_id::SET_PEER_BANDWIDTH,
];
const WINDOWS: &[u32] = &[0, 1, 3, 4_096, 2_500_000, u32::MAX];

/// The bytes of one peer.
pub struct Script<'a> {
    /// What this peer calls.
    names: &'a [&'a str],
    chunk_size: u32,
    last: Vec<u8>,
    left: usize,
}

impl<'a> Script<'a> {
    pub fn new(names: &'a [&'a str]) -> Self {
        Self {
            names,
            chunk_size: CHUNK_SIZE,
            last: Vec::new(),
            left: BUDGET,
        }
    }

    /// The next thing the peer says; empty when it has said too much.
    pub fn say(&mut self, what: u8, input: &mut Input<'_>) -> Vec<u8> {
        let mut bytes = match what % 10 {
            0 | 1 => self.command(input),
            2 => self.media(input),
            3 => self.message(input),
            4 => input.some().to_vec(),
            5 => self.set_chunk_size(input),
            6 => self.user_control(input),
            7 => self.control(input),
            8 => self.large(input),
            _ => self.last.repeat(usize::from(input.byte() % 64)),
        };
        bytes.truncate(self.left);
        self.left -= bytes.len();
        if what % 10 != 9 {
            self.last.clone_from(&bytes);
        }
        bytes
    }

    fn command(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let name = input.pick(self.names);
        let shape = input.byte();
        let mut payload = Vec::new();
        if shape & 0x80 != 0 {
            payload.push(0);
        }
        payload.extend(amf0::encode(&[
            Value::from(name),
            Value::Number(f64::from(shape & 0x0F)),
        ]));
        let count = input.byte() % 6;
        for _ in 0..count {
            put_value(&mut payload, input, 0);
        }
        let kind = match shape & 0x80 {
            0 => type_id::COMMAND_AMF0,
            _ => type_id::COMMAND_AMF3,
        };
        self.chunks(3, kind, u32::from(shape >> 4 & 0x07), 0, &payload)
    }

    fn media(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let kind = input.pick(MEDIA);
        let stream = input.byte();
        let time = u32::from(input.byte());
        let mut payload = Vec::new();
        if stream & 0x80 != 0 {
            put_value(&mut payload, input, 0);
        }
        payload.extend_from_slice(input.some());
        self.chunks(4, kind, u32::from(stream % 10), time, &payload)
    }

    fn message(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let (csid, kind, stream) = (input.byte(), input.byte(), input.byte());
        let time = input.u32();
        let payload = input.some();
        self.chunks(csid % 62 + 2, kind, u32::from(stream), time, payload)
    }

    fn set_chunk_size(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let size = input.pick(CHUNK_SIZES);
        let bytes = self.chunks(2, type_id::SET_CHUNK_SIZE, 0, 0, &size.to_be_bytes());
        self.chunk_size = size;
        bytes
    }

    fn user_control(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let mut payload = vec![0, input.byte() % 34];
        payload.extend(input.u32().to_be_bytes());
        self.chunks(2, type_id::USER_CONTROL, 0, 0, &payload)
    }

    fn control(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let kind = input.pick(CONTROL);
        let value = match input.byte() {
            small @ 0..0x80 => u32::from(small % 8),
            other => WINDOWS[usize::from(other) % WINDOWS.len()],
        };
        let mut payload = value.to_be_bytes().to_vec();
        payload.push(2);
        self.chunks(2, kind, 0, 0, &payload)
    }

    /// A message near or over the limits, of one byte over and over; as a
    /// command it has a text of that size.
    fn large(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let (csid, kind) = (input.byte() % 8 + 2, input.byte());
        let size = match self.chunk_size {
            // Chunks this small are about the chunks, and slow.
            0..64 => usize::from(input.u16() % 1_024),
            _ => usize::from(input.u16()) * 2,
        };
        let fill = input.byte();
        let payload = match kind % 4 {
            0 => {
                let name = input.pick(self.names);
                let call = [Value::from(name), Value::Number(9.0), Value::Null];
                let mut payload = amf0::encode(&call).to_vec();
                payload.push(0x0C);
                payload.extend(u32::try_from(size).unwrap_or_default().to_be_bytes());
                payload.resize(payload.len() + size, fill);
                payload
            }
            _ => vec![fill; size],
        };
        let kinds = [
            type_id::COMMAND_AMF0,
            type_id::VIDEO,
            type_id::AGGREGATE,
            kind,
        ];
        self.chunks(csid, kinds[usize::from(kind % 4)], 1, 0, &payload)
    }

    fn chunks(&self, csid: u8, kind: u8, stream: u32, time: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        let size = self.chunk_size;
        encode(csid, kind, stream, time, payload, size, &mut out);
        out.to_vec()
    }
}

/// A value as an input says, or bytes that only look like one.
fn put_value(out: &mut Vec<u8>, input: &mut Input<'_>, depth: usize) {
    let value = match input.byte() % 14 {
        0 | 1 => Value::from(input.pick(TEXTS)),
        2 => Value::from(String::from_utf8_lossy(input.some()).into_owned()),
        3 => Value::Number(f64::from(input.byte())),
        4 => Value::Number(input.f64()),
        5 => Value::Boolean(input.byte() & 1 == 1),
        6 => Value::Null,
        7 => Value::Undefined,
        8 => Value::Date(input.f64()),
        9 | 10 if depth < 3 => return put_named(out, 0x03, input, depth),
        11 if depth < 3 => return put_named(out, 0x08, input, depth),
        12 if depth < 3 => {
            let count = input.byte() % 4;
            out.push(0x0A);
            out.extend(u32::from(count).to_be_bytes());
            return (0..count).for_each(|_| put_value(out, input, depth + 1));
        }
        _ => return out.extend_from_slice(input.some()),
    };
    out.extend(amf0::encode(&[value]));
}

fn put_named(out: &mut Vec<u8>, marker: u8, input: &mut Input<'_>, depth: usize) {
    out.push(marker);
    if marker == 0x08 {
        out.extend(input.u32().to_be_bytes());
    }
    for _ in 0..input.byte() % 5 {
        let name = input.pick(TEXTS);
        out.push(0);
        out.push(u8::try_from(name.len()).unwrap_or_default());
        out.extend(name.bytes().take(255));
        put_value(out, input, depth + 1);
    }
    out.extend([0, 0, 0x09]);
}
