//! Reads the host's source files: the module a file belongs to, and what it names.

use std::fs;
use std::path::Path;

use restreamd_tests::plugins::root;

/// A source file.
#[derive(Debug)]
pub(crate) struct Module {
    /// Path below host/src.
    pub(crate) file: String,
    /// The top-level module it belongs to.
    pub(crate) name: String,
    /// Paths below the crate's root that it names, without `crate::`.
    pub(crate) mentions: Vec<String>,
    code: String,
}

impl Module {
    /// Whether the code has this path, as a whole word.
    pub(crate) fn names(&self, path: &str) -> bool {
        let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(path).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + path.len()..].chars().next();
            !before.is_some_and(part_of_a_word) && !after.is_some_and(part_of_a_word)
        })
    }
}

/// Whether host/src has a module of this name.
pub(crate) fn is_module(name: &str) -> bool {
    let src = root().join("host/src");
    src.join(format!("{name}.rs")).is_file() || src.join(name).is_dir()
}

/// All source files of the host.
///
/// # Panics
/// When there are none: the test would say nothing.
pub(crate) fn modules() -> Vec<Module> {
    let src = root().join("host/src");
    let mut modules = Vec::new();
    walk(&src, &src, &mut modules);
    assert!(modules.len() > 5, "no source under {}", src.display());
    modules
}

fn walk(src: &Path, folder: &Path, modules: &mut Vec<Module>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("the source is readable")
        .map(|e| e.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries.iter().filter(|path| !is_test(src, folder, path)) {
        if path.is_dir() {
            walk(src, path, modules);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let file = path
                .strip_prefix(src)
                .expect("it is below")
                .to_string_lossy()
                .into_owned();
            modules.push(read(file, &text(path)));
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Whether the file, or the folder, is of a module that its parent declares for tests alone.
fn is_test(src: &Path, folder: &Path, path: &Path) -> bool {
    let parent = if folder == src {
        src.join("lib.rs")
    } else {
        folder.with_extension("rs")
    };
    let stem = path
        .file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default();
    parent.is_file() && text(&parent).contains(&format!("#[cfg(test)]\nmod {stem};"))
}

fn read(file: String, text: &str) -> Module {
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let code = code(text);
    let mut mentions = paths_behind(&code, "crate::");
    // As many steps up as the file is deep reach the root.
    let up = "super::".repeat(parts.len());
    mentions.extend(paths_behind(&code, &up));
    Module {
        name: parts[0].to_owned(),
        mentions,
        file,
        code,
    }
}

/// The code without comments, and without the tests written at its end.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    code.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The paths that follow `prefix`, groups in braces taken apart.
fn paths_behind(code: &str, prefix: &str) -> Vec<String> {
    let starts = code.match_indices(prefix).filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        // `$crate::` is this crate, too; `super::super::` is found by its own length.
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    });
    starts
        .flat_map(|(at, _)| paths(&code[at + prefix.len()..]))
        .collect()
}

fn paths(rest: &str) -> Vec<String> {
    if let Some(group) = rest.strip_prefix('{') {
        return members(group)
            .iter()
            .flat_map(|member| paths(member))
            .collect();
    }
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(rest.len());
    let path = rest[..end].trim_end_matches(':');
    if path.is_empty() {
        return Vec::new();
    }
    if rest[..end].ends_with("::") && rest[end..].starts_with('{') {
        let inner = members(&rest[end + 1..]);
        return inner
            .iter()
            .flat_map(|m| paths(m))
            .map(|m| format!("{path}::{m}"))
            .collect();
    }
    vec![path.to_owned()]
}

/// The members of a group, up to its closing brace.
fn members(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => {
                members.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if let Some(last) = members.last_mut() {
            last.push(c);
        }
    }
    members
        .iter()
        .map(|m| m.trim().to_owned())
        .filter(|m| !m.is_empty())
        .collect()
}

#[test]
fn groups_and_steps_up_are_taken_apart() {
    let code = "use crate::{store::{Txn, Page}, stream};\nlet x = crate::api::router();\nuse super::super::auth::Secret;";
    let module = read("provision/spec.rs".to_owned(), code);
    assert_eq!(
        module.mentions,
        [
            "store::Txn",
            "store::Page",
            "stream",
            "api::router",
            "auth::Secret"
        ]
    );
}

#[test]
fn comments_and_tests_do_not_count() {
    let code =
        "// crate::api\nuse crate::id::NodeId;\n#[cfg(test)]\nmod tests {\n    use crate::api;\n}";
    assert_eq!(read("store.rs".to_owned(), code).mentions, ["id::NodeId"]);
}
