//! The client session: a server that says anything.

use bytes::{Bytes, BytesMut};
use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Media, MediaKind, Purpose, SessionError,
};
use restreamd_rtmp::{Handshake, Limits, RtmpUrl, auth};

use super::heard::Heard;
use super::input::Input;
use super::script::{SECRET, Script};

/// A legal handshake of a server, digest apart: version and two packets.
const HANDSHAKE: usize = 1 + 2 * 1_536;
/// The handshake, a megabyte of answers, and the last of them.
const MAX_OUTPUT: usize = 3_073 + 1024 * 1024 + 64 * 1024;
/// What one call of the caller may say, media apart.
const A_CALL: usize = 1_024;

const NAMES: &[&str] = &[
    "_result",
    "onStatus",
    "_error",
    "close",
    "_onbwcheck",
    "onBWCheck",
    "onBWDone",
    "onFCSubscribe",
    "onFCPublish",
    "somethingElse",
];
const URLS: &[&str] = &[
    "rtmp://example.org/live/cam",
    "rtmp://user:S3cr3tS3cr3t@example.org:1936/live/room/cam?key=S3cr3tS3cr3t",
    "rtmps://[2001:db8::1]/a/b?c/d",
    "rtmp://example.org/live?key=S3cr3tS3cr3t/cam",
];

/// The first bytes choose what the client wants, how the server begins and how
/// its bytes are cut; the rest is bytes of the server, or a script.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (shape, wants, cut) = (input.byte(), input.byte(), input.byte());
    let rest = input.rest();
    let events = session(shape, wants, 0, rest);
    if shape & 0x08 != 0 {
        let again = session(shape, wants, cut, rest);
        // When answers fill up depends on how often acknowledgements are due.
        let full = |end: &End| matches!(end, Err(SessionError::OutputFull { .. }));
        if !full(&events.1) && !full(&again.1) {
            assert_eq!(events, again, "pieces change what happens");
        }
    }
}

type End = Result<(), SessionError>;

fn session(shape: u8, wants: u8, cut: u8, rest: &[u8]) -> (Vec<ClientEvent>, End) {
    let mut caller = Caller::new(wants, cut, shape & 0x10 != 0);
    let end = match shape % 4 {
        0 => caller.deliver(rest),
        1 => caller.greet_simply().and_then(|()| caller.deliver(rest)),
        2 => caller.greet_simply().and_then(|()| caller.follow(rest)),
        _ => caller
            .greet_with_digest()
            .and_then(|()| caller.follow(rest)),
    };
    if end.is_err() {
        // Nobody polls a session that failed; nothing happens to who does.
        let _ = caller.session.poll();
        let _ = caller.session.poll();
    }
    caller.take_output();
    assert!(!format!("{:?}", caller.session).contains(SECRET));
    (caller.events, end)
}

/// The caller of a session, and what it knows of the session.
struct Caller {
    session: ClientSession,
    purpose: Purpose,
    heard: Heard,
    events: Vec<ClientEvent>,
    connected: bool,
    started: bool,
    over: bool,
    cut: u8,
    /// The server reads what it is sent.
    reads: bool,
    given: usize,
    delivered: usize,
    /// Bytes that the caller's own calls may have added to the output.
    said: usize,
}

impl Caller {
    fn new(wants: u8, cut: u8, reads: bool) -> Self {
        let text = |bit: u8| (wants & bit != 0).then(|| "text".to_owned());
        let purpose = match wants & 1 {
            0 => Purpose::Play,
            _ => Purpose::Publish,
        };
        let url = URLS[usize::from(wants >> 6) % URLS.len()];
        let mut session = ClientSession::new(ClientConfig {
            url: RtmpUrl::parse(url).expect("it is one"),
            purpose,
            flash_ver: text(0x02),
            swf_url: text(0x04),
            page_url: text(0x08),
            fc_subscribe: wants & 0x10 != 0,
        });
        if wants & 0x20 != 0 {
            session.set_app_query("?authmod=adobe&user=u");
        }
        Self {
            session,
            purpose,
            heard: Heard::new(),
            events: Vec::new(),
            connected: false,
            started: false,
            over: false,
            cut,
            reads,
            given: 0,
            delivered: 0,
            said: 0,
        }
    }

    fn greet_simply(&mut self) -> End {
        let mut bytes = vec![0; HANDSHAKE];
        bytes[0] = 3;
        self.deliver(&bytes)
    }

    fn greet_with_digest(&mut self) -> End {
        self.take_output();
        let mut handshake = Handshake::server();
        let mut theirs = BytesMut::from(self.heard.handshake());
        let mut reply = BytesMut::new();
        let done = handshake.advance(&mut theirs, &mut reply);
        assert_eq!(done, Ok(false));
        self.deliver(&reply)
    }

