//! C bindings of a project's world, by the generator of the wit-bindgen project: an
//! author in C needs a C compiler and nothing else.

use std::path::Path;

use anyhow::Context as _;
use wit_bindgen_core::Files;
use wit_parser::Resolve;

use super::project::write;

/// Where they go.
pub(super) const FOLDER: &str = "bindings";
/// The world of `wit/plugin.wit`.
pub(super) const WORLD: &str = "plugin";

/// Writes `bindings/plugin.{h,c}` and `bindings/plugin_component_type.o`.
pub(super) fn generate(folder: &Path) -> anyhow::Result<()> {
    let wit = folder.join("wit");
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_dir(&wit)
        .with_context(|| wit.display().to_string())?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    let mut files = Files::default();
    let mut generator = wit_bindgen_c::Opts::default().build();
    generator.generate(&mut resolve, world, &mut files)?;
    for (name, bytes) in files.iter() {
        write(&folder.join(FOLDER).join(name), bytes)?;
    }
    Ok(())
}
