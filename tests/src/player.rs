//! A player of our own: notes every frame, so that a test can ask what a viewer saw.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use restreamd_rtmp::session::{
    ClientConfig, ClientEvent, ClientSession, Media, MediaKind, Purpose,
};
use restreamd_rtmp::url::RtmpUrl;

use crate::clip::{AUDIO, Clip, VIDEO, is_sequence_header};
use crate::clock::since_boot;
use crate::continuity::{breaks, fingerprint};
use crate::eventually::eventually;
use crate::stamp::Stamp;

/// How long a read waits before the player looks whether it is to stop.
const TICK: Duration = Duration::from_millis(20);

/// A frame as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// [`AUDIO`] or [`VIDEO`].
    pub kind: u8,
    /// RTMP timestamp in milliseconds.
    pub timestamp: u32,
    /// When it arrived.
    pub at: Instant,
    /// The same by the clock of [`since_boot`].
    pub arrived: Duration,
    /// Configures the codec rather than carrying a frame.
    pub sequence_header: bool,
    /// Fingerprint of the payload.
    pub hash: u64,
    /// Which frame of its source it is, when that one says it.
    pub stamp: Option<Stamp>,
}

#[derive(Debug, Default)]
struct Seen {
    frames: Vec<Frame>,
    gone: Option<String>,
}

/// An attached player; it leaves at drop.
#[derive(Debug)]
pub struct Player {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Player {
    /// Connects and asks to play.
    pub fn attach(url: &str) -> Self {
        Self::begin(url, false)
    }

    /// The same, and stays after the end was told until the connection is closed; what it
    /// heard in between is in [`Player::gone`].
    pub fn attach_to_the_last(url: &str) -> Self {
        Self::begin(url, true)
    }

