//! Where `plugins/build` puts the components of the tree's own plugins and guests.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
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

/// The component of a type in another build: it does the same and has another digest.
///
/// # Panics
/// When it has not been built.
pub fn build(kind: &str, number: u32) -> Vec<u8> {
    let mut bytes = fs::read(component(kind)).expect("it is readable");
    bytes.extend(section(b"build", &number.to_le_bytes()));
    bytes
}

/// A custom section, which a component may have at its end; its content is at most some MiB.
pub fn section(name: &[u8], content: &[u8]) -> Vec<u8> {
    let leb = |mut n: usize| {
        let mut bytes = Vec::new();
        while n >= 0x80 {
            bytes.push((n % 0x80) as u8 | 0x80);
            n /= 0x80;
        }
        bytes.push(n as u8);
        bytes
    };
    let name = [leb(name.len()), name.to_vec()].concat();
    [
        vec![0],
        leb(name.len() + content.len()),
        name,
        content.to_vec(),
    ]
    .concat()
}

/// Puts a plugin into a directory as an operator should: written beside, then renamed.
///
/// # Panics
/// When the directory is not writable.
pub fn put(dir: &Path, kind: &str, bytes: &[u8]) {
    let new = dir.join(format!(".{kind}.new"));
    fs::write(&new, bytes).expect("the directory is writable");
    fs::rename(new, dir.join(format!("{kind}.wasm"))).expect("the directory is writable");
}
