//! `restreamd plugin run`: a plugin against a source, without any configuration.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use restreamd_tests::clip::{Clip, SMALL, Shape};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::player::Player;
use restreamd_tests::plugins::component;
use restreamd_tests::proc::Running;
use restreamd_tests::receiver::Receiver;
use restreamd_tests::resolver::{Resolver, Said};
use restreamd_tests::source::Source;

use crate::SOON;

/// A node starts and compiles two plugins first.
const STARTED: Duration = Duration::from_secs(60);

fn trial(file: &Path, arguments: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command.args(["plugin", "run"]).arg(file).args(arguments);
    Running::start(&mut command, "restreamd")
}

fn says(trial: &mut Running, part: &str) -> String {
    eventually(part, STARTED, || {
        let said = trial.stdout.text();
        let ended = trial.ended().map(|_| trial.stderr.text());
        assert!(ended.is_none() || said.contains(part), "{said}\n{ended:?}");
        when(said.contains(part), || said.clone()).map(|()| said)
    })
}

#[test]
fn a_trial_shows_where_to_play_and_takes_a_new_build_over() {
    let source = Source::open(&Clip::small());
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("tried.wasm");
    std::fs::copy(component("rtmp-fixed"), &file).expect("writable");
    let mut trial = trial(&file, &["--url", &source.url("live/stream1")]);
    let said = says(&mut trial, " live ");
    assert!(said.contains("avc"), "{said}");
    let url = said
        .split_whitespace()
        .find(|word| word.ends_with("/live/trial"));
    let player = Player::attach(url.expect("where to play it"));
    player.wait_for_more(30, SOON);
    let mut stamp = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    stamp
        .args(["plugin", "component"])
        .arg(component("rtmp-fixed"));
    stamp.arg("-o").arg(&file).args(["--version", "9.0.0"]);
    assert!(stamp.status().expect("restreamd runs").success());
    says(&mut trial, "a new build takes over");
    player.wait_for_more(30, SOON);
    player.assert_attached();
    assert_eq!(source.dials(), 1, "nothing is dialed again");
    trial.interrupt();
    assert!(trial.wait(SOON * 2).success());
}

#[test]
fn a_trial_without_media_fails_and_says_why() {
    let url = "rtmp://127.0.0.1:9/live/nobody";
    let cases: [(&[&str], &str); 4] = [
        (
            &["--url", url, "--set", "attempts=1"],
            "gave-up: the attempt failed",
        ),
        (
            &["--url", url, "--set", "attempts=900", "--for", "2s"],
            "no media came",
        ),
        (&["--set", "every=1"], "url: is required"),
        (
            &["--url", url, "--set", "attempts=soon"],
            "must be a whole number",
        ),
    ];
    for (arguments, why) in cases {
        let mut trial = trial(&component("rtmp-fixed"), arguments);
        let status = trial.wait(STARTED);
        let said = trial.stderr.text();
        assert!(
            status.code() == Some(1) && said.contains(why),
            "{why}: {said}"
        );
    }
}

#[test]
fn a_trial_ends_well_when_its_time_is_over() {
    let source = Source::open(&Clip::small());
    let url = source.url("live/stream1");
    let mut trial = trial(&component("rtmp"), &["--url", &url, "--for", "3s"]);
    assert!(trial.wait(STARTED).success(), "{}", trial.stderr.text());
}

#[test]
fn a_trial_of_a_type_that_reads_pushes_the_clip_of_the_demo() {
    let receiver = Receiver::open();
    let url = receiver.url("app/key");
    let mut trial = trial(&component("rtmp-push"), &["--url", &url]);
    let said = says(&mut trial, "live ");
    assert!(
        !said.contains("play it"),
        "there is nothing to play: {said}"
    );
    eventually("the clip arrives", STARTED, || {
        let came = receiver.messages().len();
        when(came >= 50, || came.to_string())
    });
    trial.interrupt();
    assert!(trial.wait(SOON * 2).success());
}

#[test]
fn a_trial_of_files_ends_well_with_the_last_of_them() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let clip = Clip::of(Shape {
        seconds: 3,
        ..SMALL
    });
    std::fs::copy(clip.path(), folder.path().join("a.flv")).expect("writable");
    let media = folder.path().to_str().expect("UTF-8");
    let arguments = ["--media-dir", media, "--set"];
    let file = component("file");
    let mut played = trial(&file, &[&arguments[..], &["files=a.flv"]].concat());
    assert!(played.wait(STARTED).success(), "{}", played.stderr.text());
    assert!(played.stdout.text().contains("file:a.flv"));
    let absent = ["files=absent.flv", "--for", "2s"];
    let mut trial = trial(&file, &[&arguments[..], &absent].concat());
    assert!(!trial.wait(STARTED).success());
}

#[test]
fn a_trial_asks_by_http_only_whom_its_author_grants() {
    let source = Source::open(&Clip::small());
    let url = source.url("live/stream1");
    let resolver = Resolver::open(move |_| Said::text(200, &url));
    let endpoint = format!("endpoint={}", resolver.url("/url"));
    let granted = resolver.addr().to_string();
    let plugin = component("resolve");
    let arguments = ["--set", &endpoint, "--for", "3s"];
    let mut refused = trial(&plugin, &arguments);
    let status = refused.wait(STARTED);
    let said = refused.stderr.text();
    assert!(!status.success() && said.contains("http = ["), "{said}");
    let granting = [&arguments[..], &["--grant-http", &granted]].concat();
    let mut trial = trial(&plugin, &granting);
    assert!(trial.wait(STARTED).success(), "{}", trial.stderr.text());
}
