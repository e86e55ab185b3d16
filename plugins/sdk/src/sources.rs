//! Ordered sources: which to dial, which to play, when to go back.
//!
//! The first source that flows is played, a better one takes over again after it
//! has held for a while, a standby is kept warm, and a slate fills the dark. Pure:
//! the host is behind [`Deck`], time and randomness come from there. Invariants:
//! what plays is given up only for something that flows, and no source is dialed
//! before its wait is over.

use crate::IoError;
use crate::retry::{Class, Retry};

/// A better source that only dials for so long no longer keeps the next one waiting.
const HEDGE_MS: u64 = 1_000;
/// Nor does one whose media brings nothing to begin with for so long: a keyframe is
/// seldom further away.
const COMING_HEDGE_MS: u64 = 3_000;
/// A dark moment shorter than this shows no slate.
const SLATE_AFTER_MS: u64 = 500;

/// What the plan asks of the host.
pub trait Deck {
    /// Opens a source of the list; it dials.
    fn open(&mut self, rung: usize) -> Result<u32, IoError>;
    /// How an open source is.
    fn look(&self, id: u32) -> Look;
    /// It goes on air at its next start.
    fn attach(&mut self, id: u32);
    /// Closes it.
    fn close(&mut self, id: u32);
    /// A clock that never goes back.
    fn now_ms(&self) -> u64;
    /// Randomness.
    fn random(&mut self) -> u32;
}

/// How an open source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Media comes, and the stream can play it.
    pub flowing: bool,
    /// Media comes, and nothing to begin with so far.
    pub coming: bool,
    /// For so long without a stall.
    pub flowing_ms: u64,
    /// Media came and stopped.
    pub stalled: bool,
    /// The stream plays it.
    pub on_air: bool,
    /// The tracks that came.
    pub tracks: Tracks,
}

/// What a source brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// Video.
    pub picture: bool,
    /// Audio.
    pub sound: bool,
}

impl Tracks {
    fn add(&mut self, other: Self) {
        self.picture |= other.picture;
        self.sound |= other.sound;
    }

    /// Those of both.
    fn shared(self, other: Self) -> Self {
        Self {
            picture: self.picture && other.picture,
            sound: self.sound && other.sound,
        }
    }
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// How many sources there are, best first, without the slate.
    pub rungs: usize,
    /// The source after the last one is a slate.
    pub slate: bool,
    /// A better source takes over after it has flowed for so long.
    pub return_after_ms: u64,
    /// The next source is kept connected beside the one that plays.
    pub standby: bool,
    /// Bounds of the wait between attempts.
    pub retry_ms: (u32, u32),
}

#[derive(Clone, Debug)]
struct Rung {
    open: Option<u32>,
    opened_ms: u64,
    due_ms: u64,
    retry: Retry,
    /// Tracks it has ever brought.
    tracks: Tracks,
}

/// The plan. See the module.
#[derive(Debug)]
pub struct Sources {
    wishes: Wishes,
    rungs: Vec<Rung>,
    /// What was put on air last, while it is open.
    playing: Option<u32>,
    /// A source of the plan before, which plays until one of this plan does.
    leaving: Option<u32>,
    dark_since: Option<u64>,
}

impl Sources {
    /// A plan that begins now.
    pub fn new(wishes: Wishes, now_ms: u64) -> Self {
        let rung = Rung {
            open: None,
            opened_ms: 0,
            due_ms: now_ms,
            retry: Retry::new(wishes.retry_ms.0, wishes.retry_ms.1, now_ms),
            tracks: Tracks::default(),
        };
        let rungs = vec![rung; wishes.rungs + usize::from(wishes.slate)];
        Self {
            wishes,
            rungs,
            playing: None,
            leaving: None,
            dark_since: Some(now_ms),
        }
    }

