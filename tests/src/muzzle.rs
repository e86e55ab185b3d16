//! A proxy before a server of gRPC without TLS that can silence single calls: what the
//! server says on their streams is lost, while all others of the connection go on.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What every client begins with (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Length, type, flags and stream of a frame (section 4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;

/// A stream of a connection.
type Call = (u64, u32);

#[derive(Debug, Default)]
struct Shared {
    mark: Vec<u8>,
    connections: AtomicU64,
    /// Calls in which a client said the mark.
    marked: Mutex<HashSet<Call>>,
    /// Those of them that are silenced.
    silenced: Mutex<HashSet<Call>>,
}

/// A listener that leads elsewhere. Its threads end with the connections.
#[derive(Debug)]
pub struct Muzzle {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

fn lock(calls: &Mutex<HashSet<Call>>) -> MutexGuard<'_, HashSet<Call>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Muzzle {
    /// Passes everyone on to `target`, and notes calls whose requests hold `mark`.
    ///
    /// # Panics
    /// When there is no port.
    pub fn before(target: SocketAddr, mark: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            mark: mark.as_bytes().to_vec(),
            ..Shared::default()
        });
        let calls = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A target that is not there is like a connection that is refused.
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let number = calls.connections.fetch_add(1, Ordering::Relaxed);
                pass(&near, &far, PREFACE, {
                    let calls = Arc::clone(&calls);
                    move |frame| calls.request(number, frame)
                });
                pass(&far, &near, 0, {
                    let calls = Arc::clone(&calls);
                    move |frame| calls.response(number, frame)
                });
            }
        });
        Self { addr, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many calls had the mark so far.
    pub fn marked(&self) -> usize {
        lock(&self.shared.marked).len()
    }

    /// Silences those that had it so far; later ones are heard.
    pub fn silence(&self) {
        let marked = lock(&self.shared.marked).clone();
        lock(&self.shared.silenced).extend(marked);
    }
}

impl Shared {
    fn request(&self, connection: u64, frame: &Frame) -> bool {
        let holds = |part: &[u8]| part == self.mark;
        if frame.kind == DATA && frame.payload.windows(self.mark.len()).any(holds) {
            lock(&self.marked).insert((connection, frame.stream));
        }
        true
    }

    fn response(&self, connection: u64, frame: &Frame) -> bool {
        let silenced = || lock(&self.silenced).contains(&(connection, frame.stream));
        frame.kind != DATA || !silenced()
    }
}

struct Frame {
    kind: u8,
    stream: u32,
    head: [u8; HEAD],
    payload: Vec<u8>,
}

impl Frame {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        Ok(Self {
            kind: head[3],
            stream: u32::from_be_bytes([head[5] & 0x7F, head[6], head[7], head[8]]),
            head,
            payload,
        })
    }
}

/// Passes frames on for which `keep` holds, after so many bytes that are none.
fn pass(
    from: &TcpStream,
    to: &TcpStream,
    before: usize,
    keep: impl Fn(&Frame) -> bool + Send + 'static,
) {
    let twin = |socket: &TcpStream| socket.try_clone().expect("a socket can be duplicated");
    let (mut from, mut to) = (twin(from), twin(to));
    thread::spawn(move || {
        let mut all = || -> io::Result<()> {
            let mut begin = vec![0; before];
            from.read_exact(&mut begin)?;
            to.write_all(&begin)?;
            loop {
                let frame = Frame::read(&mut from)?;
                if keep(&frame) {
                    to.write_all(&[&frame.head[..], &frame.payload].concat())?;
                }
            }
        };
        // However it ends, it is the end of both.
        let _ended = all();
        let _ended = to.shutdown(Shutdown::Both);
        let _ended = from.shutdown(Shutdown::Both);
    });
}
