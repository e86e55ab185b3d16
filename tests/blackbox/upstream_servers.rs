//! What origins ask of a pull: TLS, passwords, going elsewhere, and odd ways to write.

use restreamd_tests::amf::{property, text};
use restreamd_tests::api::Api;
use restreamd_tests::black_hole::Mute;
use restreamd_tests::certificate::Certificate;
use restreamd_tests::clip::Clip;
use restreamd_tests::host::{Builder, TestHost};
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::source::{Gate, Script, Source, Style};
use serde_json::Value;

use crate::{SOON, node};

fn scripted(script: Script) -> Source {
    Source::scripted(&Clip::small(), script)
}

fn gated(gate: Gate) -> Source {
    scripted(Script {
        gate,
        ..Script::default()
    })
}

/// Pulls `url` and answers the status when the class of its failure is there.
fn fails(api: &Api, pull: &Provision, class: &str) -> Value {
    api.start(pull);
    let status = api.wait_for(pull.guid(), &format!("class {class}"), SOON, |s| {
        s["history"][0]["class"].is_string()
    });
    assert_eq!(status["history"][0]["class"], class, "{status}");
    status
}

fn lives(api: &Api, pull: &Provision) {
    api.start(pull);
    api.wait_for_state(pull.guid(), "LIVE", SOON);
}

fn with_tls() -> (Builder, Certificate, Source) {
    let builder = node();
    let certificate = Certificate::make(builder.folder());
    let source = scripted(Script {
        tls: Some(certificate.clone()),
        ..Script::default()
    });
    (builder, certificate, source)
}

#[test]
fn rtmps_source_whose_certificate_is_trusted_is_pulled() {
    let (builder, certificate, source) = with_tls();
    let host = builder
        .env("SSL_CERT_FILE", &certificate.cert_path())
        .start();
    let pull = Provision::pull("trusted-pull", "live/pull1", &source.url("live/stream1"));
    lives(&host.client(), &pull);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(120, SOON);
    player.assert_unbroken(&Clip::small());
}

#[test]
fn rtmps_source_with_an_unknown_certificate_needs_a_pin_or_a_word() {
    let (builder, certificate, source) = with_tls();
    let other = Certificate::make(tempfile_folder(&builder).as_path());
    // A node that trusts something, but not this.
    let host = builder.env("SSL_CERT_FILE", &other.cert_path()).start();
    let api = host.client();
    let pull = |name: &str| {
        Provision::pull(
            &format!("{name}-pull"),
            &format!("live/{name}"),
            &source.url("live/stream1"),
        )
    };
    let status = fails(&api, &pull("unknown"), "tls");
    let said = status["history"][0]["text"].as_str().unwrap_or_default();
    assert!(said.contains("certificate"), "{status}");
    let pinned = pull("wrong").with("tlsPin", other.sha256());
    let status = fails(&api, &pinned, "tls");
    let said = status["history"][0]["text"].as_str().unwrap_or_default();
    assert!(said.contains(&certificate.sha256()), "{status}");
    lives(&api, &pull("right").with("tlsPin", certificate.sha256()));
    lives(&api, &pull("skipped").with("tlsVerify", "false"));
}

fn tempfile_folder(builder: &Builder) -> std::path::PathBuf {
    let folder = builder.folder().join("other");
    std::fs::create_dir(&folder).expect("a fresh folder is writable");
    folder
}

#[test]
fn plain_source_under_an_rtmps_url_is_class_tls() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let url = source.url("live/stream1").replacen("rtmp", "rtmps", 1);
    let pull = Provision::pull("no-tls-pull", "live/pull1", &url).with("tlsVerify", "false");
    fails(&host.client(), &pull, "tls");
}

#[test]
fn server_that_never_answers_tls_is_class_timeout() {
    let mute = Mute::open();
    let host = node().start();
    let url = mute.url("live/stream1").replacen("rtmp", "rtmps", 1);
    let pull = Provision::pull("mute-pull", "live/pull1", &url);
    let status = fails(&host.client(), &pull, "timeout");
    assert!(status.to_string().contains("TLS with"), "{status}");
}

/// An unusual name, and how it is written in a URL.
const USER: (&str, &str) = ("kamera 1&b@hof=ü?", "kamera%201&b%40hof=%C3%BC%3F");

fn authenticates(gate: fn(&'static str, &'static str) -> Gate) {
    let source = gated(gate(USER.0, "p:w/d+#"));
    let host = node().start();
    let api = host.client();
    let url = source.url_as(&format!("{}:p%3Aw%2Fd%2B%23", USER.1), "live/stream1");
    lives(&api, &Provision::pull("known-pull", "live/pull1", &url));
    assert_eq!(source.dials(), 3, "the scheme, the challenge, the answer");

    let wrong = source.url_as(&format!("{}:wrong", USER.1), "live/stream1");
    let status = fails(
        &api,
        &Provision::pull("wrong-pull", "live/pull2", &wrong),
        "auth",
    );
    assert!(!status.to_string().contains("kamera"), "{status}");
    let nobody = source.url("live/stream1");
    fails(
        &api,
        &Provision::pull("nobody-pull", "live/pull3", &nobody),
        "auth",
    );
    let logs = host.logs().join("\n");
    for secret in ["kamera", "p:w/d", "response="] {
        assert!(!logs.contains(secret), "{secret} is in the log: {logs}");
    }
}

