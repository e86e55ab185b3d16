//! Following nodes that answer over real sockets.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::auth::{Auth, Errand, Secret, Settings};
use crate::drain::Drain;

/// A busy machine may take its time.
const SOON: Duration = Duration::from_secs(20);

fn auth() -> Auth {
    let settings = Settings {
        admin_user: "admin".to_owned(),
        admin_password: Secret::new("right"),
        jwt_secret: Secret::new("0123456789abcdef0123456789abcdef"),
        token_ttl: Duration::from_secs(60),
    };
    Auth::new(&settings).expect("good settings")
}

#[derive(Default)]
struct Group {
    peers: Mutex<Vec<Peer>>,
    changed: watch::Sender<()>,
}

impl Group {
    fn set(&self, peers: Vec<Peer>) {
        *self.peers.lock() = peers;
        self.changed.send_replace(());
    }
}

impl Peers for Group {
    fn peers(&self) -> Vec<Peer> {
        self.peers.lock().clone()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

struct Stage {
    figures: Figures,
    group: Arc<Group>,
    listener: TcpListener,
    drain: Drain,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.drain.start();
    }
}

impl Stage {
    async fn new() -> Self {
        Self::speaking(None, Trust::Verify).await
    }

    /// Whose node's certificate is for this name, if it has one.
    async fn speaking(tls: Option<&str>, trust: Trust) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let (figures, group, drain) = (Figures::default(), Arc::<Group>::default(), Drain::new());
        let peer = Peer {
            node: node(),
            instance: "0".to_owned(),
            api: listener.local_addr().expect("bound"),
            tls: tls.map(str::to_owned),
        };
        group.set(vec![peer]);
        drain.spawn(run(
            "me".parse().expect("legal"),
            figures.clone(),
            group.clone(),
            auth(),
            trust,
            drain.clone(),
        ));
        Self {
            figures,
            group,
            listener,
            drain,
        }
    }

    async fn accepted(&self) -> TcpStream {
        let accepted = timeout(SOON, self.listener.accept()).await;
        accepted.expect("it is followed").expect("a connection").0
    }

    /// The next connection, and what it asks.
    async fn asked(&self) -> (TcpStream, String) {
        let mut stream = self.accepted().await;
        let text = request(&mut stream).await;
        (stream, text)
    }

