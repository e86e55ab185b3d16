//! Commands that speak to a running node over its REST API.
//!
//! Finds the node, and a token for it: one that is given, one for a name and password,
//! or, where the node's secrets are at hand, one made here as `restreamd token` makes
//! it. Knows of plugins what the API's documents say, and no more.

mod file;
mod offline;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub use file::{Written, read, write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
pub use offline::{export_offline, import_offline};
use serde_json::Value;

use crate::app::auth_settings;
use crate::auth::{Auth, Secret};
use crate::config::Config;
use crate::http::{Answer, Client};
use crate::rtmp::dial::verifying;
use crate::secrets::Secrets;

/// A reload compiles the file, and waits for those before it.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Which node, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Such as `https://media1.example:5080`; by default what the configuration says.
    pub api: Option<String>,
    /// A token.
    pub token: Option<Secret>,
    /// A name to log in with.
    pub user: Option<String>,
    /// And its password.
    pub password: Option<Secret>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such node, or it does not answer.
    #[error("{0:#}")]
    Unreachable(anyhow::Error),
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// There is nothing to show it.
    #[error("{0:#}; or give --token, or --user and a password")]
    NoToken(anyhow::Error),
}

enum Speaks {
    Plain(Client<HttpConnector>),
    Tls(Client<HttpsConnector<HttpConnector>>),
}

/// A node that can be told what to do.
pub struct Node {
    base: String,
    speaks: Speaks,
    authorization: String,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Finds the node and a token for it.
    pub async fn reach(access: Access, config: &Config) -> Result<Self, Error> {
        let base = access.api.unwrap_or_else(|| address(config));
        let base = base.trim_end_matches('/').to_owned();
        let speaks = if base.starts_with("https://") {
            let tls = verifying().await;
            let tls = tls.map_err(|error| Error::Unreachable(anyhow::anyhow!("{error}")))?;
            Speaks::Tls(Client::secure(tls).within(TIMEOUT))
        } else {
            Speaks::Plain(Client::new().within(TIMEOUT))
        };
        let mut node = Self {
            base,
            speaks,
            authorization: String::new(),
        };
        let token = match (access.token, access.user) {
            (Some(token), _) => token.expose().to_owned(),
            (None, Some(user)) => node.log_in(&user, access.password.as_ref()).await?,
            (None, None) => own_token(config).map_err(Error::NoToken)?,
        };
        node.authorization = format!("Bearer {token}");
        Ok(node)
    }

    async fn log_in(&mut self, user: &str, password: Option<&Secret>) -> Result<String, Error> {
        let password = password.map_or("", |password| password.expose());
        self.authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let body = self.call("PUT", "auth/login", None).await?;
        let token = body["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| Error::Refused("the login gave no token".to_owned()))
    }

    /// The plugins it has.
    pub async fn plugins(&self) -> Result<Vec<Value>, Error> {
        match self.call("GET", "plugins", None).await? {
            Value::Array(list) => Ok(list),
            _ => Err(Error::Refused(
                "the answer is no list of plugins".to_owned(),
            )),
        }
    }

    /// Has it read a plugin's file again; without a name all that are files. Tells which
    /// could not be.
    pub async fn reload(&self, name: Option<&str>) -> Result<Vec<Value>, Error> {
        if let Some(name) = name {
            return Ok(vec![self.post(name, "reload").await?]);
        }
        let mut done = Vec::new();
        let mut refused = Vec::new();
        for plugin in self.plugins().await? {
            let name = plugin["type"].as_str().unwrap_or_default();
            if plugin["origin"] != "file" {
                continue;
            }
            match self.post(name, "reload").await {
                Ok(plugin) => done.push(plugin),
                Err(Error::Refused(why)) => refused.push(format!("{name}: {why}")),
                Err(error) => return Err(error),
            }
        }
        match refused.is_empty() {
            true => Ok(done),
            false => Err(Error::Refused(refused.join("; "))),
        }
    }

    /// Has it go back to a plugin's former build.
    pub async fn roll_back(&self, name: &str) -> Result<Vec<Value>, Error> {
        Ok(vec![self.post(name, "rollback").await?])
    }

    async fn post(&self, name: &str, what: &str) -> Result<Value, Error> {
        // It becomes a part of a path.
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(Error::Refused(format!("`{name}` is no plugin's name")));
        }
        let path = format!("plugins/{name}/{what}");
        self.call("POST", &path, None).await
    }

