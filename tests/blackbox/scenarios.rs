//! Each shipped type does what the scenarios beside it say, as the file that ships.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// Real seconds that a day of the policy took, without compiling it.
fn a_day() -> f64 {
    let day = root().join("plugins/rtmp/scenarios/refusals-for-a-day.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    let one_day = command
        .args(["plugin", "test", "--seed", "7"])
        .arg(component("rtmp"))
        .arg(day);
    let output = one_day.output().expect("restreamd runs");
    assert!(output.status.success(), "{}", text(&output));
    let verdict = text(&output);
    let took = verdict.rsplit_once("24h00m00.000s of virtual time in ");
    let took = took.and_then(|(_, rest)| rest.split_once(" s"));
    took.and_then(|(n, _)| n.parse().ok()).expect(&verdict)
}

/// The machine may be busy with other tests: one of many tries is enough.
#[test]
fn a_day_of_retries_takes_a_moment() {
    let quick = (0..20).map(|_| a_day()).find(|took| *took < 0.5);
    assert!(quick.is_some(), "never within half a second");
}

#[test]
fn a_scenario_that_goes_another_way_fails_the_command() {
    let day = root().join("plugins/rtmp/scenarios/refusals-for-a-day.toml");
    let output = play("rtmp-fixed", &[day]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("rtmpUri"), "{}", text(&output));
}

#[test]
fn a_type_that_does_not_answer_an_upgrade_fails_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("upgrade.toml");
    let scenario = "stop = \"1m\"\n[[dial]]\nplays = \"on\"\n[[at]]\ntime = \"5s\"\n\
                      event = \"upgrade\"\n[[expect.status]]\nat = \"30s\"\nphase = \"live\"\n\
                      [properties]\nurl = \"rtmp://a/b/c\"\n";
    std::fs::write(&file, scenario).expect("writable");
    let output = play("slow-stop", &[file]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let says = text(&output);
    for part in ["did not hand over within 2 s", "told to stop"] {
        assert!(says.contains(part), "{part}\n{says}");
    }
}