    async fn eventually(&self, what: &str, done: impl Fn(&Figures) -> bool) {
        let begin = Instant::now();
        while !done(&self.figures) {
            assert!(begin.elapsed() < SOON, "never: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn node() -> NodeId {
    "n2".parse().expect("legal")
}

fn peer(instance: &str) -> Peer {
    Peer {
        node: node(),
        instance: instance.to_owned(),
        api: "127.0.0.1:9".parse().expect("an address"),
        tls: None,
    }
}

fn subject(provision: Option<&str>) -> Subject {
    Subject {
        stream: "live/a".parse().expect("legal"),
        provision: provision.map(|guid| guid.parse().expect("legal")),
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let read = timeout(SOON, stream.read_buf(&mut text)).await;
        let read = read.expect("in time").expect("a request");
        assert!(read > 0, "it left");
    }
    String::from_utf8(text).expect("text")
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), status: &str) {
    let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk.as_bytes()).await.expect("it reads");
}

fn line(value: Value) -> String {
    format!("{value}\n")
}

#[tokio::test]
async fn a_node_is_followed_with_a_token_of_its_own_and_forgotten_when_it_is_gone() {
    let stage = Stage::new().await;
    let (mut stream, asked) = stage.asked().await;
    assert!(
        asked.starts_with(&format!("GET {PATH} HTTP/1.1\r\n")),
        "{asked}"
    );
    let token = asked
        .split("Bearer ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let who = auth().verify_node(token.expect("a token"), Errand::Figures);
    assert_eq!(who, Ok("me".parse().expect("legal")));
    answer(&mut stream, "200 OK").await;
    let first = line(json!({
        "reset": true, "counts": {"publishers": 2},
        "streams": [{"stream": "live/a", "provision": "p-1", "set": {"bytesIn": 1, "phase": "live"}}],
    }));
    // However it is cut.
    let (head, tail) = first.split_at(20);
    say(&mut stream, head).await;
    say(&mut stream, tail).await;
    stage
        .eventually("it is heard", |figures| figures.counts(&node()).is_some())
        .await;
    assert_eq!(
        stage
            .figures
            .counts(&node())
            .map(|counts| counts.publishers),
        Some(2)
    );
    let seen = || {
        stage
            .figures
            .stream::<Value>(&node(), &subject(Some("p-1")))
    };
    assert_eq!(seen(), Some(json!({"bytesIn": 1, "phase": "live"})));
    assert_eq!(stage.figures.stream::<Value>(&node(), &subject(None)), None);
    let more = line(json!({"streams": [
        {"stream": "live/a", "provision": "p-1", "set": {"bytesIn": 5}},
        {"stream": "live/b", "set": {"subscribers": 3}},
    ]}));
    say(&mut stream, &more).await;
    stage
        .eventually("a change", |_| {
            seen() == Some(json!({"bytesIn": 5, "phase": "live"}))
        })
        .await;
    let others = stage.figures.unprovisioned::<Value>();
    let other = (
        node(),
        "live/b".parse().expect("legal"),
        json!({"subscribers": 3}),
    );
    assert_eq!(others, [other]);
    stage.group.set(Vec::new());
    stage
        .eventually("it is forgotten", |figures| {
            figures.counts(&node()).is_none()
        })
        .await;
}

#[tokio::test]
async fn a_node_that_says_what_cannot_be_read_is_forgotten_and_asked_again() {
    let stage = Stage::new().await;
    let (mut stream, _) = stage.asked().await;
    answer(&mut stream, "200 OK").await;
    say(&mut stream, &line(json!({"counts": {}}))).await;
    stage
        .eventually("it is heard", |figures| figures.counts(&node()).is_some())
        .await;
    say(&mut stream, "rubbish\n").await;
    stage
        .eventually("it is not", |figures| figures.counts(&node()).is_none())
        .await;
    let (mut stream, _) = stage.asked().await;
    answer(&mut stream, "401 Unauthorized").await;
    let (mut stream, _) = stage.asked().await;
    answer(&mut stream, "200 OK").await;
    say(&mut stream, &line(json!({"counts": {}}))).await;
    stage
        .eventually("it is heard again", |figures| {
            figures.counts(&node()).is_some()
        })
        .await;
}

#[tokio::test]
async fn over_tls_a_certificate_is_checked_unless_it_is_said_that_it_is_not() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let certificate = restreamd_tests::certificate::Certificate::make(folder.path());
    let acceptor = tokio_rustls::TlsAcceptor::from(certificate.server());
    // The machine does not know who signed it.
    let stage = Stage::speaking(Some("localhost:1935"), Trust::Verify).await;
    let shaken = acceptor.accept(stage.accepted().await).await;
    let asked = match shaken {
        Ok(mut stream) => stream.read_u8().await.is_ok(),
        Err(_) => false,
    };
    assert!(!asked, "nothing is said to a stranger");
    let stage = Stage::speaking(Some("localhost:1935"), Trust::Skip).await;
    let stream = acceptor.accept(stage.accepted().await).await;
    let mut stream = stream.expect("it does not ask");
    assert!(request(&mut stream).await.starts_with("GET "));
    answer(&mut stream, "200 OK").await;
    say(&mut stream, &line(json!({"counts": {}}))).await;
    stream.flush().await.expect("it reads");
    stage
        .eventually("it is heard", |figures| figures.counts(&node()).is_some())
        .await;
}

#[tokio::test]
async fn a_line_without_an_end_is_not_waited_for() {
    let stage = Stage::new().await;
    let (mut stream, _) = stage.asked().await;
    answer(&mut stream, "200 OK").await;
    let endless = "x".repeat(64 * 1024);
    let chunk = format!("{:x}\r\n{endless}\r\n", endless.len());
    let flood = async { while stream.write_all(chunk.as_bytes()).await.is_ok() {} };
    let (_, again) = tokio::join!(timeout(SOON, flood), stage.asked());
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_heard_of_for_five_seconds_is_not_known() {
    let figures = Figures::default();
    let said = line(json!({"streams": [{"stream": "live/a", "set": {"bytesIn": 1}}]}));
    figures.listen_to(peer("0"));
    figures.hear(&peer("0"), said.as_bytes()).expect("legal");
    tokio::time::advance(FRESH - Duration::from_millis(1)).await;
    assert!(figures.stream::<Value>(&node(), &subject(None)).is_some());
    assert!(figures.counts(&node()).is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(figures.stream::<Value>(&node(), &subject(None)).is_none());
    assert!(figures.counts(&node()).is_none() && figures.unprovisioned::<Value>().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_said_under_a_name_by_who_is_not_expected_is_not_kept() {
    let figures = Figures::default();
    let said = line(json!({"streams": [{"stream": "live/a", "set": {"bytesIn": 1}}]}));
    let hear = |instance: &str| figures.hear(&peer(instance), said.as_bytes());
    let kept = || figures.0.read().len();
    figures.listen_to(peer("0"));
    assert_eq!(hear("0"), Ok(()));
    assert!(figures.counts(&node()).is_some());
    // It is gone while it is in the middle of a line.
    figures.forget(&node());
    assert_eq!((hear("0"), kept()), (Ok(()), 0));
    // Its next self is there.
    figures.listen_to(peer("1"));
    assert_eq!((hear("0"), kept()), (Ok(()), 1));
    assert!(figures.counts(&node()).is_none());
    assert_eq!(hear("1"), Ok(()));
    let rubbish = figures.hear(&peer("0"), b"rubbish");
    assert_eq!(rubbish, Err(Refused::Unreadable));
    assert!(figures.counts(&node()).is_some(), "it is not this one's");
}
