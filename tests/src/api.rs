//! A small REST client that speaks the contract, and shows whatever comes back.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

use crate::eventually::eventually;
use crate::provision::Provision;

/// The group the tests put their nodes in: the default of the configuration.
pub const GROUP: &str = "nodegroup1";

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content type, empty when there is none.
    pub content_type: String,
    /// Body as sent.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// The body, when the status is the one expected.
    ///
    /// # Panics
    /// When it is another.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// The body as an array, when the status is 200.
    ///
    /// # Panics
    /// When the status or the shape is another.
    pub fn list(&self) -> Vec<Value> {
        match self.expect(200) {
            Value::Array(list) => list,
            other => panic!("no array: {other}"),
        }
    }

    /// Asserts the one error shape, and answers its body.
    ///
    /// # Panics
    /// When status or shape is another.
    pub fn error(&self, status: u16) -> Value {
        let body = self.expect(status);
        for key in ["error", "errorMessage", "code", "requestId"] {
            let text = body[key].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{key} is missing in {self:?}");
        }
        assert_eq!(body["error"], body["errorMessage"], "{self:?}");
        assert!(
            self.content_type.starts_with("application/json"),
            "{self:?}"
        );
        body
    }
}

/// A client of one node, with a token or without.
#[derive(Clone, Debug)]
pub struct Api {
    agent: Agent,
    origin: String,
    authorization: Option<String>,
}

impl Api {
    /// A client without a token.
    pub fn new(addr: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(15)))
            .max_idle_connections(0)
            .build();
        Self {
            agent: config.into(),
            origin: format!("http://{addr}"),
            authorization: None,
        }
    }

    /// `http://address:port`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The same client without a token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self {
            authorization: None,
            ..self.clone()
        }
    }

    /// The same client with this token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        self.with_authorization(&format!("Bearer {token}"))
    }

    /// The same client with this `Authorization` header.
    #[must_use]
    pub fn with_authorization(&self, value: &str) -> Self {
        Self {
            authorization: Some(value.to_owned()),
            ..self.clone()
        }
    }

    /// Logs in, and answers the raw answer.
    pub fn try_login(&self, user: &str, password: &str) -> Answer {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        self.with_authorization(&basic)
            .send("PUT", "/as/v1/auth/login", None)
    }

    /// Logs in, and answers the token.
    pub fn token(&self, user: &str, password: &str) -> String {
        let body = self.try_login(user, password).expect(200);
        body["token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token in {body}"))
            .to_owned()
    }

    /// Logs in.
    #[must_use]
    pub fn login(&self, user: &str, password: &str) -> Self {
        self.with_token(&self.token(user, password))
    }

    /// GET of a path with its query.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    /// Sends JSON, or nothing.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let text = body.map(Value::to_string);
        self.send(
            method,
            path,
            text.as_deref().map(|t| ("application/json", t)),
        )
    }

    /// Sends a body of any content type, or nothing.
    ///
    /// # Panics
    /// When no HTTP answer comes.
    pub fn send(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin));
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let sent = match body {
            Some((kind, text)) => {
                let request = request
                    .header("content-type", kind)
                    .body(text.to_owned())
                    .expect("a legal request");
                let request = self
                    .agent
                    .configure_request(request)
                    .allow_non_standard_methods(true)
                    .build();
                self.agent.run(request)
            }
            None => self.agent.run(request.body(()).expect("a legal request")),
        };
        let mut response = sent.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let header = response
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok());
        let content_type = header.unwrap_or_default().to_owned();
        let text = response
            .body_mut()
            .read_to_string()
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        Answer {
            status: response.status().as_u16(),
            content_type,
            text,
        }
    }

    /// Creates provisions in one request; raw answer.
    pub fn try_create(&self, provisions: &[&Provision]) -> Answer {
        let body = provisions.iter().map(|p| p.json()).collect();
        self.call("POST", &provision_path(""), Some(&Value::Array(body)))
    }

    /// Creates one provision.
    pub fn create(&self, provision: &Provision) {
        let body = self.try_create(&[provision]).expect(201);
        assert_eq!(body, json!({"result": "CREATED"}));
    }

    /// Asks for a server for the provision's stream, as the public example does;
    /// answers the location.
    pub fn distribute(&self, provision: &Provision) -> Value {
        let path = format!(
            "/as/v1/streams/stream/{GROUP}/publish/{}?restream=true",
            provision.stream()
        );
        let mut list = self.anonymous().get(&path).list();
        assert_eq!(list.len(), 1, "{list:?}");
        list.remove(0)
    }

    /// Creates and distributes.
    pub fn start(&self, provision: &Provision) {
        self.create(provision);
        self.distribute(provision);
    }

    /// The status of the provision's only stream.
    pub fn status(&self, guid: &str) -> Value {
        let mut list = self
            .get(&provision_path(&format!("/{guid}?status=true")))
            .list();
        assert_eq!(list.len(), 1, "{list:?}");
        list.remove(0)
    }

    /// Deletes a provision.
    pub fn delete(&self, guid: &str) {
        let body = self
            .call("DELETE", &provision_path(&format!("/{guid}")), None)
            .expect(200);
        assert_eq!(body, json!({"result": "DELETED"}));
    }

    /// The list of streams.
    pub fn streams(&self) -> Vec<Value> {
        self.get(&format!("/as/v1/streams/stream/{GROUP}?aggregate=false"))
            .list()
    }

    /// Waits until a stream of this name is listed as LIVE.
    pub fn wait_for_stream(&self, stream: &str, within: Duration) -> Value {
        eventually(&format!("{stream} is listed LIVE"), within, || {
            let list = self.streams();
            let found = list
                .iter()
                .find(|s| s["streamGuid"] == stream && s["state"] == "LIVE");
            found.cloned().ok_or_else(|| format!("{list:?}"))
        })
    }

    /// Waits until the status says this `state` (WAIT or LIVE), and answers it.
    pub fn wait_for_state(&self, guid: &str, state: &str, within: Duration) -> Value {
        self.wait_for(guid, &format!("state {state}"), within, |s| {
            s["state"] == state
        })
    }

    /// Waits until the status says this `phase`, and answers it.
    pub fn wait_for_phase(&self, guid: &str, phase: &str, within: Duration) -> Value {
        self.wait_for(guid, &format!("phase {phase}"), within, |s| {
            s["phase"] == phase
        })
    }

    /// Waits until the status satisfies `is`, and answers it.
    pub fn wait_for(
        &self,
        guid: &str,
        what: &str,
        within: Duration,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(&format!("{guid}: {what}"), within, || {
            let status = self.status(guid);
            if is(&status) {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }

    /// One plugin of `GET plugins`.
    pub fn plugin(&self, name: &str) -> Value {
        self.get(&format!("/as/v1/plugins/{name}")).expect(200)
    }

    /// Sum of a counter over all its labels; 0 when nothing was counted yet.
    pub fn counter(&self, name: &str) -> f64 {
        self.samples(name).iter().sum()
    }

    /// Sum of a gauge over all its labels.
    ///
    /// # Panics
    /// When there is no such gauge.
    pub fn gauge(&self, name: &str) -> f64 {
        let samples = self.samples(name);
        assert!(!samples.is_empty(), "/metrics has no {name}");
        samples.iter().sum()
    }

    fn samples(&self, name: &str) -> Vec<f64> {
        let answer = self.anonymous().get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        let lines = answer
            .text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect()
    }
}

/// A path below the group's provisions; `rest` begins with a slash or is empty.
pub fn provision_path(rest: &str) -> String {
    format!("/as/v1/streams/provision/{GROUP}{rest}")
}
