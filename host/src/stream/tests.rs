//! A stream over a thousand switches of every kind, as one subscriber sees it.

use std::sync::Arc;

use bytes::Bytes;
use restreamd_rtmp::chunk::Wire;
use restreamd_rtmp::message::type_id;

use super::timeline::Lane;
use super::unit::{Content, Unit};
use super::{Batch, Config, Feed, Stream, Subscriber};

const SWITCHES: u32 = 1_000;
const PICTURE_MS: u32 = 40;
/// Pictures from one keyframe to the next.
const GOP: u32 = 10;
/// Sound comes behind the pictures by so much.
const BEHIND_MS: u32 = 120;
/// What sound comes behind, the seam, and a picture.
const LONGEST_GAP_MS: u64 = BEHIND_MS as u64 + 2 * PICTURE_MS as u64;

/// A source whose frames carry its number and their time by a clock that begins at 0.
struct Source {
    number: u32,
    /// The clock of its timestamps, when it begins.
    base: u32,
    feed: Feed,
    sent: u32,
}

impl Source {
    fn open(stream: &Arc<Stream>, number: u32) -> Self {
        let mut source = Self {
            number,
            base: 0,
            feed: stream.feed(None),
            sent: 0,
        };
        source.begin(number);
        source
    }

    /// A clock that begins anywhere; metadata and headers, which servers stamp with 0.
    fn begin(&mut self, number: u32) {
        self.base = match number % 3 {
            0 => 0,
            1 => u32::MAX - 200,
            _ => number.wrapping_mul(2_654_435_761),
        };
        (self.number, self.sent) = (number, 0);
        self.push(Lane::Data, Content::Metadata, 0, "m");
        self.push(Lane::Video, Content::Header { track: 0 }, 0, "h");
        self.push(Lane::Audio, Content::Header { track: 0 }, 0, "h");
    }

    fn push(&mut self, lane: Lane, content: Content, timestamp: u32, payload: &str) {
        self.feed.push(&Unit {
            timestamp,
            lane,
            content,
            codec: None,
            payload: Bytes::from(format!("{payload} {}", self.number)),
        });
    }

    fn frame(&mut self, lane: Lane, content: Content, media: u32) {
        let timestamp = self.base.wrapping_add(media);
        self.push(lane, content, timestamp, &media.to_string());
    }

    /// The next pictures, and the sound that comes with them.
    fn send(&mut self, pictures: u32) {
        for n in self.sent..self.sent + pictures {
            let media = n * PICTURE_MS;
            let content = match n % GOP {
                0 => Content::Keyframe,
                _ => Content::Frame,
            };
            self.frame(Lane::Video, content, media);
            if let Some(media) = media.checked_sub(BEHIND_MS) {
                self.frame(Lane::Audio, Content::Frame, media);
                self.frame(Lane::Audio, Content::Frame, media + PICTURE_MS / 2);
            }
        }
        self.sent += pictures;
    }
}

/// What a subscriber has seen.
#[derive(Default)]
struct Seen {
    last: [Option<u64>; 2],
    /// The newest source, and how far its media is moved, all tracks alike.
    moved: Option<(u32, i64)>,
    sources: u32,
    frames: u32,
}

impl Seen {
    fn read(&mut self, subscriber: &mut Subscriber) {
        while subscriber.take_each(|at, wire| self.see(at, wire)) == Batch::Frames {}
    }

    fn see(&mut self, at: u64, wire: &Wire) {
        let lane = match wire.message_type() {
            type_id::VIDEO => 0,
            type_id::AUDIO => 1,
            _ => return,
        };
        let payload: Vec<u8> = wire.payload_parts().flatten().collect();
        let payload = String::from_utf8(payload).expect("text");
        if let Some(last) = self.last[lane].replace(at) {
            assert!(at >= last, "{payload}: back from {last} to {at}");
            assert!(at - last <= LONGEST_GAP_MS, "{payload}: {last} to {at}");
        }
        let (media, number) = payload.split_once(' ').expect("two words");
        if let Ok(media) = media.parse::<i64>() {
            self.frames += 1;
            self.place(number.parse().expect("a number"), at as i64 - media);
        }
    }

    fn place(&mut self, number: u32, by: i64) {
        match self.moved {
            Some((of, moved)) if of == number => {
                assert_eq!(by, moved, "{number}: a track lost its place");
            }
            former => {
                assert!(former.is_none_or(|(of, _)| of < number), "{number} is over");
                self.moved = Some((number, by));
                self.sources += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_thousand_switches_take_no_track_back_nor_from_its_place() {
    let guid = "live/a".parse().expect("legal");
    let stream = Stream::detached(guid, &Config::default());
    let mut subscriber = Subscriber::new(stream.clone());
    let mut seen = Seen::default();
    let mut source = Source::open(&stream, 0);
    source.feed.attach();
    for number in 1..=SWITCHES {
        source.send(5 + number % 23);
        seen.read(&mut subscriber);
        match number % 4 {
            // The source goes, and another comes later.
            0 => {
                drop(source);
                source = Source::open(&stream, number);
                source.feed.attach();
            }
            // Another takes over at its keyframe; who played until then goes on in vain.
            1 => {
                let mut next = Source::open(&stream, number);
                next.feed.attach();
                source.send(3);
                next.send(1);
                source.send(3);
                source = next;
            }
            // A warm one takes over in the middle of its group.
            2 => {
                let mut next = Source::open(&stream, number);
                next.send(GOP + 4);
                next.feed.attach();
                source.send(3);
                source = next;
            }
            // The same source by another connection, with a clock that is seconds ahead.
            _ => {
                let ahead = source.base.wrapping_add(5_000);
                source.feed.resume();
                source.begin(number);
                source.base = ahead;
            }
        }
    }
    source.send(5);
    seen.read(&mut subscriber);
    assert_eq!(seen.sources, SWITCHES + 1);
    assert!(seen.frames > 40 * SWITCHES, "{} frames", seen.frames);
}
