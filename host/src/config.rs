//! The configuration: one TOML file, then the environment, then flags.
//!
//! Parsing reads the file and nothing else; it binds no port and makes no secret.
//! Every top-level key is also an environment variable (`RESTREAMD_API_LISTEN`)
//! and a flag (`--api-listen`). Invariant: a `Config` that exists is legal.

mod apps;
mod etcd;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

pub use apps::App;
pub use etcd::{Etcd, Members};
use serde::Deserialize;

use crate::auth::Secret;
use crate::gate::{self, Access};
use crate::id::{AppName, NodeGroup, NodeId, SubGroup};
use crate::limits::Bounds;
use crate::{api, cluster, flv, plugin, rtmp, stream, telemetry};

/// Environment variables of the program begin so.
const ENV: &str = "RESTREAMD_";
/// Variables of keys in tables: secrets that do not belong into a file.
const IN_TABLES: [(&str, &str, &str); 1] = [("ETCD_PASSWORD", "etcd", "password")];
/// Variables that are no keys: the file's own name, and what other commands read.
const NOT_KEYS: &[&str] = &[
    "CONFIG",
    "TOKEN",
    "API",
    "USER",
    "PASSWORD",
    // Tests ask for it, see cluster::proof.
    "APPEND_LOG",
    // And for this, see cluster::sabotage; other builds refuse to start with it.
    #[cfg(debug_assertions)]
    "BREAK",
];
/// More than a machine has ports or files for.
const MAX_CONNECTIONS: usize = 1_000_000;
/// The top-level keys that flags and the environment can set.
pub const KEYS: [&str; 14] = [
    "api_listen",
    "rtmp_listen",
    "rtmps_listen",
    "advertise",
    "data_dir",
    "plugin_dir",
    "media_dir",
    "node_id",
    "node_group",
    "sub_group",
    "store",
    "admin_user",
    "admin_password",
    "jwt_secret",
];

/// The whole configuration. `host/restreamd.toml` documents every key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the REST API listens.
    pub api_listen: SocketAddr,
    /// Where RTMP listens.
    pub rtmp_listen: SocketAddr,
    /// Where RTMPS listens, if anywhere.
    pub rtmps_listen: Option<SocketAddr>,
    /// `serverAddress`: how clients reach this node; by default the address RTMP listens on,
    /// and of a node that listens on every address the one it reaches the internet from.
    pub advertise: Option<String>,
    /// Where state lives.
    pub data_dir: PathBuf,
    /// Where plugins lie.
    pub plugin_dir: Option<PathBuf>,
    /// Where media files lie.
    pub media_dir: Option<PathBuf>,
    /// This node's name.
    pub node_id: NodeId,
    /// This node's group.
    pub node_group: NodeGroup,
    /// The part of the group that this node is in: callers may ask for one.
    pub sub_group: SubGroup,
    /// `embedded`, `memory` for a node that forgets, or `etcd://host:port,…`.
    pub store: StoreKind,
    /// The administrator's name.
    pub admin_user: String,
    /// The administrator's password or its argon2 hash; made and kept under `data_dir` when absent.
    pub admin_password: Option<Secret>,
    /// The key that tokens are signed with; made and kept under `data_dir` when absent.
    pub jwt_secret: Option<Secret>,
    /// `[api]`
    pub api: api::Config,
    /// `[rtmp]`
    pub rtmp: rtmp::Config,
    /// `[flv]`
    pub flv: flv::Config,
    /// `[stream]`
    pub stream: stream::Config,
    /// `[dial]`
    pub dial: rtmp::policy::Config,
    /// `[plugins]`
    pub plugins: plugin::Config,
    /// `[etcd]`
    pub etcd: Etcd,
    /// `[limits]`
    pub limits: Limits,
    /// `[apps.<app>]`
    pub apps: BTreeMap<AppName, App>,
    /// `[cluster]`
    pub cluster: cluster::Config,
    /// `[log]`
    pub log: telemetry::Config,
}

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreKind {
    /// In a file under `data_dir`.
    Embedded,
    /// Nowhere: gone with the process.
    Memory,
    /// In etcd, with other nodes. Only in a build with the feature `etcd`.
    Etcd(Members),
}

