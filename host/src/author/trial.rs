//! `restreamd plugin run`: a plugin against a real source, without any configuration.
//!
//! A node on loopback that forgets, with this plugin as its one more type and one
//! provision of it. A file that changes takes over, as it would on a node.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Auth;
use crate::config::{Config, StoreKind};
use crate::gate::Access;
use crate::http::Client;
use crate::id::RestreamType;
use crate::plugin::grants::HttpHost;
use crate::plugin::{Description, Direction};
use crate::secrets::Secrets;
use crate::{demo, plugin, telemetry};

/// How often the status and the file are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// What a trial may dial beside what a node may: everything near its author.
const NEAR: [&str; 6] = [
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
];
const GUID: &str = "trial";
/// What it feeds.
const STREAM: &str = "live/trial";
/// What it reads: the demo's clip is published there.
const CLIP: &str = "live/stream1";

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plugin.
    pub file: PathBuf,
    /// The value of its first property that is a URL.
    pub url: Option<String>,
    /// Its other properties.
    pub set: Vec<(String, String)>,
    /// What its `http` import may ask.
    pub http: Vec<HttpHost>,
    /// Where the files are that it may play.
    pub media: Option<PathBuf>,
    /// Ends after so long; else at Ctrl-C.
    pub lasts: Option<Duration>,
}

/// Runs until Ctrl-C or for as long as asked.
///
/// # Errors
/// When the plugin is not admitted, refuses its properties, fails, or has brought no
/// media when its time is over.
pub async fn try_out(options: Options) -> anyhow::Result<()> {
    telemetry::start(&telemetry::Config {
        filter: "warn,restreamd::guest=info".to_owned(),
        ..telemetry::Config::default()
    })?;
    let (kind, described) = plugin::described(&options.file).await?;
    let properties = properties(&described, &options)?;
    let folder = tempfile::tempdir().context("the temporary folder")?;
    let place = folder.path().join(format!("{kind}.wasm"));
    copy(&options.file, &place)?;
    let mut config = config(&kind, folder.path(), options.http.clone());
    config.media_dir.clone_from(&options.media);
    let secrets = Secrets::load(&config)?;
    let auth = Auth::new(&crate::app::auth_settings(&config, &secrets))?;
    let app = App::start(config, &secrets).await?;
    let drain = app.drain.clone();
    drain.start_on_signals()?;
    let (api, rtmp) = (app.api, app.rtmp);
    let node = tokio::spawn(app.run());
    let reads = described.direction == Direction::Reads;
    if reads {
        drain.spawn(demo::publish(rtmp, drain.clone()));
    }
    let trial = Trial {
        client: Client::new(),
        base: format!("http://{api}/as/v1"),
        bearer: format!("Bearer {}", auth.admin_token()),
        stream: if reads { CLIP } else { STREAM },
        lasts: options.lasts,
    };
    let watched = async {
        trial.offered(&kind).await?;
        trial.start(&kind, properties).await?;
        if !reads {
            say(&where_to_play(api, rtmp));
        }
        tokio::select! {
            seen = trial.watch() => seen,
            error = trial.follow(&kind, &options.file, &place) => Err(error),
        }
    };
    let watched = tokio::select! {
        watched = watched => watched,
        () = drain.started() => Ok(()),
    };
    drain.start();
    node.await?;
    watched
}

/// What a person gave, under the names the type has.
fn properties(described: &Description, options: &Options) -> anyhow::Result<Map<String, Value>> {
    let mut properties = Map::new();
    if let Some(url) = &options.url {
        let names = described.properties.iter().map(|p| p.name.as_str());
        let urls = |name: &&str| {
            let name = name.to_ascii_lowercase();
            name.ends_with("url") || name.ends_with("uri")
        };
        let all: Vec<&str> = names.collect();
        let name = all.iter().find(|name| urls(name)).with_context(|| {
            let all = all.join(", ");
            format!("the type has no property for --url; set one of these with --set: {all}")
        })?;
        properties.insert((*name).to_owned(), json!(url));
    }
    for (key, value) in &options.set {
        ensure!(
            key != "type" && key != "action",
            "{key} is the host's and not a property of the type"
        );
        properties.insert(key.clone(), json!(value));
    }
    Ok(properties)
}

/// Whole or not at all: a node may read it at any moment.
fn copy(file: &Path, place: &Path) -> anyhow::Result<()> {
    let new = place.with_extension("new");
    std::fs::copy(file, &new).with_context(|| file.display().to_string())?;
    std::fs::rename(&new, place).with_context(|| place.display().to_string())
}

fn config(kind: &RestreamType, folder: &Path, http: Vec<HttpHost>) -> Config {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config {
        api_listen: loopback,
        rtmp_listen: loopback,
        store: StoreKind::Memory,
        ..Config::default()
    };
    config.dial.allow = NEAR.iter().filter_map(|net| net.parse().ok()).collect();
    config.rtmp.publish = Some(Access::Open);
    config.plugins.dir = Some(folder.to_owned());
    config.plugins.replace = vec![kind.clone()];
    if !http.is_empty() {
        let own = config.plugins.overrides.entry(kind.clone()).or_default();
        own.grants.http = Some(http);
    }
    config
}

