//! The operator's webhook: told who wants what, it answers with a status.
//!
//! 2xx allows, 4xx refuses; whatever else comes, or nothing in time, refuses too and is
//! told to the operator. Redirects are not followed. The address is a setting, so the
//! policy for sources that provisions name has nothing to do with it. Invariants: asks
//! are bounded in number and each in time; what is asked holds tokens, and no log does.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::{Act, Denied, Secret, Wish};
use crate::id::NodeId;

/// Asks under way at a time, over all webhooks: each is a connection of ours.
const AT_A_TIME: usize = 256;
/// An answer's body says nothing to us. So much of it is read, and for so long, because
/// some servers take it ill when it is not.
const BODY: (usize, Duration) = (16 * 1024, Duration::from_millis(200));

/// Where a webhook is. Its path and query may be secrets and are not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Url(Uri);

impl Url {
    /// Whether it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

impl TryFrom<String> for Url {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let told = "must be http://host[:port]/path or https://…, without a user";
        let uri: Uri = text.parse().map_err(|_| told)?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let user = uri.authority().is_some_and(|a| a.as_str().contains('@'));
        match known && host && !user && !text.contains('#') {
            true => Ok(Self(uri)),
            false => Err(told),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |a| a.as_str());
        write!(f, "{scheme}://{authority}/***")
    }
}

/// What came of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Allowed,
    Refused,
    /// None that is clear: 3xx, 5xx, a connection that failed, or no time left.
    Failed,
    /// It was not asked.
    Busy,
}

impl EncodeLabelValue for Answer {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        fmt::Write::write_str(
            encoder,
            match self {
                Self::Allowed => "allowed",
                Self::Refused => "refused",
                Self::Failed => "failed",
                Self::Busy => "busy",
            },
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    answer: Answer,
}

/// What webhooks count. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Family<Labels, Counter>);

impl Metrics {
    /// Registers it.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "gate_webhook_answers",
            "Publishers and players that a webhook was asked about, by its answer",
            metrics.0.clone(),
        );
        metrics
    }

    fn count(&self, answer: Answer) {
        self.0.get_or_create(&Labels { answer }).inc();
    }
}

/// What all webhooks share. A cheap clone.
#[derive(Clone)]
pub struct Asks {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    slots: Arc<Semaphore>,
    node: NodeId,
    timeout: Duration,
    metrics: Metrics,
}

impl Asks {
    /// In the name of a node. A webhook has so much time from the connection to its answer.
    pub fn new(
        tls: rustls::ClientConfig,
        node: NodeId,
        timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        let mut http = HttpConnector::new();
        // The other connector above it knows https.
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Self {
            // A connection each: one that is kept may be closed under the next question,
            // and a publisher would be refused for it.
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector),
            slots: Arc::new(Semaphore::new(AT_A_TIME)),
            node,
            timeout,
            metrics,
        }
    }
}

/// A webhook.
pub struct Webhook {
    asks: Asks,
    url: Url,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").field(&self.url).finish()
    }
}

/// The secret cannot be sent in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be printable ASCII")]
pub struct BadSecret;

/// Whether a webhook's secret can be sent in a header.
pub fn can_be_sent(secret: &Secret) -> bool {
    authorization(secret).is_ok()
}

/// What TLS found wrong, if it was TLS that failed: a certificate, a name, a version.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What an I/O error holds is no cause of it, as it has its causes.
        let held = error.downcast_ref().and_then(io::Error::get_ref);
        cause = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// `Authorization` with a shared secret.
fn authorization(secret: &Secret) -> Result<HeaderValue, BadSecret> {
    let text = secret.expose();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(BadSecret);
    }
    let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| BadSecret)?;
    value.set_sensitive(true);
    Ok(value)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    action: &'a str,
    app: &'a str,
    stream: &'a str,
    stream_guid: &'a str,
    address: String,
    protocol: &'a str,
    query: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tc_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_url: Option<&'a str>,
    node_id: &'a str,
}

impl Webhook {
    /// A webhook, and what shows it that it is us who ask.
    pub fn new(asks: Asks, url: Url, secret: Option<&Secret>) -> Result<Self, BadSecret> {
        Ok(Self {
            asks,
            url,
            authorization: secret.map(authorization).transpose()?,
        })
    }

    /// Asks. An answer comes within the timeout and a moment, whatever the other side does.
    pub(super) async fn ask(&self, wish: &Wish) -> Result<(), Denied> {
        let answer = self.answer(wish).await;
        self.asks.metrics.count(answer);
        match answer {
            Answer::Allowed => Ok(()),
            Answer::Refused => Err(Denied::Refused),
            Answer::Failed => Err(Denied::NoAnswer),
            Answer::Busy => Err(Denied::Busy),
        }
    }

    async fn answer(&self, wish: &Wish) -> Answer {
        let Ok(_slot) = self.asks.slots.try_acquire() else {
            warn!(stream = %wish.stream, "refused: too many wait for the webhook");
            return Answer::Busy;
        };
        let call = self.asks.client.request(self.request(wish)).boxed();
        let reason = match tokio::time::timeout(self.asks.timeout, call).await {
            Ok(Ok(response)) => {
                let status = response.status();
                finish(response).await;
                match status {
                    status if status.is_success() => return Answer::Allowed,
                    status if status.is_client_error() => {
                        debug!(stream = %wish.stream, %status, "refused by the webhook");
                        return Answer::Refused;
                    }
                    status => told(status),
                }
            }
            // Without its causes, which may repeat the address, but for what TLS says.
            Ok(Err(error)) if error.is_connect() => match tls(&error) {
                Some(why) => format!("TLS failed: {why}"),
                None => "it cannot be connected to".to_owned(),
            },
            Ok(Err(_)) => "the connection was lost".to_owned(),
            Err(_) => "it took too long".to_owned(),
        };
        warn!(stream = %wish.stream, webhook = ?self.url, reason, "refused: no answer of the webhook");
        Answer::Failed
    }

