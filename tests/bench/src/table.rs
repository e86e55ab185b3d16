//! Results as text.

use std::fmt::Write as _;

use crate::measure::{Results, Scenario, Turn};
use crate::server::Contender;

/// What a row shows of a turn, and how.
type Row = (&'static str, fn(&Turn, &Scenario) -> f64, Kind);

/// Whether the row says how good a server is, and so has a ratio.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Compared,
    Told,
}

const CPU_PER_GBIT: Row = ("CPU-s per Gbit", |t, _| t.cpu_per_gbit(), Kind::Compared);
const ALL_CPU_PER_GBIT: Row = (
    "with origin and players",
    |t, _| t.all_cpu_per_gbit(),
    Kind::Compared,
);
const CORES: Row = ("cores busy", |t, _| t.cores(), Kind::Compared);
const RSS_PER_PLAYER: Row = (
    "RSS per player, KiB",
    |t, s| t.grown / s.players.max(1) as f64 / 1024.0,
    Kind::Compared,
);
const CPU_PER_PULL: Row = (
    "CPU per pull, % of a core",
    |t, s| t.cores() * 100.0 / s.pulls as f64,
    Kind::Compared,
);
const RSS_PER_PULL: Row = (
    "RSS per pull and reader, KiB",
    |t, s| t.grown / s.pulls as f64 / 1024.0,
    Kind::Compared,
);
const P50: Row = (
    "delay p50, ms",
    |t, _| t.p50.as_secs_f64() * 1e3,
    Kind::Compared,
);
const P99: Row = (
    "delay p99, ms",
    |t, _| t.p99.as_secs_f64() * 1e3,
    Kind::Compared,
);
const GBIT: Row = ("received, Gbit", |t, _| t.gbit(), Kind::Told);
const SHORT: Row = ("players short", |t, _| t.short as f64, Kind::Told);
const MESSAGES: Row = (
    "messages of the source, %",
    |t, _| t.messages * 100.0,
    Kind::Told,
);
const PAYLOAD: Row = ("media bytes of it, %", |t, _| t.payload * 100.0, Kind::Told);
const IDLE: Row = ("machine idle, %", |t, _| t.idle * 100.0, Kind::Told);

/// The table of one pull and many players.
pub(crate) fn fan_out(scenario: &Scenario, results: &[Results]) -> String {
    let rows = [
        CPU_PER_GBIT,
        ALL_CPU_PER_GBIT,
        CORES,
        RSS_PER_PLAYER,
        P50,
        P99,
        GBIT,
        SHORT,
        MESSAGES,
        PAYLOAD,
        IDLE,
    ];
    let what = format!("fan-out: 1 pull, {} players", scenario.players);
    table(&what, scenario, results, &rows)
}

/// The table of many pulls.
pub(crate) fn pulls(scenario: &Scenario, results: &[Results]) -> String {
    let rows = [
        CPU_PER_PULL,
        CORES,
        RSS_PER_PULL,
        GBIT,
        SHORT,
        MESSAGES,
        PAYLOAD,
        IDLE,
    ];
    let what = format!("pulls: {} pulls, one reader each", scenario.pulls);
    table(&what, scenario, results, &rows)
}

/// The table of delays.
pub(crate) fn latency(scenario: &Scenario, results: &[Results]) -> String {
    let rows = [P50, P99, CORES, SHORT, MESSAGES, PAYLOAD, IDLE];
    let what = format!("latency: one player among {} others", scenario.players);
    table(&what, scenario, results, &rows)
}

/// Turns by the CPU they took; the best is the first.
fn ranked(results: &Results) -> Vec<&Turn> {
    let mut turns: Vec<&Turn> = results.turns.iter().collect();
    turns.sort_by(|a, b| a.cpu_per_gbit().total_cmp(&b.cpu_per_gbit()));
    turns
}

/// Writing into a `String` cannot fail, so the results of `write!` are dropped.
fn table(what: &str, scenario: &Scenario, results: &[Results], rows: &[Row]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "\n{what}, {} kbit/s, {} s, {} rounds; best (median)",
        scenario.kbps,
        scenario.seconds.as_secs(),
        scenario.rounds
    );
    let _ = write!(out, "{:<30}", "");
    for result in results {
        let _ = write!(out, "{:>22}", result.contender.to_string());
    }
    let peer = results
        .iter()
        .find(|result| result.contender == Contender::Nginx);
    let ours: Vec<&Results> = results
        .iter()
        .filter(|result| result.contender != Contender::Nginx)
        .collect();
    if peer.is_some() {
        let _ = write!(out, "   ratio");
    }
    for (name, value, kind) in rows {
        let pair = |results: &Results| {
            let ranked = ranked(results);
            let (best, median) = (ranked.first()?, ranked.get((ranked.len() - 1) / 2)?);
            Some((value(best, scenario), value(median, scenario)))
        };
        let _ = write!(out, "\n{name:<30}");
        for result in results {
            if let Some((best, median)) = pair(result) {
                let cell = format!("{best:.3} ({median:.3})");
                let _ = write!(out, "{cell:>22}");
            }
        }
        let Some((peer, _)) = peer.and_then(pair).filter(|_| *kind == Kind::Compared) else {
            continue;
        };
        let ratios = ours.iter().filter_map(|result| pair(result));
        let ratios: Vec<String> = ratios
            .map(|(best, _)| format!("{:.2}", best / peer))
            .collect();
        let _ = write!(out, "   {}", ratios.join("  "));
    }
    out.push('\n');
    out
}
