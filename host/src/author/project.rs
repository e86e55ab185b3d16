//! A plugin's folder: made once, never written over, and what its `plugin.toml` says.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::{bindings, templates};
use crate::id::RestreamType;

/// The file that makes a folder a project.
const MANIFEST: &str = "plugin.toml";

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the languages' names")]
pub enum Language {
    Rust,
    C,
    Js,
    Python,
}

impl Language {
    #[cfg(test)]
    pub(super) const ALL: [Self; 4] = [Self::Rust, Self::C, Self::Js, Self::Python];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Js => "js",
            Self::Python => "python",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `plugin.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The type, and the stem of what is built.
    pub(super) name: RestreamType,
    /// Kept in the component's metadata.
    pub(super) version: String,
    pub(super) language: Language,
    /// Of Rust alone: the compiler's target.
    #[serde(default)]
    pub(super) target: Target,
}

/// What Rust is compiled for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum Target {
    /// No system at all: the smallest.
    #[default]
    #[serde(rename = "wasm32-unknown-unknown")]
    Bare,
    /// With clocks, randomness and a standard output, by WASI.
    #[serde(rename = "wasm32-wasip1")]
    Wasip1,
}

impl Target {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "wasm32-unknown-unknown",
            Self::Wasip1 => "wasm32-wasip1",
        }
    }
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: no plugin's folder; restreamd plugin new makes one",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}

/// Makes the folder `name` with a small whole policy in it, and says what to do next.
///
/// # Errors
/// When the name is no type's, or something of that name is there.
pub fn create(language: Language, name: &str) -> anyhow::Result<String> {
    let kind: RestreamType = name
        .parse()
        .map_err(|why| anyhow::anyhow!("a plugin's name {why}"))?;
    let folder = PathBuf::from(kind.as_str());
    fs::create_dir(&folder).with_context(|| format!("cannot make the folder {kind}"))?;
    for (path, text) in templates::files(language, kind.as_str()) {
        write(&folder.join(path), text.as_bytes())?;
    }
    if language == Language::C {
        bindings::generate(&folder)?;
    }
    Ok(next_steps(language, &kind))
}

/// Writes a file and the folders it is in.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let named = || path.display().to_string();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(named)?;
    }
    fs::write(path, bytes).with_context(named)
}

fn next_steps(language: Language, kind: &RestreamType) -> String {
    let tools = match language {
        Language::Rust => "rustup target add wasm32-unknown-unknown",
        Language::C | Language::Python => {
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
        }
        Language::Js => "npm install",
    };
    format!(
        "made {kind}/, a plugin in {language}. Next:\n  \
         cd {kind}\n  {tools}\n  restreamd plugin build\n  \
         restreamd plugin test {kind}.wasm scenarios/*.toml\n  \
         restreamd plugin run {kind}.wasm --url rtmp://host/app/stream\n"
    )
}
