//! Remotes that never answer.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A listener whose queue is full: a dialler's SYN gets no answer, for ever.
#[derive(Debug)]
pub struct Unanswered {
    socket: Socket,
    _fill: Vec<TcpStream>,
}

impl Unanswered {
    /// Makes it on a loopback port of its own.
    ///
    /// # Panics
    /// When the queue cannot be filled.
    pub fn open() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("loopback has a free port");
        socket.listen(0).expect("a bound socket listens");
        let addr = address(&socket);
        let mut fill = Vec::new();
        while fill.len() < 64 {
            // Loopback answers in microseconds, so a quarter of a second of silence is "full".
            match TcpStream::connect_timeout(&addr, Duration::from_millis(250)) {
                Ok(stream) => fill.push(stream),
                Err(_) => {
                    return Self {
                        socket,
                        _fill: fill,
                    };
                }
            }
        }
        panic!("the queue of {addr} does not fill up");
    }

    /// The RTMP address of a stream there.
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", address(&self.socket))
    }
}

fn address(socket: &Socket) -> SocketAddr {
    let local = socket.local_addr().expect("a bound socket has an address");
    local.as_socket().expect("an IPv4 address")
}

/// A listener that accepts, reads, and never says a word.
#[derive(Debug)]
pub struct Mute {
    addr: SocketAddr,
}

impl Mute {
    /// Makes it on a loopback port of its own. Its threads end with the test binary.
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &stream, &mut io::sink()));
            }
        });
        Self { addr }
    }

    /// The RTMP address of a stream there.
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.addr)
    }
}
