//! The command on shipped builds: what passes, what fails, and what it says then.

use restreamd_tests::plugins::component;

use super::*;
use crate::plugin::{Limits, Origin, Runtime, admission};

async fn build(kind: &str) -> Build {
    let runtime = Runtime::start().expect("the engine starts");
    let bytes = std::fs::read(component(kind)).expect("readable");
    let name = kind.parse().expect("legal");
    let limits = Limits::default();
    let build = admission::admit(&runtime, &name, bytes, Origin::BuiltIn, limits).await;
    build.expect("admitted")
}

async fn played(kind: &str, text: &str) -> Verdict {
    let build = build(kind).await;
    let verdict = play_text(&build, "s.toml", text, Options::default()).await;
    verdict.expect("a scenario")
}

async fn error(text: &str) -> String {
    let build = build("rtmp-fixed").await;
    let played = play_text(&build, "s.toml", text, Options::default()).await;
    format!("{:#}", played.expect_err("no scenario"))
}

const REFUSED: &str = r#"stop = "1h"
[properties]
url = "rtmp://a/b/c"
[[dial]]
fails = "refused"
[expect]
outcome = "gave-up"
"#;

#[tokio::test]
async fn a_difference_names_its_line_the_time_and_what_happened() {
    let text = format!("{REFUSED}[[expect.dial]]\nnth = 3\nat = \"1500ms\"\n");
    let verdict = played("rtmp-fixed", &text).await;
    assert!(!verdict.passed);
    for part in [
        "FAILED s.toml: seed 1, 5 dials",
        "line 8: expected dial 3 at 1.500s, it was at 2.020s",
        "2.020s  open rtmp://a/b/c: source 3",
        "2.030s  source 3 is over: refused",
    ] {
        assert!(verdict.text.contains(part), "{part}\n{}", verdict.text);
    }
}

#[tokio::test]
async fn every_kind_of_expectation_can_fail() {
    let expectations = [
        ("expect.dial", "nth = 6", "expected dial 6, there were 5"),
        (
            "expect.dial",
            "nth = 1\nurl = \"rtmp://b/*\"",
            "it was of rtmp://a/b/c",
        ),
        ("expect.dial", "nth = 2\nwaited = \"1s\"", ""),
        (
            "expect.dial",
            "nth = 2\nwaited = \"2s\"",
            "it was 1.000s after it",
        ),
        ("expect.dials", "count = [6, 9]", "expected 6 to 9 dials"),
        ("expect.dials", "count = 5", ""),
        (
            "expect.dials",
            "from = \"30m\"\nwaited = \"1s\"",
            "none that it is about",
        ),
        (
            "expect.dials",
            "until = \"500ms\"\nwaited = \"1s\"",
            "none that it is about",
        ),
        (
            "expect.dials",
            "url = \"rtmp://b/*\"",
            "none that it is about",
        ),
        (
            "expect.dials",
            "from = \"1s\"\nwaited = [\"2s\", \"3s\"]",
            "expected dial 2 between",
        ),
        (
            "expect.status",
            "at = \"1s\"\nphase = \"live\"",
            "it was backing-off",
        ),
        ("expect.status", "at = \"1s\"\nphase = \"backing-off\"", ""),
        (
            "expect.status",
            "at = \"1s\"\non-air = \"rtmp://a/b/c\"",
            "it was nothing",
        ),
        (
            "expect.status",
            "at = \"1s\"\nnext-attempt = \"5s\"",
            "it was in 0.010s",
        ),
        (
            "expect.status",
            "at = \"30m\"\nphase = \"backing-off\"",
            "the run was over before 30m00.000s",
        ),
        ("expect.status", "at = \"1s\"\non-air = \"\"", ""),
        (
            "expect.fetches",
            "waited = \"1s\"",
            "expected something of fetches",
        ),
        ("expect.fetches", "count = 1", "expected 1 fetches"),
        ("expect.fetches", "count = 0", ""),
        ("expect.log", "contains = \"hello\"", "there were 0"),
        ("expect.log", "contains = \"hello\"\ncount = 0", ""),
    ];
    for (table, keys, says) in expectations {
        let text = format!("{REFUSED}[[{table}]]\n{keys}\n");
        let verdict = played("rtmp-fixed", &text).await;
        assert_eq!(verdict.passed, says.is_empty(), "{keys}\n{}", verdict.text);
        assert!(verdict.text.contains(says), "{says}\n{}", verdict.text);
    }
    let single = [
        (
            "ended = \"1s\"",
            "expected the end at 1.000s, it was 4.050s",
        ),
        ("reason = \"bored\"", "5 attempts failed"),
        ("open-at-once = 2", "there were 1"),
        ("problems = []", ""),
        ("problems = []\nended = \"1s\"", "it was 4.050s"),
    ];
    for (key, says) in single {
        let verdict = played("rtmp-fixed", &format!("{REFUSED}{key}\n")).await;
        assert_eq!(verdict.passed, says.is_empty(), "{key}\n{}", verdict.text);
        assert!(verdict.text.contains(says), "{says}\n{}", verdict.text);
    }
    let of_check = "stop = \"1h\"\n[properties]\nurl = \"rtmp://a/b/c\"\n[expect]\n";
    for (key, says) in [
        ("problems = []", "no [[dial]] says"),
        ("problems = [\"url\"]", "line 5: expected problems with"),
    ] {
        let verdict = played("rtmp-fixed", &format!("{of_check}{key}\n")).await;
        assert!(!verdict.passed, "{key}\n{}", verdict.text);
        assert!(verdict.text.contains(says), "{says}\n{}", verdict.text);
    }
}

