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
    use std::path::PathBuf;

    use sha2::{Digest, Sha256};
    use wit_parser::{Resolve, WorldId};

    use super::*;

    fn tree(path: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(path)
    }

    #[test]
    fn the_contract_is_one_file_with_a_version() {
        assert_eq!(std::fs::read_dir(tree("wit")).expect("the tree").count(), 1);
        assert_ne!(version(), "0.0.0");
    }

    /// The world of a text, under a version of its own: the check looks at shapes alone,
    /// and one set of packages holds no version twice.
    fn world(resolve: &mut Resolve, text: &str, as_version: &str) -> WorldId {
        let line = text
            .lines()
            .find(|line| line.starts_with("package "))
            .expect("a package");
        let text = text.replace(line, &format!("package restreamd:plugin@{as_version};"));
        let package = resolve.push_str("world.wit", &text).expect("good WIT");
        resolve
            .select_world(&[package], Some("policy"))
            .expect("there")
    }

    fn goes_on(before: &str, after: &str) -> Result<(), String> {
        let mut resolve = Resolve::default();
        let before = world(&mut resolve, before, "1.0.0");
        let after = world(&mut resolve, after, "2.0.0");
        let checked = wit_component::semver_check(resolve, before, after);
        checked.map_err(|error| format!("{error:#}"))
    }

    /// A plugin that was built against a frozen contract runs on this host.
    #[test]
    fn the_contract_only_grows_within_a_major_version() {
        let major = version().split('.').next().expect("a version");
        let mut frozen = 0;
        for entry in std::fs::read_dir(tree("tests/testdata")).expect("the tree") {
            let folder = entry.expect("an entry").path();
            let name = folder
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if name
                .strip_prefix("wit-")
                .is_some_and(|version| version.split('.').next() == Some(major))
            {
                let before = std::fs::read_to_string(folder.join("world.wit")).expect("a copy");
                goes_on(&before, WIT).unwrap_or_else(|error| panic!("{name}: {error}"));
                // What is new belongs to a version of its own.
                if name == format!("wit-{}", version()) {
                    goes_on(WIT, &before).unwrap_or_else(|error| panic!("wit/ has more: {error}"));
                }
                frozen += 1;
            }
        }
        assert!(
            major == "0" || frozen > 0,
            "wit/ {} is frozen: commit a copy as tests/testdata/wit-{}/world.wit",
            version(),
            version()
        );
    }

    /// Shapes and names of a text, without what is written for people.
    fn digest(text: &str) -> String {
        let code = |line: &str| {
            line.split("//")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let lines: Vec<String> = text.lines().map(code).filter(|l| !l.is_empty()).collect();
        let digest = Sha256::digest(lines.join("\n"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The copy is what plugins were built against: it and the contract cannot be changed
    /// together by mistake.
    #[test]
    fn the_frozen_contract_is_what_it_was() {
        let frozen = [(
            "1.0.0",
            "65a0524bdb50a9742e9c4012f7f1b8b85eb64005c4dfa368f77f68b36c08c57b",
        )];
        for (version, pin) in frozen {
            let file = tree(&format!("tests/testdata/wit-{version}/world.wit"));
            let text = std::fs::read_to_string(file).expect("a copy");
            assert_eq!(digest(&text), pin, "{version}");
        }
    }

    #[test]
    fn the_contract_documents_every_function() {
        let mut resolve = Resolve::default();
        resolve.push_str("world.wit", WIT).expect("good WIT");
        let interfaces = resolve.interfaces.iter();
        let functions = interfaces.flat_map(|(_, interface)| interface.functions.values());
        let mute: Vec<&str> = functions
            .filter(|function| function.docs.is_empty())
            .map(|function| function.name.as_str())
            .collect();
        assert_eq!(mute, [""; 0]);
        let mute: Vec<&str> = resolve
            .interfaces
            .iter()
            .filter(|(_, interface)| interface.docs.is_empty())
            .filter_map(|(_, interface)| interface.name.as_deref())
            .collect();
        assert_eq!(mute, [""; 0]);
    }

    #[test]
    fn what_would_break_a_plugin_that_is_built_is_found() {
        let changed = |from: &str, to: &str| {
            assert!(WIT.contains(from), "{from}");
            goes_on(WIT, &WIT.replacen(from, to, 1))
        };
        let random = "random-u32: func() -> u32;";
        assert_eq!(
            changed(random, &format!("{random}\n more: func() -> u32;")),
            Ok(())
        );
        assert!(changed(random, "").is_err(), "a function is gone");
        assert!(changed(random, "random-u32: func() -> u64;").is_err());
        assert!(changed("record problem {", "record problem { more: u32,").is_err());
        assert!(changed("variant wake {", "variant wake { more,").is_err());
        assert!(changed("variant io-error {", "variant io-error { more,").is_err());
        assert!(changed("enum stall-kind {", "enum stall-kind { more,").is_err());
        assert!(changed("resource target {", "resource target { more: func();").is_ok());
        assert!(changed("attach: func()", "attach: func(at: u64)").is_err());
        assert!(changed("stall-ms: option<u32>", "stall-ms: u32").is_err());
        assert!(changed("check: func(", "check: func(job: string, ").is_err());
        assert!(changed("handed-over(handover)", "handed-over").is_err());
        assert!(changed("import file;", "").is_err(), "an interface is gone");
    }
}
