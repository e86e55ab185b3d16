//! The server session: a client that says anything, a host that decides anything.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use restreamd_rtmp::amf0::{self, Value};
use restreamd_rtmp::session::{
    Refusal, ServerConfig, ServerEvent, ServerSession, SessionError, Stage,
};
use restreamd_rtmp::{Handshake, Limits};

use super::heard::Heard;
use super::input::Input;
use super::script::{SECRET, Script};

/// A legal handshake of a client, digest apart: version and two packets.
const HANDSHAKE: usize = 1 + 2 * 1_536;
/// The handshake, a megabyte of answers, and the answer to one command of 64 KiB
/// that is not UTF-8 and so grows threefold.
const MAX_OUTPUT: usize = 3_073 + 1024 * 1024 + 256 * 1024;
/// What one call of the host may say.
const A_CALL: usize = 1_024;
/// Publish and play requests of one connection.
const MAX_REQUESTS: usize = 64;
const MAX_STREAMS: u32 = 8;

const NAMES: &[&str] = &[
    "connect",
    "createStream",
    "publish",
    "play",
    "play2",
    "deleteStream",
    "closeStream",
    "FCPublish",
    "FCUnpublish",
    "FCSubscribe",
    "FCUnsubscribe",
    "releaseStream",
    "getStreamLength",
    "_checkbw",
    "pause",
    "_result",
    "onStatus",
    "somethingElse",
];
const REFUSALS: &[Refusal] = &[
    Refusal::BadName,
    Refusal::StreamNotFound,
    Refusal::Unauthorized,
    Refusal::Limit,
];

/// The first bytes choose how the client begins, how its bytes are cut and how
/// the host decides; the rest is bytes of the client, or a script.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (shape, policy, cut) = (input.byte(), input.byte(), input.byte());
    let rest = input.rest();
    let outcome = session(shape, policy, 0, rest);
    if shape & 0x08 != 0 {
        let again = session(shape, policy, cut, rest);
        // When answers fill up depends on how often acknowledgements are due.
        let full = |outcome: &Outcome| matches!(outcome.end, Err(SessionError::OutputFull { .. }));
        if !full(&outcome) && !full(&again) {
            assert_eq!(outcome, again, "pieces change what happens");
        }
    }
}

type End = Result<(), SessionError>;

/// What must not depend on how bytes are cut.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<ServerEvent>,
    object: Bytes,
    end: End,
}

