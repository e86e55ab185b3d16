//! The goals, what was measured for each, and whether it is met.

use crate::dead_origin::Outcome;
use crate::measure::{Rank, Results, Scenario, Turn, best_of};
use crate::relay::Grain;
use crate::server::Contender;
use crate::table::{first_line, markdown, short};

const LOW: Contender = Contender::Restreamd { window_millis: 0 };
/// The longest window that the goal of fan-out allows, milliseconds.
const LONGEST_WINDOW: u64 = 100;
/// The load that the goals of fan-out are about: players, kbit/s.
const FAN_OUT_LOAD: (usize, u32) = (1_000, 600);

/// Share of nginx-rtmp's CPU per Gbit, with a window and without.
const CPU_WITH_WINDOW: f64 = 0.3;
const CPU_IN_LOW_MODE: f64 = 0.6;
/// Share of its CPU per pull.
const CPU_OF_PULLS: f64 = 0.5;
/// Bytes a pull beside its ring.
const BYTES_OF_PULL: f64 = 200e3;
/// p99 of delays at half load, and of the API while an origin is dead, milliseconds.
const DELAY_AT_HALF_LOAD: f64 = 10.0;
const API_DELAY: f64 = 20.0;
/// What the pacing of a host allows: dials at once, and a second beyond these.
const DIALS_AT_ONCE: f64 = 200.0;
const DIALS_A_SECOND: f64 = 100.0;
/// Seconds after which 95 % are live again.
const LIVE_AGAIN: f64 = 15.0;

/// One goal, or a figure that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    what: String,
    wanted: String,
    measured: String,
    /// Nothing where there is no goal, or nobody to compare with.
    met: Option<bool>,
}

impl Goal {
    pub(crate) fn at_most(what: String, most: f64, measured: Option<f64>, unit: &str) -> Self {
        Self {
            what,
            wanted: format!("<= {}{unit}", short(most)),
            measured: measured.map_or_else(nothing, |value| format!("{}{unit}", short(value))),
            met: measured.map(|value| value <= most),
        }
    }

    pub(crate) fn told(what: String, measured: Option<f64>, unit: &str) -> Self {
        Self {
            what,
            wanted: String::new(),
            measured: measured.map_or_else(nothing, |value| format!("{}{unit}", short(value))),
            met: None,
        }
    }

    /// Says so when one of the contenders left players short: then they did not do the
    /// same work.
    fn noting(mut self, results: &[Results], contenders: &[Contender], rank: Rank) -> Self {
        for contender in contenders {
            let short = best_of(results, *contender, rank).map_or(0, |turn| turn.short);
            if short > 0 {
                self.measured += &format!(" ({contender}: {short} players short)");
            }
        }
        self
    }

    /// One whose contender failed is missed.
    fn unless_failed(mut self, results: &[Results], contender: Contender) -> Self {
        let found = results.iter().find(|result| result.contender == contender);
        if let Some(why) = found.and_then(|result| result.failure.as_deref()) {
            self.measured = format!("failed: {}", first_line(why));
            self.met = (!self.wanted.is_empty()).then_some(false);
        }
        self
    }
}

fn nothing() -> String {
    "not measured".to_owned()
}

/// How a contender's best turn stands to another's.
fn ratio(
    results: &[Results],
    (ours, theirs): (Contender, Contender),
    (rank, value): (Rank, Rank),
) -> Option<f64> {
    let ours = value(best_of(results, ours, rank)?);
    let theirs = value(best_of(results, theirs, rank)?);
    (theirs > 0.0).then_some(ours / theirs)
}

/// The windows that took part.
fn windows(results: &[Results]) -> impl Iterator<Item = (u64, Contender)> + '_ {
    results.iter().filter_map(|result| match result.contender {
        Contender::Restreamd { window_millis } => Some((window_millis, result.contender)),
        _ => None,
    })
}

/// CPU per Gbit beside nginx-rtmp, and what arrives.
pub(crate) fn fan_out(scenario: &Scenario, results: &[Results]) -> Vec<Goal> {
    let load = format!("fan-out {} x {} kbit/s", scenario.players, scenario.kbps);
    let is_goal = (scenario.players, scenario.kbps) == FAN_OUT_LOAD;
    let mut goals = Vec::new();
    for (window, ours) in windows(results) {
        let rank = Turn::cpu_per_gbit;
        let measured = ratio(results, (ours, Contender::REFERENCE), (rank, rank));
        let what = format!("{load}, {ours}: CPU per Gbit to nginx-rtmp");
        let most = match window {
            0 => Some(CPU_IN_LOW_MODE),
            1..=LONGEST_WINDOW => Some(CPU_WITH_WINDOW),
            _ => None,
        };
        let goal = match most.filter(|_| is_goal) {
            Some(most) => Goal::at_most(what, most, measured, "x"),
            None => Goal::told(what, measured, "x"),
        };
        let goal = goal.noting(results, &[ours, Contender::REFERENCE], rank);
        goals.push(goal.unless_failed(results, ours));
    }
    if !is_goal {
        goals.extend(results.iter().map(|result| {
            let best = result.best(Turn::cpu_per_gbit);
            let what = format!("{load}, {}: delivered", result.contender);
            let share = best.map(|turn| turn.delivered * 100.0);
            Goal::told(what, share, " %").unless_failed(results, result.contender)
        }));
    }
    goals
}

