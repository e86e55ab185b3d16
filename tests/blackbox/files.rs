//! The `file` type: files of the media directory, played one after another.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use restreamd_tests::clip::{AUDIO, Clip, VIDEO};
use restreamd_tests::eventually::{eventually, when};
use restreamd_tests::host::Builder;
use restreamd_tests::player::Player;
use restreamd_tests::provision::Provision;
use restreamd_tests::{ffmpeg, plugins};

use crate::{SOON, node};

fn files(names: &str) -> Provision {
    Provision::of_type("file", "files", "live/files").with("files", names)
}

/// A node with the type and a media directory.
fn with_media() -> Builder {
    let builder = node().plugin("file");
    let media = builder.folder().join("media");
    fs::create_dir(&media).expect("a fresh folder is writable");
    let path = media
        .to_str()
        .expect("temporary paths are UTF-8")
        .to_owned();
    builder.set("media_dir", path)
}

/// A short clip as an FLV file, and the same media as the MP4 that ffmpeg makes of it.
fn short() -> Clip {
    Clip::of(restreamd_tests::clip::Shape {
        seconds: 3,
        ..restreamd_tests::clip::SMALL
    })
}

fn remux(clip: &Clip, to: &Path) {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-i"])
        .arg(clip.path())
        .args(["-c", "copy"])
        .arg(to)
        .status()
        .expect("ffmpeg is installed");
    assert!(made.success(), "ffmpeg: {made}");
}

#[test]
fn mp4_file_is_played_bit_exactly_and_loops_without_a_break() {
    let builder = with_media();
    let clip = short();
    let file = builder.folder().join("media/show.mp4");
    remux(&clip, &file);
    let host = builder.start();
    let api = host.client();
    let show = files("show.mp4").with("loop", true);
    api.start(&show);
    let status = api.wait_for_state(show.guid(), "LIVE", SOON);
    assert_eq!(status["source"], "file:show.mp4", "{status}");
    let player = Player::attach(&host.url("live/files"));
    // Two rounds and more: 30 pictures and 43 sounds a second.
    player.wait_for_more(8 * 73, Duration::from_secs(20));
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    for kind in [VIDEO, AUDIO] {
        let frames = player.frames();
        let times: Vec<_> = frames
            .iter()
            .filter(|frame| frame.kind == kind && !frame.sequence_header)
            .map(|frame| frame.timestamp)
            .collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(
            longest.is_some_and(|step| step <= 90),
            "kind {kind}: {longest:?} ms"
        );
    }
    let played = ffmpeg::packets(&host.url("live/files"), 2);
    let original = ffmpeg::packets(file.to_str().expect("UTF-8"), 10);
    for kind in ["video", "audio"] {
        let (played, original) = (
            ffmpeg::of_kind(&played, kind),
            ffmpeg::of_kind(&original, kind),
        );
        assert!(played.len() > 20, "{} packets of {kind}", played.len());
        let strange = played
            .iter()
            .filter(|packet| !original.contains(packet))
            .count();
        assert_eq!(strange, 0, "{kind} packets that are not of the file");
    }
}

#[test]
fn a_new_build_goes_on_where_the_file_is() {
    let builder = with_media();
    let clip = short();
    fs::copy(clip.path(), builder.folder().join("media/show.flv")).expect("writable");
    let host = builder.start();
    let api = host.client();
    let show = files("show.flv").with("loop", true);
    api.start(&show);
    let player = Player::attach(&host.url("live/files"));
    player.wait_for_more(60, SOON);
    let dir = host.folder().join("plugins");
    plugins::put(&dir, "file", &plugins::build("file", 1));
    eventually("it hands over", SOON, || {
        let logs = host.logs().join("\n");
        when(logs.contains("handed over to the newest build"), || logs)
    });
    player.wait_for_more(3 * 73, SOON);
    player.assert_unbroken(&clip);
    player.assert_monotonic();
    let status = api.status(show.guid());
    assert_eq!(status["attempt"], 1, "nothing was opened again: {status}");
}

#[test]
fn files_are_played_in_order_and_the_end_of_the_list_is_the_end() {
    let builder = with_media();
    fs::copy(short().path(), builder.folder().join("media/a.flv")).expect("writable");
    remux(&short(), &builder.folder().join("media/b.mp4"));
    let host = builder.start();
    let api = host.client();
    let list = files("a.flv, b.mp4");
    api.start(&list);
    let player = Player::attach(&host.url("live/files"));
    api.wait_for_state(list.guid(), "LIVE", SOON);
    eventually("the second file plays", SOON, || {
        let status = api.status(list.guid());
        match status["source"] == "file:b.mp4" && status["state"] == "LIVE" {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    });
    let status = api.wait_for_phase(list.guid(), "failed", SOON);
    assert!(
        status["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("finished")),
        "{status}"
    );
    player.assert_attached();
    player.assert_monotonic();
}

#[test]
fn missing_files_and_names_that_lead_out_are_errors_of_the_status() {
    let builder = with_media();
    fs::write(builder.folder().join("secret.flv"), b"FLV").expect("writable");
    std::os::unix::fs::symlink("../secret.flv", builder.folder().join("media/link.flv"))
        .expect("a link");
    let host = builder.start();
    let api = host.client();
    for (number, (name, class)) in [
        ("none.mp4", "not-found: "),
        ("../secret.flv", "blocked: "),
        ("/etc/passwd", "blocked: "),
        ("link.flv", "blocked: "),
    ]
    .into_iter()
    .enumerate()
    {
        let guid = format!("files{number}");
        let provision = Provision::of_type("file", &guid, &format!("live/files{number}"));
        let provision = provision.with("files", name);
        api.start(&provision);
        let status = api.wait_for_phase(&guid, "backing-off", SOON);
        let error = status["error"].as_str().unwrap_or_default();
        assert!(error.starts_with(class) && error.contains(name), "{status}");
        let folder = host.folder().to_str().expect("UTF-8");
        assert!(!error.contains(folder), "{status}");
    }
}

#[test]
fn a_list_that_is_none_is_refused() {
    let host = with_media().start();
    let api = host.client();
    for (provision, key) in [
        (Provision::of_type("file", "files", "live/files"), "files"),
        (files(" , "), "files"),
        (files("a.mp4").with("index", 1), "index"),
        (files("a.mp4").with("loop", "often"), "loop"),
    ] {
        let body = api.try_create(&[&provision]).error(400);
        let field = format!("streams[0].camParams.properties.{key}");
        assert_eq!(body["field"], field, "{body}");
    }
}

#[test]
fn a_slate_plays_under_the_same_player_while_no_source_is_live() {
    let builder = with_media();
    let slate = short();
    remux(&slate, &builder.folder().join("media/slate.mp4"));
    let clip = Clip::small();
    let mut source = restreamd_tests::source::Source::open(&clip);
    let host = builder.start();
    let api = host.client();
    let uri = source.url("live/stream1");
    let pull = Provision::pull("slated", "live/files", &uri).with("slate", "slate.mp4");
    api.start(&pull);
    let on_air = |wanted: &str| {
        api.wait_for(pull.guid(), wanted, SOON, |s| {
            s["state"] == "LIVE" && s["source"] == wanted
        })
    };
    on_air(&uri);
    let player = Player::attach(&host.url("live/files"));
    player.wait_for_more(60, SOON);
    source.go_away();
    on_air("file:slate.mp4");
    player.wait_for_more(60, SOON);
    source.come_back();
    on_air(&uri);
    player.wait_for_more(60, SOON);
    player.assert_attached();
    player.assert_monotonic();
}
