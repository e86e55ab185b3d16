//! The `rtmp-push` type: a stream of this node is sent to a remote, and the stream never
//! waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use restreamd_tests::certificate::Certificate;
use restreamd_tests::clip::{AUDIO, Clip, VIDEO};
use restreamd_tests::eventually::{eventually, holds, when};
use restreamd_tests::host::Builder;
use restreamd_tests::nginx::Nginx;
use restreamd_tests::player::Player;
use restreamd_tests::proc::Running;
use restreamd_tests::provision::Provision;
use restreamd_tests::publisher::Publisher;
use restreamd_tests::receiver::{Manners, Receiver};
use restreamd_tests::source::Source;
use restreamd_tests::{ffmpeg, plugins, port};

use crate::node;

/// A peer that takes nothing is given up after ten seconds; a slow machine takes more.
const LATE: Duration = Duration::from_secs(40);

fn pushing() -> Builder {
    node().plugin("rtmp-push")
}

/// A standing order to push `live/cam`.
fn push(guid: &str, uri: &str) -> Provision {
    Provision::of_type("rtmp-push", guid, "live/cam")
        .with("rtmpUri", uri)
        .with("persist", true)
}

fn wait_for_messages(receiver: &Receiver, connection: usize, least: usize) {
    eventually("messages arrive", LATE, || {
        let came = receiver.of(connection).len();
        when(came >= least, || {
            format!("{came}, {} connections", receiver.connections())
        })
    });
}

#[test]
fn a_published_stream_arrives_whole_at_another_node_and_plays_there() {
    let clip = Clip::small();
    let (far, near) = (node().start(), pushing().start());
    let api = near.client();
    let order = push("push", &far.url("live/copy"));
    api.start(&order);
    let status = api.wait_for_phase(order.guid(), "waiting", LATE);
    assert_eq!(status["state"], "WAIT", "{status}");
    let _publisher = ffmpeg::publish(&clip, &near.url("live/cam"));
    let status = api.wait_for_state(order.guid(), "LIVE", LATE);
    assert_eq!(status["phase"], "live", "{status}");
    let target = &status["targets"][0];
    assert_eq!(target["state"], "flowing", "{status}");
    assert_eq!(target["droppedFrames"], 0, "{status}");
    let player = Player::attach(&far.url("live/copy"));
    player.wait_for_more(4 * 73, LATE);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    ffmpeg::decodes(&far.url("live/copy"), Duration::from_secs(2));
}

#[test]
fn each_connection_begins_with_headers_and_a_keyframe_and_a_lost_one_is_made_again() {
    let source = Source::open(&Clip::small());
    let receiver = Receiver::open();
    let host = pushing().start();
    let api = host.client();
    // What is pushed is pulled here.
    api.start(&Provision::pull(
        "pull",
        "live/cam",
        &source.url("live/stream1"),
    ));
    let order = push("push", &receiver.url("app/key"));
    api.start(&order);
    for connection in 0..3 {
        wait_for_messages(&receiver, connection, 100);
        receiver.assert_begins_well(connection);
        receiver.hang_up();
    }
    wait_for_messages(&receiver, 3, 1);
    let status = api.wait_for_state(order.guid(), "LIVE", LATE);
    assert!(status["attempt"].as_u64() >= Some(4), "{status}");
    assert_eq!(receiver.finished(), 0);
    api.delete(order.guid());
    eventually("it takes leave", LATE, || {
        when(receiver.finished() == 1, || receiver.finished().to_string())
    });
    assert_eq!(source.connections(), 1, "the pull is as it was");
}

#[test]
fn nginx_and_ffmpeg_take_what_is_pushed_and_it_plays() {
    let (nginx, file) = (Nginx::start(), tempfile::tempdir().expect("writable"));
    let listener = format!("rtmp://{}/live/key", port::free());
    let recording = file.path().join("pushed.flv");
    let mut ffmpeg = std::process::Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-listen", "1", "-i", &listener]);
    ffmpeg.args(["-c", "copy", "-t", "4"]).arg(&recording);
    let mut ffmpeg = Running::start(&mut ffmpeg, "ffmpeg");
    let host = pushing().start();
    let api = host.client();
    let _publisher = ffmpeg::publish_live(&host.url("live/cam"));
    // Two at once, of a stream that plays here meanwhile.
    api.start(&push("nginx", &nginx.url("pushed")));
    api.start(&push("ffmpeg", &listener));
    for guid in ["nginx", "ffmpeg"] {
        api.wait_for_state(guid, "LIVE", LATE);
    }
    let player = Player::attach(&host.url("live/cam"));
    ffmpeg::decodes(&nginx.url("pushed"), Duration::from_secs(3));
    assert!(ffmpeg.wait(LATE).success(), "{}", ffmpeg.stderr.text());
    ffmpeg::decodes(recording.to_str().expect("UTF-8"), Duration::from_secs(3));
    player.assert_attached();
    player.assert_monotonic();
}

