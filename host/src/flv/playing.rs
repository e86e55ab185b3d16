//! A file that plays: its messages, each when it is due.
//!
//! Reads ahead in batches off the runtime's threads. Invariant: it holds at most
//! one batch, and a reader that fell behind does not catch up in a burst.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use restreamd_rtmp::session::Media;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::demux::{Demux, Storage};
use super::pace::Pace;
use super::rounds::{Rounds, is_frame};
use super::{Error, MediaDir};

/// A batch is read until it has so many messages, or …
const BATCH_MESSAGES: usize = 64;
/// … so many bytes: the last message may go beyond, by at most 16 MiB.
const BATCH_BYTES: usize = 512 * 1024;
/// A batch that takes longer to read will not come: the disk hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// When more than this is overdue the clock moves on: after a suspend or a disk that
/// hung, players want now and not what was missed.
const MAX_LATE: Duration = Duration::from_secs(1);

/// A file that plays. [`Playing::next`] is cancel safe; dropping it closes the file.
#[derive(Debug)]
pub struct Playing {
    ready: VecDeque<Media>,
    /// What follows when nothing is ready any more.
    then: Then,
    begin: Option<Instant>,
    pace: Pace,
    /// When the message in front is due, once asked.
    due: Option<Instant>,
}

#[derive(Debug)]
enum Then {
    Read(Box<Rounds>),
    /// Until when it should be done.
    Reading(JoinHandle<Batch>, Instant),
    /// The file is over, at this timestamp.
    End(u32),
    Fail(Option<Error>),
}

/// What one look into the file gave.
#[derive(Debug)]
struct Batch {
    media: VecDeque<Media>,
    then: Then,
}

impl Playing {
    /// Opens a file of the media directory, and plays it from the first call of
    /// [`Playing::next`] on.
    pub fn open(directory: MediaDir, name: String, looped: bool) -> Self {
        Self::new(looped, move || {
            let file = directory.open(&name)?;
            Ok(Box::new(file) as Box<dyn Storage>)
        })
    }

    /// Plays what is in memory.
    pub fn from_memory(file: &'static [u8], looped: bool) -> Self {
        Self::new(looped, move || Ok(Box::new(io::Cursor::new(file))))
    }

    fn new(
        looped: bool,
        open: impl FnOnce() -> Result<Box<dyn Storage>, Error> + Send + 'static,
    ) -> Self {
        let first = spawn_blocking(move || match open().and_then(Demux::open) {
            Ok(demux) => batch(Box::new(Rounds::new(demux, looped))),
            Err(error) => Batch {
                media: VecDeque::new(),
                then: Then::Fail(Some(error)),
            },
        });
        Self {
            ready: VecDeque::new(),
            then: Then::Reading(first, Instant::now() + READ_TIMEOUT),
            begin: None,
            pace: Pace::default(),
            due: None,
        }
    }

    /// The next message when it is due; `None` when the file is over and its last frame
    /// had its time.
    pub async fn next(&mut self) -> Result<Option<Media>, Error> {
        while self.ready.is_empty() {
            match &mut self.then {
                Then::Reading(task, until) => {
                    let Ok(read) = timeout_at(*until, task).await else {
                        return Err(Error::TooSlow);
                    };
                    let failed = |_| Batch {
                        media: VecDeque::new(),
                        then: Then::Fail(Some(io::Error::other("the reader failed").into())),
                    };
                    let Batch { media, then } = read.unwrap_or_else(failed);
                    (self.ready, self.then) = (media, then);
                }
                Then::Read(_) => {
                    if let Then::Read(rounds) = std::mem::replace(&mut self.then, Then::Fail(None))
                    {
                        let read = spawn_blocking(move || batch(rounds));
                        self.then = Then::Reading(read, Instant::now() + READ_TIMEOUT);
                    }
                }
                Then::End(at) => {
                    let at = *at;
                    self.wait_for(at).await;
                    return Ok(None);
                }
                Then::Fail(error) => {
                    let over = || io::Error::other("the reader failed").into();
                    return Err(error.take().unwrap_or_else(over));
                }
            }
        }
        if let Some(at) = self.ready.front().filter(|media| is_frame(media)) {
            let at = at.timestamp;
            self.wait_for(at).await;
        }
        self.due = None;
        Ok(self.ready.pop_front())
    }

