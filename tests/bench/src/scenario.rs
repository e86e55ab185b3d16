//! What is run, with which contenders, and what it says about the goals.

use std::time::Duration;

use crate::dead_origin::{self, Options};
use crate::goal::{self, Goal};
use crate::measure::{Bench, Results, Scenario, Turn};
use crate::relay::Grain;
use crate::server::{Contender, Peer};
use crate::table;

/// Players and kbit/s of fan-out; relays take part where the goal is.
const FAN_OUT: [(usize, u32); 4] = [(100, 600), (1_000, 600), (4_000, 600), (100, 6_000)];
/// The load of the goal of fan-out, and of the relays.
const GOAL_LOAD: (usize, u32) = (1_000, 600);
const PULLS: [usize; 2] = [500, 1_000];
const RELAYS: [Grain; 3] = [Grain::Message, Grain::Picture, Grain::Window];

/// Windows of restreamd, where none are asked for.
const FAN_OUT_WINDOWS: [u64; 3] = [0, 20, 100];
const PULLS_WINDOWS: [u64; 2] = [20, 100];
const LATENCY_WINDOWS: [u64; 2] = [0, 20];

/// Players with which half load is found out.
const PROBE_PLAYERS: usize = 250;
/// How long that is looked at.
const PROBE: Duration = Duration::from_secs(8);
/// What a server can do here is to keep one core busy: nginx-rtmp is one thread, and
/// of two cores the origin and the players need the other.
const HALF: f64 = 0.5;
/// Half load in steps of so many players, and no more than can be attached.
const STEP: usize = 50;
const MOST: usize = 4_000;

/// What is the same for all that is run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Instead of 600.
    pub(crate) kbps: Option<u32>,
    /// How long to measure.
    pub(crate) seconds: Duration,
    /// How long to let it run before.
    pub(crate) warm: Duration,
    /// How often players look for bytes.
    pub(crate) visit: Duration,
    /// Turns of each server.
    pub(crate) rounds: usize,
    /// Instead of those of the scenario.
    pub(crate) windows: Option<Vec<u64>>,
    /// Other servers.
    pub(crate) peers: Vec<Peer>,
}

/// Goes through scenarios, prints their tables and gathers goals.
pub(crate) struct Runner {
    /// Takes the measurements.
    pub(crate) bench: Bench,
    /// How.
    pub(crate) settings: Settings,
    /// What came out so far.
    pub(crate) goals: Vec<Goal>,
}

impl Runner {
    /// One pull and these players, or those of the goals; with `relays` where the goal is.
    pub(crate) fn fan_out(&mut self, players: Option<&[usize]>, relays: bool) {
        let kbps = self.settings.kbps;
        let loads: Vec<(usize, u32)> = match (players, kbps) {
            (None, None) => FAN_OUT.to_vec(),
            (players, kbps) => players
                .unwrap_or(&[GOAL_LOAD.0])
                .iter()
                .map(|players| (*players, kbps.unwrap_or(GOAL_LOAD.1)))
                .collect(),
        };
        for load in loads {
            let with_relays = relays && load == GOAL_LOAD;
            let mut contenders = self.contenders(&FAN_OUT_WINDOWS);
            if with_relays {
                contenders.extend(RELAYS.map(Contender::Relay));
            }
            let scenario = self.scenario(1, load.0, load.1);
            let results = self.bench.compare(&contenders, &scenario);
            println!("{}", table::fan_out(&scenario, &results));
            self.goals.extend(goal::fan_out(&scenario, &results));
            if with_relays {
                self.tell_relay(&scenario, &results);
            }
        }
    }

    /// How far from mere writes it is.
    pub(crate) fn relay(&mut self, players: &[usize]) {
        for players in players {
            let kbps = self.settings.kbps.unwrap_or(GOAL_LOAD.1);
            let mut contenders = self.windows(&FAN_OUT_WINDOWS);
            contenders.extend(RELAYS.map(Contender::Relay));
            let scenario = self.scenario(1, *players, kbps);
            let results = self.bench.compare(&contenders, &scenario);
            self.tell_relay(&scenario, &results);
        }
    }

    fn tell_relay(&mut self, scenario: &Scenario, results: &[Results]) {
        println!("{}", table::relay(scenario, results));
        self.goals.extend(goal::relay(scenario, results));
    }

