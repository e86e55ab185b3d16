//! A connection that publishes: sends what it was given and hears what the peer says
//! meanwhile.
//!
//! Both at once, so that neither side waits for the other to read. It holds what it was
//! given until the peer has taken it and no more: who gives it frames does so when it has
//! sent the last ones. It knows no stream and decides nothing about time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::flv;
use restreamd_rtmp::message::type_id;
use restreamd_rtmp::session::{Media, MediaKind, Purpose};
use restreamd_rtmp::url::RtmpUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::patience::Verdict;
use super::{Class, Dialed, Failure, Options, SILENT, lent};
use crate::rtmp::policy::Policy;

/// What the kernel may hold beside what is on its way: what to leave out stays our decision,
/// and a peer that is far away gets all that its path can carry.
const UNSENT: u32 = 128 * 1024;
/// Taking leave may last so long: the last frames, and two commands.
const LEAVE: Duration = Duration::from_secs(1);

/// A connection that was let in to publish.
#[derive(Debug)]
pub struct Publishing {
    dialed: Dialed,
    /// The transport may hold bytes that it took and has not sent.
    unflushed: bool,
}

impl Publishing {
    /// Dials and asks to publish; returns when a server consented.
    pub async fn open(
        url: &RtmpUrl,
        options: &Options,
        policy: &Arc<Policy>,
    ) -> Result<Self, Failure> {
        let dialed = Dialed::open(url, Purpose::Publish, options, policy).await?;
        if let Some(socket) = dialed.io.socket() {
            // An improvement; a socket that lacks it still works.
            let _ = socket.set_tcp_notsent_lowat(UNSENT);
        }
        Ok(Self::new(dialed))
    }

    pub(super) fn new(mut dialed: Dialed) -> Self {
        // What a server says from now on is small and seldom.
        lent::take_back(dialed.session.buffer());
        Self {
            dialed,
            unflushed: false,
        }
    }

    /// Bytes the peer's kernel has taken so far, commands and all.
    pub fn sent(&self) -> u64 {
        self.dialed.outbox.sent()
    }

    /// Whether all it was given was sent.
    pub fn is_idle(&self) -> bool {
        self.dialed.outbox.is_empty() && !self.unflushed
    }

    /// Gives it a frame as subscribers get it.
    pub fn give(&mut self, wire: &Wire) {
        if let Some(metadata) = metadata(wire) {
            // To a server it has to be said that it is to be kept.
            self.dialed.session.send_media(&metadata);
            self.collect();
        } else if let Some(stream_id) = self.dialed.session.stream_id() {
            let (head, rest) = wire.for_stream(stream_id);
            self.dialed.outbox.push(head);
            self.dialed.outbox.push(rest);
        }
    }

    /// Sends and hears. Returns when all it was given has been sent; with nothing to send
    /// it goes on hearing. Cancel safe.
    pub async fn exchange(&mut self) -> Result<(), Failure> {
        let had_something = !self.is_idle();
        loop {
            self.hear()?;
            self.collect();
            if had_something && self.is_idle() {
                return Ok(());
            }
            self.step().await?;
        }
    }

    /// Takes leave, with what is begun. Bounded in time.
    pub async fn finish(mut self) {
        self.dialed.session.finish();
        self.collect();
        let leave = async {
            let Dialed { io, outbox, .. } = &mut self.dialed;
            outbox.flush(io).await?;
            io.shutdown().await
        };
        // The peer may be gone already; it will notice the closed socket anyway.
        let _ = tokio::time::timeout(LEAVE, leave).await;
    }

    /// What the session has to say.
    fn collect(&mut self) {
        if let Some(bytes) = self.dialed.session.take_output() {
            self.dialed.outbox.push(bytes);
        }
    }

    /// What the peer said so far.
    fn hear(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.dialed.session.poll()? {
            self.dialed.heard(event)?;
        }
        Ok(())
    }