    /// Has it hand over what it runs, and leave. Answers at once.
    pub async fn drain(&self) -> Result<(), Error> {
        self.call("POST", "admin/drain", None).await.map(drop)
    }

    /// Everything that its store holds, with the secrets.
    pub async fn export(&self) -> Result<Value, Error> {
        self.call("GET", "admin/store", None).await
    }

    /// Has its store take in what another's held, all or nothing.
    pub async fn import(&self, snapshot: &Value) -> Result<(), Error> {
        let done = self.call("PUT", "admin/store", Some(snapshot)).await;
        done.map(drop)
    }

    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let url = format!("{}/as/v1/{path}", self.base);
        let authorization = &self.authorization;
        let answer: anyhow::Result<Answer> = match &self.speaks {
            Speaks::Plain(client) => client.call(method, &url, authorization, body).await,
            Speaks::Tls(client) => client.call(method, &url, authorization, body).await,
        };
        let answer = answer.map_err(Error::Unreachable)?;
        if answer.status() == 200 {
            return Ok(answer.body().clone());
        }
        let why = answer.body()["error"].as_str();
        let status = || format!("{method} {url} answered {}", answer.status());
        Err(Error::Refused(why.map_or_else(status, str::to_owned)))
    }
}

/// Where a node with this configuration on this machine is.
fn address(config: &Config) -> String {
    let scheme = match config.api.tls_cert {
        Some(_) => "https",
        None => "http",
    };
    let mut addr = config.api_listen;
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{addr}")
}

fn own_token(config: &Config) -> anyhow::Result<String> {
    let secrets = Secrets::of_a_node(config).context("no token")?;
    Ok(Auth::new(&auth_settings(config, &secrets))?.admin_token())
}

/// Plugins as lines of a table, or as JSON.
pub fn shown(plugins: &[Value], json: bool) -> String {
    if json {
        let text = serde_json::to_string_pretty(plugins).unwrap_or_default();
        return text + "\n";
    }
    let rows = plugins.iter().map(|plugin| {
        let text = |key: &str| match &plugin[key] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let digest: String = text("digest").chars().take(12).collect();
        let on = match (text("instances"), text("formerInstances")) {
            (all, former) if former == "0" || former.is_empty() => all,
            (all, former) => format!("{all} ({former} on former builds)"),
        };
        let cells = [
            text("type"),
            text("state"),
            text("version"),
            digest,
            text("origin"),
            on,
        ];
        (cells, text("error"))
    });
    let head = ["TYPE", "STATE", "VERSION", "SHA256", "FROM", "RESTREAMERS"].map(str::to_owned);
    let rows: Vec<_> = [(head, String::new())].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|(cells, _)| cells[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let mut text = String::new();
    for (cells, error) in &rows {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:0$}  ", width(column));
        }
        text.push_str(line.trim_end());
        text.push('\n');
        if !error.is_empty() {
            let _ = writeln!(text, "  {error}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_plugin_and_one_for_what_is_wrong_with_it() {
        let plugins = [
            json!({"type": "rtmp", "state": "ready", "version": "0.1.0", "digest": "0123456789abcdef",
                "origin": "built in", "instances": 3, "formerInstances": 0, "error": null}),
            json!({"type": "cam", "state": "rejected", "version": "", "digest": "",
                "origin": "file", "instances": 2, "formerInstances": 1, "error": "no"}),
        ];
        let text = shown(&plugins, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(
            lines[1],
            "rtmp  ready     0.1.0    0123456789ab  built in  3"
        );
        assert!(lines[2].ends_with("2 (1 on former builds)") && lines[3] == "  no");
        let json: Value = serde_json::from_str(&shown(&plugins, true)).expect("JSON");
        assert_eq!(json, json!(plugins));
    }

    #[test]
    fn a_node_of_this_machine_is_found_by_its_configuration() {
        let mut config = Config::default();
        assert_eq!(address(&config), "http://127.0.0.1:5080");
        config.api_listen = "[::]:5443".parse().expect("an address");
        config.api.tls_cert = Some("cert.pem".into());
        assert_eq!(address(&config), "https://[::1]:5443");
    }
}
