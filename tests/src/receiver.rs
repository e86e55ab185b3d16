//! A server of our own that is published to: notes every message, and misbehaves when told.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use restreamd_rtmp::session::{
    Media, MediaKind, Refusal, ServerConfig, ServerEvent, ServerSession,
};

use socket2::SockRef;

use crate::clip::{AUDIO, VIDEO, is_sequence_header};
use crate::continuity::fingerprint;

/// What the kernel holds for a connection.
const BUFFER: usize = 32 * 1024;
/// Bytes, and how often, of [`Manners::Slow`].
const SLOW: (usize, Duration) = (16 * 1024, Duration::from_millis(50));
/// How long a read waits before the connection looks whether it is to go.
const TICK: Duration = Duration::from_millis(10);

/// What it does with whoever publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Takes everything.
    Take,
    /// Lets the publisher in and then takes nothing.
    Stall,
    /// Takes 16 KiB twenty times a second.
    Slow,
    /// Refuses, and says the name it was asked for.
    Refuse,
}

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Message {
    /// The connection, counted from 0.
    pub connection: usize,
    /// [`AUDIO`], [`VIDEO`], or 18 for data.
    pub kind: u8,
    /// RTMP timestamp.
    pub timestamp: u32,
    /// Configures the codec rather than carrying a frame.
    pub sequence_header: bool,
    /// A frame of video that decoding can begin with.
    pub keyframe: bool,
    /// Fingerprint of the payload.
    pub hash: u64,
    /// The first bytes.
    pub head: Vec<u8>,
}

#[derive(Debug, Default)]
struct Seen {
    messages: Vec<Message>,
    names: Vec<String>,
    /// Connections that said goodbye.
    finished: usize,
}

/// A listener that is published to. Its threads end with the test binary.
#[derive(Debug)]
pub struct Receiver {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    manners: Arc<Mutex<Manners>>,
    /// Connections below this number are to hang up.
    hung_up: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    /// Listens on a loopback port of its own.
    ///
    /// # Panics
    /// When there is none.
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        // Connections inherit it: little is taken by the kernel in our name.
        let socket = SockRef::from(&listener);
        socket
            .set_recv_buffer_size(BUFFER)
            .expect("a socket has a buffer");
        let receiver = Self {
            addr: listener.local_addr().expect("bound"),
            seen: Arc::default(),
            manners: Arc::new(Mutex::new(Manners::Take)),
            hung_up: Arc::default(),
            accepted: Arc::default(),
        };
        let (seen, manners) = (receiver.seen.clone(), receiver.manners.clone());
        let (hung_up, accepted) = (receiver.hung_up.clone(), receiver.accepted.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let (seen, manners) = (seen.clone(), manners.clone());
                let hung_up = hung_up.clone();
                thread::spawn(move || {
                    let here = || hung_up.load(Ordering::SeqCst) <= number;
                    // A peer that hangs up is no error here.
                    let _ = serve(stream, number, &seen, &manners, here);
                });
            }
        });
        receiver
    }

    /// The RTMP address of a stream there.
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.addr)
    }

    /// From now on, for connections that come and those that are there.
    pub fn set(&self, manners: Manners) {
        *lock(&self.manners) = manners;
    }

    /// Ends every connection there is, without a word.
    pub fn hang_up(&self) {
        let all = self.accepted.load(Ordering::SeqCst);
        self.hung_up.store(all, Ordering::SeqCst);
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Names that were asked for so far.
    pub fn names(&self) -> Vec<String> {
        lock(&self.seen).names.clone()
    }

    /// Publishers that said goodbye.
    pub fn finished(&self) -> usize {
        lock(&self.seen).finished
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.seen).messages.clone()
    }

    /// Those of one connection.
    pub fn of(&self, connection: usize) -> Vec<Message> {
        let of = |message: &Message| message.connection == connection;
        self.messages().into_iter().filter(of).collect()
    }

    /// # Panics
    /// When a connection did not begin as it has to: metadata, a header for each track,
    /// and of the picture a keyframe first.
    pub fn assert_begins_well(&self, connection: usize) {
        let messages = self.of(connection);
        let mut headers = HashMap::new();
        for message in messages.iter().filter(|message| message.kind != 18) {
            if message.sequence_header {
                headers.insert(message.kind, true);
                continue;
            }
            let known = headers.contains_key(&message.kind);
            assert!(
                known,
                "connection {connection}: {message:?} before its header"
            );
        }
        let pictures = messages
            .iter()
            .filter(|m| m.kind == VIDEO && !m.sequence_header);
        let first = pictures.clone().next().expect("a picture came");
        assert!(first.keyframe, "connection {connection}: {first:?}");
        let data = messages.iter().find(|message| message.kind == 18);
        assert!(
            data.is_some_and(|data| data.head.windows(10).any(|at| at == b"onMetaData")),
            "connection {connection}: {data:?}"
        );
    }
}

fn serve(
    mut stream: TcpStream,
    number: usize,
    seen: &Mutex<Seen>,
    manners: &Mutex<Manners>,
    here: impl Fn() -> bool,
) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    let mut session = ServerSession::new(ServerConfig::default());
    let mut granted = false;
    let mut bytes = vec![0; 64 * 1024];
    while here() {
        let mut most = bytes.len();
        match *lock(manners) {
            Manners::Stall if granted => {
                thread::sleep(TICK);
                continue;
            }
            Manners::Slow if granted => {
                thread::sleep(SLOW.1);
                most = SLOW.0;
            }
            _ => {}
        }
        match stream.read(&mut bytes[..most]) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                session.buffer().extend_from_slice(&bytes[..n]);
                session.received(n);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e.into()),
        }
        while let Some(event) = session.poll()? {
            match event {
                ServerEvent::Connect { .. } => session.accept_connect(),
                ServerEvent::Publish {
                    stream_id, name, ..
                } => {
                    lock(seen).names.push(name.clone());
                    if *lock(manners) == Manners::Refuse {
                        let text = format!("{name} is not wanted");
                        session.reject_publish(stream_id, Refusal::BadName, &text);
                    } else {
                        session.accept_publish(stream_id);
                        granted = true;
                    }
                }
                ServerEvent::Media { media, .. } => note(seen, number, &media),
                ServerEvent::PublishFinished { .. } => lock(seen).finished += 1,
                _ => {}
            }
        }
        while let Some(output) = session.take_output() {
            stream.write_all(&output)?;
        }
    }
    Ok(())
}

fn note(seen: &Mutex<Seen>, connection: usize, media: &Media) {
    let kind = match media.kind {
        MediaKind::Audio => AUDIO,
        MediaKind::Video => VIDEO,
        MediaKind::Data => 18,
    };
    let payload = &media.payload;
    let is_media = kind != 18;
    let sequence_header = is_media && is_sequence_header(kind, payload);
    lock(seen).messages.push(Message {
        connection,
        kind,
        timestamp: media.timestamp,
        sequence_header,
        keyframe: kind == VIDEO
            && !sequence_header
            && payload.first().is_some_and(|first| first >> 4 & 7 == 1),
        hash: fingerprint(payload),
        head: payload.iter().take(64).copied().collect(),
    });
}