/// CPU per Gbit beside mere writes.
pub(crate) fn relay(scenario: &Scenario, results: &[Results]) -> Vec<Goal> {
    let pair = |window_millis, grain| {
        let ours = Contender::Restreamd { window_millis };
        let limit = Contender::Relay(grain);
        let rank = Turn::cpu_per_gbit;
        let measured = ratio(results, (ours, limit), (rank, rank));
        let what = format!(
            "relay {} x {} kbit/s, {ours}: CPU per Gbit to {limit}",
            scenario.players, scenario.kbps
        );
        Goal::told(what, measured, "x")
            .noting(results, &[ours, limit], rank)
            .unless_failed(results, ours)
    };
    vec![
        pair(0, Grain::Message),
        pair(0, Grain::Picture),
        pair(LONGEST_WINDOW, Grain::Window),
    ]
}

/// CPU and memory a pull.
pub(crate) fn pulls(scenario: &Scenario, results: &[Results]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (_, ours) in windows(results) {
        let what = format!("pulls {}, {ours}", scenario.pulls);
        let rank = Turn::cores;
        let cpu = ratio(results, (ours, Contender::REFERENCE), (rank, rank));
        let cpu_what = format!("{what}: CPU per pull to nginx-rtmp");
        let cpu = Goal::at_most(cpu_what, CPU_OF_PULLS, cpu, "x").noting(
            results,
            &[ours, Contender::REFERENCE],
            rank,
        );
        let bytes = best_of(results, ours, rank)
            .and_then(Turn::grown_beside_ring)
            .map(|bytes| bytes / scenario.pulls as f64 / 1e3);
        let rss_what = format!("{what}: RSS a pull and reader beside its ring");
        let rss = Goal::at_most(rss_what, BYTES_OF_PULL / 1e3, bytes, " KB");
        goals.extend([cpu, rss].map(|goal| goal.unless_failed(results, ours)));
    }
    goals
}

/// Delays in low mode beside nginx-rtmp's.
pub(crate) fn latency(scenario: &Scenario, results: &[Results]) -> Vec<Goal> {
    let rank = Turn::p99_millis;
    let what = format!("latency among {}, {LOW}", scenario.players);
    let against = |name: &str, value: Rank| {
        let ours = best_of(results, LOW, rank).map(value);
        let theirs = best_of(results, Contender::REFERENCE, rank).map(value);
        let what = format!("{what}: {name}, at most nginx-rtmp's");
        let goal = match theirs {
            Some(theirs) => Goal::at_most(what, theirs, ours, " ms"),
            None => Goal::told(what, ours, " ms"),
        };
        goal.noting(results, &[LOW, Contender::REFERENCE], rank)
            .unless_failed(results, LOW)
    };
    let mut goals = vec![against("p50", Turn::p50_millis), against("p99", rank)];
    if scenario.players > 0 {
        let ours = best_of(results, LOW, rank).map(rank);
        let goal = Goal::at_most(format!("{what}: p99"), DELAY_AT_HALF_LOAD, ours, " ms");
        goals.push(goal.unless_failed(results, LOW));
    }
    goals
}

/// How gentle it is to a dead origin, and how fast it comes back.
pub(crate) fn dead_origin(outcome: &Outcome) -> Vec<Goal> {
    let what = format!("dead origin ({}), {} pulls", outcome.manner, outcome.pulls);
    let goal = |name: &str, most, measured, unit| {
        Goal::at_most(format!("{what}: {name}"), most, measured, unit)
    };
    let millis = outcome.asked.p99.map(|p99| p99.as_secs_f64() * 1e3);
    let back = outcome.live_after[1].map(|after| after.as_secs_f64());
    let most = Some(outcome.most_in_a_second);
    let most_allowed = DIALS_AT_ONCE + DIALS_A_SECOND;
    let mean = Some(outcome.a_second);
    let mean_allowed = DIALS_A_SECOND + DIALS_AT_ONCE / outcome.dead.as_secs_f64();
    let mut goals = vec![
        goal("dials in one second, at most", most_allowed, most, ""),
        goal("dials a second", mean_allowed, mean, ""),
        goal("API p99", API_DELAY, millis, " ms"),
        goal("95 % live after", LIVE_AGAIN, back, " s"),
    ];
    if back.is_none() {
        goals[3].met = Some(false);
        goals[3].measured = "never".to_owned();
    }
    goals
}