fn session(shape: u8, policy: u8, cut: u8, rest: &[u8]) -> Outcome {
    let mut host = Host::new(policy, cut, shape & 0x10 != 0);
    let end = match shape % 4 {
        0 => host.deliver(rest),
        1 => host.greet_simply().and_then(|()| host.deliver(rest)),
        2 => host.greet_simply().and_then(|()| host.follow(rest)),
        _ => host.greet_with_digest().and_then(|()| host.follow(rest)),
    };
    if end.is_err() {
        // Nobody polls a session that failed; nothing happens to who does.
        let _ = host.session.poll();
        let _ = host.session.poll();
    }
    host.take_output();
    Outcome {
        events: host.events,
        object: host.object,
        end,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Use {
    PublishAsked,
    Publishing,
    PlayAsked,
    Playing,
}

/// The host around a session, and what it knows of the session.
struct Host {
    session: ServerSession,
    heard: Heard,
    events: Vec<ServerEvent>,
    /// That of connect, as bytes: some numbers are not equal to themselves.
    object: Bytes,
    streams: HashMap<u32, Use>,
    stage: Stage,
    connects: usize,
    requests: usize,
    policy: u8,
    cut: u8,
    /// The client reads what it is sent.
    reads: bool,
    given: usize,
    delivered: usize,
    calls: usize,
}

impl Host {
    fn new(policy: u8, cut: u8, reads: bool) -> Self {
        Self {
            session: ServerSession::new(ServerConfig::default()),
            heard: Heard::new(),
            events: Vec::new(),
            object: Bytes::new(),
            streams: HashMap::new(),
            stage: Stage::Handshake,
            connects: 0,
            requests: 0,
            policy,
            cut,
            reads,
            given: 0,
            delivered: 0,
            calls: 0,
        }
    }

    fn greet_simply(&mut self) -> End {
        let mut bytes = vec![0; HANDSHAKE];
        bytes[0] = 3;
        self.deliver(&bytes)
    }

    fn greet_with_digest(&mut self) -> End {
        let mut ours = BytesMut::new();
        let mut handshake = Handshake::client(&mut ours);
        self.deliver(&ours)?;
        self.take_output();
        let mut theirs = BytesMut::from(self.heard.handshake());
        let mut reply = BytesMut::new();
        let done = handshake.advance(&mut theirs, &mut reply);
        assert_eq!(done, Ok(true));
        self.deliver(&reply)
    }

    /// Lets the client say, and the host do, what a script says.
    fn follow(&mut self, script: &[u8]) -> End {
        let mut input = Input::new(script);
        let mut client = Script::new(NAMES);
        while let Some(what) = input.next() {
            if what < 0xC0 {
                let bytes = client.say(what, &mut input);
                self.deliver(&bytes)?;
            } else {
                self.act(what, &mut input);
                self.drain()?;
            }
        }
        Ok(())
    }

    fn act(&mut self, what: u8, input: &mut Input<'_>) {
        let id = u32::from(input.byte() % 10);
        self.calls += 1;
        match what % 8 {
            0 => self.session.accept_connect(),
            1 => self.session.reject_connect("no"),
            2 => self.accept_publish(id),
            3 => self.reject_publish(id, input.pick(REFUSALS)),
            4 => self.accept_play(id),
            5 => self.reject_play(id, input.pick(REFUSALS)),
            6 => {
                self.session.end_play(id);
                self.forget(id, &[Use::PlayAsked, Use::Playing]);
            }
            _ => {
                self.session.ping(id);
                self.take_output();
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
            let Some(mut event) = next? else { break };
            self.on_event(&event);
            if let ServerEvent::Connect { object, .. } = &mut event {
                let object = std::mem::replace(object, Value::Null);
                self.object = amf0::encode(&[object]);
            }
            self.events.push(event);
            let limit = 2 * self.given + 2;
            assert!(self.events.len() <= limit, "events without end");
        }
        // A message of 64 KiB with its header, or what is sent into an undecided connect.
        let granted = self.session.stage() == Stage::Granted;
        let held = self.session.buffer().len();
        assert!(
            granted || held <= Limits::BEFORE_GRANT.partial,
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
            pending <= MAX_OUTPUT + self.calls * A_CALL,
            "{pending} bytes of answers"
        );
        let stage = self.session.stage();
        assert!(stage >= self.stage, "{stage:?} after {:?}", self.stage);
        self.stage = stage;
        assert!(self.session.buffer().capacity() <= 2 * self.given + 128 * 1024);
    }

    fn take_output(&mut self) {
        if let Some(output) = self.session.take_output() {
            self.heard.take(&output);
        }
        assert_eq!(self.session.output_pending(), 0);
        self.calls = 0;
    }

    /// Nothing happens that was not allowed, and the host decides.
    fn on_event(&mut self, event: &ServerEvent) {
        shows_no_secret(event);
        let (accepts, refuses) = (self.policy & 1 != 0, self.policy & 2 != 0);
        let refusal = REFUSALS[usize::from(self.policy >> 4) % REFUSALS.len()];
        match event {
            ServerEvent::Connect { .. } => {
                self.connects += 1;
                assert_eq!(self.connects, 1);
                match self.policy >> 2 & 3 {
                    0 => {}
                    1 => self.session.reject_connect("no"),
                    _ => self.session.accept_connect(),
                }
            }
            ServerEvent::Publish {
                stream_id, name, ..
            } => {
                assert!(!name.is_empty());
                self.asked(*stream_id, Use::PublishAsked);
                if accepts {
                    self.accept_publish(*stream_id);
                } else if refuses {
                    self.reject_publish(*stream_id, refusal);
                }
            }
            ServerEvent::Play {
                stream_id, name, ..
            } => {
                assert!(!name.is_empty());
                self.asked(*stream_id, Use::PlayAsked);
                if accepts {
                    self.accept_play(*stream_id);
                } else if refuses {
                    self.reject_play(*stream_id, refusal);
                }
            }
            ServerEvent::Media { stream_id, media } => {
                assert_eq!(self.stage, Stage::Granted);
                assert!(self.streams.get(stream_id) == Some(&Use::Publishing));
                self.delivered += media.payload.len();
                assert!(self.delivered <= self.given);
            }
            ServerEvent::PublishFinished { stream_id } => {
                let known = self.forget(*stream_id, &[Use::PublishAsked, Use::Publishing]);
                assert!(known, "a publish ends that was not there");
            }
            ServerEvent::PlayFinished { stream_id } => {
                let known = self.forget(*stream_id, &[Use::PlayAsked, Use::Playing]);
                assert!(known, "a play ends that was not there");
            }
            ServerEvent::Pong { .. } => {}
        }
    }

    fn asked(&mut self, id: u32, what: Use) {
        assert!(self.stage >= Stage::Ready);
        assert!((1..=MAX_STREAMS).contains(&id));
        let before = self.streams.insert(id, what);
        assert!(before.is_none(), "stream {id} is in use");
        self.requests += 1;
        assert!(self.requests <= MAX_REQUESTS);
    }

    fn accept_publish(&mut self, id: u32) {
        self.session.accept_publish(id);
        self.calls += 1;
        if self.forget(id, &[Use::PublishAsked]) {
            self.streams.insert(id, Use::Publishing);
        }
    }

    fn reject_publish(&mut self, id: u32, refusal: Refusal) {
        self.session.reject_publish(id, refusal, "no");
        self.calls += 1;
        self.forget(id, &[Use::PublishAsked]);
    }

    fn accept_play(&mut self, id: u32) {
        self.session.accept_play(id);
        self.calls += 1;
        if self.forget(id, &[Use::PlayAsked]) {
            self.streams.insert(id, Use::Playing);
        }
    }

    fn reject_play(&mut self, id: u32, refusal: Refusal) {
        self.session.reject_play(id, refusal, "no");
        self.calls += 1;
        self.forget(id, &[Use::PlayAsked]);
    }

    /// Whether the stream was used in one of these ways; it is free then.
    fn forget(&mut self, id: u32, uses: &[Use]) -> bool {
        let known = self
            .streams
            .get(&id)
            .is_some_and(|used| uses.contains(used));
        if known {
            self.streams.remove(&id);
        }
        known
    }
}

/// What follows `?` in a name is not shown.
fn shows_no_secret(event: &ServerEvent) {
    let shown = format!("{event:?}");
    let secret = |text: &str| {
        let open = text.split('?').next().unwrap_or_default();
        text.contains(SECRET) && !open.contains(SECRET)
    };
    let hidden = match event {
        ServerEvent::Connect { app, flash_ver, .. } => {
            secret(app) && !flash_ver.as_ref().is_some_and(|text| text.contains(SECRET))
        }
        ServerEvent::Publish { app, name, .. } | ServerEvent::Play { app, name, .. } => {
            secret(name) && (secret(app) || !app.contains(SECRET))
        }
        _ => false,
    };
    assert!(!hidden || !shown.contains(SECRET), "{shown}");
}