#[test]
fn adobe_authentication_takes_any_user_name() {
    authenticates(Gate::Adobe);
}

#[test]
fn llnw_authentication_takes_any_user_name() {
    authenticates(Gate::Llnw);
}

#[test]
fn redirects_are_followed_without_the_credentials() {
    let last = gated(Gate::Open);
    let middle = gated(Gate::Redirect(last.url("edge")));
    let first = gated(Gate::Redirect(middle.url("live")));
    let host = node().start();
    let url = first.url_as("user:secret", "live/stream1?token=1");
    lives(
        &host.client(),
        &Provision::pull("sent-pull", "live/pull1", &url),
    );
    let play = last.commands("play").remove(0);
    assert_eq!(text(play.get(3)), "stream1?token=1");
    let asking = gated(Gate::Adobe("user", "secret"));
    let sending = gated(Gate::Redirect(asking.url("live")));
    let url = sending.url_as("user:secret", "live/stream1");
    fails(
        &host.client(),
        &Provision::pull("kept-pull", "live/pull2", &url),
        "auth",
    );
    for connect in asking.commands("connect") {
        let app = text(property(&connect, "app"));
        assert!(!app.contains("user"), "{app}");
    }
}

#[test]
fn redirects_end_after_the_third_and_never_reach_a_blocked_address() {
    let mut next = gated(Gate::Open);
    let mut sources = Vec::new();
    for _ in 0..4 {
        let sending = gated(Gate::Redirect(next.url("live")));
        sources.push(std::mem::replace(&mut next, sending));
    }
    let host = node().start();
    let api = host.client();
    let pull = |name: &str, url: &str| {
        Provision::pull(&format!("{name}-pull"), &format!("live/{name}"), url)
    };
    let status = fails(
        &api,
        &pull("endless", &next.url("live/stream1")),
        "redirected",
    );
    assert!(status.to_string().contains("more than 3 times"), "{status}");
    assert_eq!(sources[0].dials(), 0);
    let forms = [
        "169.254.169.254",
        "[::ffff:10.0.0.1]",
        "0xa9fea9fe",
        "2852039166",
    ];
    for (index, form) in forms.into_iter().enumerate() {
        let (name, to) = (format!("blocked{index}"), format!("rtmp://{form}/live"));
        let source = gated(Gate::Redirect(to));
        fails(&api, &pull(&name, &source.url("live/stream1")), "blocked");
    }
}

#[test]
fn connect_says_what_the_provision_says() {
    let source = Source::open(&Clip::small());
    let host = node().start();
    let api = host.client();
    let url = source.url("live?key=a&b=%20/odd,stream~key:1?sig=x/y==&e=%2F");
    let pull = Provision::pull("choosy-pull", "live/pull1", &url)
        .with("flashVer", "WIN 99,0,0,1")
        .with("swfUrl", "http://example/player.swf")
        .with("pageUrl", "http://example/page")
        .with("fcSubscribe", "true");
    lives(&api, &pull);
    let connect = source.commands("connect").remove(0);
    for (name, value) in [
        ("app", "live?key=a&b=%20"),
        ("flashVer", "WIN 99,0,0,1"),
        ("swfUrl", "http://example/player.swf"),
        ("pageUrl", "http://example/page"),
    ] {
        assert_eq!(text(property(&connect, name)), value, "{connect:?}");
    }
    let tc_url = text(property(&connect, "tcUrl")).to_owned();
    assert!(tc_url.ends_with("/live?key=a&b=%20"), "{tc_url}");
    let key = "odd,stream~key:1?sig=x/y==&e=%2F";
    for command in ["FCSubscribe", "play"] {
        let said = source.commands(command).remove(0);
        assert_eq!(text(said.get(3)), key, "{said:?}");
    }
}

/// Everything that a source of this style sends comes out as it went in.
fn plays_bit_exact(style: Style) {
    let clip = Clip::small();
    let source = scripted(Script {
        style,
        ..Script::default()
    });
    let host: TestHost = node().start();
    let pull = Provision::pull("odd-pull", "live/pull1", &source.url("live/stream1"));
    lives(&host.client(), &pull);
    let player = Player::attach(&host.url("live/pull1"));
    player.wait_for_more(300, SOON);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    assert_eq!(source.dials(), 1);
}

#[test]
fn aggregate_messages_are_taken_apart() {
    plays_bit_exact(Style::Aggregate);
}

#[test]
fn interleaved_chunk_streams_are_put_together() {
    plays_bit_exact(Style::Interleaved);
}

#[test]
fn missing_extended_timestamps_are_tolerated() {
    plays_bit_exact(Style::BareExtended);
}

#[test]
fn commands_and_data_in_amf3_envelopes_are_read() {
    plays_bit_exact(Style::Amf3);
}
