//! What a plugin's author does with the real binary: makes a project, builds it, plays its
//! scenarios.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::plugins::root;

/// A project that `restreamd plugin new` made, in a folder of its own.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
    binary: PathBuf,
    name: String,
}

impl Project {
    /// Makes one. `binary` is `env!("CARGO_BIN_EXE_restreamd")` of the suite.
    ///
    /// # Panics
    /// When the command fails.
    pub fn new(binary: &str, language: &str, name: &str) -> Self {
        let project = Self {
            folder: tempfile::tempdir().expect("the temporary folder is writable"),
            binary: binary.into(),
            name: name.to_owned(),
        };
        let mut command = project.restreamd(project.folder.path());
        succeeds(command.args(["plugin", "new", "--lang", language, name]));
        project
    }

    /// Its folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Builds it, and answers with the component.
    ///
    /// # Panics
    /// When it does not build.
    pub fn build(&self) -> PathBuf {
        succeeds(self.restreamd(&self.path()).args(["plugin", "build"]));
        self.path().join(format!("{}.wasm", self.name))
    }

    /// Plays all its scenarios, and answers with what the command says.
    ///
    /// # Panics
    /// When one goes another way.
    pub fn test(&self, component: &Path) -> String {
        let mut files: Vec<_> = std::fs::read_dir(self.path().join("scenarios"))
            .expect("a project has scenarios")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        let mut command = self.restreamd(&self.path());
        succeeds(command.args(["plugin", "test"]).arg(component).args(files))
    }

    /// The same component as another build: only its version differs.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn restamp(&self, component: &Path, version: &str) -> PathBuf {
        let other = self.folder.path().join(format!("{version}.wasm"));
        let mut command = self.restreamd(&self.path());
        command.args(["plugin", "component"]).arg(component);
        succeeds(command.arg("-o").arg(&other).args(["--version", version]));
        other
    }

    /// The binary, in a folder, with the tools that `tests/run` installs.
    pub fn restreamd(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(folder).env("PATH", path());
        command
    }
}

/// The path with the tools that `tests/run` installs before all others.
///
/// # Panics
/// When the path cannot be put together.
pub fn path() -> std::ffi::OsString {
    let tools = root().join("target/tools/bin");
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).expect("a path")
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("the command runs");
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}