    /// Takes over a source that is open already: as one of the list, or as what
    /// plays until one of the list does. Of two for one place the one that plays is
    /// to leave. Gives back a source that has no place any more, to be closed.
    #[must_use]
    pub fn adopt(&mut self, id: u32, rung: Option<usize>, playing: bool) -> Option<u32> {
        let taken = match rung.and_then(|rung| self.rungs.get_mut(rung)) {
            Some(rung) if rung.open.is_none() || !playing => rung.open.replace(id),
            _ => self.leaving.replace(id),
        };
        if playing {
            self.playing = Some(id);
        }
        match taken {
            Some(taken) if self.playing == Some(taken) => self.leaving.replace(taken),
            taken => taken,
        }
    }

    /// The memory of the waits, to be handed over.
    pub fn save(&self, now_ms: u64) -> Vec<u8> {
        let wait =
            |rung: &Rung| u32::try_from(rung.due_ms.saturating_sub(now_ms)).unwrap_or(u32::MAX);
        self.rungs
            .iter()
            .flat_map(|rung| [rung.retry.save(now_ms), wait(rung).to_le_bytes().to_vec()].concat())
            .collect()
    }

    /// Takes over what [`Sources::save`] gave; bytes of another shape are ignored.
    pub fn restore(&mut self, bytes: &[u8], now_ms: u64) {
        const SAVED: usize = Retry::SAVED + 4;
        if bytes.len() != self.rungs.len() * SAVED {
            return;
        }
        for (rung, bytes) in self.rungs.iter_mut().zip(bytes.chunks_exact(SAVED)) {
            let (retry, wait) = bytes.split_at(Retry::SAVED);
            rung.retry.restore(retry, now_ms);
            let wait = wait.try_into().map_or(0, u32::from_le_bytes);
            rung.due_ms = now_ms + u64::from(wait);
        }
    }

    /// Every open source.
    pub fn open(&self) -> impl Iterator<Item = u32> {
        self.rungs
            .iter()
            .filter_map(|rung| rung.open)
            .chain(self.leaving)
    }

    /// A host answers again: nobody waits any longer.
    pub fn reachable(&mut self, now_ms: u64) {
        self.rungs
            .iter_mut()
            .for_each(|rung| rung.due_ms = rung.due_ms.min(now_ms));
    }

    /// A source is over.
    pub fn ended(&mut self, deck: &mut impl Deck, id: u32, error: &IoError) {
        let now = deck.now_ms();
        // News of what plays well are seldom: until now it was live.
        let flowed = deck.look(id).flowing_ms;
        deck.close(id);
        if self.leaving == Some(id) {
            self.leaving = None;
        }
        if self.playing == Some(id) {
            self.playing = None;
        }
        if let Some(rung) = self.rungs.iter_mut().find(|rung| rung.open == Some(id)) {
            rung.open = None;
            if flowed > 0 {
                rung.retry.media(now, flowed);
            }
            rung.fail(deck, error, now);
        }
    }

    /// Does what is due. To be called after every wake.
    pub fn step(&mut self, deck: &mut impl Deck) {
        let now = deck.now_ms();
        self.drop_stalled(deck);
        self.note_media(deck, now);
        self.choose(deck);
        self.dial(deck, now);
        self.choose(deck);
        self.close_spare(deck);
    }

    /// Milliseconds until something is due by the clock alone.
    pub fn pause(&self, deck: &impl Deck) -> Option<u32> {
        let now = deck.now_ms();
        let dials = (0..self.rungs.len()).filter(|rung| self.rungs[*rung].open.is_none());
        let dials = dials
            .filter(|rung| self.wanted(*rung, now, deck))
            .map(|rung| self.rungs[rung].due_ms);
        let hedges = self
            .rungs
            .iter()
            .filter(|rung| self.rungs.len() > 1 && rung.open.is_some())
            .flat_map(|rung| [HEDGE_MS, COMING_HEDGE_MS].map(|hedge| rung.opened_ms + hedge));
        let slate = self
            .dark_since
            .filter(|_| self.wishes.slate)
            .map(|since| since + SLATE_AFTER_MS);
        let next = dials
            .chain(hedges.chain(slate).filter(|at| *at > now))
            .min()?;
        Some(u32::try_from(next.saturating_sub(now)).unwrap_or(u32::MAX))
    }

