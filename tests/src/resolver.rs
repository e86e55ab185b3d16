//! An HTTP server of our own that answers as the test says, and notes what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A request that does not come whole in this time is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer, as it goes out.
#[derive(Clone, Debug)]
pub struct Said(String);

impl Said {
    /// A status with a text.
    pub fn text(status: u16, text: &str) -> Self {
        let length = text.len();
        Self(format!(
            "HTTP/1.1 {status} So\r\ncontent-length: {length}\r\n\r\n{text}"
        ))
    }

    /// A redirect.
    pub fn redirect(to: &str) -> Self {
        Self(format!(
            "HTTP/1.1 302 So\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"
        ))
    }
}

type Judge = dyn Fn(&str) -> Said + Send + Sync;

/// A listening server for requests without a body. It ends with the process.
#[derive(Clone, Debug)]
pub struct Resolver {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resolver {
    /// Listens on loopback; `judge` gets the request line and the headers, in lower case.
    ///
    /// # Panics
    /// When there is no port.
    pub fn open(judge: impl Fn(&str) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let resolver = Self {
            addr: listener.local_addr().expect("it is bound"),
            asked: Arc::default(),
        };
        let (mine, judge): (_, Arc<Judge>) = (resolver.clone(), Arc::new(judge));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mine, judge) = (mine.clone(), Arc::clone(&judge));
                // A client that goes is no error here.
                thread::spawn(move || drop(mine.serve(&stream, &*judge)));
            }
        });
        resolver
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address, with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    fn serve(&self, mut stream: &TcpStream, judge: &Judge) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = String::new();
        let mut reader = BufReader::new(stream);
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let head = head.to_ascii_lowercase();
        let said = judge(&head);
        lock(&self.asked).push(head);
        stream.write_all(said.0.as_bytes())
    }
}
