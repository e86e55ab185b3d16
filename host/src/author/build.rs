//! `restreamd plugin build`: from a project's folder to an admitted `<type>.wasm`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::bindings::{self, WORLD};
use super::project::{Language, Manifest, Target, write};
use super::toolchain::{self, Rust};
use crate::plugin;

/// Builds the project of a folder, and says what admission says of it.
///
/// # Errors
/// When a tool is missing, which is named, or the plugin would not be admitted. What was
/// built before stays then.
pub async fn build(folder: &Path) -> anyhow::Result<String> {
    let manifest = Manifest::read(folder)?;
    let scratch = folder.join("target");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let built = match manifest.language {
        Language::Rust => rust(folder, manifest.target)?,
        Language::C => c(folder)?,
        Language::Js => javascript(folder)?,
        Language::Python => python(folder)?,
    };
    let core = fs::read(&built).with_context(|| built.display().to_string())?;
    let component = plugin::component(&core, Some(&manifest.version))?;
    // Under its own name, which is the type's.
    let file = format!("{}.wasm", manifest.name);
    let checked = scratch.join(&file);
    write(&checked, &component)?;
    let report = plugin::report(&checked).await?;
    let place = folder.join(&file);
    fs::rename(&checked, &place).with_context(|| place.display().to_string())?;
    Ok(format!("built {}\n{report}", place.display()))
}

fn rust(folder: &Path, target: Target) -> anyhow::Result<PathBuf> {
    let mut cargo = Rust::find(target)?.cargo_build(target);
    // Absolute: CARGO_TARGET_DIR or a configuration must not lead elsewhere.
    let scratch = folder.join("target").canonicalize()?;
    cargo.arg("--target-dir").arg(&scratch).current_dir(folder);
    toolchain::run(cargo)?;
    Ok(scratch.join(target.as_str()).join("release/plugin.wasm"))
}

fn c(folder: &Path) -> anyhow::Result<PathBuf> {
    bindings::generate(folder)?;
    let mut compiler = toolchain::c_compiler(folder)?;
    let mut sources = Vec::new();
    for place in [folder.to_owned(), folder.join(bindings::FOLDER)] {
        for entry in fs::read_dir(&place).with_context(|| place.display().to_string())? {
            let path = entry?.path();
            sources.extend(
                path.extension()
                    .is_some_and(|e| e == "c" || e == "o")
                    .then_some(path),
            );
        }
    }
    sources.sort();
    let built = folder.join("target/plugin.wasm");
    compiler
        .args([
            "--target=wasm32-wasi",
            "-mexec-model=reactor",
            "-Os",
            "-s",
            "-Wall",
            "-Wl,-z,stack-size=131072",
        ])
        .arg("-I")
        .arg(folder.join(bindings::FOLDER))
        .args(sources)
        .arg("-o")
        .arg(&built);
    toolchain::run(compiler)?;
    Ok(built)
}

fn javascript(folder: &Path) -> anyhow::Result<PathBuf> {
    let advice = "npm install";
    let tool = toolchain::tool(folder, "node_modules/.bin", "componentize-qjs", advice);
    let mut tool =
        tool.context("Node.js 20 or newer brings npm (Debian: apt-get install nodejs npm)")?;
    // Without WASI and asynchrony: nothing but what wit/plugin.wit imports.
    tool.args(["--wit", "wit", "--world", WORLD, "--js", "plugin.js"])
        .args([
            "--sync",
            "--stub-wasi",
            "--opt-size",
            "--output",
            "target/plugin.wasm",
        ])
        .current_dir(folder);
    toolchain::run(tool)?;
    Ok(folder.join("target/plugin.wasm"))
}

fn python(folder: &Path) -> anyhow::Result<PathBuf> {
    let advice = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt";
    let tool = toolchain::tool(folder, ".venv/bin", "componentize-py", advice);
    let mut tool =
        tool.context("Python 3.10 or newer is needed (Debian: apt-get install python3-venv)")?;
    tool.args(["--wit-path", "wit", "--world", WORLD, "componentize", "app"])
        .args([
            "--python-path",
            ".",
            "--stub-wasi",
            "--output",
            "target/plugin.wasm",
        ])
        .current_dir(folder);
    toolchain::run(tool)?;
    Ok(folder.join("target/plugin.wasm"))
}
