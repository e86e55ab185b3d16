//! The files of `plugins/templates` and of the SDK, part of the binary.
//!
//! `{{name}}`, `{{language}}`, `{{contract}}` and `{{version}}` stand for what a project
//! is given.

use super::contract;
use super::project::Language;

/// A file of a project: its path there, and its text.
pub(super) type File = (&'static str, &'static str);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../plugins/templates/", $path))
    };
}

macro_rules! sdk {
    ($file:literal) => {
        (
            concat!("vendor/restreamd-plugin/src/", $file),
            include_str!(concat!("../../../plugins/sdk/src/", $file)),
        )
    };
}

/// What every project has.
const COMMON: [File; 5] = [
    ("plugin.toml", template!("plugin.toml")),
    (
        "scenarios/retries.toml",
        template!("scenarios/retries.toml"),
    ),
    (
        "scenarios/hand-over.toml",
        template!("scenarios/hand-over.toml"),
    ),
    (
        "scenarios/hand-over-while-waiting.toml",
        template!("scenarios/hand-over-while-waiting.toml"),
    ),
    (
        "scenarios/properties.toml",
        template!("scenarios/properties.toml"),
    ),
];

/// The world of a project that binds the contract itself.
const WORLD: [File; 2] = [
    ("wit/plugin.wit", template!("wit/plugin.wit")),
    (contract::DEPENDENCY, contract::WIT),
];

const RUST: [File; 12] = [
    ("Cargo.toml", template!("rust/Cargo.toml")),
    (".gitignore", template!("rust/gitignore")),
    ("src/lib.rs", template!("rust/src/lib.rs")),
    // The SDK looks for it two folders above itself.
    ("wit/world.wit", contract::WIT),
    (
        "vendor/restreamd-plugin/Cargo.toml",
        template!("rust/sdk.toml"),
    ),
    sdk!("lib.rs"),
    sdk!("address.rs"),
    sdk!("error.rs"),
    sdk!("properties.rs"),
    sdk!("reducer.rs"),
    sdk!("retry.rs"),
    sdk!("sources.rs"),
];

const C: [File; 3] = [
    ("plugin.c", template!("c/plugin.c")),
    ("requirements.txt", template!("c/requirements.txt")),
    (".gitignore", template!("c/gitignore")),
];

const JAVASCRIPT: [File; 3] = [
    ("plugin.js", template!("js/plugin.js")),
    ("package.json", template!("js/package.json")),
    (".gitignore", template!("js/gitignore")),
];

const PYTHON: [File; 3] = [
    ("app.py", template!("python/app.py")),
    ("requirements.txt", template!("python/requirements.txt")),
    (".gitignore", template!("python/gitignore")),
];

/// The files of a project of a language, ready to be written.
pub(super) fn files(language: Language, name: &str) -> Vec<(&'static str, String)> {
    let own: &[File] = match language {
        Language::Rust => &RUST,
        Language::C => &C,
        Language::Js => &JAVASCRIPT,
        Language::Python => &PYTHON,
    };
    let world: &[File] = match language {
        Language::Rust => &[],
        _ => &WORLD,
    };
    let files = COMMON.iter().chain(world).chain(own);
    files
        .map(|(path, text)| (*path, fill(text, language, name)))
        .collect()
}

fn fill(text: &str, language: Language, name: &str) -> String {
    text.replace("{{name}}", name)
        .replace("{{language}}", language.as_str())
        .replace("{{contract}}", contract::version())
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn tree(path: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    #[test]
    fn the_sdk_goes_into_a_project_whole() {
        let folder = std::fs::read_dir(tree("plugins/sdk/src")).expect("the tree");
        let there = folder.map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        });
        let carried = RUST.iter().filter_map(|(path, _)| {
            path.strip_prefix("vendor/restreamd-plugin/src/")
                .map(str::to_owned)
        });
        assert_eq!(carried.collect::<BTreeSet<_>>(), there.collect());
    }

    #[test]
    fn the_sdk_of_a_project_depends_on_what_the_tree_depends_on() {
        let workspace = std::fs::read_to_string(tree("Cargo.toml")).expect("the tree");
        let line = workspace
            .lines()
            .find(|line| line.starts_with("wit-bindgen = "))
            .expect("it is there");
        assert!(template!("rust/sdk.toml").contains(line), "{line}");
    }

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        for language in Language::ALL {
            for (path, text) in files(language, "a-b") {
                assert!(!text.contains("{{"), "{path}");
            }
        }
    }
}
