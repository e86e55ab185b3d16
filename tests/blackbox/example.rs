//! The public RTMP-pull example, line by line as the page has it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use restreamd_tests::api::Api;
use restreamd_tests::clip::Clip;
use restreamd_tests::continuity::breaks;
use restreamd_tests::curl::{Answer, curl, shell_line};
use restreamd_tests::eventually::eventually;
use restreamd_tests::host::{ADMIN, TestHost};
use restreamd_tests::{ffmpeg, netns};
use serde_json::{Value, json};

use crate::{LIVE, RETRY, SOON, node};

/// The host name of the page, the one thing that is replaced.
const PAGE_HOST: &str = "https://as-test1.example.org";

pub(crate) fn page() -> PathBuf {
    restreamd_tests::plugins::root().join("tests/testdata/example")
}

/// The page's curl lines in order, without the pretty-printer behind the pipe.
pub(crate) fn calls() -> Vec<String> {
    let text = fs::read_to_string(page().join("calls.txt")).expect("the page is in the tree");
    text.lines()
        .map(|line| line.trim_end_matches(" | json_pp").to_owned())
        .collect()
}

struct Page {
    origin: String,
    token: String,
}

impl Page {
    fn run(&self, line: &str) -> Answer {
        shell_line(
            &line.replace(PAGE_HOST, &self.origin),
            &page(),
            &[("JWT", &self.token)],
        )
    }
}

#[test]
fn the_page_runs_verbatim_on_the_well_known_ports() {
    netns::inside(
        "example::the_page_runs_verbatim_on_the_well_known_ports",
        Duration::from_secs(240),
        || {
            // No `dial.allow`: pulling from the node's own listener needs none.
            let host = node()
                .without("dial")
                .set("api_listen", "127.0.0.1:5080")
                .set("rtmp_listen", "127.0.0.1:1935")
                .start();
            let login = format!(
                "http://{}:{}@localhost:5080/as/v1/auth/login",
                ADMIN.0, ADMIN.1
            );
            let body = curl(["-s", "-X", "PUT", &login]).json();
            let token = body["token"].as_str().expect("a token").to_owned();
            walk(
                &host,
                &Page {
                    origin: "http://localhost:5080".to_owned(),
                    token,
                },
            );
        },
    );
}

fn walk(host: &TestHost, page: &Page) {
    let clip = Clip::small();
    let api = host.client();
    let _publisher = ffmpeg::publish(&clip, "rtmp://localhost/live/stream1");
    api.wait_for_stream("live/stream1", SOON);

    let calls = calls();
    let [create, list, publish, streams, status, delete] = calls.as_slice() else {
        panic!("{calls:?}")
    };

    let created = page.run(create);
    assert_eq!(
        (created.status, created.json()),
        (201, json!({"result": "CREATED"}))
    );
    assert_eq!(page.run(create).status, 409, "the same provision once more");

    let listed = page.run(list);
    let sent: Value = serde_json::from_str(
        &fs::read_to_string(crate::example::page().join("restreamer-rtmp-pull-sm.json"))
            .expect("the page is in the tree"),
    )
    .expect("the page's JSON");
    assert_eq!(
        (listed.status, listed.json()),
        (200, sent),
        "listed as it was sent"
    );

    let distributed = page.run(publish);
    assert_eq!(distributed.status, 200, "{distributed:?}");
    assert!(
        distributed.json()[0]["serverAddress"].is_string(),
        "{distributed:?}"
    );

    let own_status = status.replace("zixi1", "rtmppull1");
    eventually("live/pull1 is LIVE", LIVE + RETRY, || {
        let answer = page.run(&own_status);
        if answer.status == 200 && answer.json()[0]["state"] == "LIVE" {
            Ok(())
        } else {
            Err(answer.body)
        }
    });
    let found = page.run(streams).json();
    let names: Vec<_> = found
        .as_array()
        .expect("an array")
        .iter()
        .map(|s| s["streamGuid"].clone())
        .collect();
    assert!(names.contains(&json!("live/pull1")), "{found}");

    // The page asks for `zixi1` here, a slip of its own.
    let slip = page.run(status);
    assert_eq!(slip.status, 404);
    assert!(
        slip.json()["error"]
            .as_str()
            .is_some_and(|e| e.contains("zixi1")),
        "{slip:?}"
    );

    tells_the_truth(&api, &own_status, page);
    plays_what_the_source_sends(&clip);

    let deleted = page.run(delete);
    assert_eq!(
        (deleted.status, deleted.json()),
        (200, json!({"result": "DELETED"}))
    );
    assert_eq!(page.run(&own_status).status, 404);
    assert_eq!(page.run(delete).status, 404);
    let left = api.streams();
    assert!(
        left.iter().all(|s| s["streamGuid"] != "live/pull1"),
        "{left:?}"
    );
    assert!(
        left.iter()
            .any(|s| s["streamGuid"] == "live/stream1" && s["state"] == "LIVE"),
        "the source goes on: {left:?}"
    );
}

fn tells_the_truth(api: &Api, status: &str, page: &Page) {
    api.wait_for("rtmppull1", "the media is known", SOON, |s| {
        s["media"]["audio"]["codec"] == "aac" && s["media"]["video"]["width"] == 320
    });
    let element = page.run(status).json()[0].clone();
    let expected = json!({
        "streamGuid": "live/pull1", "nodeRole": "origin", "nodeState": "INSERVICE", "state": "LIVE", "phase": "live",
        "provisionGuid": "rtmppull1", "type": "rtmp", "source": "rtmp://localhost/live/stream1", "error": null,
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&element[key], value, "{key} of {element}");
    }
    assert_eq!(element["media"]["video"]["codec"], "avc", "{element}");
    assert_eq!(
        (
            &element["media"]["video"]["width"],
            &element["media"]["video"]["height"]
        ),
        (&json!(320), &json!(180)),
        "{element}"
    );
    assert!(
        element["bytesIn"].as_u64().is_some_and(|n| n > 0),
        "{element}"
    );
    assert_eq!(element["plugin"]["name"], "rtmp", "{element}");
}

fn plays_what_the_source_sends(clip: &Clip) {
    let url = "rtmp://localhost/live/pull1";
    ffmpeg::decodes(url, Duration::from_secs(4));
    let source = ffmpeg::packets(clip.path().to_str().expect("UTF-8"), 60);
    let pulled = ffmpeg::packets(url, 4);
    for kind in ["video", "audio"] {
        let (source, pulled) = (
            ffmpeg::of_kind(&source, kind),
            ffmpeg::of_kind(&pulled, kind),
        );
        assert!(
            pulled.len() > 60,
            "only {} {kind} packets in 4 s",
            pulled.len()
        );
        assert_eq!(
            breaks(&source, &pulled),
            [0_usize; 0],
            "{kind} packets of the pull are not the source's"
        );
    }
}
