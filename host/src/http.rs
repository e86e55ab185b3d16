//! A small client of a node's REST API.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde_json::Value;

/// A call takes no longer, unless it is told to.
const TIMEOUT: Duration = Duration::from_secs(15);
/// An answer is no larger.
const MAX_BODY: usize = 64 << 20;

/// The client.
#[derive(Clone, Debug)]
pub struct Client<C = HttpConnector> {
    hyper: Hyper<C, Full<Bytes>>,
    timeout: Duration,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    body: Value,
}

impl Client {
    /// A client for plain HTTP.
    pub fn new() -> Self {
        Self {
            hyper: Hyper::builder(TokioExecutor::new()).build_http(),
            timeout: TIMEOUT,
        }
    }
}

impl Client<HttpsConnector<HttpConnector>> {
    /// A client for HTTPS.
    pub fn secure(tls: Arc<ClientConfig>) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(&tls))
            .https_only()
            .enable_http1()
            .build();
        Self {
            hyper: Hyper::builder(TokioExecutor::new()).build(connector),
            timeout: TIMEOUT,
        }
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> Client<C> {
    /// The same, and a call may take so long.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// One call; `authorization` may be empty.
    pub async fn call(
        &self,
        method: &str,
        url: &str,
        authorization: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = axum::http::Request::builder().method(method).uri(url);
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                serde_json::to_vec(body)?.into()
            }
            None => Bytes::new(),
        };
        let call = async {
            let response = self.hyper.request(request.body(Full::new(bytes))?).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
            let body = if body.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&body)?
            };
            anyhow::Ok(Answer { status, body })
        };
        tokio::time::timeout(self.timeout, call)
            .await
            .context("no answer in time")?
            .with_context(|| format!("{method} {url}"))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Answer {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, `Null` when there is none.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// The body, when the status is the one that was hoped for.
    pub fn expect(self, status: u16, what: &str) -> anyhow::Result<Value> {
        anyhow::ensure!(
            self.status == status,
            "{what} answered {}: {}",
            self.status,
            self.body
        );
        Ok(self.body)
    }
}