impl TryFrom<String> for StoreKind {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "embedded" => Ok(Self::Embedded),
            "memory" => Ok(Self::Memory),
            text => match text.strip_prefix("etcd://") {
                Some(members) if cfg!(feature = "etcd") => Members::parse(members).map(Self::Etcd),
                Some(_) => Err("etcd stores need a build with the feature `etcd`".to_owned()),
                None => Err("must be embedded, memory or etcd://host:port,…".to_owned()),
            },
        }
    }
}

/// The `[limits]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// RTMP connections at a time.
    pub connections: usize,
    /// RTMP connections and HTTP-FLV responses of one address at a time.
    pub connections_per_address: Option<NonZeroU32>,
    /// Restreamers on this node.
    pub pulls: u64,
    /// Players at a time, over all protocols.
    pub subscribers: Option<NonZeroU64>,
    /// Bytes a second to players, above which no more are let in.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Bytes a second from publishers, above which no more are let in.
    pub publish_bytes_per_second: Option<NonZeroU64>,
    /// Sources one restreamer may have open at a time.
    pub sources: usize,
    /// The largest file of `media_dir` that a plugin may play, in bytes.
    pub media_file_bytes: u64,
    /// Log lines a second from one restreamer's plugin.
    pub guest_log_lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: None,
            pulls: 5_000,
            subscribers: None,
            bytes_per_second: None,
            publish_bytes_per_second: None,
            sources: 4,
            media_file_bytes: 256 << 20,
            guest_log_lines: 20,
        }
    }
}

impl Limits {
    /// What the node serves at most.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            subscribers: self.subscribers.map(NonZeroU64::get),
            bytes_per_second: self.bytes_per_second.map(NonZeroU64::get),
            publish_bytes_per_second: self.publish_bytes_per_second.map(NonZeroU64::get),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            api_listen: loopback(5080),
            rtmp_listen: loopback(1935),
            rtmps_listen: None,
            advertise: None,
            data_dir: "restreamd-data".into(),
            plugin_dir: None,
            media_dir: None,
            node_id: "node1".parse().expect("a legal name"),
            node_group: "nodegroup1".parse().expect("a legal name"),
            sub_group: "default".parse().expect("a legal name"),
            store: StoreKind::Embedded,
            admin_user: "admin".to_owned(),
            admin_password: None,
            jwt_secret: None,
            api: api::Config::default(),
            rtmp: rtmp::Config::default(),
            flv: flv::Config::default(),
            stream: stream::Config::default(),
            dial: rtmp::policy::Config::default(),
            plugins: plugin::Config::default(),
            etcd: Etcd::default(),
            limits: Limits::default(),
            apps: BTreeMap::new(),
            cluster: cluster::Config::default(),
            log: telemetry::Config::default(),
        }
    }
}

/// Why there is no configuration. One line that names the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("config {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("config {}: {text}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        text: String,
    },
    /// A key or its value is bad.
    #[error("{key}: {text}")]
    Key {
        /// Which key.
        key: String,
        /// Why.
        text: String,
    },
}

/// The name or address alone of a host with or without a port, as `advertise` has it.
pub fn host_of(address: &str) -> &str {
    let host = match address.rsplit_once(':') {
        Some((host, port))
            if port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => address,
    };
    host.trim_matches(['[', ']'])
}

/// A key or its value is bad.
pub fn bad(key: impl Into<String>, text: impl Into<String>) -> Error {
    Error::Key {
        key: key.into(),
        text: text.into(),
    }
}