    /// One write, one read, or a ping to a peer that is silent.
    async fn step(&mut self) -> Result<(), Failure> {
        let Dialed {
            io,
            session,
            outbox,
            pulse,
            born,
            intake,
            ..
        } = &mut self.dialed;
        let (mut reader, mut writer) = tokio::io::split(io);
        let unflushed = &mut self.unflushed;
        let sending = !outbox.is_empty() || *unflushed;
        let send = async {
            if !outbox.is_empty() {
                *unflushed = true;
                return outbox.write_some(&mut writer).await;
            }
            writer.flush().await?;
            *unflushed = false;
            Ok(())
        };
        let buffer = session.buffer();
        buffer.reserve(intake.size());
        let room = buffer.capacity() - buffer.len();
        tokio::select! {
            written = send, if sending => written.map_err(|e| Failure::io("sending", &e)),
            read = reader.read_buf(buffer) => match read {
                Ok(0) => Err(Failure::new(Class::Closed, "the peer closed the connection")),
                Ok(read) => {
                    let now = Instant::now();
                    pulse.heard(now);
                    session.received(read);
                    intake.took(read, room, now);
                    Ok(())
                }
                Err(error) => Err(Failure::io("receiving", &error)),
            },
            () = tokio::time::sleep_until(pulse.due()) => match pulse.verdict(Instant::now()) {
                Verdict::Ping => {
                    session.ping(born.elapsed().as_millis() as u32);
                    Ok(())
                }
                Verdict::GiveUp => Err(Failure::new(Class::Timeout, SILENT)),
            },
        }
    }
}

/// The metadata in a frame, if it is that.
fn metadata(wire: &Wire) -> Option<Media> {
    if wire.message_type() != type_id::DATA_AMF0 {
        return None;
    }
    let mut payload = BytesMut::with_capacity(wire.payload_len());
    wire.payload_parts()
        .for_each(|part| payload.extend_from_slice(&part));
    let payload: Bytes = flv::metadata_payload(&payload.freeze())?;
    Some(Media {
        kind: MediaKind::Data,
        timestamp: 0,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use restreamd_rtmp::message::type_id;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::rtmp::dial::rehearsal::ping;

    fn url() -> RtmpUrl {
        RtmpUrl::parse("rtmp://h/live/s").expect("legal")
    }

    #[tokio::test]
    async fn a_peer_that_talks_while_it_takes_little_is_heard_and_gets_everything() {
        // Narrow both ways: each side would wait for the other one to read.
        let (near, far) = tokio::io::duplex(16);
        let mut publishing = Publishing::new(Dialed::rehearsed_publish(&url(), near));
        let (mut from, mut to) = tokio::io::split(far);
        let talking = tokio::spawn(async move {
            for _ in 0..200 {
                to.write_all(&ping()).await.expect("it is heard");
            }
            to
        });
        let taking = tokio::spawn(async move {
            let mut taken = Vec::new();
            from.read_to_end(&mut taken).await.map(|_| taken)
        });
        let frame = Wire::media(type_id::VIDEO, 7, &[9; 10_000]);
        for _ in 0..20 {
            publishing.give(&frame);
            publishing.exchange().await.expect("the peer is there");
            assert!(publishing.is_idle());
        }
        let _to = talking.await.expect("no panic");
        drop(publishing);
        let taken = taking.await.expect("no panic").expect("read");
        let nines = taken.iter().filter(|byte| **byte == 9).count();
        assert!(nines >= 200_000, "{nines}");
    }

    #[tokio::test]
    async fn metadata_is_announced_as_what_the_server_is_to_keep() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut publishing = Publishing::new(Dialed::rehearsed_publish(&url(), near));
        let mut payload = b"\x02\x00\x0aonMetaData".to_vec();
        payload.extend_from_slice(b"\x08\x00\x00\x00\x00\x00\x00\x09");
        publishing.give(&Wire::media(type_id::DATA_AMF0, 5, &payload));
        publishing.exchange().await.expect("the peer is there");
        publishing.finish().await;
        let mut taken = Vec::new();
        far.read_to_end(&mut taken).await.expect("closed");
        let find = |text: &[u8]| taken.windows(text.len()).position(|at| at == text);
        let (set, meta) = (find(b"@setDataFrame"), find(b"onMetaData"));
        assert!(set.is_some() && set < meta, "{set:?} {meta:?}");
        assert!(find(b"FCUnpublish").is_some() && find(b"deleteStream").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn leaving_a_peer_that_takes_nothing_is_bounded() {
        let (near, _far) = tokio::io::duplex(16);
        let mut publishing = Publishing::new(Dialed::rehearsed_publish(&url(), near));
        publishing.give(&Wire::media(type_id::VIDEO, 7, &[9; 10_000]));
        let begin = Instant::now();
        publishing.finish().await;
        assert!(begin.elapsed() <= LEAVE, "{:?}", begin.elapsed());
    }
}
