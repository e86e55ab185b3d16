//! Hand-made peers: raw chunks, a raw client, a raw server, and a pipe between
//! two sessions.

use bytes::{Bytes, BytesMut};
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::chunk::{ChunkReader, Limits, encode};
use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Purpose, ServerConfig, ServerEvent, ServerSession,
    SessionError,
};
use restreamd_rtmp::{Handshake, Message, RtmpUrl, type_id};

/// A type 0 chunk header; timestamps from 0xFFFFFF on get their extension.
pub fn type0(csid: u8, timestamp: u32, length: usize, kind: u8, stream_id: u32) -> Vec<u8> {
    let mut out = vec![csid];
    out.extend(&timestamp.min(0xFF_FFFF).to_be_bytes()[1..]);
    out.extend(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
    out.push(kind);
    out.extend(stream_id.to_le_bytes());
    if timestamp >= 0xFF_FFFF {
        out.extend(timestamp.to_be_bytes());
    }
    out
}

/// A type 1 chunk header, extended when asked for.
pub fn type1(csid: u8, delta: u32, extended: bool, length: usize, kind: u8) -> Vec<u8> {
    let field = if extended { 0xFF_FFFF } else { delta };
    let mut out = vec![0x40 | csid];
    out.extend(&field.to_be_bytes()[1..]);
    out.extend(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
    out.push(kind);
    if extended {
        out.extend(delta.to_be_bytes());
    }
    out
}

/// A type 2 chunk header, extended when asked for.
pub fn type2(csid: u8, delta: u32, extended: bool) -> Vec<u8> {
    let field = if extended { 0xFF_FFFF } else { delta };
    let mut out = vec![0x80 | csid];
    out.extend(&field.to_be_bytes()[1..]);
    if extended {
        out.extend(delta.to_be_bytes());
    }
    out
}

/// A whole message in one chunk size.
pub fn message(csid: u8, kind: u8, stream_id: u32, payload: &[u8], chunk_size: u32) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(csid, kind, stream_id, 0, payload, chunk_size, &mut out);
    out.to_vec()
}

/// A command in chunks of 128.
pub fn command(stream_id: u32, values: &[Value]) -> Vec<u8> {
    let payload = amf0::encode(values);
    message(3, type_id::COMMAND_AMF0, stream_id, &payload, 128)
}

/// Bytes that look like some payload and differ by seed.
pub fn payload(length: usize, seed: u8) -> Vec<u8> {
    let byte = |i: usize| u8::try_from((i * 31 + usize::from(seed)) % 251).unwrap();
    (0..length).map(byte).collect()
}

/// All messages in `bytes`.
pub fn read_all(reader: &mut ChunkReader, bytes: &[u8]) -> Vec<Message> {
    reader.buffer().extend_from_slice(bytes);
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message().unwrap() {
        messages.push(message);
    }
    messages
}

pub fn values(message: &Message) -> Vec<Value> {
    amf0::decode(&message.payload).unwrap()
}

/// A client that says what the test wants, and a server session before it.
pub struct RawClient {
    pub server: ServerSession,
    reader: ChunkReader,
}

impl RawClient {
    pub fn handshaken() -> RawClient {
        let mut server = ServerSession::new(ServerConfig::default());
        let mut ours = BytesMut::new();
        let mut handshake = Handshake::client(&mut ours);
        server.buffer().extend_from_slice(&ours);
        assert_eq!(server.poll(), Ok(None));
        let mut theirs = BytesMut::from(&server.take_output().unwrap()[..]);
        let mut reply = BytesMut::new();
        assert!(handshake.advance(&mut theirs, &mut reply).unwrap());
        server.buffer().extend_from_slice(&reply);
        assert_eq!(server.poll(), Ok(None));
        RawClient {
            server,
            reader: ChunkReader::new(Limits::GRANTED),
        }
    }

    pub fn connected() -> RawClient {
        let mut client = RawClient::handshaken();
        let object = Value::object([("app", Value::from("live"))]);
        let connect = [Value::from("connect"), Value::Number(1.0), object];
        assert_eq!(client.say(&command(0, &connect)).unwrap().len(), 1);
        client.server.accept_connect();
        client.hear();
        client
    }

    /// Connected, with one stream that publishes.
    pub fn publishing() -> RawClient {
        let mut client = RawClient::connected();
        client.call(0, "createStream", 2.0, &[]).unwrap();
        let name = Value::from("cam");
        assert_eq!(client.call(1, "publish", 3.0, &[name]).unwrap().len(), 1);
        client.server.accept_publish(1);
        client.hear();
        client
    }

    /// Sends bytes; gives the events they raise.
    pub fn say(&mut self, bytes: &[u8]) -> Result<Vec<ServerEvent>, SessionError> {
        self.server.buffer().extend_from_slice(bytes);
        self.server.received(bytes.len());
        let mut events = Vec::new();
        while let Some(event) = self.server.poll()? {
            events.push(event);
        }
        Ok(events)
    }

    pub fn call(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        arguments: &[Value],
    ) -> Result<Vec<ServerEvent>, SessionError> {
        let mut all = vec![Value::from(name), Value::Number(transaction), Value::Null];
        all.extend_from_slice(arguments);
        self.say(&command(stream_id, &all))
    }

    /// What the server has sent since.
    pub fn hear(&mut self) -> Vec<Message> {
        let bytes = self.server.take_output().unwrap_or_default();
        read_all(&mut self.reader, &bytes)
    }

    /// The commands the server has sent since.
    pub fn hear_commands(&mut self) -> Vec<Vec<Value>> {
        let heard = self.hear();
        let commands = heard.iter().filter(|m| m.type_id == type_id::COMMAND_AMF0);
        commands.map(values).collect()
    }
}

/// A server that says what the test wants, and a client session before it.
pub struct RawServer {
    pub client: ClientSession,
    reader: ChunkReader,
}

impl RawServer {
    pub fn handshaken(purpose: Purpose) -> RawServer {
        let mut client = ClientSession::new(config("rtmp://example.org/live/cam?key=1", purpose));
        let mut handshake = Handshake::server();
        let mut theirs = BytesMut::from(&client.take_output().unwrap()[..]);
        let mut reply = BytesMut::new();
        assert!(!handshake.advance(&mut theirs, &mut reply).unwrap());
        client.buffer().extend_from_slice(&reply);
        assert_eq!(client.poll(), Ok(None));
        let mut theirs = BytesMut::from(&client.take_output().unwrap()[..]);
        assert!(handshake.advance(&mut theirs, &mut reply).unwrap());
        let mut reader = ChunkReader::new(Limits::GRANTED);
        let heard = read_all(&mut reader, &theirs);
        assert_eq!(values(&heard[0])[0], Value::from("connect"));
        RawServer { client, reader }
    }

    /// Play or publish has been asked for on stream 1.
    pub fn asked(purpose: Purpose) -> RawServer {
        let mut server = RawServer::handshaken(purpose);
        let events = server.say_command(0, &[Value::from("_result"), Value::Number(1.0)]);
        assert_eq!(events, Ok(vec![ClientEvent::Connected]));
        let asked = server.hear_commands();
        let create = asked
            .iter()
            .find(|c| c[0] == Value::from("createStream"))
            .unwrap();
        let result = [
            Value::from("_result"),
            create[1].clone(),
            Value::Null,
            Value::Number(1.0),
        ];
        assert_eq!(server.say_command(0, &result), Ok(vec![]));
        server
    }

    pub fn playing() -> RawServer {
        let mut server = RawServer::asked(Purpose::Play);
        let events = server.status("status", "NetStream.Play.Start", "");
        assert_eq!(events, Ok(vec![ClientEvent::PlayStarted]));
        server.hear();
        server
    }

    pub fn say(&mut self, bytes: &[u8]) -> Result<Vec<ClientEvent>, SessionError> {
        self.client.buffer().extend_from_slice(bytes);
        self.client.received(bytes.len());
        let mut events = Vec::new();
        while let Some(event) = self.client.poll()? {
            events.push(event);
        }
        Ok(events)
    }

    pub fn say_command(
        &mut self,
        stream_id: u32,
        values: &[Value],
    ) -> Result<Vec<ClientEvent>, SessionError> {
        self.say(&command(stream_id, values))
    }

    pub fn status(
        &mut self,
        level: &str,
        code: &str,
        description: &str,
    ) -> Result<Vec<ClientEvent>, SessionError> {
        let information = Value::object([
            ("level", Value::from(level)),
            ("code", Value::from(code)),
            ("description", Value::from(description)),
        ]);
        let name = Value::from("onStatus");
        self.say_command(1, &[name, Value::Number(0.0), Value::Null, information])
    }

    pub fn hear(&mut self) -> Vec<Message> {
        let bytes = self.client.take_output().unwrap_or_default();
        read_all(&mut self.reader, &bytes)
    }

    pub fn hear_commands(&mut self) -> Vec<Vec<Value>> {
        let heard = self.hear();
        let commands = heard.iter().filter(|m| m.type_id == type_id::COMMAND_AMF0);
        commands.map(values).collect()
    }
}

pub fn config(url: &str, purpose: Purpose) -> ClientConfig {
    ClientConfig {
        url: RtmpUrl::parse(url).unwrap(),
        purpose,
        flash_ver: None,
        swf_url: None,
        page_url: None,
        fc_subscribe: false,
    }
}

/// A client and a server session joined by bytes, delivered in pieces.
pub struct Pair {
    pub client: ClientSession,
    pub server: ServerSession,
    /// The largest piece delivered at a time.
    pub piece: usize,
    to_client: BytesMut,
    to_server: BytesMut,
}

/// What came out of either session.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Client(ClientEvent),
    Server(ServerEvent),
}