impl Config {
    /// Puts file, environment and flags together; later ones win.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut table = file.map(read).transpose()?.unwrap_or_default();
        for (name, value) in env {
            let Some(key) = name.strip_prefix(ENV) else {
                continue;
            };
            if NOT_KEYS.contains(&key) {
                continue;
            }
            if let Some((_, of, key)) = IN_TABLES.iter().find(|(name, ..)| *name == key) {
                let table = table
                    .entry(*of)
                    .or_insert_with(|| toml::Table::new().into());
                // Another kind of value is refused when the whole is read.
                if let Some(table) = table.as_table_mut() {
                    table.insert((*key).to_owned(), toml::Value::String(value));
                }
                continue;
            }
            let key = key.to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) {
                return Err(bad(name, "is not a known environment variable"));
            }
            table.insert(key, toml::Value::String(value));
        }
        for (key, value) in flags {
            table.insert(key.clone(), toml::Value::String(value.clone()));
        }
        let mut config: Self = serde_path_to_error::deserialize(table).map_err(|error| {
            let key = error.path().to_string();
            let text = error.into_inner().to_string().replace('\n', " ");
            bad(
                if key == "." { "config".to_owned() } else { key },
                text.trim(),
            )
        })?;
        config.plugins.dir.clone_from(&config.plugin_dir);
        let latencies = config.apps.iter();
        config.stream.latencies = latencies
            .filter_map(|(app, own)| Some((app.clone(), own.latency?)))
            .collect();
        config.check()?;
        Ok(config)
    }

    /// What no single value shows.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.node_group.as_str() == "default" {
            return Err(bad(
                "node_group",
                "`default` is the alias of the only group and cannot name one",
            ));
        }
        if self.api.tls_cert.is_some() != self.api.tls_key.is_some() {
            return Err(bad(
                "api.tls_cert",
                "api.tls_cert and api.tls_key go together",
            ));
        }
        let tls = self.api.tls_cert.is_some();
        if !self.api_listen.ip().is_loopback() && !tls && !self.api.plain_http {
            let text = "is not a loopback address: set api.tls_cert and api.tls_key, or api.plain_http = true to send tokens in the clear";
            return Err(bad("api_listen", text));
        }
        if self.rtmp.tls_cert.is_some() != self.rtmp.tls_key.is_some() {
            return Err(bad(
                "rtmp.tls_cert",
                "rtmp.tls_cert and rtmp.tls_key go together",
            ));
        }
        if self.rtmps_listen.is_some() && self.rtmp.tls_cert.is_none() {
            return Err(bad("rtmps_listen", "needs rtmp.tls_cert and rtmp.tls_key"));
        }
        let cluster = self.cluster.check();
        cluster.map_err(|(key, text)| bad(key, text))?;
        self.check_access()?;
        if self.admin_user.is_empty() || self.admin_user.contains(':') {
            return Err(bad("admin_user", "must not be empty or hold a colon"));
        }
        if self
            .jwt_secret
            .as_ref()
            .is_some_and(|secret| secret.expose().len() < 32)
        {
            return Err(bad("jwt_secret", "must be at least 32 bytes long"));
        }
        if self
            .admin_password
            .as_ref()
            .is_some_and(|password| password.expose().is_empty())
        {
            return Err(bad("admin_password", "must not be empty"));
        }
        if let Some(Err(why)) = self.admin_password.as_ref().map(crate::auth::usable) {
            return Err(bad("admin_password", why.to_string()));
        }
        self.etcd.check()?;
        self.check_shared()?;
        self.log.check().map_err(|why| bad("log.filter", why))?;
        if let Some(key) = self.plugins.out_of_bounds() {
            return Err(bad(key, "is out of its bounds, see host/restreamd.toml"));
        }
        let positive: [(&str, bool); 11] = [
            (
                "api.connections",
                (1..=MAX_CONNECTIONS).contains(&self.api.connections),
            ),
            (
                "flv.subscribers",
                (1..=1_000_000).contains(&self.flv.subscribers),
            ),
            (
                "limits.connections",
                (1..=MAX_CONNECTIONS).contains(&self.limits.connections),
            ),
            (
                "rtmp.idle_seconds",
                (1..=86_400).contains(&self.rtmp.idle_seconds),
            ),
            ("limits.sources", (1..=32).contains(&self.limits.sources)),
            ("limits.media_file_bytes", self.limits.media_file_bytes > 0),
            (
                "stream.ring_bytes",
                (64 << 10..=1 << 30).contains(&self.stream.ring_bytes),
            ),
            (
                "stream.ring_millis",
                (1_000..=600_000).contains(&self.stream.ring_millis),
            ),
            (
                "rtmp.ping_seconds",
                (1..=3_600).contains(&self.rtmp.ping_seconds),
            ),
            (
                "rtmp.webhook_timeout_seconds",
                (1..=30).contains(&self.rtmp.webhook_timeout_seconds),
            ),
            (
                "rtmp.play_wait_seconds",
                self.rtmp.play_wait_seconds <= 3_600,
            ),
        ];
        match positive.iter().find(|(_, good)| !good) {
            Some((key, _)) => Err(bad(*key, "is out of its bounds, see host/restreamd.toml")),
            None => Ok(()),
        }
    }

    /// What all nodes of a cluster must be given: each would make its own.
    fn check_shared(&self) -> Result<(), Error> {
        if !matches!(self.store, StoreKind::Etcd(_)) {
            return Ok(());
        }
        let secrets = [
            ("admin_password", &self.admin_password),
            ("jwt_secret", &self.jwt_secret),
        ];
        match secrets.iter().find(|(_, secret)| secret.is_none()) {
            Some((key, _)) => Err(bad(
                *key,
                "must be set, and the same on every node, with store = \"etcd://…\"",
            )),
            None => Ok(()),
        }
    }

    /// Who may publish and play, and whom to ask.
    fn check_access(&self) -> Result<(), Error> {
        let mut listens = self.rtmps_listen.into_iter().chain([self.rtmp_listen]);
        let public = listens.find(|addr| !addr.ip().is_loopback());
        let open = |access| access == Access::Open && public.is_some() && !self.rtmp.open_publish;
        let told = "open publishing on an address off loopback must be asked for with rtmp.open_publish = true";
        if public.is_some_and(|addr| open(self.publish_access(addr))) {
            return Err(bad("rtmp.publish", told));
        }
        let asks = |access: Option<Access>| access == Some(Access::Webhook);
        let no_webhook = "\"webhook\" needs rtmp.webhook";
        for (key, access) in [
            ("rtmp.publish", self.rtmp.publish),
            ("rtmp.play", Some(self.rtmp.play)),
        ] {
            if asks(access) && self.rtmp.webhook.is_none() {
                return Err(bad(key, no_webhook));
            }
        }
        for (app, own) in &self.apps {
            if own.publish.is_some_and(open) {
                return Err(bad(format!("apps.{app}.publish"), told));
            }
            let webhook = own.webhook.as_ref().or(self.rtmp.webhook.as_ref());
            for (key, access) in [("publish", own.publish), ("play", own.play)] {
                if asks(access) && webhook.is_none() {
                    return Err(bad(format!("apps.{app}.{key}"), no_webhook));
                }
            }
            let secret = own.webhook_secret.as_ref();
            let key = format!("apps.{app}.webhook_secret");
            check_webhook_secret(&key, secret, own.webhook.as_ref())?;
        }
        let secret = self.rtmp.webhook_secret.as_ref();
        check_webhook_secret("rtmp.webhook_secret", secret, self.rtmp.webhook.as_ref())
    }

    /// Who may publish on a listener.
    pub fn publish_access(&self, listen: SocketAddr) -> Access {
        self.rtmp.publish.unwrap_or(if listen.ip().is_loopback() {
            Access::Open
        } else {
            Access::Token
        })
    }
}

