//! Where `plugins/build` puts the components of the tree's own plugins and guests.

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The component of a type as another build would be: it does the same.
///
/// # Panics
/// When it has not been built.
pub fn rebuilt(kind: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(component(kind)).expect("it can be read");
    // A custom section named `again`, without contents.
    bytes.extend_from_slice(b"\x00\x06\x05again");
    bytes
}

/// The component of a type.
///
/// # Panics
/// When it has not been built.
pub fn component(kind: &str) -> PathBuf {
    let path = root().join("target/plugins").join(format!("{kind}.wasm"));
    assert!(
        path.is_file(),
        "{} is missing: run plugins/build",
        path.display()
    );
    path
}
