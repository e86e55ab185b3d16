//! One HTTP request of a policy: asked under the dial policy, answered within bounds.
//!
//! A connection each, to the address that was checked, as every dial has it. Redirects are
//! answers and not followed, so that nothing leads elsewhere. It knows no grants: whoever
//! calls it has looked at them. Invariant: bytes and time are bounded in both directions.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::host::{Class, Failure, Request, Response, Trust};
use crate::rtmp::dial::reach;
use crate::rtmp::policy::Policy;

/// Bytes of a body, in either direction.
pub(super) const BODY: usize = 64 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;
/// Bytes of a header, and of the URL.
const TEXT: usize = 8 * 1024;
/// What the head of an answer may be; hyper's least is 8 KiB.
const HEAD: usize = 32 * 1024;
/// The longest that may be waited for.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers that are not the policy's: they say how the connection is used.
const OURS: [&str; 8] = [
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

/// A request that makes sense.
pub(super) struct Checked {
    request: hyper::Request<Full<Bytes>>,
    host: String,
    port: u16,
    trust: Option<Trust>,
    timeout: Duration,
}

impl Checked {
    /// Looks at a request; nothing is dialed.
    pub(super) fn new(asked: Request) -> Result<Self, Failure> {
        let invalid = |text: &str| Failure::new(Class::Invalid, text);
        if asked.body.len() > BODY || asked.headers.len() > HEADERS || asked.url.len() > TEXT {
            let text = "at most 64 KiB of body, 64 headers and 8 KiB of URL are sent";
            return Err(Failure::new(Class::Limit, text));
        }
        let uri: Uri = asked.url.parse().map_err(|_| invalid("bad URL"))?;
        let (trust, default) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(asked.trust), 443),
            _ => return Err(invalid("bad URL: it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("bad URL: no host"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(invalid("bad URL: a user, or no host"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(default);
        let named = HeaderValue::from_str(authority.as_str());
        let named = named.map_err(|_| invalid("bad URL: no host"))?;
        // To a server, the path alone; the host is a header.
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let method = Method::from_bytes(asked.method.as_bytes());
        let mut request = hyper::Request::new(Full::new(Bytes::from(asked.body)));
        *request.method_mut() = method.map_err(|_| invalid("bad method"))?;
        *request.uri_mut() = path.parse().map_err(|_| invalid("bad URL"))?;
        let headers = request.headers_mut();
        headers.insert(HOST, named);
        for (name, value) in asked.headers {
            let name = HeaderName::try_from(name).map_err(|_| invalid("bad header name"))?;
            if OURS.contains(&name.as_str()) {
                let text = format!("the header {name} is the host's");
                return Err(Failure::new(Class::Invalid, text));
            }
            let value = HeaderValue::try_from(value).map_err(|_| invalid("bad header value"))?;
            headers.append(name, value);
        }
        Ok(Self {
            request,
            host,
            port,
            trust,
            timeout: asked.timeout.min(MAX_TIMEOUT),
        })
    }

    /// Whom it is for.
    pub(super) fn to(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Asks, and waits for the whole answer. Dropping it gives the attempt up.
    pub(super) async fn ask(self, policy: &Policy) -> Result<Response, Failure> {
        let timeout = self.timeout;
        let late = format!("{} did not answer in {} ms", self.host, timeout.as_millis());
        let answered = tokio::time::timeout(timeout, self.exchange(policy)).await;
        answered.unwrap_or_else(|_| Err(Failure::new(Class::Timeout, late)))
    }

    async fn exchange(self, policy: &Policy) -> Result<Response, Failure> {
        let io = reach(&self.host, self.port, self.trust, policy).await?;
        let host = &self.host;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD);
        let connected = builder.handshake(TokioIo::new(io)).await;
        let (mut sender, connection) = connected.map_err(|error| failed(host, &error))?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let answer = sender.send_request(self.request).await;
        let (head, body) = answer.map_err(|error| failed(host, &error))?.into_parts();
        let body = Limited::new(body, BODY).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => failed(host, &error),
            Err(error) if error.is::<LengthLimitError>() => Failure::new(
                Class::Limit,
                format!("{host} answers with more than 64 KiB"),
            ),
            Err(_) => Failure::new(Class::Other, format!("{host}: the answer was lost")),
        })?;
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = head.headers.iter();
        Ok(Response {
            status: head.status.as_u16(),
            headers: headers
                .filter_map(|(name, value)| Some((name.to_string(), text(value)?)))
                .collect(),
            body: body.to_bytes().to_vec(),
        })
    }
}