    /// Lets the server say, and the caller do, what a script says.
    fn follow(&mut self, script: &[u8]) -> End {
        let mut input = Input::new(script);
        let mut server = Script::new(NAMES);
        while let Some(what) = input.next() {
            if what < 0xE0 {
                let bytes = server.say(what, &mut input);
                self.deliver(&bytes)?;
            } else {
                self.act(what, &mut input);
                self.drain()?;
            }
        }
        Ok(())
    }

    fn act(&mut self, what: u8, input: &mut Input<'_>) {
        self.said += A_CALL;
        match what % 4 {
            0 => {
                let kind = input.pick(&[MediaKind::Data, MediaKind::Video, MediaKind::Audio]);
                let payload = Bytes::copy_from_slice(input.some());
                let timestamp = input.u32();
                self.session.send_media(&Media {
                    kind,
                    timestamp,
                    payload,
                });
            }
            1 => self.session.ping(input.u32()),
            2 => self.take_output(),
            _ => {
                self.session.finish();
                self.over = true;
            }
        }
    }

    fn deliver(&mut self, bytes: &[u8]) -> End {
        // Not so small that a long script takes seconds.
        let piece = match self.cut {
            0 => bytes.len(),
            cut => usize::from(cut).max(bytes.len() / 256),
        };
        for part in bytes.chunks(piece.max(1)) {
            self.session.buffer().extend_from_slice(part);
            self.session.received(part.len());
            self.given += part.len();
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> End {
        loop {
            let next = self.session.poll();
            self.check_bounds();
            let Some(event) = next? else { break };
            self.on_event(&event);
            self.events.push(event);
            let limit = 2 * self.given + 2;
            assert!(self.events.len() <= limit, "events without end");
        }
        let held = self.session.buffer().len();
        assert!(
            self.started || held <= Limits::BEFORE_GRANT.partial,
            "{held} bytes wait"
        );
        if self.reads {
            self.take_output();
        }
        Ok(())
    }

    fn check_bounds(&mut self) {
        let pending = self.session.output_pending();
        assert!(
            pending <= MAX_OUTPUT + self.said,
            "{pending} bytes of answers"
        );
        assert!(self.session.buffer().capacity() <= 2 * self.given + 128 * 1024);
    }

    fn take_output(&mut self) {
        if let Some(output) = self.session.take_output() {
            self.heard.take(&output);
        }
        assert_eq!(self.session.output_pending(), 0);
        self.said = 0;
    }

    /// Nothing happens out of order, and nothing after the end.
    fn on_event(&mut self, event: &ClientEvent) {
        shows_no_secret(event);
        assert!(!self.over, "{event:?} after the end");
        match event {
            ClientEvent::Connected => {
                assert!(!self.connected);
                self.connected = true;
            }
            ClientEvent::PlayStarted => self.start(Purpose::Play),
            ClientEvent::PublishAccepted => self.start(Purpose::Publish),
            ClientEvent::Media(media) => {
                assert!(self.started && self.purpose == Purpose::Play);
                self.delivered += media.payload.len();
                assert!(self.delivered <= self.given);
            }
            ClientEvent::Ended(_) => assert!(self.started),
            ClientEvent::Rejected(rejection) => {
                self.over = true;
                assert_eq!(self.session.stream_id(), None);
                answer(&rejection.description);
            }
            ClientEvent::Reconnect { .. } | ClientEvent::Pong { .. } => {}
        }
    }

    fn start(&mut self, purpose: Purpose) {
        assert_eq!(self.purpose, purpose);
        assert!(self.connected && !self.started);
        assert!(self.session.stream_id().is_some());
        self.started = true;
    }
}

/// A challenge is answered, or not, without the password.
fn answer(description: &str) {
    const PASSWORD: &str = "Pa55wordPa55word";
    match auth::answer(description, "user", PASSWORD, "live/room?a=b", 7) {
        Ok(query) => {
            assert!(auth::is_challenge(description));
            assert!(query.starts_with("?authmod="));
            assert!(!query.contains(PASSWORD) || description.contains(PASSWORD));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What follows `?` in a URL or a description is not shown.
fn shows_no_secret(event: &ClientEvent) {
    let shown = format!("{event:?}");
    let open = |text: &str| {
        let open = text.split('?').next().unwrap_or_default();
        open.contains(SECRET)
    };
    let hidden = match event {
        ClientEvent::Rejected(rejection) => {
            !open(&rejection.description) && !rejection.code.contains(SECRET)
        }
        ClientEvent::Reconnect { tc_url, .. } => !tc_url.as_deref().is_some_and(open),
        _ => false,
    };
    assert!(!hidden || !shown.contains(SECRET), "{shown}");
}