    fn request(&self, wish: &Wish) -> Request<Full<Bytes>> {
        let stream = wish.stream.as_str();
        let app = wish.stream.app_name();
        let question = Question {
            action: match wish.act {
                Act::Publish => "publish",
                Act::Play => "play",
            },
            app,
            stream: stream.get(app.len() + 1..).unwrap_or_default(),
            stream_guid: stream,
            address: wish.peer.ip().to_canonical().to_string(),
            protocol: wish.protocol.as_str(),
            query: &wish.query,
            tc_url: wish.tc_url.as_deref(),
            page_url: wish.page_url.as_deref(),
            node_id: self.asks.node.as_str(),
        };
        let body = serde_json::to_vec(&question).expect("texts are serialisable");
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.url.0.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

fn told(status: StatusCode) -> String {
    match status.is_redirection() {
        true => format!("it answered {status}, and redirects are not followed"),
        false => format!("it answered {status}"),
    }
}

/// Hears it out, within bounds.
async fn finish(response: Response<Incoming>) {
    let rest = Limited::new(response.into_body(), BODY.0).collect();
    let _ = tokio::time::timeout(BODY.1, rest).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::gate::Protocol;

    fn wish() -> Wish {
        Wish {
            act: Act::Play,
            stream: "live/room/cam".parse().expect("legal"),
            query: "key=hunter2".to_owned(),
            token: None,
            peer: "[::ffff:192.0.2.7]:9".parse().expect("an address"),
            protocol: Protocol::Rtmps,
            tc_url: None,
            page_url: None,
        }
    }

    fn webhook(listener: &TcpListener, timeout: Duration) -> Webhook {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
        let node = "node1".parse().expect("legal");
        let asks = Asks::new(tls, node, timeout, Metrics::default());
        let address = listener.local_addr().expect("bound");
        let url = Url::try_from(format!("http://{address}/may?key=s3cret")).expect("legal");
        Webhook::new(asks, url, Some(&Secret::new("sesame"))).expect("legal")
    }

    /// One request as it came, with its body; the connection to answer it on.
    async fn asked(listener: &TcpListener) -> (String, TcpStream) {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut text = String::new();
        while !text.ends_with('}') {
            let mut bytes = [0; 4_096];
            let read = stream.read(&mut bytes).await.expect("a request");
            text.push_str(std::str::from_utf8(&bytes[..read]).expect("text"));
        }
        (text, stream)
    }

    #[tokio::test]
    async fn it_is_told_who_wants_what_and_its_status_decides() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let webhook = webhook(&listener, Duration::from_secs(10));
        for (head, expected) in [
            ("204 No Content", Ok(())),
            ("403 Forbidden", Err(Denied::Refused)),
            ("404 Not Found", Err(Denied::Refused)),
            ("302 Found\r\nlocation: /yes", Err(Denied::NoAnswer)),
            ("500 Oh", Err(Denied::NoAnswer)),
        ] {
            let serve = async {
                let (request, mut stream) = asked(&listener).await;
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("it reads");
                request
            };
            let wish = wish();
            let (answer, request) = tokio::join!(webhook.ask(&wish), serve);
            assert_eq!(answer, expected, "{head}");
            assert!(
                request.starts_with("POST /may?key=s3cret HTTP/1.1\r\n"),
                "{request}"
            );
            assert!(
                request.contains("authorization: Bearer sesame\r\n"),
                "{request}"
            );
            let body = r#"{"action":"play","app":"live","stream":"room/cam","streamGuid":"live/room/cam","address":"192.0.2.7","protocol":"rtmps","query":"key=hunter2","nodeId":"node1"}"#;
            assert!(request.ends_with(body), "{request}");
        }
    }

    #[tokio::test]
    async fn asks_are_bounded_in_number_and_in_time_and_give_their_places_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let webhook = Arc::new(webhook(&listener, Duration::from_millis(500)));
        let ask = || {
            let webhook = webhook.clone();
            tokio::spawn(async move { webhook.ask(&wish()).await })
        };
        let waiting: Vec<_> = (0..AT_A_TIME).map(|_| ask()).collect();
        while webhook.asks.slots.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(webhook.ask(&wish()).await, Err(Denied::Busy));
        // It is connected to and says nothing.
        for one in waiting {
            assert_eq!(one.await.expect("no panic"), Err(Denied::NoAnswer));
        }
        assert_eq!(webhook.asks.slots.available_permits(), AT_A_TIME);
    }

    #[test]
    fn urls_are_http_and_show_no_secret() {
        let read = |text: &str| Url::try_from(text.to_owned());
        let url = read("https://hooks.example:8443/a/b?key=s3cret").expect("legal");
        assert_eq!(format!("{url:?}"), "https://hooks.example:8443/***");
        assert!(url.is_secure());
        for bad in [
            "",
            "/path",
            "ftp://a/",
            "https://",
            "http://u:p@a/",
            "http://a/#b",
            "http://a b/",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "two words", "naïve", "line\nbreak"] {
            assert!(authorization(&Secret::new(bad)).is_err(), "{bad:?}");
        }
    }
}
