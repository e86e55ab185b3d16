//! A webhook of our own: notes what it is asked and answers as the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A request that does not come whole in this time is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a question is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// With a redirect to this address.
    Redirect(String),
    /// Not at all: the connection stays open.
    Silence,
}

/// A question as it came.
#[derive(Clone, Debug)]
pub struct Question {
    /// Request line and headers, in lower case.
    pub head: String,
    /// The body.
    pub body: Value,
}

type Judge = dyn Fn(&Value) -> Answer + Send + Sync;

/// A listening webhook. It ends with the process; its threads serve nobody then.
#[derive(Clone, Debug)]
pub struct Webhook {
    addr: SocketAddr,
    scheme: &'static str,
    asked: Arc<Mutex<Vec<Question>>>,
    /// Connections that get no answer.
    silent: Arc<Mutex<Vec<TcpStream>>>,
}

/// A connection, and what it is told over.
trait Line: Read + Write {
    fn socket(self) -> TcpStream;
}

impl Line for TcpStream {
    fn socket(self) -> TcpStream {
        self
    }
}

impl Line for StreamOwned<ServerConnection, TcpStream> {
    fn socket(self) -> TcpStream {
        self.sock
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Webhook {
    /// Listens on loopback.
    pub fn open(judge: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(judge))
    }

    /// The same with TLS, for whoever calls it `localhost`.
    pub fn open_tls(
        tls: Arc<ServerConfig>,
        judge: impl Fn(&Value) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(tls), Arc::new(judge))
    }

    fn listen(tls: Option<Arc<ServerConfig>>, judge: Arc<Judge>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let webhook = Self {
            addr: listener.local_addr().expect("it is bound"),
            scheme: if tls.is_some() { "https" } else { "http" },
            asked: Arc::default(),
            silent: Arc::default(),
        };
        let mine = webhook.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mine, judge, tls) = (mine.clone(), Arc::clone(&judge), tls.clone());
                thread::spawn(move || mine.receive(stream, tls, &*judge));
            }
        });
        webhook
    }

    /// Its address, with this path.
    pub fn url(&self, path: &str) -> String {
        let host = match self.scheme {
            "https" => format!("localhost:{}", self.addr.port()),
            _ => self.addr.to_string(),
        };
        format!("{}://{host}{path}", self.scheme)
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Question> {
        lock(&self.asked).clone()
    }

    /// How many questions there are about this act on this stream.
    pub fn count(&self, action: &str, stream: &str) -> usize {
        let about = |q: &&Question| q.body["action"] == action && q.body["streamGuid"] == stream;
        lock(&self.asked).iter().filter(about).count()
    }

    fn receive(
        &self,
        stream: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        judge: &Judge,
    ) -> Option<()> {
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        match tls {
            None => self.serve(stream, judge),
            Some(tls) => {
                let session = ServerConnection::new(tls).ok()?;
                self.serve(StreamOwned::new(session, stream), judge)
            }
        }
    }

    fn serve(&self, mut stream: impl Line, judge: &Judge) -> Option<()> {
        let question = read(&mut stream)?;
        let answer = judge(&question.body);
        lock(&self.asked).push(question);
        let head = match answer {
            Answer::Status(status) => format!("{status} x"),
            Answer::Redirect(to) => format!("302 x\r\nlocation: {to}"),
            Answer::Silence => {
                lock(&self.silent).push(stream.socket());
                return None;
            }
        };
        let text = format!("HTTP/1.1 {head}\r\ncontent-length: 7\r\n\r\nwhatever");
        stream.write_all(&text.as_bytes()[..text.len() - 1]).ok()?;
        stream.flush().ok()
    }
}

fn read(stream: &mut impl Read) -> Option<Question> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
    let mut body = vec![0; length?.trim().parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).ok()?;
    Some(Question { head, body })
}