/// Pictures of 100 KB, 25 a second, every 25th a keyframe, until it is dropped.
struct Heavy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heavy {
    fn publish(url: &str) -> Self {
        let clip = Clip::small();
        let mut publisher = Publisher::connect(url);
        let headers = clip.tags().iter().filter(|tag| tag.is_sequence_header());
        let headers = headers.filter(|tag| tag.kind == VIDEO);
        publisher.message(
            18,
            0,
            b"\x02\x00\x0aonMetaData\x08\x00\x00\x00\x00\x00\x00\x09",
        );
        publisher.send(headers.map(|tag| (0, tag)));
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || {
            let begin = Instant::now();
            for number in 0u32.. {
                let due = Duration::from_millis(u64::from(number) * 40);
                thread::sleep(due.saturating_sub(begin.elapsed()));
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let mut frame = vec![number as u8; 100_000];
                frame[..5].copy_from_slice(&[0x27, 1, 0, 0, 0]);
                if number % 25 == 0 {
                    frame[0] = 0x17;
                }
                publisher.message(VIDEO, number * 40, &frame);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || thread::panicking());
    }
}

#[test]
fn a_slow_receiver_gets_less_from_keyframe_to_keyframe_and_nobody_else_notices() {
    let receiver = Receiver::open();
    let host = pushing().start();
    let api = host.client();
    let heavy = Heavy::publish(&host.url("live/cam"));
    let player = Player::attach(&host.url("live/cam"));
    player.wait_for_more(25, LATE);
    let order = push("push", &receiver.url("app/key")).with("maxLagMs", 1_000);
    api.start(&order);
    wait_for_messages(&receiver, 0, 10);
    let begin = Instant::now();
    receiver.set(Manners::Slow);
    let status = api.wait_for(order.guid(), "frames are left out", LATE, |status| {
        status["targets"][0]["droppedFrames"].as_u64() >= Some(100)
    });
    assert_eq!(status["state"], "LIVE", "{status}");
    assert_eq!(receiver.connections(), 1, "{status}");
    receiver.set(Manners::Take);
    let before = receiver.messages().len();
    wait_for_messages(&receiver, 0, before + 50);
    let messages = receiver.messages();
    let pictures = messages
        .iter()
        .filter(|m| m.kind == VIDEO && !m.sequence_header);
    let pictures: Vec<_> = pictures.collect();
    let jumps = pictures.windows(2).filter(|pair| {
        let jumped = pair[1].timestamp - pair[0].timestamp > 40;
        assert!(!jumped || pair[1].keyframe, "{pair:?}");
        jumped
    });
    assert!(jumps.count() >= 2);
    let gap = player.longest_gap(begin);
    assert!(gap < Duration::from_secs(3), "the player waited {gap:?}");
    player.assert_attached();
    drop(heavy);
}

#[test]
fn a_receiver_that_takes_nothing_costs_little_memory_and_is_given_up() {
    let receiver = Receiver::open();
    let host = pushing().start();
    let api = host.client();
    let heavy = Heavy::publish(&host.url("live/cam"));
    let player = Player::attach(&host.url("live/cam"));
    receiver.set(Manners::Stall);
    // With a full ring: eight megabytes, three seconds.
    player.wait_for_more(150, LATE);
    let (before, begin) = (host.footprint().resident_kib, Instant::now());
    let order = push("push", &receiver.url("app/key"));
    api.start(&order);
    api.wait_for_phase(order.guid(), "stalled", LATE);
    let status = api.wait_for(order.guid(), "it is given up", LATE, |status| {
        status["history"][0]["class"] == "stalled"
    });
    let grown = host.footprint().resident_kib.saturating_sub(before);
    // 25 MB of media have passed meanwhile.
    assert!(grown < 12 * 1024, "{grown} KiB more, {status}");
    let gap = player.longest_gap(begin);
    assert!(gap < Duration::from_secs(3), "the player waited {gap:?}");
    receiver.set(Manners::Take);
    receiver.hang_up();
    api.wait_for_state(order.guid(), "LIVE", LATE);
    drop(heavy);
}

#[test]
fn the_key_that_is_pushed_to_is_a_secret() {
    let receiver = Receiver::open();
    receiver.set(Manners::Refuse);
    let host = pushing().set("log.filter", "restreamd=trace,info").start();
    let api = host.client();
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    let (key, token) = ("stream-key-8842", "signed-0815");
    let order = push("push", &receiver.url(&format!("app/{key}?sig={token}")));
    api.start(&order);
    let status = api.wait_for(order.guid(), "it is refused", LATE, |status| {
        status["history"][0]["class"] == "rejected"
    });
    assert!(receiver.names()[0].starts_with(key), "the peer is told it");
    let shown = receiver.url("app/***");
    assert_eq!(status["source"], shown, "{status}");
    receiver.set(Manners::Take);
    let status = api.wait_for_state(order.guid(), "LIVE", LATE);
    assert_eq!(status["targets"][0]["url"], shown, "{status}");
    for path in [
        restreamd_tests::api::provision_path("/push"),
        restreamd_tests::api::provision_path("/push?status=true"),
        "/as/v1/streams/stream/nodegroup1".to_owned(),
    ] {
        let text = api.get(&path).text;
        assert!(
            !text.contains(key) && !text.contains(token),
            "{path}: {text}"
        );
    }
    let open = api
        .anonymous()
        .get("/as/v1/streams/stream/nodegroup1")
        .list();
    assert!(open.iter().all(|one| one["targets"].is_null()), "{open:?}");
    api.delete(order.guid());
    let logs = host.logs().join("\n");
    assert!(!logs.contains(key) && !logs.contains(token), "{logs}");
}

#[test]
fn attempts_are_counted_and_another_call_for_the_stream_begins_a_new_round() {
    let receiver = Receiver::open();
    let host = pushing().start();
    let api = host.client();
    let order = Provision::of_type("rtmp-push", "push", "live/cam")
        .with("rtmpUri", receiver.url("app/key"))
        .with("attempts", 2)
        .with("delayS", 1);
    api.start(&order);
    // The stream is not there.
    let status = api.wait_for_phase(order.guid(), "failed", LATE);
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("2 attempts failed"), "{status}");
    assert!(error.contains("the stream is not live"), "{status}");
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    api.wait_for_stream("live/cam", LATE);
    holds("it has given up", Duration::from_secs(2), || {
        when(receiver.connections() == 0, || "dialled".to_owned())
    });
    receiver.set(Manners::Refuse);
    api.distribute(&order);
    let status = api.wait_for(order.guid(), "a new round is over", LATE, |status| {
        let error = status["error"].as_str().unwrap_or_default();
        status["phase"] == "failed" && error.contains("rejected")
    });
    assert_eq!(receiver.connections(), 2, "{status}");
    receiver.set(Manners::Take);
    api.distribute(&order);
    api.wait_for_state(order.guid(), "LIVE", LATE);
    // Immediate is now or never.
    let never = Provision::of_type("rtmp-push", "never", "live/absent")
        .with("rtmpUri", receiver.url("app/other"))
        .with("immediate", "true");
    api.start(&never);
    let status = api.wait_for_phase(never.guid(), "failed", LATE);
    assert!(
        status["error"]
            .as_str()
            .is_some_and(|e| e.contains("the attempt failed")),
        "{status}"
    );
}

