//! A tap between two real peers: passes their bytes on, and keeps the first of both sides.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What is kept of a side: the handshake, the opening, and a second of a small clip.
pub const KEPT: usize = 24 * 1024;

type Bytes = Arc<Mutex<Vec<u8>>>;

/// A listener that leads elsewhere. Its threads end with the connections.
#[derive(Debug)]
pub struct Tap {
    addr: SocketAddr,
    client: Bytes,
    server: Bytes,
    ended: Arc<AtomicBool>,
}

fn lock(bytes: &Bytes) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    /// Passes everyone on to `target`; keeps what the first one that connects to it says and hears.
    ///
    /// # Panics
    /// When there is no port.
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let (client, server) = (Bytes::default(), Bytes::default());
        let ended = Arc::default();
        let mut kept = Some((Arc::clone(&client), Arc::clone(&server), Arc::clone(&ended)));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A target that is not there yet is like a connection that is refused.
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let (client, server, ended) = kept.take().unwrap_or_default();
                pass(&near, &far, client, ended);
                pass(&far, &near, server, Arc::default());
            }
        });
        Self {
            addr,
            client,
            server,
            ended,
        }
    }

    /// Whether the first one that connected has said its last word.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The first bytes of who connected.
    pub fn client(&self) -> Vec<u8> {
        lock(&self.client).clone()
    }

    /// The first bytes of who was connected to.
    pub fn server(&self) -> Vec<u8> {
        lock(&self.server).clone()
    }
}

fn pass(from: &TcpStream, to: &TcpStream, kept: Bytes, ended: Arc<AtomicBool>) {
    let twin = |socket: &TcpStream| socket.try_clone().expect("a socket can be duplicated");
    let (mut from, mut to) = (twin(from), twin(to));
    thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let mut kept = lock(&kept);
            let room = KEPT.saturating_sub(kept.len()).min(count);
            kept.extend_from_slice(&bytes[..room]);
            drop(kept);
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        ended.store(true, Ordering::Release);
        // The other side may have closed first.
        let _ended = to.shutdown(Shutdown::Write);
        let _ended = from.shutdown(Shutdown::Read);
    });
}
