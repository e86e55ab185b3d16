//! Finds the tools that build a plugin, or says exactly what to install.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::project::Target;

/// Debian's wasi-libc.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// A compiler of Rust for a wasm target.
#[derive(Clone, Debug)]
pub(super) struct Rust {
    pub(super) cargo: PathBuf,
    rustc: PathBuf,
    /// The standard library is built, too: Debian has it as source.
    from_source: bool,
}

impl Rust {
    pub(super) fn find(target: Target) -> anyhow::Result<Self> {
        if let (Some(cargo), Some(rustc)) = (on_path("cargo"), on_path("rustc"))
            && printed(
                &rustc,
                &["--print", "target-libdir", "--target", target.as_str()],
            )
            .is_some_and(|folder| Path::new(&folder).is_dir())
        {
            let from_source = false;
            return Ok(Self {
                cargo,
                rustc,
                from_source,
            });
        }
        let (cargo, rustc) = (
            PathBuf::from("/usr/bin/cargo"),
            PathBuf::from("/usr/bin/rustc"),
        );
        let library = printed(&rustc, &["--print", "sysroot"])
            .map(|root| Path::new(&root).join("lib/rustlib/src/rust/library"));
        let libc = target == Target::Bare || Path::new(WASI_LIBC).is_dir();
        if cargo.is_file() && libc && library.is_some_and(|folder| folder.is_dir()) {
            let from_source = true;
            return Ok(Self {
                cargo,
                rustc,
                from_source,
            });
        }
        let name = target.as_str();
        let wasi = match target {
            Target::Bare => "",
            Target::Wasip1 => " wasi-libc",
        };
        bail!(
            "no Rust compiler for {name}: run `rustup target add {name}`, or on Debian \
             `apt-get install rustc-web cargo-web rust-web-src rust-web-llvm lld-22{wasi}`"
        )
    }

    /// `cargo` for a target, ready for its subcommand's own arguments.
    pub(super) fn cargo_build(&self, target: Target) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .args(["build", "--release", "--target", target.as_str()])
            .env("RUSTC", &self.rustc)
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        if self.from_source {
            command
                .args(["-Z", "build-std=std,panic_abort"])
                .env("RUSTC_BOOTSTRAP", "1");
            if target == Target::Wasip1 {
                command.env(
                    "RUSTFLAGS",
                    format!("-L {WASI_LIBC} -C link-self-contained=no"),
                );
            }
        }
        command
    }
}

/// `zig cc`, which brings a C library for wasm along: from the system, or as the wheel
/// `ziglang` in the project's own environment.
pub(super) fn c_compiler(folder: &Path) -> anyhow::Result<Command> {
    if let Some(zig) = on_path("zig") {
        let mut command = Command::new(zig);
        command.arg("cc");
        return Ok(command);
    }
    let own = folder.join(".venv/bin/python");
    let pythons = own
        .is_file()
        .then_some(own)
        .into_iter()
        .chain(on_path("python3"));
    for python in pythons {
        let there = Command::new(&python)
            .args(["-c", "import ziglang"])
            .output();
        if there.is_ok_and(|output| output.status.success()) {
            let mut command = Command::new(python);
            command.args(["-m", "ziglang", "cc"]);
            return Ok(command);
        }
    }
    bail!(
        "no C compiler for WebAssembly: install zig, or run `python3 -m venv .venv && \
         .venv/bin/pip install -r requirements.txt` in {} (Debian: apt-get install python3-venv)",
        folder.display()
    )
}

/// A tool of the project's own, else the system's.
pub(super) fn tool(folder: &Path, own: &str, name: &str, advice: &str) -> anyhow::Result<Command> {
    let own = folder.join(own).join(name);
    // Absolute: it is started in the project's folder.
    let own = own.canonicalize().ok();
    let found = own.or_else(|| on_path(name));
    found.map(Command::new).with_context(|| {
        format!(
            "{name} is not installed: run `{advice}` in {}",
            folder.display()
        )
    })
}

/// Runs a tool of a build; what it says is the author's to read.
pub(super) fn run(mut command: Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path: OsString = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn printed(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