    /// Many pulls, one reader each.
    pub(crate) fn pulls(&mut self, pulls: Option<&[usize]>) {
        for pulls in pulls.unwrap_or(&PULLS) {
            let contenders = self.contenders(&PULLS_WINDOWS);
            let kbps = self.settings.kbps.unwrap_or(GOAL_LOAD.1);
            let scenario = self.scenario(*pulls, *pulls, kbps);
            let results = self.bench.compare(&contenders, &scenario);
            println!("{}", table::pulls(&scenario, &results));
            self.goals.extend(goal::pulls(&scenario, &results));
        }
    }

    /// Frame in to frame out among these other players, or idle and at half load.
    pub(crate) fn latency(&mut self, players: Option<&[usize]>) {
        let players = match players {
            Some(players) => players.to_vec(),
            None => vec![0, self.half_load()],
        };
        for players in players {
            let contenders = self.contenders(&LATENCY_WINDOWS);
            let kbps = self.settings.kbps.unwrap_or(GOAL_LOAD.1);
            let scenario = self.scenario(1, players, kbps);
            let results = self.bench.compare(&contenders, &scenario);
            println!("{}", table::latency(&scenario, &results));
            self.goals.extend(goal::latency(&scenario, &results));
        }
    }

    /// Many pulls of an origin that is not there, and comes back.
    pub(crate) fn dead_origin(&mut self, options: &Options) {
        let outcomes = dead_origin::run(&self.bench.programs, options);
        println!("{}", dead_origin::table(options, &outcomes));
        for (manner, outcome) in &outcomes {
            self.goals.extend(match outcome {
                Ok(outcome) => goal::dead_origin(outcome),
                Err(why) => vec![goal::failed(&format!("dead origin ({manner})"), why)],
            });
        }
    }

    /// Players at which the busier of restreamd in low mode and nginx-rtmp uses half
    /// of what it can, by what it uses for fewer.
    fn half_load(&self) -> usize {
        let kbps = self.settings.kbps.unwrap_or(GOAL_LOAD.1);
        let scenario = Scenario {
            seconds: PROBE,
            rounds: 1,
            ..self.scenario(1, PROBE_PLAYERS, kbps)
        };
        let low = Contender::Restreamd { window_millis: 0 };
        let mut contenders = vec![low];
        if self.settings.peers.contains(&Peer::Nginx) {
            contenders.push(Contender::REFERENCE);
        }
        let results = self.bench.compare(&contenders, &scenario);
        let turns = results.iter().filter_map(|result| result.best(Turn::cores));
        let cores = turns.map(Turn::cores).fold(0.0, f64::max);
        let players = half_load(cores);
        println!(
            "half load: {players} players, for the busier of {} servers kept {cores:.2} cores busy with {PROBE_PLAYERS}",
            results.len()
        );
        players
    }

    fn windows(&self, default: &[u64]) -> Vec<Contender> {
        let windows = self.settings.windows.as_deref().unwrap_or(default);
        let contender = |window_millis: &u64| Contender::Restreamd {
            window_millis: *window_millis,
        };
        windows.iter().map(contender).collect()
    }

    fn contenders(&self, default_windows: &[u64]) -> Vec<Contender> {
        let mut contenders = self.windows(default_windows);
        contenders.extend(self.settings.peers.iter().copied().map(Contender::Peer));
        contenders
    }

    fn scenario(&self, pulls: usize, players: usize, kbps: u32) -> Scenario {
        Scenario {
            pulls,
            players,
            kbps,
            seconds: self.settings.seconds,
            warm: self.settings.warm,
            visit: self.settings.visit,
            rounds: self.settings.rounds,
        }
    }
}

/// Players that keep half a core busy, when [`PROBE_PLAYERS`] keep `cores` busy.
fn half_load(cores: f64) -> usize {
    let players = HALF / cores.max(f64::MIN_POSITIVE) * PROBE_PLAYERS as f64;
    // A float's cast to an integer saturates.
    let steps = (players / STEP as f64).round() as usize;
    steps.clamp(1, MOST / STEP) * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_load_is_in_proportion_and_bounded() {
        assert_eq!(half_load(0.25), 500);
        assert_eq!(half_load(0.11), 1_150);
        assert_eq!(half_load(0.0), MOST);
        assert_eq!(half_load(40.0), STEP);
    }
}