struct Trial {
    client: Client,
    base: String,
    bearer: String,
    stream: &'static str,
    lasts: Option<Duration>,
}

impl Trial {
    async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<crate::http::Answer> {
        let url = format!("{}/{path}", self.base);
        self.client.call(method, &url, &self.bearer, body).await
    }

    /// A large file is compiled while the node runs already.
    async fn offered(&self, kind: &RestreamType) -> anyhow::Result<()> {
        let path = format!("plugins/{kind}");
        loop {
            let answer = self.call("GET", &path, None).await?;
            if answer.status() == 200 {
                let plugin = answer.expect(200, "the plugin")?;
                match plugin["state"].as_str() {
                    Some("ready") => return Ok(()),
                    Some("rejected") => {
                        bail!("{}", plugin["error"].as_str().unwrap_or("it was rejected"));
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn start(
        &self,
        kind: &RestreamType,
        mut properties: Map<String, Value>,
    ) -> anyhow::Result<()> {
        properties.insert("type".to_owned(), json!(kind.as_str()));
        let document = json!([{ "provisionGuid": GUID, "streams": [{
            "streamGuid": self.stream, "abrLevel": 0, "camParams": { "properties": properties },
        }] }]);
        let created = self.call("POST", "streams/provision/default", Some(&document));
        created.await?.expect(201, "the provision")?;
        let place = format!("streams/provision/default/distribute/{GUID}");
        self.call("POST", &place, None)
            .await?
            .expect(200, "the start")?;
        Ok(())
    }

    /// Tells every change, until the time is over.
    async fn watch(&self) -> anyhow::Result<()> {
        // Compiling it is not the plugin's time.
        let begun = Instant::now();
        let mut told = String::new();
        let mut was_live = false;
        loop {
            let path = format!("streams/provision/default/{GUID}?status=true");
            let answer = self.call("GET", &path, None).await?;
            let status = answer.expect(200, "the status")?[0].take();
            let line = describe(&status);
            if line != told {
                say(&format!(
                    "{:7.1} s  {line}\n",
                    begun.elapsed().as_secs_f64()
                ));
                told = line;
            }
            was_live |= status["phase"] == "live";
            if status["phase"] == "failed" {
                let error = status["error"].as_str().unwrap_or("it failed");
                // As planned: a list of files has an end.
                if was_live && error.starts_with("finished") {
                    return Ok(());
                }
                bail!("{error}");
            }
            if self.lasts.is_some_and(|lasts| begun.elapsed() >= lasts) {
                ensure!(was_live, "no media came: {told}");
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Puts a changed file in place, so that the trial goes on with it.
    async fn follow(&self, kind: &RestreamType, file: &Path, place: &Path) -> anyhow::Error {
        let mut known = changed(file);
        let mut seen = known;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = changed(file);
            // Twice the same: whoever writes it has written it.
            if now.is_none() || now == known || now != std::mem::replace(&mut seen, now) {
                continue;
            }
            known = now;
            if let Err(error) = copy(file, place) {
                return error;
            }
            let path = format!("plugins/{kind}/reload");
            let said = match self.call("POST", &path, None).await {
                Ok(answer) => answer.expect(200, "the new build").map(|_| ()),
                Err(error) => Err(error),
            };
            say(&match said {
                Ok(()) => "           the file changed: a new build takes over\n".to_owned(),
                Err(error) => {
                    format!("           the file changed, the build before stays: {error:#}\n")
                }
            });
        }
    }
}

fn changed(file: &Path) -> Option<(u64, SystemTime)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// One line of what the status says now.
fn describe(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut line = text(&status["phase"]).unwrap_or_default();
    if let Some(source) = text(&status["source"]) {
        let _ = write!(line, " {source}");
    }
    for track in ["video", "audio"] {
        let track = &status["media"][track];
        if let Some(codec) = track["codec"].as_str() {
            let _ = write!(line, ", {codec}");
            if let (Some(width), Some(height)) = (track["width"].as_u64(), track["height"].as_u64())
            {
                let _ = write!(line, " {width}x{height}");
            }
        }
    }
    if let Some(error) = text(&status["error"]) {
        let _ = write!(line, " ({error})");
    }
    if let Some(attempt) = status["attempt"].as_u64().filter(|attempt| *attempt > 1) {
        let _ = write!(line, ", attempt {attempt}");
    }
    line
}

fn where_to_play(api: SocketAddr, rtmp: SocketAddr) -> String {
    format!(
        "play it: ffplay rtmp://{rtmp}/{STREAM}\n         \
         http://{api}/watch/{STREAM} in a browser\n"
    )
}

#[allow(
    clippy::print_stdout,
    reason = "the trial talks to the person who started it"
)]
fn say(text: &str) {
    print!("{text}");
    let _ = std::io::Write::flush(&mut std::io::stdout());
}