/// A scenario that could not be measured.
pub(crate) fn failed(what: &str, why: &anyhow::Error) -> Goal {
    Goal {
        what: what.to_owned(),
        wanted: "to be measured".to_owned(),
        measured: format!("failed: {}", first_line(&format!("{why:#}"))),
        met: Some(false),
    }
}

/// The last table.
pub(crate) fn table(goals: &[Goal]) -> String {
    let head = ["goal", "wanted", "measured", "met"].map(str::to_owned);
    let lines: Vec<Vec<String>> = goals
        .iter()
        .map(|goal| {
            let met = match goal.met {
                Some(true) => "yes",
                Some(false) => "no",
                None if goal.wanted.is_empty() => "",
                None => "?",
            };
            let (what, wanted) = (goal.what.clone(), goal.wanted.clone());
            vec![what, wanted, goal.measured.clone(), met.to_owned()]
        })
        .collect();
    markdown("goals", &head, &lines)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn turn(cpu_seconds: f64) -> Turn {
        Turn {
            cpu: Duration::from_secs_f64(cpu_seconds),
            all_cpu: Duration::from_secs(1),
            wall: Duration::from_secs(10),
            bytes: 125_000_000,
            delivered: 1.0,
            grown: 50e6,
            ring: Some(20e6),
            short: 0,
            messages: 1.0,
            payload: 1.0,
            p50: Some(Duration::from_millis(1)),
            p99: Some(Duration::from_millis(2)),
            idle: 0.5,
        }
    }

    fn results(contender: Contender, cpu_seconds: &[f64]) -> Results {
        Results {
            contender,
            turns: cpu_seconds.iter().copied().map(turn).collect(),
            failure: None,
        }
    }

    fn scenario(pulls: usize, players: usize) -> Scenario {
        Scenario {
            pulls,
            players,
            kbps: 600,
            seconds: Duration::from_secs(10),
            warm: Duration::ZERO,
            visit: Duration::from_millis(5),
            rounds: 2,
        }
    }

    #[test]
    fn fan_out_is_judged_by_the_best_rounds_and_only_at_its_load() {
        let ours = Contender::Restreamd { window_millis: 100 };
        let results = [
            results(ours, &[0.4, 0.2]),
            results(LOW, &[0.7]),
            results(Contender::REFERENCE, &[1.0, 1.5]),
        ];
        let met: Vec<_> = fan_out(&scenario(1, 1_000), &results)
            .iter()
            .map(|goal| (goal.measured.clone(), goal.met))
            .collect();
        let wanted = [
            ("0.200x".to_owned(), Some(true)),
            ("0.700x".to_owned(), Some(false)),
        ];
        assert_eq!(met, wanted);
        let elsewhere = fan_out(&scenario(1, 100), &results);
        assert!(elsewhere.iter().all(|goal| goal.met.is_none()));
    }

    #[test]
    fn a_ratio_of_unlike_work_says_so() {
        let mut results = [results(LOW, &[0.5]), results(Contender::REFERENCE, &[1.0])];
        results[1].turns[0].short = 7;
        let goal = fan_out(&scenario(1, 1_000), &results).remove(0);
        assert_eq!(goal.measured, "0.500x (nginx-rtmp: 7 players short)");
    }

    #[test]
    fn memory_of_a_pull_is_beside_its_ring_and_unknown_without() {
        let ours = Contender::Restreamd { window_millis: 20 };
        let mut results = vec![results(ours, &[0.1])];
        let rss = pulls(&scenario(200, 200), &results).remove(1);
        assert_eq!((rss.measured.as_str(), rss.met), ("150 KB", Some(true)));
        results[0].turns[0].ring = None;
        assert_eq!(pulls(&scenario(200, 200), &results)[1].met, None);
    }

    #[test]
    fn a_failed_server_misses_its_goals_and_a_failed_peer_decides_nothing() {
        let mut ours = results(LOW, &[0.5]);
        let mut peer = results(Contender::REFERENCE, &[1.0]);
        ours.failure = Some("it ended\nsaying much".to_owned());
        let goal = fan_out(&scenario(1, 1_000), &[ours.clone(), peer.clone()]).remove(0);
        assert_eq!(
            (goal.measured.as_str(), goal.met),
            ("failed: it ended", Some(false))
        );
        (ours.failure, peer.failure) = (None, ours.failure);
        let goal = fan_out(&scenario(1, 1_000), &[ours, peer]).remove(0);
        assert_eq!(goal.met, None);
    }
}
