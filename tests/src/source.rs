//! A scripted RTMP source: plays a clip in a loop, and misbehaves when told to.
//!
//! It serves whatever is asked for, counts who dials, and can fall silent, lose a
//! track, freeze its clock, refuse, hang up, or be gone from its port and back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::session::{Refusal, ServerConfig, ServerEvent, ServerSession};

use crate::clip::{AUDIO, Clip, Tag, VIDEO};

/// How long a read or an accept waits: the grain of the source's clock.
const TICK: Duration = Duration::from_millis(5);

/// What the source does on all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Plays.
    Play,
    /// Keeps the connection and answers pings, but sends no media.
    Silent,
    /// Leaves the picture out.
    AudioOnly,
    /// Leaves the sound out.
    VideoOnly,
    /// Sends frames whose timestamps stand still.
    Frozen,
    /// Answers play with `NetStream.Play.StreamNotFound`; who plays already goes on.
    NotFound,
}

#[derive(Debug)]
struct Shared {
    clip: Clip,
    behaviour: Mutex<Behaviour>,
    dials: Mutex<Vec<Instant>>,
    connections: AtomicUsize,
    /// Connections older than this number hang up.
    generation: AtomicU64,
}

impl Shared {
    fn behaviour(&self) -> Behaviour {
        *lock(&self.behaviour)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A source on a loopback port of its own.
#[derive(Debug)]
pub struct Source {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<Listener>,
}

#[derive(Debug)]
struct Listener {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Source {
    /// A source that plays `clip`.
    pub fn open(clip: &Clip) -> Self {
        let shared = Shared {
            clip: clip.clone(),
            behaviour: Mutex::new(Behaviour::Play),
            dials: Mutex::default(),
            connections: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
        };
        let mut source = Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            shared: Arc::new(shared),
            listener: None,
        };
        source.come_back();
        source
    }

    /// The RTMP address of a stream there.
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.addr)
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what it does, also on open connections.
    pub fn set(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// How often it was dialled.
    pub fn dials(&self) -> usize {
        lock(&self.shared.dials).len()
    }

    /// When it was dialled.
    pub fn dial_times(&self) -> Vec<Instant> {
        lock(&self.shared.dials).clone()
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Closes all connections and goes on listening.
    pub fn hang_up(&self) {
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes all connections and the listener: diallers are refused.
    pub fn go_away(&mut self) {
        self.hang_up();
        if let Some(listener) = self.listener.take() {
            listener.stop.store(true, Ordering::Relaxed);
            listener.thread.join().expect("the listener does not panic");
        }
    }

    /// Listens again, on the same port.
    pub fn come_back(&mut self) {
        let listener = TcpListener::bind(self.addr).expect("the port is still ours");
        self.addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, flag) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let thread = thread::spawn(move || accept(&listener, &shared, &flag));
        self.listener = Some(Listener { stop, thread });
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.go_away();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        lock(&shared.dials).push(Instant::now());
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let generation = shared.generation.load(Ordering::Relaxed);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let connection = Connection {
                stream,
                generation,
                session: ServerSession::new(ServerConfig::default()),
                playing: None,
            };
            // However it ends, the dialler is the one that notices.
            let _ended = connection.serve(&shared);
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

struct Connection {
    stream: TcpStream,
    generation: u64,
    session: ServerSession,
    playing: Option<Playing>,
}

impl Connection {
    fn serve(mut self, shared: &Shared) -> anyhow::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(TICK))?;
        while shared.generation.load(Ordering::Relaxed) == self.generation {
            if !self.read()? {
                break;
            }
            while let Some(event) = self.session.poll()? {
                self.answer(&event, shared);
            }
            while let Some(bytes) = self.session.take_output() {
                self.stream.write_all(&bytes)?;
            }
            if let Some(playing) = &mut self.playing {
                playing.send(&mut self.stream, shared)?;
            }
        }
        Ok(())
    }

    /// False when the peer has gone.
    fn read(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.session.buffer().extend_from_slice(&bytes[..n]);
                self.session.received(n);
                Ok(true)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    fn answer(&mut self, event: &ServerEvent, shared: &Shared) {
        match event {
            ServerEvent::Connect { .. } => self.session.accept_connect(),
            ServerEvent::Play { stream_id, .. } if shared.behaviour() == Behaviour::NotFound => {
                self.session
                    .reject_play(*stream_id, Refusal::StreamNotFound, "no such stream");
            }
            ServerEvent::Play { stream_id, .. } => {
                self.session.accept_play(*stream_id);
                self.playing = Some(Playing::new(*stream_id));
            }
            _ => {}
        }
    }
}

/// One run of the clip, in a loop, at its own speed.
struct Playing {
    stream_id: u32,
    begun: Instant,
    next: usize,
    /// Milliseconds of the loops that are behind.
    offset: u32,
    last: u32,
    /// Kinds whose sequence header, or metadata, this peer has.
    introduced: Vec<u8>,
}

impl Playing {
    fn new(stream_id: u32) -> Self {
        Self {
            stream_id,
            begun: Instant::now(),
            next: 0,
            offset: 0,
            last: 0,
            introduced: Vec::new(),
        }
    }

    fn send(&mut self, stream: &mut TcpStream, shared: &Shared) -> anyhow::Result<()> {
        if self.introduced.is_empty() && shared.behaviour() == Behaviour::Silent {
            self.begun = Instant::now();
        }
        while let Some((tag, timestamp)) = self.due(&shared.clip) {
            let timestamp = match shared.behaviour() {
                Behaviour::Silent => continue,
                Behaviour::AudioOnly if tag.kind == VIDEO => continue,
                Behaviour::VideoOnly if tag.kind == AUDIO => continue,
                _ if self.knows(tag) => continue,
                Behaviour::Frozen => self.last,
                _ => timestamp,
            };
            self.last = timestamp;
            let wire = Wire::media(tag.kind, timestamp, &tag.body);
            let (head, rest) = wire.for_stream(self.stream_id);
            stream.write_all(&head)?;
            stream.write_all(&rest)?;
        }
        Ok(())
    }

    /// The next tag, when its time has come, and its timestamp over all loops.
    fn due<'a>(&mut self, clip: &'a Clip) -> Option<(&'a Tag, u32)> {
        if self.next == clip.tags().len() {
            self.next = 0;
            self.offset += clip.period();
        }
        let tag = &clip.tags()[self.next];
        let timestamp = self.offset + tag.timestamp;
        let due = self.begun.elapsed() >= Duration::from_millis(timestamp.into());
        self.next += usize::from(due);
        due.then_some((tag, timestamp))
    }

    /// Whether the tag introduces what this peer knows already: a later loop's headers.
    fn knows(&mut self, tag: &Tag) -> bool {
        if matches!(tag.kind, AUDIO | VIDEO) && !tag.is_sequence_header() {
            return false;
        }
        let known = self.introduced.contains(&tag.kind);
        if !known {
            self.introduced.push(tag.kind);
        }
        known
    }
}
