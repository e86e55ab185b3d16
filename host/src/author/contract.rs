//! The contract as its author needs it: the text of `wit/`, and its version.

/// `wit/world.wit`, whole.
pub(super) const WIT: &str = include_str!("../../../wit/world.wit");

/// Where a project keeps it as a dependency of its own world.
pub(super) const DEPENDENCY: &str = "wit/deps/restreamd-plugin/world.wit";

/// The version in `package restreamd:plugin@…;`.
pub(super) fn version() -> &'static str {
    let line = WIT
        .lines()
        .find_map(|l| l.strip_prefix("package restreamd:plugin@"));
    line.and_then(|version| version.strip_suffix(';'))
        .unwrap_or("0.0.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_one_file_with_a_version() {
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit");
        assert_eq!(std::fs::read_dir(wit).expect("the tree").count(), 1);
        assert_ne!(version(), "0.0.0");
    }
}