const PLAYING: &str = r#"stop = "1m"
[properties]
url = "rtmp://a/b/c"
[[dial]]
plays = "on"
[[expect.status]]
at = "30s"
on-air = "NOTHING"
"#;

#[tokio::test]
async fn nothing_on_air_is_an_expectation_too() {
    let verdict = played("rtmp-fixed", &PLAYING.replace("NOTHING", "")).await;
    let says = "expected nothing on air at 30.000s, it was rtmp://a/b/c";
    assert!(verdict.text.contains(says), "{}", verdict.text);
    let verdict = played("rtmp-fixed", &PLAYING.replace("NOTHING", "rtmp://a/*")).await;
    assert!(verdict.passed, "{}", verdict.text);
}

const ASKING: &str = r#"stop = "1m"
[properties]
endpoint = "http://tokens/where"
[[answer]]
times = 1
after = "5s"
status = 200
body = "rtmp://a/b/c"
[[answer]]
status = 200
body = "rtmp://a/b/new"
[[dial]]
plays = "on"
[[at]]
time = "1s"
event = "upgrade"
[[expect.dial]]
nth = 1
at = ["1s", "2s"]
url = "rtmp://a/b/new"
"#;

/// As on a node: the question is withdrawn, and the next instance asks anew.
#[tokio::test]
async fn an_upgrade_does_not_wait_for_an_answer() {
    let verdict = played("resolve", ASKING).await;
    assert!(verdict.passed, "{}", verdict.text);
}

#[tokio::test]
async fn a_policy_that_ends_unexpectedly_is_told() {
    let text = REFUSED.replace("gave-up", "stopped");
    let verdict = played("rtmp-fixed", &text).await;
    let says = "line 7: expected the outcome stopped, it was gave-up 5 attempts failed";
    assert!(verdict.text.contains(says), "{}", verdict.text);
}

#[tokio::test]
async fn crashes_and_loops_are_told_and_end_the_run() {
    let scenario = "stop = \"1h\"\n[properties]\nurl = \"rtmp://a/b/c\"\n\
                    [[dial]]\nplays = \"on\"\n[expect]\noutcome = \"stopped\"\n";
    let bad = [
        ("trap-while-live", "trapped"),
        ("spin-forever", "without waiting"),
        ("hog-memory", "16 MiB"),
        ("hand-over-always", "no upgrade was wanted"),
    ];
    for (kind, says) in bad {
        // It takes no properties.
        let scenario = match kind {
            "hand-over-always" => &scenario.replace("url = \"rtmp://a/b/c\"\n", ""),
            _ => scenario,
        };
        let verdict = played(kind, scenario).await;
        assert!(
            !verdict.passed && verdict.text.contains(says),
            "{kind}: {}",
            verdict.text
        );
    }
}

#[tokio::test]
async fn mistakes_in_a_scenario_name_their_line_and_key() {
    let mistakes = [
        ("stop = \"1h\"\nstart = \"0s\"", "line 2", "start"),
        ("stop = \"soon\"", "line 1", "\"soon\" is no time"),
        ("stop = \"20000h\"", "line 1", "longer than 400 days"),
        ("stop = \"1h\"\nruns = 0", "line 2", "from 1 to 1000"),
        (
            "stop = \"1h\"\n[[dial]]\nurl = \"x\"",
            "line 2",
            "exactly one of",
        ),
        (
            "stop = \"1h\"\n[[dial]]\nfails = \"broken\"",
            "line 3",
            "no error class",
        ),
        (
            "stop = \"1h\"\n[[dial]]\nfails = \"dns\"\nends = \"dns\"",
            "line 2",
            "ends means nothing",
        ),
        (
            "stop = \"1h\"\n[[at]]\ntime = \"1s\"\nevent = \"reconfigured\"",
            "line 2",
            "needs properties",
        ),
        (
            "stop = \"1h\"\n[[expect.dials]]\ncount = [3, 1]",
            "line 3",
            "[least, most]",
        ),
        (
            "stop = \"1h\"\n[properties]\nurl = []",
            "line 3",
            "a text, a number or a boolean",
        ),
        ("stop = ", "line 1", "stop"),
        ("stop = \"1h\"", "s.toml", "expects nothing"),
        (
            "stop = \"1h\"\n[expect]\noutcome = \"stopped\"\nproblems = [\"url\"]",
            "line 4",
            "nothing else can be expected",
        ),
    ];
    for (text, line, says) in mistakes {
        let error = error(text).await;
        assert!(
            error.contains(line) && error.contains(says),
            "{text}\n{error}"
        );
    }
}

#[test]
fn the_sample_of_the_readme_is_a_scenario() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let (_, rest) = readme.split_once("## Scenarios").expect("a chapter");
    let (_, rest) = rest.split_once("```toml\n").expect("a sample");
    let (sample, _) = rest.split_once("```").expect("its end");
    let scenario: Result<Scenario, _> = toml::from_str(sample);
    assert!(scenario.is_ok(), "{}", scenario.expect_err("it is none"));
}

#[tokio::test]
async fn a_scenario_as_large_as_a_film_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("s.toml");
    std::fs::write(&file, vec![b'#'; (MAX_FILE + 1) as usize]).expect("writable");
    let build = build("rtmp-fixed").await;
    let played = play(&build, &file, Options::default()).await;
    assert!(played.is_err_and(|error| error.to_string().contains("1 MiB")));
}
