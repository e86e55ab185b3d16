//! Connections for tests: granted without a network, then over any bytes.

use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::message::type_id;
use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Purpose, ServerConfig, ServerEvent, ServerSession,
};
use restreamd_rtmp::url::RtmpUrl;
use tokio::time::Instant;

use super::transport::{Io, Transport};
use super::{Dialed, Outbox, Scrub};

/// The message stream that every rehearsal plays.
const STREAM: u32 = 1;

impl Dialed {
    /// A connection whose play was granted; what follows is read from `io`.
    pub(crate) fn rehearsed(url: &RtmpUrl, io: impl Io) -> Self {
        Self::rehearsed_for(Purpose::Play, url, io)
    }

    /// A connection that was let in to publish.
    pub(crate) fn rehearsed_publish(url: &RtmpUrl, io: impl Io) -> Self {
        Self::rehearsed_for(Purpose::Publish, url, io)
    }

    fn rehearsed_for(purpose: Purpose, url: &RtmpUrl, io: impl Io) -> Self {
        let mut client = ClientSession::new(ClientConfig {
            url: url.clone(),
            purpose,
            flash_ver: None,
            swf_url: None,
            page_url: None,
            fc_subscribe: false,
        });
        let mut server = ServerSession::new(ServerConfig::default());
        while !granted(&mut client) {
            while let Some(bytes) = client.take_output() {
                server.buffer().extend_from_slice(&bytes);
                server.received(bytes.len());
            }
            while let Some(event) = server.poll().expect("our own client") {
                match event {
                    ServerEvent::Connect { .. } => server.accept_connect(),
                    ServerEvent::Play { stream_id, .. } => server.accept_play(stream_id),
                    ServerEvent::Publish { stream_id, .. } => server.accept_publish(stream_id),
                    _ => {}
                }
            }
            while let Some(bytes) = server.take_output() {
                client.buffer().extend_from_slice(&bytes);
                client.received(bytes.len());
            }
        }
        let now = Instant::now();
        Self {
            io: Transport::Rehearsed(Box::new(io)),
            url: url.clone(),
            session: client,
            event: None,
            outbox: Outbox::default(),
            scrub: Scrub::default(),
            pulse: super::Pulse::new(super::Patience::STRANGER, now),
            born: now,
            intake: super::Intake::new(now, now),
            moments: super::Moments::default(),
            _own: None,
        }
    }
}

fn granted(client: &mut ClientSession) -> bool {
    let mut granted = false;
    while let Some(event) = client.poll().expect("our own server") {
        granted |= matches!(
            event,
            ClientEvent::PlayStarted | ClientEvent::PublishAccepted
        );
    }
    granted
}

/// A media message as the server of a rehearsal sends it.
pub(crate) fn media(kind: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let payload = bytes::Bytes::copy_from_slice(payload);
    let (head, rest) = Wire::media(kind, timestamp, &payload).for_stream(STREAM);
    [&head[..], &rest[..]].concat()
}

/// A ping as the server of a rehearsal sends it.
pub(crate) fn ping() -> Vec<u8> {
    user_control(&[0, 6, 0, 0, 0, 1])
}

/// The answer to one.
pub(crate) fn pong() -> Vec<u8> {
    user_control(&[0, 7, 0, 0, 0, 1])
}

fn user_control(payload: &'static [u8]) -> Vec<u8> {
    let payload = bytes::Bytes::from_static(payload);
    let (head, rest) = Wire::media(type_id::USER_CONTROL, 0, &payload).for_stream(0);
    [&head[..], &rest[..]].concat()
}