    /// How long until the next attempt, when nothing plays and nothing is dialed.
    pub fn backing_off(&self, now_ms: u64) -> Option<u32> {
        let real = &self.rungs[..self.wishes.rungs];
        if self.leaving.is_some() || real.iter().any(|rung| rung.open.is_some()) {
            return None;
        }
        let due = real.iter().map(|rung| rung.due_ms).min()?;
        Some(u32::try_from(due.saturating_sub(now_ms)).unwrap_or(u32::MAX))
    }

    fn drop_stalled(&mut self, deck: &mut impl Deck) {
        let stalled: Vec<u32> = self.open().filter(|id| deck.look(*id).stalled).collect();
        for id in stalled {
            self.ended(deck, id, &IoError::Stalled("the media stopped".to_owned()));
        }
    }

    fn note_media(&mut self, deck: &impl Deck, now: u64) {
        for rung in &mut self.rungs {
            let look = rung
                .open
                .map(|id| deck.look(id))
                .filter(|look| look.flowing);
            if let Some(look) = look {
                rung.retry.media(now, look.flowing_ms);
                rung.tracks.add(look.tracks);
            }
        }
        let lit = self.real().any(|id| deck.look(id).flowing);
        self.dark_since = if lit {
            None
        } else {
            Some(self.dark_since.unwrap_or(now))
        };
    }

    /// Open sources that are no slate, best first, the one of the plan before last.
    fn real(&self) -> impl Iterator<Item = u32> {
        self.rungs[..self.wishes.rungs]
            .iter()
            .filter_map(|rung| rung.open)
            .chain(self.leaving)
    }

    fn slate(&self) -> Option<u32> {
        self.rungs[self.wishes.rungs..].first()?.open
    }

    /// Puts the source on air that should be.
    fn choose(&mut self, deck: &mut impl Deck) {
        let playing = self.playing.filter(|id| deck.look(*id).flowing);
        let settled = playing.filter(|id| Some(*id) != self.slate() && Some(*id) != self.leaving);
        let better: Vec<u32> = self.real().take_while(|id| settled != Some(*id)).collect();
        let mut better = better.into_iter();
        let next = match settled {
            Some(playing) => {
                let played = deck.look(playing).tracks;
                better.find(|id| {
                    let look = deck.look(*id);
                    look.flowing
                        && look.flowing_ms >= self.wishes.return_after_ms
                        && !self.lacks(*id, look.tracks, played)
                })
            }
            None => better
                .find(|id| deck.look(*id).flowing)
                .or(self.slate().filter(|id| deck.look(*id).flowing)),
        };
        if let Some(next) = next.filter(|next| self.playing != Some(*next)) {
            deck.attach(next);
            self.playing = Some(next);
        }
    }

    /// Whether a source came back without a track that it once had and that plays now.
    fn lacks(&self, id: u32, tracks: Tracks, played: Tracks) -> bool {
        let rung = self.rungs.iter().find(|rung| rung.open == Some(id));
        let wanted = rung.map_or(played, |rung| rung.tracks.shared(played));
        tracks.shared(wanted) != wanted
    }

    fn dial(&mut self, deck: &mut impl Deck, now: u64) {
        for at in 0..self.rungs.len() {
            let rung = &self.rungs[at];
            if rung.open.is_some() || rung.due_ms > now || !self.wanted(at, now, deck) {
                continue;
            }
            match deck.open(at) {
                Ok(id) => {
                    let rung = &mut self.rungs[at];
                    (rung.open, rung.opened_ms) = (Some(id), now);
                }
                Err(error) => self.rungs[at].fail(deck, &error, now),
            }
        }
    }

    /// Whether a source that is not open should be, its wait aside.
    fn wanted(&self, at: usize, now: u64, deck: &impl Deck) -> bool {
        let flows = |id: &u32| deck.look(*id).flowing;
        if at >= self.wishes.rungs {
            return self
                .dark_since
                .is_some_and(|since| now >= since + SLATE_AFTER_MS);
        }
        let playing = self.rungs[..self.wishes.rungs]
            .iter()
            .position(|rung| rung.open.as_ref().is_some_and(flows));
        match playing {
            Some(playing) if at < playing => true,
            Some(playing) => self.wishes.standby && at == playing + 1,
            None => self.rungs[..at].iter().all(|better| match better.open {
                Some(id) if deck.look(id).coming => now >= better.opened_ms + COMING_HEDGE_MS,
                Some(_) => now >= better.opened_ms + HEDGE_MS,
                None => better.due_ms > now,
            }),
        }
    }