fn failed(host: &str, error: &hyper::Error) -> Failure {
    let class = match () {
        () if error.is_parse() || error.is_parse_too_large() => Class::Protocol,
        () if error.is_timeout() => Class::Timeout,
        () => Class::Closed,
    };
    Failure::new(class, format!("{host}: {error}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    fn asked(url: &str) -> Request {
        Request {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: vec![("x-stream".to_owned(), "live/a".to_owned())],
            body: b"hello".to_vec(),
            timeout: Duration::from_secs(20),
            trust: Trust::Verify,
        }
    }

    fn loopback() -> Policy {
        let rules = crate::rtmp::policy::Config {
            allow: vec!["127.0.0.0/8".parse().expect("a rule")],
            deny: Vec::new(),
        };
        Policy::new(rules, Vec::new())
    }

    /// What a server that says this is told, and what comes of it.
    async fn says(answer: &[u8]) -> (String, Result<Response, Failure>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut text = Vec::new();
            while !text.ends_with(b"hello") {
                assert!(stream.read_buf(&mut text).await.expect("a request") > 0);
            }
            let _ = stream.write_all(answer).await;
            String::from_utf8(text).expect("text")
        };
        let url = format!("http://{address}/key?of=a&b");
        let checked = Checked::new(asked(&url)).expect("legal");
        let policy = loopback();
        tokio::join!(serve, checked.ask(&policy))
    }

    #[tokio::test]
    async fn what_is_asked_and_answered_arrives_whole() {
        let answer =
            b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\ncontent-length: 3\r\n\r\nurl";
        let (heard, answered) = says(answer).await;
        assert!(
            heard.starts_with("POST /key?of=a&b HTTP/1.1\r\n"),
            "{heard}"
        );
        assert!(heard.contains("host: 127.0.0.1:"), "{heard}");
        assert!(heard.contains("x-stream: live/a\r\n"), "{heard}");
        assert!(heard.contains("content-length: 5\r\n"), "{heard}");
        let answered = answered.expect("an answer, and not followed");
        assert_eq!((answered.status, &answered.body[..]), (302, &b"url"[..]));
        let location = ("location".to_owned(), "http://10.0.0.1/".to_owned());
        assert!(answered.headers.contains(&location));
    }

    #[tokio::test]
    async fn answers_are_bounded_and_what_is_none_says_so() {
        let long = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; BODY + 1]];
        let head = [&b"HTTP/1.1 200 OK\r\nx: "[..], &vec![b'x'; 2 * HEAD]];
        for (answer, class) in [
            (&long.concat()[..], Class::Limit),
            (&head.concat()[..], Class::Protocol),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
                Class::Closed,
            ),
            (b"", Class::Closed),
            (b"no http at all\r\n\r\n", Class::Protocol),
        ] {
            let (_, answered) = says(answer).await;
            let failure = answered.expect_err("no answer");
            assert_eq!(failure.class, class, "{failure}");
        }
        let full = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; BODY]];
        let (_, answered) = says(&full.concat()).await;
        assert_eq!(answered.expect("just enough").body.len(), BODY);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_waited_for_as_long_as_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let request = Request {
            timeout: Duration::from_millis(50),
            ..asked(&url)
        };
        let begin = Instant::now();
        let answered = Checked::new(request).expect("legal").ask(&loopback()).await;
        assert_eq!(answered.map_err(|f| f.class).err(), Some(Class::Timeout));
        assert!(begin.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn the_dial_policy_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let checked = Checked::new(asked(&url)).expect("legal");
        let answered = checked.ask(&Policy::default()).await;
        assert_eq!(answered.map_err(|f| f.class).err(), Some(Class::Blocked));
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let class = |request| Checked::new(request).err().map(|failure| failure.class);
        for bad in [
            "",
            "a",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://u:p@a/",
            "http://a b/",
        ] {
            assert_eq!(class(asked(bad)), Some(Class::Invalid), "{bad:?}");
        }
        for (name, value) in [("Host", "b"), ("a b", "c"), ("a", "b\nc"), ("TE", "x")] {
            let request = Request {
                headers: vec![(name.to_owned(), value.to_owned())],
                ..asked("http://a/")
            };
            assert_eq!(class(request), Some(Class::Invalid), "{name:?}");
        }
        let large = Request {
            body: vec![0; BODY + 1],
            ..asked("http://a/")
        };
        assert_eq!(class(large), Some(Class::Limit));
        let many = Request {
            headers: vec![("a".to_owned(), "b".to_owned()); HEADERS + 1],
            ..asked("http://a/")
        };
        assert_eq!(class(many), Some(Class::Limit));
        let checked = Checked::new(asked("https://[::1]/x")).expect("legal");
        assert_eq!(checked.to(), ("::1", 443));
    }
}
