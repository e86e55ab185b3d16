//! A cluster on a virtual clock, with everything that can go wrong going wrong.
//!
//! The nodes are the real ones up to the task that drives them, the store is the real
//! ledger; the network between them, the clocks, the faults and the clients are dice. The
//! judge looks at every append. A seed that fails is printed and replays:
//! `RESTREAMD_SIMULATION=<seed>` runs that one alone, `RESTREAMD_SIMULATIONS=<n>` that many.

mod dice;
mod judge;
mod node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dice::Dice;
use judge::{Judge, Violation};
use node::Node;

use super::Assignment;
use super::placement::{Wanted, place};
use super::question::{Answered, Ask, Question, Said};
use super::record::{NodeState, node_key};
use super::roster::candidates;
use crate::id::{NodeGroup, ProvisionGuid, StreamGuid};
use crate::provision::keys;
use crate::store::virtually::Virtual;
use crate::store::{Error, Txn};

/// Seeds that every run of the tests plays.
const SEEDS: u64 = 40;
const NODES: usize = 3;
const TTL: Duration = Duration::from_secs(3);
/// Faults and clients end here.
const QUIET: Duration = Duration::from_secs(40);
/// And here everything has to be as it should.
const END: Duration = Duration::from_secs(70);
/// A question that is not answered by then is not answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is taken out, to see that the judge would notice.
#[derive(Clone, Copy, Debug, Default)]
struct Broken {
    gate: bool,
    claim: bool,
}

#[derive(Debug)]
enum Event {
    /// Something may be due.
    Wake,
    /// A question reaches the store.
    Arrive(Question),
    Hear(Answered),
    /// The watch has something.
    Poll,
    /// Media is at hand.
    Media,
    Restart,
}

#[derive(Debug)]
enum Happening {
    /// On a node, in this process of it.
    At(usize, u32, Event),
    Client,
    /// A client's write reaches the store.
    Write(Txn, Option<ProvisionGuid>),
    Fault,
    Heal(usize),
}

struct World {
    now: Duration,
    dice: Dice,
    queue: BTreeMap<(Duration, u64), Happening>,
    order: u64,
    store: Virtual,
    nodes: Vec<Node>,
    judge: Judge,
    broken: Broken,
    created: u64,
}

