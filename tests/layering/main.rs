//! The layering test: who may call whom inside the host, read from its source.
//!
//! It looks at every mention of `crate::module` (and of `super::` that reaches
//! the crate's root) in host/src, tests excepted, and at the few crates that one
//! module alone may name.

mod source;

use std::collections::BTreeSet;

use source::Module;

/// An arrow of the architecture: the module and those it may name.
const ARROWS: [(&str, &[&str]); 20] = [
    (
        "api",
        &[
            "auth",
            "provision",
            "restreamer",
            "stream",
            "plugin",
            "cluster",
            "limits",
            "figures",
        ],
    ),
    ("provision", &["store", "plugin", "stream::latency"]),
    (
        "restreamer",
        &["plugin", "stream", "rtmp::dial", "rtmp::policy", "flv"],
    ),
    ("plugin", &["restreamer::host"]),
    (
        "cluster",
        &[
            "store",
            "provision",
            "restreamer",
            "stream",
            "limits",
            "edge",
            "figures",
        ],
    ),
    ("figures", &["auth", "rtmp::dial", "rtmp::policy"]),
    ("edge", &["auth", "stream", "rtmp::dial", "rtmp::policy"]),
    ("rtmp", &["auth", "gate", "stream", "limits"]),
    ("flv", &["gate", "stream", "limits"]),
    ("gate", &["auth"]),
    ("limits", &[]),
    ("stream", &[]),
    ("store", &[]),
    ("auth", &[]),
    ("secrets", &["auth"]),
    ("http", &[]),
    ("memory", &[]),
    ("clock", &[]),
    ("backoff", &[]),
    ("id", &[]),
];

/// Modules everyone may name.
const FOR_ALL: [&str; 6] = ["config", "clock", "backoff", "drain", "telemetry", "id"];

/// Modules that wire the others together, and may name all of them.
const WIRING: [&str; 9] = [
    "main",
    "lib",
    "app",
    "author",
    "demo",
    "operator",
    "config",
    "drain",
    "telemetry",
];

/// Crates, or parts of them, that only these modules may name.
const OWNERS: [(&str, &[&str]); 9] = [
    ("wasmtime", &["plugin"]),
    ("wasmtime_wasi", &["plugin"]),
    ("redb", &["store"]),
    ("etcd_client", &["store"]),
    ("tonic", &["store"]),
    ("axum", &["api", "app", "flv", "http"]),
    ("ServerSession", &["rtmp"]),
    ("ClientSession", &["rtmp"]),
    ("rml_rtmp", &[]),
];

/// Parts that know neither sockets nor time: files below host/src by their begin.
const PURE: [&str; 12] = [
    "stream/ring",
    "stream/timeline",
    "stream/headers",
    "stream/cadence",
    "stream/latency",
    "stream/progress",
    "provision/spec",
    "cluster/placement",
    "figures/delta",
    "figures/lines",
    "backoff",
    "limits/rate",
];

#[test]
fn every_module_names_only_those_it_may() {
    let mut wrong = Vec::new();
    for module in source::modules() {
        if WIRING.contains(&module.name.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module.name) else {
            wrong.push(format!("{} has no row in the list of arrows", module.file));
            continue;
        };
        wrong.extend(
            module
                .mentions
                .iter()
                .filter(|m| !may(&module, allowed, m))
                .map(|m| format!("{} names crate::{m}", module.file)),
        );
    }
    assert!(
        wrong.is_empty(),
        "arrows that are not in the architecture:\n{}",
        wrong.join("\n")
    );
}

fn may(module: &Module, allowed: &[&str], mention: &str) -> bool {
    let top = mention.split("::").next().unwrap_or_default();
    let below = |path: &str| mention == path || mention.starts_with(&format!("{path}::"));
    top == module.name
        || FOR_ALL.contains(&top)
        || !source::is_module(top)
        || allowed.iter().any(|path| below(path))
}

#[test]
fn crates_with_an_owner_are_named_by_it_alone() {
    let mut wrong = Vec::new();
    for module in source::modules() {
        for (foreign, owners) in OWNERS {
            if module.names(foreign) && !owners.contains(&module.name.as_str()) {
                wrong.push(format!("{} names {foreign}", module.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_parts_know_no_runtime_no_clock_and_no_randomness() {
    let mut wrong = Vec::new();
    for module in source::modules()
        .iter()
        .filter(|m| PURE.iter().any(|begin| m.file.starts_with(begin)))
    {
        for impure in [
            "tokio",
            "std::net",
            "Instant::now",
            "SystemTime::now",
            "Timestamp::now",
            "rand::rng",
            "getrandom",
        ] {
            if module.names(impure) {
                wrong.push(format!("{} names {impure}", module.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_of_arrows_has_no_row_for_a_module_that_is_gone() {
    let modules = source::modules();
    let names: BTreeSet<_> = modules.iter().map(|m| m.name.as_str()).collect();
    // Named by the architecture, and still to come.
    let to_come = ["flv", "clock", "backoff"];
    let gone: Vec<_> = ARROWS
        .iter()
        .map(|(name, _)| name)
        .filter(|n| !names.contains(**n) && !to_come.contains(n))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}