    /// Waits until a timestamp is due. Cancel safe: the pace is asked once for it.
    async fn wait_for(&mut self, timestamp: u32) {
        let due = match self.due {
            Some(due) => due,
            None => self.plan(timestamp, Instant::now()),
        };
        self.due = Some(due);
        sleep_until(due).await;
    }

    fn plan(&mut self, timestamp: u32, now: Instant) -> Instant {
        let after = self.pace.due(timestamp);
        let begin = self.begin.get_or_insert(now);
        let late = now.saturating_duration_since(*begin + after);
        if late > MAX_LATE {
            *begin += late;
        }
        *begin + after
    }
}

/// Reads on until there is enough. Blocking.
fn batch(mut rounds: Box<Rounds>) -> Batch {
    let mut media = VecDeque::new();
    let mut bytes = 0;
    while media.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
        match rounds.next() {
            Ok(Some(message)) => {
                bytes += message.payload.len();
                media.push_back(message);
            }
            Ok(None) => {
                let then = Then::End(rounds.begin());
                return Batch { media, then };
            }
            Err(error) => {
                let then = Then::Fail(Some(error));
                return Batch { media, then };
            }
        }
    }
    let then = Then::Read(rounds);
    Batch { media, then }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use restreamd_rtmp::flv::{FILE_HEADER, tag_header, tag_trailer};
    use restreamd_rtmp::session::MediaKind;

    use super::*;

    const CLIP: &[u8] = include_bytes!("../../demo/clip.flv");

    fn playing(file: Vec<u8>, looped: bool) -> Playing {
        Playing::new(looped, move || Ok(Box::new(io::Cursor::new(file))))
    }

    /// A disk that answers nobody after so many bytes, before its sender is dropped.
    struct Hanging {
        file: io::Cursor<&'static [u8]>,
        after: u64,
        held: std::sync::mpsc::Receiver<()>,
    }

    impl io::Read for Hanging {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.file.position() >= self.after {
                let _ = self.held.recv();
            }
            self.file.read(buf)
        }
    }

    impl io::Seek for Hanging {
        fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_in_the_midst_ends_the_file() {
        let (release, held) = std::sync::mpsc::channel();
        let disk = Hanging {
            file: io::Cursor::new(CLIP),
            after: 64 * 1024,
            held,
        };
        let mut playing = Playing::new(true, move || Ok(Box::new(disk)));
        let begin = Instant::now();
        let error = loop {
            // Whoever waits looks at other things meanwhile.
            let next = tokio::time::timeout(Duration::from_millis(500), playing.next());
            match next.await {
                Ok(Err(error)) => break error,
                Ok(Ok(media)) => assert!(media.is_some(), "no end"),
                Err(_) => assert!(begin.elapsed() < READ_TIMEOUT * 3, "it waits for ever"),
            }
        };
        assert!(matches!(error, Error::TooSlow), "{error}");
        assert!(begin.elapsed() >= READ_TIMEOUT);
        drop(release);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_cut_inside_a_tag_ends_there_and_loops() {
        let whole = file(&[0, 40, 80]);
        let cut = whole[..whole.len() - 12].to_vec();
        let (once, error) = frames(playing(cut.clone(), false), usize::MAX).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(once.len(), 2);
        let (looped, error) = frames(playing(cut, true), 5).await;
        assert!(error.is_none(), "{error:?}");
        let at: Vec<u32> = looped.iter().map(|media| media.timestamp).collect();
        assert_eq!(at, [0, 40, 80, 120, 160]);
        let header_alone = whole[..11].to_vec();
        let (_, error) = frames(playing(header_alone, true), 1).await;
        assert!(error.is_some(), "nothing to play");
    }

    /// A file of H.264 frames with these timestamps.
    fn file(timestamps: &[u32]) -> Vec<u8> {
        let mut file = FILE_HEADER.to_vec();
        for at in timestamps {
            file.extend(tag_header(9, 6, *at));
            file.extend([0x17, 1, 0, 0, 0, 7]);
            file.extend(tag_trailer(6));
        }
        file
    }

    async fn frames(mut playing: Playing, count: usize) -> (Vec<Media>, Option<Error>) {
        let mut frames = Vec::new();
        while frames.len() < count {
            match playing.next().await {
                Ok(Some(media)) if is_frame(&media) => frames.push(media),
                Ok(Some(_)) => {}
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
        (frames, None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_looped_clip_goes_on_without_a_gap_and_in_real_time() {
        let once = frames(Playing::from_memory(CLIP, false), usize::MAX)
            .await
            .0;
        let begin = Instant::now();
        let thrice = frames(Playing::from_memory(CLIP, true), once.len() * 3)
            .await
            .0;
        let took = begin.elapsed().as_millis();
        assert!((29_800..30_300).contains(&took), "{took} ms");
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let track: Vec<_> = thrice.iter().filter(|media| media.kind == kind).collect();
            for pair in track.windows(2) {
                let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
                assert!((1..=80).contains(&step), "{kind:?} steps by {step} ms");
            }
        }
        let bodies = |frames: &[Media]| -> Vec<_> {
            frames.iter().map(|media| media.payload.clone()).collect()
        };
        assert_eq!(bodies(&thrice[once.len()..once.len() * 2]), bodies(&once));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_with_a_base_of_its_own_begins_at_zero_and_loops_without_a_wait() {
        let file = file(&[500_000, 500_040, 500_080]);
        let stamps = frames(playing(file, true), 7).await.0;
        let stamps: Vec<_> = stamps.iter().map(|media| media.timestamp).collect();
        assert_eq!(stamps, [0, 40, 80, 120, 160, 200, 240]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_comes_when_the_last_frame_had_its_time() {
        let begin = Instant::now();
        let (seen, error) = frames(playing(file(&[0, 500, 1_000]), false), 9).await;
        assert_eq!((seen.len(), error.is_none()), (3, true));
        assert_eq!(begin.elapsed().as_millis(), 1_500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_fell_behind_goes_on_from_now() {
        let stamps: Vec<u32> = (0..100).map(|n| n * 100).collect();
        let mut playing = playing(file(&stamps), false);
        playing.next().await.expect("a frame");
        tokio::time::advance(Duration::from_secs(5)).await;
        let begin = Instant::now();
        for _ in 0..20 {
            playing.next().await.expect("a frame");
        }
        assert_eq!(begin.elapsed().as_millis(), 1_900);
    }

    #[tokio::test]
    async fn files_that_are_no_media_say_so() {
        let error = |file: Vec<u8>| async {
            let (_, error) = frames(playing(file, true), usize::MAX).await;
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(error(Vec::new()).await.contains("neither FLV"));
        assert!(
            error(b"hello, world".to_vec())
                .await
                .contains("neither FLV")
        );
        assert!(error(FILE_HEADER.to_vec()).await.contains("no frame"));
        assert!(error(b"FLV\x02".to_vec()).await.contains("not an flv"));
        assert!(
            error(file(&[0])[..20].to_vec())
                .await
                .contains("ends inside")
        );
    }

    #[test]
    fn a_batch_is_bounded_however_large_the_file() {
        let file: &'static [u8] = file(&[0; 10_000]).leak();
        let demux = Demux::open(Box::new(io::Cursor::new(file))).expect("an FLV file");
        let batch = batch(Box::new(Rounds::new(demux, true)));
        assert_eq!(batch.media.len(), BATCH_MESSAGES);
        assert!(matches!(batch.then, Then::Read(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn cut_and_damaged_files_end_in_an_error_or_play_on(
            cut in 0usize..60_000,
            damage in proptest::collection::vec((0usize..60_000, any::<u8>()), 0..8),
        ) {
            let mut file = CLIP[..60_000].to_vec();
            for (at, byte) in damage {
                file[at] = byte;
            }
            file.truncate(cut);
            if let Ok(demux) = Demux::open(Box::new(io::Cursor::new(file))) {
                let mut rounds = Rounds::new(demux, false);
                while let Ok(Some(_)) = rounds.next() {}
            }
        }
    }
}