fn group() -> NodeGroup {
    "g".parse().expect("legal")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = (0..NODES).map(|n| Node::new(n, &mut dice)).collect();
        let mut world = Self {
            now: Duration::ZERO,
            dice,
            queue: BTreeMap::new(),
            order: 0,
            store: Virtual::new(),
            nodes,
            judge: Judge::default(),
            broken,
            created: 0,
        };
        for n in 0..NODES {
            let at = ms(world.dice.below(2_000));
            world.later(at, Happening::At(n, 0, Event::Restart));
        }
        world.later(ms(2_500), Happening::Client);
        world.later(ms(6_000), Happening::Fault);
        world
    }

    fn later(&mut self, wait: Duration, what: Happening) {
        self.order += 1;
        self.queue.insert((self.now + wait, self.order), what);
    }

    fn run(&mut self) -> Result<(), Violation> {
        while let Some(((at, _), what)) = self.queue.pop_first() {
            if at > END {
                break;
            }
            self.now = at;
            self.happen(what)?;
        }
        self.judge_the_end()
    }

    fn happen(&mut self, what: Happening) -> Result<(), Violation> {
        match what {
            Happening::At(n, process, event) => return self.at(n, process, event),
            Happening::Client if self.now < QUIET => {
                self.client();
                let wait = ms(self.dice.between(100, 900));
                self.later(wait, Happening::Client);
            }
            Happening::Fault if self.now < QUIET => {
                self.fault();
                let wait = ms(self.dice.between(500, 5_000));
                self.later(wait, Happening::Fault);
            }
            Happening::Client | Happening::Fault => {}
            Happening::Write(txn, deleted) => {
                let done = self.store.txn(&txn, self.now).is_ok();
                if let Some(guid) = deleted.filter(|_| done) {
                    self.judge.deleted(&guid, self.now);
                }
            }
            Happening::Heal(n) => self.nodes[n].cut = false,
        }
        Ok(())
    }

    fn at(&mut self, n: usize, process: u32, event: Event) -> Result<(), Violation> {
        let node = &self.nodes[n];
        if let Event::Restart = event {
            if !node.up {
                self.start(n);
            }
            return Ok(());
        }
        // What was sent by a process that is no more arrives all the same.
        if let Event::Arrive(question) = event {
            self.arrive(n, process, question);
            return Ok(());
        }
        if !node.up || node.process != process {
            return Ok(());
        }
        if let Some(until) = node.stopped.filter(|until| *until > self.now) {
            self.later(until - self.now, Happening::At(n, process, event));
            return Ok(());
        }
        match event {
            Event::Wake => self.nodes[n].wake_at = None,
            Event::Hear(answered) => {
                let clock = self.nodes[n].clock(self.now);
                self.nodes[n].hear(answered, clock);
            }
            Event::Poll => {
                self.poll(n);
                let wait = ms(self.dice.between(1, 40));
                self.later(wait, Happening::At(n, process, Event::Poll));
            }
            Event::Media => {
                self.media(n)?;
                let wait = ms(self.dice.between(5, 40));
                self.later(wait, Happening::At(n, process, Event::Media));
                // A frame brings nobody to look at the clock.
                return Ok(());
            }
            Event::Arrive(_) | Event::Restart => {}
        }
        self.turn(n);
        Ok(())
    }

    fn start(&mut self, n: usize) {
        let forgets = self.dice.one_in(8);
        let bits = u128::from(self.dice.next()) << 64 | u128::from(self.dice.next());
        let node = &mut self.nodes[n];
        node.start(bits, forgets);
        let process = node.process;
        for event in [Event::Wake, Event::Poll, Event::Media] {
            self.later(ms(1), Happening::At(n, process, event));
        }
    }

    /// What follows from what a node heard: orders first, then questions.
    fn turn(&mut self, n: usize) {
        let clock = self.nodes[n].clock(self.now);
        self.nodes[n].turn(clock);
        let process = self.nodes[n].process;
        for question in self.nodes[n].questions() {
            let wait = self.delay();
            self.later(wait, Happening::At(n, process, Event::Arrive(question)));
        }
        if self.nodes[n].gone {
            self.nodes[n].up = false;
            let wait = ms(self.dice.between(500, 5_000));
            self.later(wait, Happening::At(n, process, Event::Restart));
            return;
        }
        if let Some(wait) = self.nodes[n].alarm(clock) {
            let at = self.now + wait.max(ms(1));
            if self.nodes[n].wake_at.is_none_or(|wake| at < wake) {
                self.nodes[n].wake_at = Some(at);
                self.later(at - self.now, Happening::At(n, process, Event::Wake));
            }
        }
    }

    /// Mostly short; now and then as long as an election.
    fn delay(&mut self) -> Duration {
        match self.dice.one_in(40) {
            true => ms(self.dice.between(200, 4_000)),
            false => ms(self.dice.between(1, 30)),
        }
    }

    fn arrive(&mut self, n: usize, process: u32, question: Question) {
        let Question { topic, ask, at } = question;
        let unknown = || Err(Error::Unavailable(Arc::new(std::fmt::Error)));
        let mut answer = match self.nodes[n].cut {
            true => unknown(),
            false => self.carry_out(ask),
        };
        let mut wait = self.delay();
        // Done, and nobody hears of it.
        if self.nodes[n].cut || self.dice.one_in(60) {
            (answer, wait) = (unknown(), PATIENCE);
        }
        let answered = Answered { topic, at, answer };
        self.later(wait, Happening::At(n, process, Event::Hear(answered)));
    }

    fn carry_out(&mut self, ask: Ask) -> Result<Said, Error> {
        let now = self.now;
        Ok(match ask {
            Ask::Grant(ttl) => Said::Granted(self.store.lease(ttl, now)),
            Ask::KeepAlive(lease) => Said::Alive(self.store.keep_alive(lease, now)?),
            Ask::Get(key) => Said::Found(self.store.get(&key, now)),
            Ask::Txn(txn) => Said::Written(self.store.txn(&txn, now)?),
            Ask::Revoke(lease) => {
                self.store.revoke(lease, now)?;
                Said::Revoked
            }
        })
    }

    fn poll(&mut self, n: usize) {
        if self.nodes[n].cut {
            return;
        }
        let clock = self.nodes[n].clock(self.now);
        if !self.nodes[n].listed {
            let revision = self.store.revision(self.now);
            let all = self.store.all(self.now);
            self.nodes[n].relist(all, revision, clock);
            return;
        }
        for _ in 0..8 {
            match self.store.after(self.nodes[n].mirror.revision(), self.now) {
                Ok(Some(batch)) => self.nodes[n].batch(batch, clock),
                Ok(None) => return,
                Err(_) => self.nodes[n].listed = false,
            }
        }
    }

    /// Every stream that a node runs has a frame.
    fn media(&mut self, n: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[n];
        let clock = node.clock(self.now);
        for (stream, guid) in node.media(clock) {
            let permit = node.permits.get(&stream);
            let number = match (permit, self.broken.claim) {
                (Some((number, gate)), _) if self.broken.gate || gate.is_open_at(clock) => *number,
                (_, true) => node.epoch_of(guid.as_ref()),
                _ => continue,
            };
            node.appended.insert(stream.clone(), clock);
            self.judge
                .append(&stream, guid.as_ref(), number, n, self.now)?;
        }
        Ok(())
    }

    fn client(&mut self) {
        let n = self.dice.below(NODES as u64) as usize;
        let knows = self.nodes[n].up && self.nodes[n].listed && !self.nodes[n].cut;
        match self.dice.below(10) {
            0..3 if self.judge.alive().count() < 12 => self.create(),
            0..6 if knows => self.distribute(n),
            6 if self.dice.one_in(2) => self.delete(),
            7 => self.update(),
            8 if self.nodes[n].up => {
                let stream = format!("pub/{}", self.dice.below(2));
                self.publish(n, stream.parse().expect("legal"));
            }
            9 => {
                self.nodes[n].published.clear();
                self.nodes[n].published_changed = true;
            }
            _ => {}
        }
    }

    fn publish(&mut self, n: usize, stream: StreamGuid) {
        self.nodes[n].published.insert(stream);
        self.nodes[n].published_changed = true;
        let process = self.nodes[n].process;
        self.later(ms(1), Happening::At(n, process, Event::Wake));
    }

    fn create(&mut self) {
        self.created += 1;
        // Names are used again.
        let stream = format!("live/{}", self.created % 7);
        let guid: ProvisionGuid = format!("p-{}", self.created).parse().expect("legal");
        let persist = !self.dice.one_in(4);
        let name = keys::name(&group(), &stream.parse().expect("legal"));
        let txn = Txn::new()
            .absent(name.clone())
            .put(name, guid.as_str().to_owned())
            .put(
                keys::provision(&group(), &guid),
                document(&guid, &stream, persist),
            );
        if self.store.txn(&txn, self.now).is_ok() {
            self.judge
                .created(&guid, stream.parse().expect("legal"), persist);
        }
    }

    /// As the API of a node does it.
    fn distribute(&mut self, n: usize) {
        let alive: Vec<ProvisionGuid> = self.judge.alive().cloned().collect();
        let Some(guid) = self.dice.of(&alive).cloned() else {
            return;
        };
        let mirror = &self.nodes[n].mirror;
        let Some((provision, _)) = mirror.provision(&group(), &guid) else {
            return;
        };
        let former = mirror.placed(&group(), &guid);
        let there = former.and_then(|former| mirror.node(&group(), &former.value.node));
        if there.is_some_and(|node| node.value.state == NodeState::InService) {
            return;
        }
        let roster = candidates(mirror.nodes(&group()), mirror, &group(), &[], Some(&guid));
        let streams: Vec<StreamGuid> = provision.streams.iter().map(|s| s.guid.clone()).collect();
        let wanted = Wanted {
            types: &["rtmp".parse().expect("legal")],
            streams: &streams,
            sub_group: None,
            strict: false,
            near: None,
        };
        let Ok(chosen) = place(&roster, wanted) else {
            return;
        };
        let known = former.map(|former| &former.value);
        let assignment = Assignment::after(known, chosen.id.clone());
        let key = keys::assignment(&group(), &guid);
        let txn = Txn::new().present(keys::provision(&group(), &guid));
        let txn = match former {
            None => txn.absent(key.clone()),
            Some(former) => {
                let txn = txn.revision_is(key.clone(), former.revision);
                match there {
                    Some(_) => txn,
                    None => txn.absent(node_key(&group(), &former.value.node)),
                }
            }
        };
        let value = serde_json::to_vec(&assignment).expect("JSON");
        let wait = self.delay();
        self.later(wait, Happening::Write(txn.put(key, value), None));
    }

    fn delete(&mut self) {
        let alive: Vec<ProvisionGuid> = self.judge.alive().cloned().collect();
        let Some(guid) = self.dice.of(&alive).cloned() else {
            return;
        };
        let Some(stream) = self.judge.stream_of(&guid) else {
            return;
        };
        let key = keys::provision(&group(), &guid);
        let txn = Txn::new()
            .present(key.clone())
            .delete(key)
            .delete(keys::name(&group(), &stream))
            .delete(keys::assignment(&group(), &guid));
        let wait = self.delay();
        self.later(wait, Happening::Write(txn, Some(guid)));
    }

    fn update(&mut self) {
        let alive: Vec<ProvisionGuid> = self.judge.alive().cloned().collect();
        let Some(guid) = self.dice.of(&alive).cloned() else {
            return;
        };
        let key = keys::provision(&group(), &guid);
        if let Some(entry) = self.store.get(&key, self.now) {
            let txn = Txn::new().revision_is(key.clone(), entry.revision);
            let wait = self.delay();
            self.later(wait, Happening::Write(txn.put(key, entry.value), None));
        }
    }

    fn fault(&mut self) {
        let n = self.dice.below(NODES as u64) as usize;
        let process = self.nodes[n].process;
        if !self.nodes[n].up {
            return;
        }
        match self.dice.below(8) {
            0..3 => {
                self.nodes[n].up = false;
                let wait = ms(self.dice.between(50, 8_000));
                self.later(wait, Happening::At(n, process, Event::Restart));
            }
            3..5 => {
                let wait = ms(self.dice.between(50, 7_000));
                self.nodes[n].stopped = Some(self.now + wait);
            }
            5..7 => {
                self.nodes[n].cut = true;
                let wait = ms(self.dice.between(100, 8_000));
                self.later(wait, Happening::Heal(n));
            }
            _ => {
                let clock = self.nodes[n].clock(self.now);
                self.nodes[n].leave(clock);
                self.turn(n);
            }
        }
    }

    /// Everything that is assigned is live, where it is assigned, and nothing else is.
    fn judge_the_end(&mut self) -> Result<(), Violation> {
        for entry in self.store.all(self.now) {
            let Some(guid) = entry.key.strip_prefix("assignments/g/") else {
                continue;
            };
            let guid: ProvisionGuid = guid.parse().expect("legal");
            let assigned: Assignment = serde_json::from_slice(&entry.value).expect("JSON");
            let on = self.nodes.iter().position(|node| node.id == assigned.node);
            let on = on.expect("a node of this world");
            self.judge.is_live(&guid, on, &assigned, self.now)?;
        }
        self.judge.nothing_else_is_live(self.now)
    }
}

