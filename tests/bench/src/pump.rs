//! A player that costs next to nothing: the kernel discards what it receives.
//!
//! It is visited now and then, counts, and says from time to time that it is
//! there, as every player does; servers close those that are silent.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use restreamd_rtmp::chunk;
use restreamd_rtmp::message::type_id;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Chunk stream of protocol control.
const CONTROL: u8 = 2;
/// Until a client says otherwise, its chunks have this size.
const CHUNK: u32 = 128;
/// A player at 600 kbit/s acknowledges about as often.
const ACKNOWLEDGE: Duration = Duration::from_secs(15);

/// A socket that a stream plays into.
#[derive(Debug)]
pub(crate) struct Pump {
    socket: TcpStream,
    received: u64,
    gone: bool,
    acknowledge: Instant,
}

impl Pump {
    /// Takes over from a player.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            received: 0,
            gone: false,
            acknowledge: Instant::now() + ACKNOWLEDGE,
        }
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the server closed the connection.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Discards what there is. `scratch` bounds how much at a time; nothing is
    /// written into it.
    pub(crate) fn drain(&mut self, scratch: &mut [u8], now: Instant) {
        while !self.gone {
            match recv(
                &self.socket,
                &mut *scratch,
                RecvFlags::TRUNC | RecvFlags::DONTWAIT,
            ) {
                Ok((_, 0)) => self.gone = true,
                Ok((_, read)) => {
                    self.received += read as u64;
                    if read < scratch.len() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.gone = true,
            }
        }
        if now >= self.acknowledge && !self.gone {
            self.acknowledge = now + ACKNOWLEDGE;
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let total = (self.received as u32).to_be_bytes();
        let mut out = BytesMut::new();
        chunk::encode(
            CONTROL,
            type_id::ACKNOWLEDGEMENT,
            0,
            0,
            &total,
            CHUNK,
            &mut out,
        );
        // The server never answers so much that it does not fit.
        let sent = send(
            &self.socket,
            &out,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
        self.gone |= sent.is_err();
    }
}
