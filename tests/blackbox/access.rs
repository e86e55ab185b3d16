//! Who may publish and play: anyone, token holders, whom the webhook lets in, nobody.

use restreamd_tests::certificate::Certificate;
use restreamd_tests::clip::Clip;
use restreamd_tests::curl::curl;
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::ffmpeg;
use restreamd_tests::host::{JWT_SECRET, TestHost};
use restreamd_tests::multi_publisher::MultiPublisher;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::Source;
use restreamd_tests::token::{sign, stream_claims};
use restreamd_tests::webhook::{Answer, Webhook};
use serde_json::Value;

use crate::{SOON, node};

/// Status of a request for HTTP-FLV.
fn flv(host: &TestHost, name: &str) -> u16 {
    curl(["-sS", "--head", &host.http(name)]).status
}

/// ffmpeg is not let in to publish; what it was told.
fn publish_refused(clip: &Clip, url: &str) -> String {
    let mut publisher = ffmpeg::publish(clip, url);
    let status = publisher.wait(SOON);
    assert!(!status.success(), "published to {url}");
    publisher.stderr.text()
}

fn answers(host: &TestHost, answer: &str) -> u64 {
    let text = host.client().anonymous().get("/metrics").text;
    let sample = format!("restreamd_gate_webhook_answers_total{{answer=\"{answer}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Lets in whoever knows the word.
fn doorman() -> Webhook {
    Webhook::open(|question: &Value| {
        let query = question["query"].as_str().unwrap_or_default();
        let knows = query.split('&').any(|pair| pair == "key=hunter2");
        Answer::Status(if knows { 200 } else { 403 })
    })
}

#[test]
fn each_app_has_its_own_way_to_publish_and_play() {
    let clip = Clip::small();
    let doorman = doorman();
    let app = |access: &str| toml::toml! { publish = access play = access };
    let host = node()
        .set("rtmp.webhook", doorman.url("/may"))
        .set("rtmp.play", "off")
        .set("rtmp.publish", "off")
        .set("apps.free", app("open"))
        .set("apps.signed", app("token"))
        .set("apps.asked", app("webhook"))
        .start();
    let api = host.client();
    let token = |act: &str| {
        let token = sign(JWT_SECRET, &stream_claims(act, "signed/*", 600));
        format!("?token={token}")
    };
    let word = || "?key=hunter2".to_owned();
    let cases = [
        ("free/cam", String::new(), String::new(), None),
        ("signed/cam", token("publish"), token("play"), Some(401)),
        ("asked/room/cam", word(), word(), Some(403)),
    ];
    for (name, publish, play, refused) in cases {
        let url = host.url(name);
        if refused.is_some() {
            publish_refused(&clip, &url);
            publish_refused(&clip, &format!("{url}?key=wrong&token=wrong"));
        }
        let _publisher = ffmpeg::publish(&clip, &format!("{url}{publish}"));
        api.wait_for_stream(name, SOON);
        assert!(ffmpeg::plays(&format!("{url}{play}")), "{name}");
        assert_eq!(flv(&host, &format!("{name}.flv{play}")), 200, "{name}");
        if let Some(status) = refused {
            assert!(!ffmpeg::plays(&url), "{name}");
            assert!(
                !ffmpeg::plays(&format!("{url}?key=wrong&token=wrong")),
                "{name}"
            );
            assert_eq!(flv(&host, name), status, "{name}");
        }
    }
    publish_refused(&clip, &host.url("other/cam"));
    assert!(!ffmpeg::plays(&host.url("other/cam")));
    assert_eq!(flv(&host, "other/cam"), 403);
    // Of open, token and off nobody is asked.
    assert!(doorman.asked().iter().all(|q| q.body["app"] == "asked"));
}

#[test]
fn the_webhook_is_told_who_wants_what_once_for_each_connection() {
    let clip = Clip::small();
    let doorman = doorman();
    let host = node()
        .set("rtmp.webhook", doorman.url("/may?from=us"))
        .set("rtmp.webhook_secret", "open-sesame")
        .set("rtmp.publish", "webhook")
        .set("rtmp.play", "webhook")
        .start();
    let url = host.url("live/room/cam");
    let _publisher = ffmpeg::publish(&clip, &format!("{url}?key=hunter2&a=%20b"));
    host.client().wait_for_stream("live/room/cam", SOON);
    let player = Player::attach(&format!("{url}?key=hunter2"));
    player.wait_for_more(150, SOON);
    assert_eq!(flv(&host, "live/room/cam.flv?key=hunter2"), 200);
    // Not for every frame, and one question for each.
    assert_eq!(doorman.count("publish", "live/room/cam"), 1);
    assert_eq!(doorman.count("play", "live/room/cam"), 2);
    let asked = doorman.asked();
    for question in &asked {
        assert!(
            question.head.starts_with("post /may?from=us http/1.1"),
            "{question:?}"
        );
        assert!(
            question.head.contains("authorization: bearer open-sesame"),
            "{question:?}"
        );
        for (key, value) in [
            ("app", "live"),
            ("stream", "room/cam"),
            ("address", "127.0.0.1"),
            ("nodeId", "node1"),
        ] {
            assert_eq!(question.body[key], value, "{key} of {question:?}");
        }
    }
    let bodies: Vec<_> = asked.iter().map(|question| &question.body).collect();
    assert_eq!(bodies[0]["protocol"], "rtmp");
    assert_eq!(bodies[0]["query"], "key=hunter2&a=%20b");
    let tc_url = bodies[0]["tcUrl"].as_str().unwrap_or_default();
    assert!(tc_url.starts_with("rtmp://127.0.0.1:"), "{tc_url}");
    assert_eq!(bodies[2]["protocol"], "http-flv");
    assert_eq!(answers(&host, "allowed"), 3);

    let told = publish_refused(&clip, &host.url("live/b?key=wr0ng"));
    assert!(told.contains("not allowed by the webhook"), "{told}");
    assert_eq!(answers(&host, "refused"), 1);
    let logs = host.logs().join("\n");
    for secret in ["hunter2", "wr0ng", "open-sesame", "from=us"] {
        assert!(!logs.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn a_webhook_is_asked_over_https_when_its_certificate_is_good_and_else_nobody_is_let_in() {
    let clip = Clip::small();
    let (good, other) = (tempfile::tempdir(), tempfile::tempdir());
    let [good, other] = [good, other].map(|folder| folder.expect("a folder"));
    let certificate = Certificate::make(good.path());
    let doorman = Webhook::open_tls(certificate.server(), |question| match &question["stream"] {
        stream if stream == "bad" => Answer::Status(403),
        _ => Answer::Status(200),
    });
    let node = |trusted: &Certificate| {
        node()
            .set("rtmp.webhook", doorman.url("/may?from=us"))
            .set("rtmp.webhook_secret", "open-sesame")
            .set("rtmp.publish", "webhook")
            .env("SSL_CERT_FILE", &trusted.cert_path())
    };
    let host = node(&certificate).start();
    let _publisher = ffmpeg::publish(&clip, &host.url("live/cam"));
    host.client().wait_for_stream("live/cam", SOON);
    let told = publish_refused(&clip, &host.url("live/bad"));
    assert!(told.contains("not allowed by the webhook"), "{told}");
    let asked = doorman.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked[0].head.contains("authorization: bearer open-sesame"),
        "{asked:?}"
    );

    // A certificate nobody vouches for learns neither the secret nor who asks.
    let wary = node(&Certificate::make(other.path()))
        .announce("no answer of the webhook")
        .start();
    let told = publish_refused(&clip, &wary.url("live/cam"));
    assert!(told.contains("the webhook gave no answer"), "{told}");
    assert_eq!(doorman.asked().len(), 2);
    let logs = wary.logs().join("\n");
    assert!(logs.contains("certificate"), "{logs}");
    assert!(!logs.contains("open-sesame"));
}

#[test]
fn without_a_clear_answer_of_the_webhook_nobody_is_let_in_and_who_is_in_stays() {
    let clip = Clip::small();
    let source = Source::open(&clip);
    let welcome = Webhook::open(|_| Answer::Status(200));
    let elsewhere = welcome.url("/yes");
    let moody = Webhook::open(move |question| match question["stream"].as_str() {
        Some("sick") => Answer::Status(500),
        Some("moved") => Answer::Redirect(elsewhere.clone()),
        Some("mute") => Answer::Silence,
        _ => Answer::Status(200),
    });
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let dead = format!("http://{}/", gone.local_addr().expect("bound"));
    drop(gone);
    let host = node()
        .set("rtmp.webhook", moody.url("/"))
        .set("rtmp.webhook_timeout_seconds", 2)
        .set("rtmp.publish", "webhook")
        .set("rtmp.play", "webhook")
        .set("apps.dead", toml::toml! { webhook = dead })
        .announce("no answer of the webhook")
        .start();
    let api = host.client();
    api.start(&Provision::pull(
        "one-pull",
        "live/good",
        &source.url("live/s"),
    ));
    let player = Player::attach(&host.url("live/good"));
    player.wait_for_more(20, SOON);
    for (at, name) in ["live/sick", "live/moved", "live/mute", "dead/x"]
        .iter()
        .enumerate()
    {
        let told = publish_refused(&clip, &host.url(name));
        assert!(
            told.contains("the webhook gave no answer"),
            "{name}: {told}"
        );
        assert!(!ffmpeg::plays(&host.url(name)), "{name}");
        let answer = api.anonymous().get(&format!("/flv/{name}"));
        assert_eq!(answer.error(503)["code"], "not-ready", "{name}");
        assert_eq!(answers(&host, "failed"), 3 * (at as u64 + 1));
    }
    assert!(welcome.asked().is_empty(), "a redirect was followed");
    let logs = host.logs().join("\n");
    for reason in [
        "it answered 500",
        "redirects are not followed",
        "it took too long",
        "cannot be connected to",
    ] {
        assert!(logs.contains(reason), "{reason}");
    }
    player.assert_attached();
    player.wait_for_more(20, SOON);
}

#[test]
fn what_a_connection_publishes_goes_on_while_the_webhook_thinks_about_another_name() {
    let clip = Clip::small();
    let slow = Webhook::open(|question| match question["stream"].as_str() {
        Some("b") => Answer::Silence,
        _ => Answer::Status(204),
    });
    let host = node()
        .set("rtmp.webhook", slow.url("/"))
        .set("rtmp.webhook_timeout_seconds", 20)
        .set("rtmp.publish", "webhook")
        .start();
    let _publisher = MultiPublisher::start(&clip, host.rtmp, "live", &["a", "b"]);
    host.client().wait_for_stream("live/a", SOON);
    let player = Player::attach(&host.url("live/a"));
    eventually("the webhook is asked about the other name", SOON, || {
        when(slow.count("publish", "live/b") == 1, || {
            "not yet".to_owned()
        })
    });
    player.wait_for_more(50, SOON);
}