    fn begin(url: &str, to_the_last: bool) -> Self {
        let seen = Arc::new(Mutex::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (url, notes, flag) = (url.to_owned(), Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let reason = match play(&url, &notes, &flag, to_the_last) {
                Ok(reason) => reason,
                Err(e) => format!("{e:#}"),
            };
            lock(&notes).gone = Some(reason);
        });
        Self {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// All frames so far.
    pub fn frames(&self) -> Vec<Frame> {
        lock(&self.seen).frames.clone()
    }

    /// How many frames came so far.
    pub fn count(&self) -> usize {
        lock(&self.seen).frames.len()
    }

    /// Time since the last frame; zero before the first.
    pub fn last_frame_age(&self) -> Duration {
        lock(&self.seen)
            .frames
            .last()
            .map(|frame| frame.at.elapsed())
            .unwrap_or_default()
    }

    /// Why it is no longer connected, or `None` while it is.
    pub fn gone(&self) -> Option<String> {
        lock(&self.seen).gone.clone()
    }

    /// # Panics
    /// When the player was disconnected.
    pub fn assert_attached(&self) {
        if let Some(reason) = self.gone() {
            panic!("the player was disconnected: {reason}");
        }
    }

    /// Waits for `more` frames on top of those there are.
    ///
    /// # Panics
    /// When it is disconnected or the time is over.
    pub fn wait_for_more(&self, more: usize, within: Duration) {
        let goal = self.count() + more;
        eventually("the player gets frames", within, || {
            self.assert_attached();
            let count = self.count();
            if count >= goal {
                Ok(())
            } else {
                Err(format!("{count} of {goal} frames"))
            }
        });
    }

    /// # Panics
    /// When a timestamp of a track goes back, or there are no frames at all.
    pub fn assert_monotonic(&self) {
        for kind in [AUDIO, VIDEO] {
            let frames: Vec<_> = self
                .frames()
                .into_iter()
                .filter(|f| f.kind == kind)
                .collect();
            assert!(!frames.is_empty(), "no frames of kind {kind}");
            for pair in frames.windows(2) {
                let (before, after) = (pair[0].timestamp, pair[1].timestamp);
                assert!(
                    before <= after,
                    "timestamps of kind {kind} go back from {before} to {after}"
                );
            }
        }
    }

    /// # Panics
    /// When the frames are not an unbroken run of the looped clip.
    pub fn assert_unbroken(&self, clip: &Clip) {
        self.assert_attached();
        for kind in [AUDIO, VIDEO] {
            let played: Vec<u64> = self
                .frames()
                .iter()
                .filter(|f| f.kind == kind && !f.sequence_header)
                .map(|f| f.hash)
                .collect();
            assert!(!played.is_empty(), "no frames of kind {kind}");
            let found = breaks(&clip.frames(kind), &played);
            assert!(
                found.is_empty(),
                "frames of kind {kind} are missing before {found:?} of {}",
                played.len()
            );
        }
    }

    /// The longest time without a frame since `begin`.
    pub fn longest_gap(&self, begin: Instant) -> Duration {
        let times: Vec<_> = self
            .frames()
            .iter()
            .map(|f| f.at)
            .filter(|at| *at >= begin)
            .collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there was already told through `gone` being unset; the test's own verdict counts.
            let _ended = thread.join();
        }
    }
}

fn play(
    url: &str,
    seen: &Mutex<Seen>,
    stop: &AtomicBool,
    to_the_last: bool,
) -> anyhow::Result<String> {
    let url = RtmpUrl::parse(url)?;
    let mut stream = TcpStream::connect((url.host(), url.port())).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    let mut session = ClientSession::new(ClientConfig {
        url,
        purpose: Purpose::Play,
        flash_ver: None,
        swf_url: None,
        page_url: None,
        fc_subscribe: false,
    });
    let mut bytes = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        while let Some(output) = session.take_output() {
            stream.write_all(&output)?;
        }
        let mut read = 0;
        match stream.read(&mut bytes) {
            Ok(0) => return Ok("the connection was closed".to_owned()),
            Ok(n) => {
                session.buffer().extend_from_slice(&bytes[..n]);
                session.received(n);
                read = n;
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e).context("reading"),
        }
        while let Some(event) = session.poll()? {
            match event {
                ClientEvent::Media(media) => note(seen, &media),
                ClientEvent::Ended(end) if to_the_last => {
                    let last = last_words(&mut stream, bytes[..read].to_vec(), stop)?;
                    return Ok(format!("the stream ended: {end:?}{last}"));
                }
                ClientEvent::Ended(end) => return Ok(format!("the stream ended: {end:?}")),
                ClientEvent::Rejected(rejection) => {
                    bail!("rejected: {} {}", rejection.code, rejection.description)
                }
                _ => {}
            }
        }
    }
    session.finish();
    while let Some(output) = session.take_output() {
        stream.write_all(&output)?;
    }
    Ok("the test is over".to_owned())
}

/// The codes in what came with the end and after it, in order, and whether it was closed.
fn last_words(
    stream: &mut TcpStream,
    mut heard: Vec<u8>,
    stop: &AtomicBool,
) -> anyhow::Result<String> {
    let mut bytes = [0; 4096];
    let mut closed = "";
    while closed.is_empty() && !stop.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) => closed = ", closed",
            Ok(n) => heard.extend_from_slice(&bytes[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e).context("reading the end"),
        }
    }
    let text = String::from_utf8_lossy(&heard);
    let code = |part: &str| part.starts_with(|c: char| c.is_ascii_uppercase());
    let words = text.split("NetStream.Play.").skip(1).filter(|p| code(p));
    let word = |part: &str| {
        let word: String = part.chars().take_while(char::is_ascii_alphabetic).collect();
        format!(", {word}")
    };
    Ok(words.map(word).collect::<String>() + closed)
}

fn note(seen: &Mutex<Seen>, media: &Media) {
    let kind = match media.kind {
        MediaKind::Audio => AUDIO,
        MediaKind::Video => VIDEO,
        MediaKind::Data => return,
    };
    let frame = Frame {
        kind,
        timestamp: media.timestamp,
        at: Instant::now(),
        arrived: since_boot(),
        sequence_header: is_sequence_header(kind, &media.payload),
        hash: fingerprint(&media.payload),
        stamp: Stamp::of(&media.payload),
    };
    lock(seen).frames.push(frame);
}