#[test]
fn an_immediate_push_of_a_live_stream_dials_once_and_its_status_says_how_it_went() {
    let receiver = Receiver::open();
    receiver.set(Manners::Refuse);
    let host = pushing().start();
    let api = host.client();
    let _publisher = ffmpeg::publish(&Clip::small(), &host.url("live/cam"));
    api.wait_for_stream("live/cam", LATE);
    let now = |guid: &str| {
        Provision::of_type("rtmp-push", guid, "live/cam")
            .with("rtmpUri", receiver.url("app/key"))
            .with("immediate", true)
            .with("attempts", 5)
            .with("delayS", 1)
    };
    let (refused, taken) = (now("refused"), now("taken"));
    api.start(&refused);
    let status = api.wait_for_phase(refused.guid(), "failed", LATE);
    let error = status["error"].as_str().unwrap_or_default();
    assert!(error.contains("the attempt failed: rejected"), "{status}");
    holds("it was one attempt", Duration::from_secs(2), || {
        when(receiver.connections() == 1, || {
            format!("{} dials", receiver.connections())
        })
    });
    // It would have another round with the next call for the stream.
    api.delete(refused.guid());
    receiver.set(Manners::Take);
    api.start(&taken);
    api.wait_for_state(taken.guid(), "LIVE", LATE);
    wait_for_messages(&receiver, 1, 20);
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn a_push_that_can_never_work_is_refused_when_it_is_made() {
    let host = pushing().start();
    let api = host.client();
    let uri = "rtmp://127.0.0.1:1935/live/a";
    let wrong = [
        ("rtmpUri", "http://127.0.0.1/live/a", "rtmp:// or rtmps://"),
        ("rtmpUri", "rtmp://127.0.0.1/live", "/app/name"),
        ("rtmpUri", "rtmp:///live/a", "/app/name"),
        ("tlsPin", "abcd", "64 hex digits"),
        ("attempts", "0", "1 to 1000000"),
        ("delayS", "soon", "whole number"),
        ("immediate", "maybe", "true or false"),
        ("speed", "fast", "is not a property"),
    ];
    for (key, value, says) in wrong {
        let order = Provision::of_type("rtmp-push", "push", "live/cam").with("rtmpUri", uri);
        let refused = api.try_create(&[&order.with(key, value)]).error(400);
        let text = refused["error"].as_str().unwrap_or_default();
        assert!(text.contains(key) && text.contains(says), "{text}");
    }
    let nothing = Provision::of_type("rtmp-push", "push", "live/cam");
    let refused = api.try_create(&[&nothing]).error(400);
    let text = refused["error"].as_str().unwrap_or_default();
    assert_eq!(text.matches("rtmpUri").count(), 1, "{text}");
}

#[test]
fn a_standing_order_follows_the_publisher_and_a_new_build_goes_on_with_the_connection() {
    let clip = Clip::small();
    let receiver = Receiver::open();
    let host = pushing().start();
    let api = host.client();
    let order = push("push", &receiver.url("app/key"));
    api.start(&order);
    let publisher = ffmpeg::publish(&clip, &host.url("live/cam"));
    wait_for_messages(&receiver, 0, 100);
    let dir = host.folder().join("plugins");
    plugins::put(&dir, "rtmp-push", &plugins::build("rtmp-push", 1));
    eventually("it hands over", LATE, || {
        let logs = host.logs().join("\n");
        when(logs.contains("handed over to the newest build"), || logs)
    });
    let before = receiver.messages().len();
    wait_for_messages(&receiver, 0, before + 100);
    assert_eq!(receiver.connections(), 1, "nothing was dialled again");
    let pictures = |kind| {
        let messages = receiver.of(0);
        let of = messages
            .iter()
            .filter(|m| m.kind == kind && !m.sequence_header);
        of.map(|m| m.hash).collect::<Vec<_>>()
    };
    for kind in [VIDEO, AUDIO] {
        let breaks = restreamd_tests::continuity::breaks(&clip.frames(kind), &pictures(kind));
        assert!(breaks.is_empty(), "kind {kind}: {breaks:?}");
    }
    drop(publisher);
    api.wait_for_phase(order.guid(), "waiting", LATE);
    eventually("it takes leave", LATE, || {
        when(receiver.finished() == 1, || receiver.finished().to_string())
    });
    let _publisher = ffmpeg::publish(&clip, &host.url("live/cam"));
    wait_for_messages(&receiver, 1, 100);
    receiver.assert_begins_well(1);
    api.wait_for_state(order.guid(), "LIVE", LATE);
}

#[test]
fn a_push_over_tls_checks_the_certificate_and_arrives_whole() {
    let clip = Clip::small();
    let builder = node();
    let certificate = Certificate::make(builder.folder());
    let far = builder
        .set("rtmps_listen", "127.0.0.1:0")
        .set("rtmp.tls_cert", certificate.cert_path())
        .set("rtmp.tls_key", certificate.key_path())
        .start();
    let host = pushing().start();
    let api = host.client();
    let uri = format!(
        "rtmps://localhost:{}/live/copy",
        far.service("rtmps").port()
    );
    let refused = push("refused", &uri);
    let pinned = push("pinned", &uri).with("tlsPin", certificate.sha256());
    api.start(&refused);
    api.start(&pinned);
    let _publisher = ffmpeg::publish(&clip, &host.url("live/cam"));
    api.wait_for_state(pinned.guid(), "LIVE", LATE);
    api.wait_for(refused.guid(), "it is not trusted", LATE, |status| {
        status["history"][0]["class"] == "tls"
    });
    let player = Player::attach(&far.url("live/copy"));
    player.wait_for_more(2 * 73, LATE);
    player.assert_unbroken(&clip);
}
