//! What admission says of a file, for its author and for the operator who is to take it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::admission::{self, Candidate};
use super::{Build, Config, Description, Direction, Origin, Runtime, folder};
use crate::id::RestreamType;

/// What admission says of a file, whoever made it and whatever it imports.
pub async fn report(file: &Path) -> anyhow::Result<String> {
    report_under(file, None).await
}

/// What a node with this configuration would say of a file.
pub async fn report_under(file: &Path, config: Option<&Config>) -> anyhow::Result<String> {
    let (build, size) = admit_file(file, config).await?;
    let mut text = String::new();
    write(&mut text, &build, size)?;
    Ok(text)
}

/// The type of a file that would be admitted, and what it says of itself.
///
/// # Errors
/// When it would not be admitted.
pub async fn described(file: &Path) -> anyhow::Result<(RestreamType, Arc<Description>)> {
    let (build, _) = admit_file(file, None).await?;
    Ok((build.kind.clone(), build.description().clone()))
}

/// Admits a file as a node would, on an engine of its own.
pub(super) async fn admit_file(
    file: &Path,
    config: Option<&Config>,
) -> anyhow::Result<(Build, usize)> {
    let read = |path: &Path| folder::read_whole(path);
    let bytes = read(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let size = bytes.len();
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let kind: RestreamType = stem
        .parse()
        .map_err(|why| anyhow::anyhow!("the file's stem names the type and {why}"))?;
    let runtime =
        Runtime::start().map_err(|error| anyhow::anyhow!("the plugin engine: {error:#}"))?;
    let origin = Origin::File(file.to_owned());
    let terms = config.map(|config| config.terms_of(&kind, &origin));
    let candidate = Candidate {
        kind,
        bytes,
        signature: read(&file.with_extension("wasm.sig")).ok(),
        origin,
    };
    let build = admission::admit_under(&runtime, candidate, &terms.unwrap_or_default()).await?;
    Ok((build, size))
}

fn write(text: &mut String, build: &Build, size: usize) -> std::fmt::Result {
    let (kind, version) = (&build.kind, &build.version);
    let direction = match build.description.direction {
        Direction::Feeds => "feeds its stream",
        Direction::Reads => "reads its stream",
    };
    writeln!(
        text,
        "admitted: type {kind}, version {version}, {size} bytes, {direction}"
    )?;
    writeln!(text, "contract: restreamd:plugin {}", build.wit_version)?;
    writeln!(text, "sha256:   {}", build.digest)?;
    writeln!(text, "{}", build.description.doc)?;
    for property in &build.description.properties {
        let needed = match (&property.default, property.required) {
            (_, true) => "required".to_owned(),
            (Some(default), _) => format!("default {default}"),
            (None, _) => "optional".to_owned(),
        };
        let secret = if property.secret { ", secret" } else { "" };
        writeln!(
            text,
            "  {} ({needed}{secret}): {}",
            property.name, property.doc
        )?;
    }
    writeln!(text, "imports:  {}", build.capabilities.join(", "))?;
    if build
        .capabilities
        .iter()
        .any(|import| admission::needs_grant(import))
    {
        let table = format!("[plugins.overrides.{kind}.grants]");
        writeln!(text, "grants:   needs `http = [\"<host>\"]` in {table}")?;
    }
    Ok(())
}
