//! POST …/probe: what a source is, without a provision of it.

use std::thread;

use restreamd_tests::api::{Answer, Api, provision_path};
use restreamd_tests::black_hole::Mute;
use restreamd_tests::clip::Clip;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;

use crate::{SOON, node};

fn probe(api: &Api, url: &str, query: &str) -> Answer {
    let body = Provision::pull("probed-pull", "live/probed", url).json();
    api.call(
        "POST",
        &provision_path(&format!("/probe{query}")),
        Some(&body),
    )
}

#[test]
fn probe_of_a_live_source_tells_what_it_is_and_leaves_nothing() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let report = probe(&api, &source.url("live/stream1"), "").expect(200);
    assert_eq!(
        (&report["reachable"], &report["class"]),
        (&true.into(), &().into()),
        "{report}"
    );
    let (video, audio) = (&report["media"]["video"], &report["media"]["audio"]);
    assert_eq!(
        (
            &video["codec"],
            &video["width"],
            &video["height"],
            &audio["codec"]
        ),
        (&"avc".into(), &320.into(), &180.into(), &"aac".into()),
        "{report}"
    );
    assert_eq!(report["media"]["gopMs"], 500, "{report}");
    let fps = video["fps"].as_f64().unwrap_or_default();
    assert!((20.0..40.0).contains(&fps), "{report}");
    for rate in [&video["kbps"], &audio["kbps"]] {
        assert!(rate.as_u64().is_some_and(|kbps| kbps > 10), "{report}");
    }
    let (dial, first) = (report["dialMs"].as_u64(), report["firstFrameMs"].as_u64());
    assert!(dial.is_some() && dial <= first, "{report}");
    assert_eq!(api.streams(), Vec::<serde_json::Value>::new());
    api.get(&provision_path("/probed-pull")).error(404);
    eventually("it hangs up", SOON, || {
        let open = source.connections();
        when(open == 0, || format!("{open} connections"))
    });
}

#[test]
fn probe_of_what_does_not_play_tells_the_class() {
    let mut gone = Source::open(&Clip::small());
    gone.go_away();
    let silent = Mute::open();
    let host = node().start();
    let api = host.client();
    for (url, class) in [
        (gone.url("live/stream1"), "refused"),
        (silent.url("live/stream1"), "timeout"),
        ("rtmp://169.254.169.254/live/stream1".to_owned(), "blocked"),
    ] {
        let report = probe(&api, &url, "?timeoutMs=1500").expect(200);
        assert_eq!(
            (&report["reachable"], &report["class"], &report["media"]),
            (&false.into(), &class.into(), &().into()),
            "{report}"
        );
        let said = report["error"].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "{report}");
    }
}

#[test]
fn a_slate_is_not_what_a_probe_looks_for() {
    let clip = Clip::small();
    let silent = Mute::open();
    let media = clip.path().parent().expect("a folder").to_owned();
    let name = clip.path().file_name().expect("a file").to_string_lossy();
    let host = node()
        .set("media_dir", media.to_str().expect("UTF-8").to_owned())
        .start();
    let api = host.client();
    let body = Provision::pull("probed-pull", "live/probed", &silent.url("live/stream1"))
        .with("slate", name.as_ref())
        .json();
    // Long enough for the slate to play and to be known.
    let path = provision_path("/probe?timeoutMs=5000");
    let report = api.call("POST", &path, Some(&body)).expect(200);
    assert_eq!(
        (&report["reachable"], &report["class"], &report["media"]),
        (&false.into(), &"timeout".into(), &().into()),
        "{report}"
    );
}

#[test]
fn bad_probes_are_400() {
    let host = node().start();
    let api = host.client();
    let refused = probe(&api, "http://host/live/stream1", "").error(400);
    assert_eq!(
        refused["field"], "streams[0].camParams.properties.rtmpUri",
        "{refused}"
    );
    let url = "rtmp://127.0.0.1:1/live/stream1";
    for bad in ["999", "30001", "soon"] {
        let refused = probe(&api, url, &format!("?timeoutMs={bad}")).error(400);
        assert_eq!(refused["field"], "timeoutMs", "{refused}");
    }
    let one = Provision::pull("probed-pull", "live/probed", url).json();
    let two = Provision::pull("other-pull", "live/other", url).json();
    let both = serde_json::json!([one, two]);
    api.call("POST", &provision_path("/probe"), Some(&both))
        .error(400);
    api.anonymous()
        .call("POST", &provision_path("/probe"), Some(&one))
        .error(401);
}

#[test]
fn a_fifth_probe_at_a_time_is_503() {
    let silent = Mute::open();
    let host = node().start();
    let api = host.client();
    let url = silent.url("live/stream1");
    let probes: Vec<_> = (0..5)
        .map(|_| {
            let (api, url) = (api.clone(), url.clone());
            thread::spawn(move || probe(&api, &url, "?timeoutMs=5000"))
        })
        .collect();
    let answers: Vec<Answer> = probes
        .into_iter()
        .map(|probe| probe.join().expect("an answer"))
        .collect();
    let with = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!((with(200), with(503)), (4, 1), "{answers:?}");
}