    /// Closes what nobody needs once something of the plan is on air.
    fn close_spare(&mut self, deck: &mut impl Deck) {
        let on_air = |rung: &Rung| rung.open.is_some_and(|id| deck.look(id).on_air);
        let Some(playing) = self.rungs[..self.wishes.rungs].iter().position(on_air) else {
            return;
        };
        let keep = (playing + usize::from(self.wishes.standby)).min(self.wishes.rungs - 1);
        let spare: Vec<u32> = self.rungs[keep + 1..]
            .iter_mut()
            .filter_map(|rung| rung.open.take())
            .collect();
        for id in spare.into_iter().chain(self.leaving.take()) {
            deck.close(id);
        }
    }
}

impl Rung {
    fn fail(&mut self, deck: &mut impl Deck, error: &IoError, now: u64) {
        let wait = self.retry.failed(Class::from(error), now, deck.random());
        self.due_ms = now + u64::from(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources that flow or not as told, on a virtual clock.
    #[derive(Default)]
    struct Script {
        now: u64,
        next: u32,
        /// Whether a rung works, by index.
        works: Vec<bool>,
        /// Rungs without a picture.
        blind: Vec<usize>,
        /// A rung whose media never brings anything to begin with.
        startless: Option<usize>,
        /// id, rung, since when it flows.
        open: Vec<(u32, usize, u64)>,
        attached: Option<u32>,
        stalled: Option<u32>,
        history: Vec<(u64, usize)>,
        dials: Vec<(u64, usize)>,
    }

    /// From dialing to media.
    const DIAL_MS: u64 = 100;

    impl Deck for Script {
        fn open(&mut self, rung: usize) -> Result<u32, IoError> {
            self.next += 1;
            self.dials.push((self.now, rung));
            self.open.push((self.next, rung, self.now + DIAL_MS));
            Ok(self.next)
        }

        fn look(&self, id: u32) -> Look {
            let Some((_, rung, since)) = self.open.iter().find(|(open, ..)| *open == id) else {
                return Look::default();
            };
            let coming = self.works[*rung] && self.now >= *since && self.stalled != Some(id);
            let flowing = coming && self.startless != Some(*rung);
            Look {
                flowing,
                coming: coming && !flowing,
                flowing_ms: if flowing { self.now - since } else { 0 },
                stalled: self.stalled == Some(id),
                on_air: flowing && self.attached == Some(id),
                tracks: Tracks {
                    picture: flowing && !self.blind.contains(rung),
                    sound: flowing,
                },
            }
        }

        fn attach(&mut self, id: u32) {
            let rung = self
                .open
                .iter()
                .find(|(open, ..)| *open == id)
                .map(|(_, rung, _)| *rung);
            self.history
                .push((self.now, rung.expect("only open sources are attached")));
            self.attached = Some(id);
        }

        fn close(&mut self, id: u32) {
            self.open.retain(|(open, ..)| *open != id);
        }

        fn now_ms(&self) -> u64 {
            self.now
        }

        fn random(&mut self) -> u32 {
            u32::MAX / 2
        }
    }

    fn wishes(rungs: usize, standby: bool, slate: bool) -> Wishes {
        Wishes {
            rungs,
            slate,
            return_after_ms: 5_000,
            standby,
            retry_ms: (250, 30_000),
        }
    }

    /// Runs the plan in steps of 10 ms; sources that stopped working end.
    fn run(plan: &mut Sources, script: &mut Script, until: u64) {
        while script.now < until {
            let dead: Vec<u32> = script
                .open
                .iter()
                .filter(|(_, rung, since)| !script.works[*rung] && script.now >= *since)
                .map(|(id, ..)| *id)
                .collect();
            for id in dead {
                plan.ended(script, id, &IoError::Refused(String::new()));
            }
            plan.step(script);
            script.now += 10;
        }
    }

    fn rungs(script: &Script) -> Vec<usize> {
        script.history.iter().map(|(_, rung)| *rung).collect()
    }

    #[test]
    fn one_source_is_dialed_at_once_and_played() {
        let mut script = Script {
            works: vec![true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(1, false, false), 0);
        run(&mut plan, &mut script, 1_000);
        assert_eq!(
            (script.dials, script.history),
            (vec![(0, 0)], vec![(DIAL_MS, 0)])
        );
    }

    #[test]
    fn the_next_source_plays_when_the_first_fails_and_the_first_comes_back_after_it_held() {
        let mut script = Script {
            works: vec![true, true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(2, false, false), 0);
        run(&mut plan, &mut script, 10_000);
        script.works[0] = false;
        run(&mut plan, &mut script, 20_000);
        assert_eq!(rungs(&script), [0, 1]);
        let (failed_over, _) = script.history[1];
        assert!(
            failed_over <= 10_000 + DIAL_MS + 50,
            "within a dial: {failed_over}"
        );
        script.works[0] = true;
        run(&mut plan, &mut script, 40_000);
        assert_eq!(rungs(&script), [0, 1, 0]);
        let (returned, _) = script.history[2];
        assert!(returned >= 20_000 + 5_000, "held first: {returned}");
        assert_eq!(script.open.len(), 1, "the spare one is closed");
    }

    #[test]
    fn a_standby_is_warm_and_takes_over_at_once() {
        let mut script = Script {
            works: vec![true, true, true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(3, true, false), 0);
        run(&mut plan, &mut script, 10_000);
        assert_eq!(script.open.len(), 2);
        script.works[0] = false;
        run(&mut plan, &mut script, 12_000);
        assert_eq!(script.history[1], (10_000, 1));
    }

    #[test]
    fn a_slate_fills_the_dark_and_nothing_else() {
        let mut script = Script {
            works: vec![false, true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(1, false, true), 0);
        run(&mut plan, &mut script, 10_000);
        assert_eq!(rungs(&script), [1]);
        assert!(script.history[0].0 >= SLATE_AFTER_MS);
        script.works[0] = true;
        run(&mut plan, &mut script, 60_000);
        assert_eq!(rungs(&script), [1, 0]);
        assert_eq!(script.open.len(), 1, "the slate is closed");
    }

    #[test]
    fn a_better_source_that_only_hangs_does_not_hold_the_next_one_up() {
        let mut script = Script {
            works: vec![true, true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(2, false, false), 0);
        plan.step(&mut script);
        script.open[0].2 = u64::MAX; // it dials for ever
        run(&mut plan, &mut script, 3_000);
        assert_eq!(rungs(&script), [1]);
        assert!(script.history[0].0 <= HEDGE_MS + DIAL_MS + 50);
    }

    #[test]
    fn media_that_brings_nothing_to_begin_with_is_not_waited_for() {
        let mut script = Script {
            works: vec![true, true, true],
            startless: Some(0),
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(2, false, true), 0);
        run(&mut plan, &mut script, 10_000);
        assert_eq!(rungs(&script), [2, 1], "the slate first");
        assert!((SLATE_AFTER_MS..SLATE_AFTER_MS + 200).contains(&script.history[0].0));
        let (at, _) = script.history[1];
        assert!((COMING_HEDGE_MS..COMING_HEDGE_MS + 200).contains(&at));
    }

    #[test]
    fn the_source_of_the_plan_before_plays_until_a_new_one_does() {
        let mut script = Script {
            works: vec![false, true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(1, false, false), 0);
        script.open.push((99, 1, 0));
        script.attached = Some(99);
        assert_eq!(plan.adopt(99, None, true), None);
        run(&mut plan, &mut script, 5_000);
        assert!(
            script.open.iter().any(|(id, ..)| *id == 99),
            "still playing"
        );
        script.works[0] = true;
        run(&mut plan, &mut script, 40_000);
        assert_eq!(rungs(&script), [0]);
        assert!(script.open.iter().all(|(id, ..)| *id != 99));
    }

    #[test]
    fn a_better_source_that_came_back_without_its_picture_waits_for_it() {
        let mut script = Script {
            works: vec![true, true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(2, false, false), 0);
        run(&mut plan, &mut script, 10_000);
        script.works[0] = false;
        run(&mut plan, &mut script, 20_000);
        (script.works[0], script.blind) = (true, vec![0]);
        run(&mut plan, &mut script, 100_000);
        assert_eq!(rungs(&script), [0, 1], "the next one has a picture");
        script.works[1] = false;
        run(&mut plan, &mut script, 101_000);
        assert_eq!(rungs(&script), [0, 1, 0], "sound is better than nothing");
    }

    #[test]
    fn a_better_source_that_never_had_a_picture_is_the_better_one_all_the_same() {
        let mut script = Script {
            works: vec![false, true],
            blind: vec![0],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(2, false, false), 0);
        run(&mut plan, &mut script, 10_000);
        script.works[0] = true;
        run(&mut plan, &mut script, 60_000);
        assert_eq!(rungs(&script), [1, 0]);
    }

    #[test]
    fn of_two_sources_for_one_place_the_one_on_air_plays_until_the_other_does() {
        for order in [[(98, true), (99, false)], [(99, false), (98, true)]] {
            let mut script = Script {
                works: vec![true],
                next: 99,
                open: vec![(98, 0, 0), (99, 0, 1_000)],
                attached: Some(98),
                ..Script::default()
            };
            let mut plan = Sources::new(wishes(1, false, false), 0);
            for (id, playing) in order {
                assert_eq!(plan.adopt(id, Some(0), playing), None);
            }
            run(&mut plan, &mut script, 900);
            assert_eq!(script.open.len(), 2, "one plays, one comes");
            run(&mut plan, &mut script, 2_000);
            assert_eq!((script.attached, script.open.len()), (Some(99), 1));
        }
        let mut plan = Sources::new(wishes(1, false, false), 0);
        assert_eq!(plan.adopt(1, Some(0), false), None);
        assert_eq!(plan.adopt(2, Some(0), false), Some(1), "neither plays");
    }

    #[test]
    fn a_wait_is_kept_over_a_hand_over_and_ends_when_a_host_answers() {
        let mut script = Script {
            works: vec![false],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(1, false, false), 0);
        // Long past the patience for a stream that is not there yet.
        run(&mut plan, &mut script, 300_000);
        let wait = plan.pause(&script).expect("it will dial again");
        assert!(wait > 100, "{wait} ms are left");
        let saved = plan.save(script.now);
        let mut next = Sources::new(wishes(1, false, false), script.now);
        next.restore(&saved, script.now);
        assert_eq!(next.pause(&script), Some(wait));
        let mut other = Sources::new(wishes(2, false, false), script.now);
        other.restore(&saved, script.now);
        assert_eq!(other.pause(&script), Some(0), "of another list");
        let dials = script.dials.len();
        next.reachable(script.now);
        next.step(&mut script);
        assert_eq!(script.dials.len(), dials + 1);
    }

    #[test]
    fn a_stalled_source_is_closed_and_dialed_again() {
        let mut script = Script {
            works: vec![true],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(1, false, false), 0);
        run(&mut plan, &mut script, 1_000);
        script.stalled = script.open.first().map(|(id, ..)| *id);
        plan.step(&mut script);
        assert!(
            script
                .open
                .iter()
                .all(|(id, ..)| Some(*id) != script.stalled)
        );
        run(&mut plan, &mut script, 2_000);
        assert_eq!((script.dials.len(), script.open.len()), (2, 1));
        assert_eq!(rungs(&script), [0, 0]);
    }

    #[test]
    fn dead_sources_are_not_hammered() {
        let mut script = Script {
            works: vec![false, false, false],
            ..Script::default()
        };
        let mut plan = Sources::new(wishes(3, true, false), 0);
        run(&mut plan, &mut script, 600_000);
        let last_minute = script.dials.iter().filter(|(at, _)| *at > 540_000).count();
        assert!(
            last_minute <= 3 * 6,
            "{last_minute} dials a minute of three sources"
        );
    }
}
