//! What to do next for a stream that another node feeds: dial, wait, or let go.
//!
//! Pure: it is told who holds the stream, who watches and how the pull is doing, and
//! says one step. Invariants: after the last viewer it ends within the linger; a stream
//! that had media and gets none from a holder ends within the orphan wait; a holder is
//! dialed at most so often.

use std::time::Duration;

use tokio::time::Instant;

use super::{Config, Origin};

/// A dial that hangs longer has reached somebody, who has no media yet.
const CONNECT: Duration = Duration::from_secs(6);
/// Between two dials of the same holder: first so long, then twice as long each time, …
const RETRY: Duration = Duration::from_millis(200);
/// … up to this.
const MOST_RETRY: Duration = Duration::from_secs(2);
/// After the holder told the end, what the store says of it may be so late.
const NEWS: Duration = Duration::from_millis(500);

/// What is known at a moment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Who holds the stream.
    pub(super) holder: Option<Origin>,
    /// Whether it is to go on at all.
    pub(super) exists: bool,
    /// Viewers here.
    pub(super) viewers: u64,
    /// When somebody asked for it last.
    pub(super) wanted: Option<Instant>,
}

/// What the pull has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The dial goes out; before, it waited for those of other streams.
    Dialing,
    /// The holder grants the stream: it has media.
    Granted,
    /// The pull is over.
    Lost {
        /// The holder said that the stream has ended.
        told: bool,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Pull from this one.
    Dial(Origin),
    /// Nothing before then, unless something changes.
    Wait(Instant),
    /// Nobody watches.
    LetGo,
    /// There is nothing to watch; why.
    End(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pull {
    None,
    /// Its dial waits for its turn.
    Waiting,
    Dialing(Instant),
    Granted,
}

/// The course of one stream. See the module.
#[derive(Debug)]
pub(super) struct Course {
    config: Config,
    /// It had media: its viewers have something to lose.
    began: bool,
    pull: Pull,
    /// Whom the last dial went to.
    target: Option<Origin>,
    retry_at: Instant,
    retry: Duration,
    /// Since when no holder gives anything.
    lost: Option<Instant>,
    unwatched: Option<Instant>,
    /// When a holder told the end.
    told: Option<Instant>,
}

impl Course {
    /// Of a stream that had media here, or not yet.
    pub(super) fn new(config: Config, began: bool, now: Instant) -> Self {
        Self {
            config,
            began,
            pull: Pull::None,
            target: None,
            retry_at: now,
            retry: RETRY,
            lost: None,
            unwatched: None,
            told: None,
        }
    }

    /// The pull of the last dial tells something.
    pub(super) fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::Dialing => self.pull = Pull::Dialing(now),
            News::Granted => {
                self.pull = Pull::Granted;
                self.retry = RETRY;
                self.began = true;
                self.told = None;
            }
            News::Lost { told } => {
                self.pull = Pull::None;
                self.retry_at = now + self.retry;
                self.retry = (self.retry * 2).min(MOST_RETRY);
                if told {
                    self.told = Some(now);
                }
            }
        }
    }

    /// What to do now.
    pub(super) fn step(&mut self, seen: &Seen, now: Instant) -> Step {
        if let Some(over) = self.unwatched(seen, now) {
            return over;
        }
        let ends = match self.orphaned(seen, now) {
            Ok(ends) => ends,
            Err(why) => return Step::End(why),
        };
        let news = self.told.map(|at| at + NEWS).filter(|at| *at > now);
        let lingers = self.unwatched.map(|since| since + self.config.linger);
        let mut until = [ends, news, lingers];
        if let Some(holder) = &seen.holder {
            let other = self.target.as_ref() != Some(holder);
            if other {
                self.retry = RETRY;
            }
            if other || (self.pull == Pull::None && now >= self.retry_at) {
                self.target = Some(holder.clone());
                self.pull = Pull::Waiting;
                return Step::Dial(holder.clone());
            }
            if self.pull == Pull::None {
                until[1] = Some(self.retry_at);
            }
        }
        let far = now + self.config.orphan_wait;
        Step::Wait(until.into_iter().flatten().fold(far, Instant::min))
    }

    /// The end for want of viewers.
    fn unwatched(&mut self, seen: &Seen, now: Instant) -> Option<Step> {
        if seen.viewers > 0 {
            self.unwatched = None;
            return None;
        }
        let since = self.unwatched.get_or_insert(now);
        *since = seen.wanted.map_or(*since, |wanted| wanted.max(*since));
        let over = now.saturating_duration_since(*since) >= self.config.linger;
        over.then_some(Step::LetGo)
    }

    /// The end for want of media, now or when it would come.
    fn orphaned(&mut self, seen: &Seen, now: Instant) -> Result<Option<Instant>, &'static str> {
        let reached = match self.pull {
            Pull::Granted => true,
            Pull::Dialing(since) => now.saturating_duration_since(since) >= CONNECT,
            Pull::None | Pull::Waiting => false,
        };
        if reached && seen.holder.is_some() {
            self.lost = None;
            return Ok(None);
        }
        let known = self
            .told
            .map(|at| now.saturating_duration_since(at) >= NEWS);
        if known == Some(true) && !seen.exists {
            return Err("the stream has ended");
        }
        // Who waits for a first picture has a patience of their own.
        if !self.began {
            return Ok(None);
        }
        let end = *self.lost.get_or_insert(now) + self.config.orphan_wait;
        match now >= end {
            true => Err("no node has the stream"),
            false => Ok(Some(end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const CONFIG: Config = Config {
        orphan_wait: Duration::from_secs(15),
        linger: Duration::from_secs(5),
    };

    fn origin(node: &str, epoch: u64) -> Origin {
        Origin {
            node: node.parse().expect("legal"),
            instance: "0".to_owned(),
            epoch,
            rtmp: ([127, 0, 0, 1], 1935).into(),
        }
    }

    fn seen(holder: Option<Origin>) -> Seen {
        Seen {
            exists: holder.is_some(),
            holder,
            viewers: 1,
            wanted: None,
        }
    }

    /// Steps as the task would until something else than a wait comes of it: after how long.
    fn until(course: &mut Course, seen: &Seen, begin: Instant) -> (u128, Step) {
        let mut now = begin;
        for _ in 0..1_000 {
            match course.step(seen, now) {
                Step::Wait(until) => {
                    assert!(until > now, "it spins");
                    now = until;
                }
                step => return ((now - begin).as_millis(), step),
            }
        }
        panic!("it waits for ever")
    }

    #[test]
    fn the_holder_is_dialed_at_once_and_a_new_one_too() {
        let now = Instant::now();
        let mut course = Course::new(CONFIG, false, now);
        let (first, second) = (origin("a", 1), origin("b", 2));
        let held = seen(Some(first.clone()));
        assert_eq!(course.step(&held, now), Step::Dial(first.clone()));
        assert!(matches!(course.step(&held, now), Step::Wait(_)), "once");
        course.hear(News::Granted, now);
        assert!(matches!(course.step(&held, now), Step::Wait(_)));
        let moved = seen(Some(second.clone()));
        assert_eq!(course.step(&moved, now), Step::Dial(second));
        let back = Origin {
            instance: "1".to_owned(),
            ..first.clone()
        };
        let again = seen(Some(back.clone()));
        assert_eq!(course.step(&again, now), Step::Dial(back), "it came anew");
    }

    #[test]
    fn a_holder_that_fails_is_dialed_again_and_less_and_less_often() {
        let mut now = Instant::now();
        let mut course = Course::new(CONFIG, false, now);
        let held = seen(Some(origin("a", 1)));
        let mut waits = Vec::new();
        for _ in 0..7 {
            let (after, step) = until(&mut course, &held, now);
            assert_eq!(step, Step::Dial(origin("a", 1)));
            waits.push(after);
            now += Duration::from_millis(after as u64);
            course.hear(News::Lost { told: false }, now);
        }
        assert_eq!(waits, [0, 200, 400, 800, 1_600, 2_000, 2_000]);
    }

    #[test]
    fn a_stream_that_had_media_ends_when_nobody_has_it_for_the_orphan_wait() {
        let now = Instant::now();
        let mut course = Course::new(CONFIG, true, now);
        let mut nobody = seen(None);
        nobody.exists = true;
        let (after, step) = until(&mut course, &nobody, now);
        assert_eq!((after, step), (15_000, Step::End("no node has the stream")));
        // One that never had any waits as long as its viewers do.
        let mut course = Course::new(CONFIG, false, now);
        let hour = now + Duration::from_secs(3_600);
        assert!(matches!(course.step(&nobody, now), Step::Wait(_)));
        assert!(matches!(course.step(&nobody, hour), Step::Wait(_)));
    }

    #[test]
    fn a_holder_that_cannot_be_reached_is_as_none() {
        let mut now = Instant::now();
        let begin = now;
        let mut course = Course::new(CONFIG, true, now);
        let held = seen(Some(origin("a", 1)));
        loop {
            match course.step(&held, now) {
                Step::Dial(_) => {
                    now += 5_000 * MS;
                    course.hear(News::Lost { told: false }, now);
                }
                Step::Wait(until) => now = until,
                step => {
                    assert_eq!(step, Step::End("no node has the stream"));
                    break;
                }
            }
        }
        assert!(now - begin < 25_000 * MS, "{:?}", now - begin);
    }

    #[test]
    fn a_holder_that_has_no_media_yet_is_waited_for() {
        let now = Instant::now();
        let mut course = Course::new(CONFIG, true, now);
        let held = seen(Some(origin("a", 1)));
        assert!(matches!(course.step(&held, now), Step::Dial(_)));
        course.hear(News::Dialing, now);
        // The play hangs there until it has some.
        for seconds in 6..120 {
            let at = now + Duration::from_secs(seconds);
            assert!(matches!(course.step(&held, at), Step::Wait(_)));
        }
    }

    #[test]
    fn a_dial_that_still_waits_for_its_turn_has_reached_nobody() {
        let now = Instant::now();
        let mut course = Course::new(CONFIG, true, now);
        let held = seen(Some(origin("a", 1)));
        assert!(matches!(course.step(&held, now), Step::Dial(_)));
        let (after, step) = until(&mut course, &held, now);
        assert_eq!((after, step), (15_000, Step::End("no node has the stream")));
    }

    #[test]
    fn the_end_of_a_stream_that_is_no_more_is_told_soon() {
        let now = Instant::now();
        let mut course = Course::new(CONFIG, false, now);
        course.step(&seen(Some(origin("a", 1))), now);
        course.hear(News::Granted, now);
        course.hear(News::Lost { told: true }, now);
        let gone = seen(None);
        let (after, step) = until(&mut course, &gone, now);
        assert_eq!((after, step), (500, Step::End("the stream has ended")));
        // One that is only between two nodes is waited for.
        let mut course = Course::new(CONFIG, false, now);
        course.step(&seen(Some(origin("a", 1))), now);
        course.hear(News::Granted, now);
        course.hear(News::Lost { told: true }, now);
        let moving = Seen {
            exists: true,
            ..gone
        };
        let (after, _) = until(&mut course, &moving, now);
        assert_eq!(after, 15_000);
    }

    #[test]
    fn the_pull_goes_when_nobody_watched_for_the_linger() {
        let now = Instant::now();
        let mut course = Course::new(CONFIG, false, now);
        let held = seen(Some(origin("a", 1)));
        course.step(&held, now);
        course.hear(News::Granted, now);
        let alone = Seen {
            viewers: 0,
            ..held.clone()
        };
        assert!(matches!(course.step(&alone, now), Step::Wait(_)));
        let later = now + 4_000 * MS;
        // Somebody asked, and looked elsewhere.
        let asked = Seen {
            wanted: Some(later),
            ..alone.clone()
        };
        let (after, step) = until(&mut course, &asked, later);
        assert_eq!((after, step), (5_000, Step::LetGo));
        assert!(
            matches!(course.step(&held, later), Step::Wait(_)),
            "watched"
        );
        let (after, _) = until(&mut course, &alone, later);
        assert_eq!(after, 5_000, "anew");
    }
}
