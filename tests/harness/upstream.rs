//! The scripted source's gates, proven with ffmpeg's own client before ours is tried on them.

use std::process::Command;
use std::time::Duration;

use restreamd_tests::clip::Clip;
use restreamd_tests::ffmpeg;
use restreamd_tests::proc::Running;
use restreamd_tests::source::{Gate, Script, Source, Style};

fn gated(gate: Gate) -> Source {
    let script = Script {
        gate,
        ..Script::default()
    };
    Source::scripted(&Clip::small(), script)
}

/// What ffmpeg says of a URL it cannot play.
fn refused(url: &str) -> String {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-i", url]);
    command.args(["-frames:v", "1", "-f", "null", "-"]);
    let mut running = Running::start(&mut command, "ffmpeg");
    let status = running.wait(Duration::from_secs(20));
    assert!(!status.success(), "ffmpeg plays {url}");
    running.stderr.text()
}

#[test]
fn ffmpeg_answers_both_challenges() {
    for gate in [Gate::Adobe("cam", "secret"), Gate::Llnw("cam", "secret")] {
        let source = gated(gate);
        ffmpeg::decodes(
            &source.url_as("cam:secret", "live/cam"),
            Duration::from_secs(1),
        );
        assert_eq!(source.dials(), 3, "the scheme, the challenge, the answer");
        let said = refused(&source.url_as("cam:wrong", "live/cam"));
        assert!(said.contains("Incorrect username/password"), "{said}");
        let said = refused(&source.url_as("who:secret", "live/cam"));
        assert!(said.contains("Incorrect username"), "{said}");
    }
}

fn ffmpeg_reads(style: Style) {
    let script = Script {
        style,
        ..Script::default()
    };
    let source = Source::scripted(&Clip::small(), script);
    ffmpeg::decodes(&source.url("live/cam"), Duration::from_secs(1));
}

#[test]
fn ffmpeg_reads_interleaved_chunks() {
    ffmpeg_reads(Style::Interleaved);
}

#[test]
fn ffmpeg_reads_aggregates() {
    ffmpeg_reads(Style::Aggregate);
}
