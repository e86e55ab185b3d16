//! Each shipped type does what the scenarios beside it say, as the file that ships.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use restreamd_tests::plugins::{component, root};

fn play(kind: &str, scenarios: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_restreamd"))
        .args(["plugin", "test"])
        .arg(component(kind))
        .args(scenarios)
        .output()
        .expect("restreamd runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn scenarios(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join("scenarios")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_beside_a_shipped_type_goes_as_it_says() {
    let folders = ["plugins", "tests/guests"].map(|place| {
        let entries = std::fs::read_dir(root().join(place)).expect("the tree");
        entries.map(|entry| entry.expect("an entry").path())
    });
    let mut played = 0;
    for folder in folders.into_iter().flatten() {
        let files = scenarios(&folder);
        let kind = folder.file_name().expect("a name").to_string_lossy();
        // What `plugin new` writes is played in each language by the authors' tests.
        if files.is_empty() || kind == "templates" {
            continue;
        }
        let kind = kind.replace('_', "-");
        let output = play(&kind, &files);
        assert!(output.status.success(), "{kind}:\n{}", text(&output));
        let passed = text(&output)
            .lines()
            .filter(|l| l.starts_with("ok "))
            .count();
        assert_eq!(passed, files.len(), "{}", text(&output));
        played += passed;
    }
    assert!(played >= 12, "{played} scenarios");
}

#[test]
fn a_day_of_retries_takes_a_moment() {
    let day = root().join("plugins/rtmp/scenarios/refusals-for-a-day.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    let begin = Instant::now();
    let one_day = command
        .args(["plugin", "test", "--seed", "7"])
        .arg(component("rtmp"))
        .arg(day);
    let output = one_day.output().expect("restreamd runs");
    assert!(output.status.success(), "{}", text(&output));
    // Compiling the plugin is most of it, and this is a build for development.
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_scenario_that_goes_another_way_fails_the_command() {
    let day = root().join("plugins/rtmp/scenarios/refusals-for-a-day.toml");
    let output = play("rtmp-fixed", &[day]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("rtmpUri"), "{}", text(&output));
}