impl Pair {
    pub fn new(config: ClientConfig, piece: usize) -> Pair {
        Pair {
            client: ClientSession::new(config),
            server: ServerSession::new(ServerConfig::default()),
            piece,
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
        }
    }

    /// Sends bytes to the client behind what the server session has said.
    pub fn inject(&mut self, bytes: &Bytes) {
        if let Some(output) = self.server.take_output() {
            self.to_client.extend_from_slice(&output);
        }
        self.to_client.extend_from_slice(bytes);
    }

    /// Delivers bytes until neither side has anything to say, letting `decide`
    /// answer the server's events.
    pub fn run(&mut self, mut decide: impl FnMut(&mut ServerSession, &ServerEvent)) -> Vec<Heard> {
        let mut heard = Vec::new();
        loop {
            while let Some(event) = self.client.poll().unwrap() {
                heard.push(Heard::Client(event));
            }
            while let Some(event) = self.server.poll().unwrap() {
                decide(&mut self.server, &event);
                heard.push(Heard::Server(event));
            }
            if let Some(output) = self.client.take_output() {
                self.to_server.extend_from_slice(&output);
            }
            if let Some(output) = self.server.take_output() {
                self.to_client.extend_from_slice(&output);
            }
            if self.to_client.is_empty() && self.to_server.is_empty() {
                return heard;
            }
            let size = self.to_server.len().min(self.piece);
            let bytes = self.to_server.split_to(size);
            self.server.buffer().extend_from_slice(&bytes);
            self.server.received(size);
            let size = self.to_client.len().min(self.piece);
            let bytes = self.to_client.split_to(size);
            self.client.buffer().extend_from_slice(&bytes);
            self.client.received(size);
        }
    }
}