fn check_webhook_secret(
    key: &str,
    secret: Option<&Secret>,
    webhook: Option<&gate::Url>,
) -> Result<(), Error> {
    match secret {
        Some(_) if webhook.is_none() => Err(bad(key, "has no webhook beside it")),
        Some(secret) if !gate::can_be_sent(secret) => Err(bad(key, gate::BadSecret.to_string())),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<toml::Table, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            text[..span.start.min(text.len())].lines().count().max(1)
        });
        Error::Syntax {
            path: path.to_owned(),
            text: format!("line {line}: {}", error.message().replace('\n', " ")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Error> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("writes");
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Config::load(
            Some(file.path()),
            env.iter().map(pair),
            &flags.iter().map(pair).collect(),
        )
    }

    fn refused(text: &str) -> String {
        load(text, &[], &[])
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn the_host_of_an_address_has_no_port() {
        for (address, host) in [
            ("node.example", "node.example"),
            ("node.example:1935", "node.example"),
            ("10.0.0.1:1935", "10.0.0.1"),
            ("[2001:db8::1]:1935", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(host_of(address), host);
        }
    }

    #[test]
    fn the_reference_config_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("restreamd.toml");
        let text = std::fs::read_to_string(&path).expect("the reference config");
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .filter(|line| !line.ends_with("# no default"))
            .collect::<Vec<_>>()
            .join("\n");
        let read = load(&uncommented, &[], &[]).expect("the reference config reads");
        assert_eq!(read, Config::default());
    }

    #[test]
    fn every_key_is_in_the_reference_config() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("restreamd.toml");
        let text = std::fs::read_to_string(&path).expect("the reference config");
        let debug = format!("{:?}", Config::default());
        for word in debug
            .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .filter(|w| w.contains('_'))
        {
            if debug.contains(&format!("{word}: ")) && !matches!(word, "is_none") {
                assert!(text.contains(word), "{word} is not documented");
            }
        }
    }

    #[test]
    fn the_environment_beats_the_file_and_flags_beat_both() {
        let file =
            "api_listen = \"127.0.0.1:1\"\nrtmp_listen = \"127.0.0.1:2\"\nadmin_user = \"a\"";
        let env = [
            ("RESTREAMD_API_LISTEN", "127.0.0.1:11"),
            ("RESTREAMD_RTMP_LISTEN", "127.0.0.1:12"),
            ("OTHER", "x"),
        ];
        let config = load(file, &env, &[("rtmp_listen", "127.0.0.1:22")]).expect("legal");
        assert_eq!(
            (
                config.api_listen.port(),
                config.rtmp_listen.port(),
                config.admin_user.as_str()
            ),
            (11, 22, "a")
        );
    }

    #[test]
    fn bad_keys_and_values_are_named_in_one_line() {
        let cases = [
            ("nonsense = 1", "nonsense"),
            ("[api]\ntls_sert = \"x\"", "tls_sert"),
            ("api_listen = \"localhost\"", "api_listen"),
            ("[dial]\nallow = [\"10.0.0.0/99\"]", "dial.allow"),
            ("api_listen = \"0.0.0.0:5080\"", "api_listen"),
            (
                "rtmp_listen = \"0.0.0.0:1935\"\n[rtmp]\npublish = \"open\"",
                "rtmp.publish",
            ),
            ("jwt_secret = \"short\"", "jwt_secret"),
            ("node_group = \"default\"", "node_group"),
            ("sub_group = \"us east\"", "sub_group"),
            ("store = \"etcd://a:1\"", "store"),
            ("[etcd]\nprefix = \"a\"", "etcd.prefix"),
            ("[etcd]\nuser = \"a\"", "etcd.password"),
            ("[etcd]\ncert = \"a\"", "etcd.cert"),
            ("[etcd]\ntimeout_ms = 1", "etcd.timeout_ms"),
            ("[etcd]\nconnect_timeout_ms = 0", "etcd.connect_timeout_ms"),
            ("etcd = 1", "etcd"),
            ("[stream]\nring_bytes = 1", "stream.ring_bytes"),
            ("[stream]\nlatency = 1001", "stream.latency"),
            ("[stream]\nlatency = -1", "stream.latency"),
            ("[stream]\nlatency = \"slow\"", "stream.latency"),
            ("[stream]\nlatency = 0.5", "stream.latency"),
            ("[apps.live]\nlatency = 1001", "apps.live.latency"),
            ("[apps.live]\nlatencies = 1", "latencies"),
            ("[apps.\"live/room\"]\nlatency = 1", "apps"),
            ("[limits]\nmedia_file_bytes = 0", "limits.media_file_bytes"),
            ("[api]\nconnections = 0", "api.connections"),
            ("[limits]\nsubscribers = 0", "limits.subscribers"),
            ("[rtmp]\nplay = \"webhook\"", "rtmp.play"),
            ("[rtmp]\nwebhook = \"ftp://a/\"", "rtmp.webhook"),
            (
                "[rtmp]\nwebhook_timeout_seconds = 31",
                "webhook_timeout_seconds",
            ),
            ("[rtmp]\nwebhook_secret = \"x\"", "rtmp.webhook_secret"),
            (
                "[rtmp]\nwebhook = \"http://a/\"\nwebhook_secret = \"two words\"",
                "rtmp.webhook_secret",
            ),
            ("[apps.a]\npublish = \"webhook\"", "apps.a.publish"),
            (
                "[rtmp]\nwebhook = \"http://a/\"\n[apps.a]\nwebhook_secret = \"x\"",
                "apps.a.webhook_secret",
            ),
            (
                "rtmp_listen = \"0.0.0.0:1935\"\n[apps.a]\npublish = \"open\"",
                "apps.a.publish",
            ),
            (
                "[limits]\nconnections_per_address = -1",
                "limits.connections_per_address",
            ),
            (
                "[apps.live]\nbytes_per_second = \"1k\"",
                "apps.live.bytes_per_second",
            ),
            ("rtmps_listen = \"127.0.0.1:1936\"", "rtmps_listen"),
            ("[rtmp]\ntls_key = \"x\"", "rtmp.tls_cert"),
            ("[flv]\ncors = \"player.example\"", "flv.cors"),
            ("[flv]\nsubscribers = 0", "flv.subscribers"),
            (
                "[limits]\nconnections = 9223372036854775807",
                "limits.connections",
            ),
            ("[log]\nfilter = \"restreamd=loud\"", "log.filter"),
            ("[rtmp]\nidle_seconds = 0", "rtmp.idle_seconds"),
            ("admin_password = \"$argon2id$nonsense\"", "admin_password"),
            (
                "admin_password = \"$argon2id$v=19$m=19456,t=2,p=1\"",
                "admin_password",
            ),
            ("[plugins.limits]\nticks = 0", "plugins.limits.ticks"),
            (
                "[plugins.overrides.a]\nmemory_mib = 0",
                "plugins.overrides.a.memory_mib",
            ),
            ("[plugins]\nkeys = [\"ab\"]", "plugins.keys"),
            (
                "[plugins.overrides.a]\nsha256 = \"ab\"",
                "plugins.overrides.a.sha256",
            ),
            (
                "[plugins.overrides.a.grants]\nhosts = [\"a:1\"]",
                "plugins.overrides.a.grants.hosts",
            ),
            ("[cluster]\nlease_ttl_ms = 1", "cluster.lease_ttl_ms"),
            ("[cluster]\nlease = 1", "lease"),
            ("= 1", "line 1"),
        ];
        for (text, name) in cases {
            let error = refused(text);
            assert!(
                error.contains(name) && !error.contains('\n'),
                "{text:?} gives {error:?}"
            );
        }
        let error = load("", &[("RESTREAMD_API_LISTN", "x")], &[])
            .expect_err("unknown")
            .to_string();
        assert!(error.contains("RESTREAMD_API_LISTN"), "{error}");
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn nodes_of_a_cluster_are_given_their_secrets() {
        let store = "store = \"etcd://a,b:1\"";
        let password = "admin_password = \"x\"";
        let secret = "jwt_secret = \"0123456789abcdef0123456789abcdef\"";
        assert!(refused(store).starts_with("admin_password"));
        assert!(refused(&format!("{store}\n{password}")).starts_with("jwt_secret"));
        let text = format!("{store}\n{password}\n{secret}\n[etcd]\nuser = \"u\"");
        let env = [("RESTREAMD_ETCD_PASSWORD", "p")];
        let config = load(&text, &env, &[]).expect("legal");
        let StoreKind::Etcd(members) = config.store else {
            panic!("no etcd");
        };
        assert_eq!(members.iter().collect::<Vec<_>>(), ["a:2379", "b:1"]);
        assert_eq!(config.etcd.password, Some(Secret::new("p")));
    }

    #[cfg(not(feature = "etcd"))]
    #[test]
    fn a_build_without_etcd_names_the_feature() {
        assert!(refused("store = \"etcd://a:1\"").contains("feature `etcd`"));
    }

    #[test]
    fn latencies_are_numbers_or_low_for_the_node_and_each_app() {
        let text = "[stream]\nlatency = \"low\"\n[apps.studio]\nlatency = 250";
        let config = load(text, &[], &[]).expect("legal");
        assert_eq!(config.stream.latency, stream::Latency::LOW);
        let studio = config.stream.latencies.get("studio").copied();
        assert_eq!(studio, stream::Latency::millis(250).ok());
    }

    #[test]
    fn publishing_is_open_on_loopback_only() {
        let local = Config::default();
        assert_eq!(local.publish_access(local.rtmp_listen), Access::Open);
        let public = load("rtmp_listen = \"0.0.0.0:1935\"", &[], &[]).expect("legal");
        assert_eq!(public.publish_access(public.rtmp_listen), Access::Token);
        let tls = "[rtmp]\ntls_cert = \"c\"\ntls_key = \"k\"\n";
        let text = format!("rtmps_listen = \"0.0.0.0:1936\"\n{tls}");
        let secure = load(&text, &[], &[]).expect("legal");
        let listen = secure.rtmps_listen.expect("set");
        assert_eq!(secure.publish_access(listen), Access::Token);
        assert!(refused(&format!("{text}publish = \"open\"")).contains("rtmp.publish"));
    }
}
