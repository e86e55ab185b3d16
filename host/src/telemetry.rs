//! Logs and the metrics registry.

use std::io::IsTerminal;

use prometheus_client::registry::Registry;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// The `[log]` table of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How lines look.
    pub format: Format,
    /// Which lines there are.
    pub filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Plain,
            filter: "info".to_owned(),
        }
    }
}

impl Config {
    /// Whether the filter can be read; else why not, in one line.
    pub fn check(&self) -> Result<(), String> {
        let parsed = EnvFilter::try_new(&self.filter);
        parsed
            .map(drop)
            .map_err(|why| why.to_string().replace('\n', " "))
    }
}

/// Starts logging to stderr.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| anyhow::anyhow!("log.filter: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for terminals; in a file they are in the way.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match config.format {
        Format::Plain => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
}

/// An empty registry; names begin with `restreamd_`.
pub fn registry() -> Registry {
    Registry::with_prefix("restreamd")
}