fn document(guid: &ProvisionGuid, stream: &str, persist: bool) -> String {
    let properties = serde_json::json!({"type": "rtmp", "rtmpUri": "rtmp://127.0.0.1:9/live/s", "persist": persist});
    let streams =
        serde_json::json!([{"streamGuid": stream, "camParams": {"properties": properties}}]);
    serde_json::json!({
        "document": {"provisionGuid": guid, "streams": streams},
        "streams": [{"kind": "rtmp", "feeds": true}],
    })
    .to_string()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_two_nodes_ever_append_at_a_time_and_what_persists_comes_back() {
    let seeds = match number("RESTREAMD_SIMULATION") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RESTREAMD_SIMULATIONS").unwrap_or(SEEDS),
    };
    let (mut appends, mut moves) = (0, 0);
    let alone = seeds.end - seeds.start == 1;
    for seed in seeds {
        let mut world = World::new(seed, Broken::default());
        if let Err(violation) = world.run() {
            panic!("seed {seed} at {:?}: {violation}", world.now);
        }
        appends += world.judge.appends();
        moves += world.judge.moves();
    }
    // A world in which nothing happens proves nothing.
    assert!(
        alone || (appends > 10_000 && moves > 100),
        "{appends}, {moves}"
    );
}

/// Seeds until the judge notices.
fn noticed(broken: Broken) -> Option<u64> {
    (0..100).find(|seed| {
        let judged = World::new(*seed, broken).run();
        matches!(judged, Err(Violation::TwoAppend { .. }))
    })
}

#[test]
fn without_the_gate_the_judge_notices() {
    let broken = Broken {
        gate: true,
        claim: false,
    };
    assert!(noticed(broken).is_some());
}

#[test]
fn without_the_claim_the_judge_notices() {
    let broken = Broken {
        gate: false,
        claim: true,
    };
    assert!(noticed(broken).is_some());
}
