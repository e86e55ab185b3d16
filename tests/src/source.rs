//! A scripted RTMP source: plays a clip in a loop, and misbehaves when told to.
//!
//! It serves whatever is asked for, counts who dials and notes what they say, and can
//! fall silent, lose a track, freeze its clock, refuse, hang up, or be gone from its
//! port and back. A [`Script`] makes it ask for a password, send diallers elsewhere,
//! speak TLS, or put its messages on the wire in unusual ways.

mod connection;
mod gate;
mod io;
mod playing;
mod style;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use restreamd_rtmp::amf0::Value;

use crate::certificate::Certificate;
use crate::clip::Clip;
use connection::Connection;
pub use gate::Gate;
pub use style::Style;

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
    /// Leaves the picture out, but not what introduces it.
    HeadersAndSound,
    /// Leaves the sound out.
    VideoOnly,
    /// Sends frames whose timestamps stand still.
    Frozen,
    /// Answers play with `NetStream.Play.StreamNotFound`; who plays already goes on.
    NotFound,
}

/// What a source is from its first connection on.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// What it says to connect.
    pub gate: Gate,
    /// How it puts its messages on the wire.
    pub style: Style,
    /// It speaks TLS with this certificate.
    pub tls: Option<Certificate>,
    /// Where the clocks of its connections begin, in turn; at 0 without any.
    pub bases: Vec<u32>,
    /// Each frame says which one it is, see [`crate::stamp`].
    pub stamps: bool,
}

#[derive(Debug)]
struct Shared {
    script: Script,
    clip: Clip,
    behaviour: Mutex<Behaviour>,
    dials: Mutex<Vec<Instant>>,
    connections: AtomicUsize,
    /// Connections older than this number hang up.
    generation: AtomicU64,
    /// How often diallers were asked to reconnect, and where to in the end.
    moves: Mutex<(u64, Option<String>)>,
    /// Commands as they came, of all connections.
    commands: Mutex<Vec<Vec<Value>>>,
    plays: AtomicUsize,
    /// How far all clocks have jumped.
    jumped: AtomicU32,
}

impl Shared {
    fn behaviour(&self) -> Behaviour {
        *lock(&self.behaviour)
    }

    /// The number of the next play, and where its clock begins.
    fn next_play(&self) -> (usize, u32) {
        let play = self.plays.fetch_add(1, Ordering::Relaxed);
        let bases = &self.script.bases;
        let turn = play.checked_rem(bases.len());
        (play, turn.map_or(0, |turn| bases[turn]))
    }

    fn clock(&self, base: u32) -> u32 {
        base.wrapping_add(self.jumped.load(Ordering::Relaxed))
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
        Self::scripted(clip, Script::default())
    }

    /// A source that plays `clip`, on another address of this machine.
    pub fn open_at(ip: IpAddr, clip: &Clip) -> Self {
        Self::at(ip, clip, Script::default())
    }

    /// A source of `clip` on this address, whose frames say which ones they are.
    pub fn stamped(ip: IpAddr, clip: &Clip) -> Self {
        let script = Script {
            stamps: true,
            ..Script::default()
        };
        Self::at(ip, clip, script)
    }

    /// A source that plays `clip` in its own way.
    pub fn scripted(clip: &Clip, script: Script) -> Self {
        Self::at(IpAddr::from([127, 0, 0, 1]), clip, script)
    }

    fn at(ip: IpAddr, clip: &Clip, script: Script) -> Self {
        let shared = Shared {
            script,
            clip: clip.clone(),
            behaviour: Mutex::new(Behaviour::Play),
            dials: Mutex::default(),
            connections: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            moves: Mutex::default(),
            commands: Mutex::default(),
            plays: AtomicUsize::new(0),
            jumped: AtomicU32::new(0),
        };
        let mut source = Self {
            addr: SocketAddr::from((ip, 0)),
            shared: Arc::new(shared),
            listener: None,
        };
        source.come_back();
        source
    }

    /// The RTMP address of a stream there.
    pub fn url(&self, stream: &str) -> String {
        match self.shared.script.tls {
            None => format!("rtmp://{}/{stream}", self.addr),
            // Certificates of the tests are for this name.
            Some(_) => format!("rtmps://localhost:{}/{stream}", self.addr.port()),
        }
    }

    /// The address of a stream there, with user info as it is written in a URL.
    pub fn url_as(&self, user: &str, stream: &str) -> String {
        self.url(stream).replacen("://", &format!("://{user}@"), 1)
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

    /// Asks all that are connected to connect again, here or at another tcUrl.
    pub fn ask_to_reconnect(&self, tc_url: Option<&str>) {
        let mut moves = lock(&self.shared.moves);
        *moves = (moves.0 + 1, tc_url.map(str::to_owned));
    }

    /// The commands of this name, as they came.
    pub fn commands(&self, name: &str) -> Vec<Vec<Value>> {
        let commands = lock(&self.shared.commands);
        let named = |command: &&Vec<Value>| command.first().and_then(Value::as_str) == Some(name);
        commands.iter().filter(named).cloned().collect()
    }

    /// All its clocks go on so many milliseconds later, or earlier when it wraps.
    pub fn jump(&self, by: u32) {
        self.shared.jumped.fetch_add(by, Ordering::Relaxed);
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
            let connection = Connection::new(stream, generation, &shared);
            // However it ends, the dialler is the one that notices.
            let _ended = connection.and_then(|connection| connection.serve(&shared));
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
