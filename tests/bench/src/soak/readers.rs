//! Readers: some read as players do, and some stop reading until they are closed.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::node::{PULLS, Places};
use super::weather::{Dice, Weather};
use crate::player::Player;
use crate::pump::Pump;

/// Readers that are there in calm weather too, one a pull.
pub(super) const STEADY: usize = PULLS;
/// Readers that stall, half of them over HTTP.
const STALLING: usize = 10;
/// From one visit of a socket to the next.
const VISIT: Duration = Duration::from_millis(50);
/// What the kernel takes for a reader that stalled.
const SMALL_BUFFER: usize = 16 * 1024;
/// The kernel's buffers fill up within seconds at the clip's rate, and a reader that
/// takes nothing is closed ten seconds later.
const STALL: Duration = Duration::from_secs(45);

/// What became of those that stalled for long enough.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    closed: AtomicU64,
    open: AtomicU64,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (closed, open) = (
            self.closed.load(Ordering::Relaxed),
            self.open.load(Ordering::Relaxed),
        );
        write!(f, "{closed} were closed, {open} were not")
    }
}

impl Stalled {
    /// All of them are to be closed; there are some when the run is long enough.
    pub(super) fn fault(&self, whole: Duration) -> Option<String> {
        let expected = whole > STALL * 3;
        let none = self.closed.load(Ordering::Relaxed) == 0;
        let some = self.open.load(Ordering::Relaxed) > 0;
        (some || expected && none).then(|| format!("of readers that stalled {self}"))
    }

    fn count(&self, closed: bool) {
        let counter = if closed { &self.closed } else { &self.open };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts them all.
pub(super) fn start(
    node: &Places,
    weather: &Arc<Weather>,
    stalled: &Arc<Stalled>,
) -> Vec<JoinHandle<()>> {
    let steady = (0..STEADY).map(|n| {
        let (url, weather) = (node.url(&format!("live/s{n}")), weather.clone());
        std::thread::spawn(move || read(&url, &weather, &mut Dice::new(200 + n as u64)))
    });
    let stalling = (0..STALLING).map(|n| {
        let (node, weather, stalled) = (*node, weather.clone(), stalled.clone());
        std::thread::spawn(move || {
            let mut dice = Dice::new(300 + n as u64);
            weather.each_rough(|| {
                let stream = format!("live/s{}", dice.roll(PULLS as u64));
                let attached = match n % 2 {
                    0 => Player::attach(&node.url(&stream)).and_then(Player::into_stream),
                    _ => over_http(&node, &stream),
                };
                match attached {
                    Ok(socket) => stall(&socket, &weather, &stalled),
                    // Its source is away.
                    Err(_) => drop(weather.rough_for(Duration::from_secs(1))),
                }
            });
        })
    });
    steady.chain(stalling).collect()
}

/// Reads for a while, leaves, and comes again; in calm weather it stays.
fn read(url: &str, weather: &Weather, dice: &mut Dice) {
    let mut scratch = vec![0; 256 * 1024];
    while !weather.is_over() {
        let Ok(socket) = Player::attach(url).and_then(Player::into_stream) else {
            std::thread::sleep(VISIT * 10);
            continue;
        };
        let mut pump = Pump::new(socket);
        let until = Instant::now() + dice.time(5_000, 60_000);
        while !pump.is_gone() && !weather.is_over() {
            if weather.is_rough() && Instant::now() > until {
                break;
            }
            pump.drain(&mut scratch, Instant::now());
            std::thread::sleep(VISIT);
        }
    }
}

fn over_http(node: &Places, stream: &str) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(node.api)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(socket, "GET /flv/{stream} HTTP/1.1\r\nHost: node\r\n\r\n")?;
    let mut head = [0; 12];
    socket.read_exact(&mut head)?;
    anyhow::ensure!(head.ends_with(b"200"), "refused");
    Ok(socket)
}

/// Reads nothing, and looks in the end whether it was closed.
fn stall(mut socket: &TcpStream, weather: &Weather, stalled: &Stalled) {
    // At worst it takes longer to be closed.
    let _ = set_socket_recv_buffer_size(socket, SMALL_BUFFER);
    if !weather.rough_for(STALL) {
        return;
    }
    let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
    let begin = Instant::now();
    let mut scratch = [0; 64 * 1024];
    let closed = loop {
        match socket.read(&mut scratch) {
            Ok(0) => break true,
            // An open stream never runs dry.
            Ok(_) if begin.elapsed() > Duration::from_secs(5) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    };
    stalled.count(closed);
}
