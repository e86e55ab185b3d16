//! `restreamd demo`: the example in one command.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use restreamd_tests::curl::shell_line;
use restreamd_tests::eventually::eventually;
use restreamd_tests::ffmpeg;
use restreamd_tests::proc::Running;

use crate::SOON;

fn demo(api: &str, rtmp: &str) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restreamd"));
    command.args(["demo", "--api-listen", api, "--rtmp-listen", rtmp]);
    command
        .env_remove("RESTREAMD_ADMIN_PASSWORD")
        .env_remove("RESTREAMD_ADMIN_USER");
    Running::start(&mut command, "restreamd")
}

/// The first word of the output that begins with `prefix`, without closing punctuation.
fn word(text: &str, prefix: &str) -> Option<String> {
    let word = text
        .split_whitespace()
        .find(|w| w.trim_start_matches(['"', '\'', '(']).starts_with(prefix))?;
    Some(
        word.trim_matches(['"', '\'', '(', ')', ',', '.', ';'])
            .to_owned(),
    )
}

/// What it said once it has shown the way on.
fn shown(demo: &mut Running) -> String {
    eventually("the demo shows the way on", Duration::from_secs(60), || {
        assert!(
            demo.ended().is_none(),
            "it ended: {} {}",
            demo.stdout.text(),
            demo.stderr.text()
        );
        let said = demo.stdout.text();
        let whole = said.contains("LIVE") && said.contains("rtmp://") && said.contains("-X DELETE");
        if whole {
            Ok(said)
        } else {
            Err(format!("{said}\n{}", demo.stderr.text()))
        }
    })
}

/// The token it prints.
fn token(said: &str) -> &str {
    let line = said.lines().find_map(|l| l.trim().strip_prefix("JWT="));
    line.unwrap_or_else(|| panic!("no token: {said}"))
}

#[test]
fn demo_pulls_its_own_clip_and_prints_lines_that_work() {
    let mut demo = demo("127.0.0.1:0", "127.0.0.1:0");
    let said = shown(&mut demo);
    let url = said
        .split_whitespace()
        .find_map(|w| word(w, "rtmp://").filter(|u| u.ends_with("live/pull1")));
    let url = url.unwrap_or_else(|| panic!("no play address of live/pull1: {said}"));
    ffmpeg::decodes(&url, Duration::from_secs(3));
    let url = said
        .split_whitespace()
        .find(|w| w.ends_with("/flv/live/pull1.flv"));
    ffmpeg::decodes(
        url.unwrap_or_else(|| panic!("no HTTP address: {said}")),
        Duration::from_secs(1),
    );
    assert!(said.contains("/watch/live/pull1"), "{said}");

    let token = token(&said);
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let lines: Vec<_> = said
        .lines()
        .map(str::trim)
        .filter(|l| l.starts_with("curl "))
        .collect();
    let status = lines
        .iter()
        .find(|l| l.contains("status=true"))
        .unwrap_or_else(|| panic!("no status line: {said}"));
    let answer = shell_line(status, folder.path(), &[("JWT", token)]);
    assert_eq!(
        (answer.status, &answer.json()[0]["state"]),
        (200, &"LIVE".into()),
        "{answer:?}"
    );
    let delete = lines
        .iter()
        .find(|l| l.contains("-X DELETE"))
        .unwrap_or_else(|| panic!("no delete line: {said}"));
    assert_eq!(
        shell_line(delete, folder.path(), &[("JWT", token)]).status,
        200
    );

    demo.interrupt();
    let ended = demo.wait(SOON);
    assert!(
        ended.success(),
        "Ctrl-C drains: {ended} {}",
        demo.stderr.text()
    );
}

#[test]
fn demo_ends_well_at_sigterm_and_when_it_is_drained_over_the_api() {
    let mut terminated = demo("127.0.0.1:0", "127.0.0.1:0");
    shown(&mut terminated);
    terminated.terminate();
    let ended = terminated.wait(SOON * 2);
    assert!(ended.success(), "{ended} {}", terminated.stderr.text());

    let mut drained = demo("127.0.0.1:0", "127.0.0.1:0");
    let said = shown(&mut drained);
    let url = word(&said, "http://").unwrap_or_else(|| panic!("no API: {said}"));
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let line =
        format!("curl -s -X POST -H \"Authorization: Bearer ${{JWT}}\" {url}/as/v1/admin/drain");
    let answer = shell_line(&line, folder.path(), &[("JWT", token(&said))]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let ended = drained.wait(SOON * 2);
    assert!(ended.success(), "{ended} {}", drained.stderr.text());
}

#[test]
fn taken_port_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = taken.local_addr().expect("an address").to_string();
    for (api, rtmp) in [
        (addr.as_str(), "127.0.0.1:0"),
        ("127.0.0.1:0", addr.as_str()),
    ] {
        let mut demo = demo(api, rtmp);
        let status = demo.wait(Duration::from_secs(60));
        let said = demo.stderr.text();
        assert!(!status.success(), "{said}");
        assert!(said.lines().count() == 1 && said.contains(&addr), "{said}");
    }
}

#[test]
fn demo_is_public_only_when_asked_in_so_many_words() {
    for (api, rtmp, key) in [
        ("0.0.0.0:0", "127.0.0.1:0", "api_listen"),
        ("127.0.0.1:0", "0.0.0.0:0", "rtmp.publish"),
    ] {
        let mut demo = demo(api, rtmp);
        let status = demo.wait(SOON);
        let said = demo.stderr.text();
        assert_eq!(status.code(), Some(64), "{said}");
        assert!(said.contains(key) && said.lines().count() == 1, "{said}");
    }
}
