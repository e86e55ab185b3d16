//! A headless Chromium, driven over WebDriver.
//!
//! chromedriver is spoken to as the W3C's document says, over plain HTTP. Each
//! browser has a profile of its own, and goes with its guard.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use ureq::http::Request;

use crate::eventually::eventually;
use crate::proc::Running;

/// A browser starts slowly on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    agent: Agent,
    session: String,
    _driver: Running,
    _profile: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// When chromedriver or the browser is missing, with the package's name.
    pub fn start() -> Self {
        let driver = Running::start(
            Command::new("chromedriver").arg("--port=0"),
            "chromium-driver",
        );
        let port = eventually("chromedriver listens", START, || {
            let said = driver.stdout.text();
            let told = said.split("started successfully on port ").nth(1);
            let port = told.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
            port.and_then(|digits: String| digits.parse::<u16>().ok())
                .ok_or_else(|| format!("{said} {}", driver.stderr.text()))
        });
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(START))
            .build();
        let profile = tempfile::tempdir().expect("the temporary folder is writable");
        let mut browser = Self {
            agent: config.into(),
            session: format!("http://127.0.0.1:{port}"),
            _driver: driver,
            _profile: profile,
        };
        let session = browser.call("POST", "/session", Some(&browser.capabilities()));
        let id = session["sessionId"].as_str().expect("a session has an id");
        browser.session = format!("{}/session/{id}", browser.session);
        browser
    }

    fn capabilities(&self) -> Value {
        let profile = self._profile.path().display();
        json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", format!("--user-data-dir={profile}"),
            ]},
        }}})
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.call("POST", "/url", Some(&json!({ "url": url })));
    }

    /// Runs the body of a function in the page, and answers what it returns.
    pub fn run(&self, script: &str) -> Value {
        let body = json!({"script": script, "args": []});
        self.call("POST", "/execute/sync", Some(&body))
    }

    /// What the page's console got since it was last asked: refused policies and errors too.
    pub fn console(&self) -> Vec<String> {
        let entries = self.call("POST", "/se/log", Some(&json!({"type": "browser"})));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(Value::to_string).collect()
    }

    /// One command; answers its value.
    ///
    /// # Panics
    /// When the driver says no.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.session))
            .header("content-type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())
            .expect("a legal request");
        let mut response = self
            .agent
            .run(request)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let text = response.body_mut().read_to_string().unwrap_or_default();
        assert!(response.status().is_success(), "{method} {path}: {text}");
        let answer: Value = serde_json::from_str(&text).expect("drivers answer JSON");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is the driver's child: it goes when the session does. The driver is killed after.
        let request = Request::builder()
            .method("DELETE")
            .uri(&self.session)
            .body(());
        if let Ok(request) = request {
            let _gone = self.agent.run(request);
        }
    }
}
