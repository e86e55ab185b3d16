//! Results as tables of Markdown, one column a contender.

use std::fmt::Write as _;

use crate::measure::{Rank, Results, Scenario, Turn};
use crate::server::Contender;

/// What a row shows of a turn, and how; nothing where the contender does not tell.
type Row = (&'static str, fn(&Turn, &Scenario) -> Option<f64>, Kind);

/// Whether the row says how good a server is, and so has a ratio.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Compared,
    Told,
}

const CPU_PER_GBIT: Row = (
    "CPU-s per Gbit",
    |t, _| Some(t.cpu_per_gbit()),
    Kind::Compared,
);
const ALL_CPU_PER_GBIT: Row = (
    "with origin and players",
    |t, _| Some(t.all_cpu_per_gbit()),
    Kind::Compared,
);
const CORES: Row = ("cores busy", |t, _| Some(t.cores()), Kind::Compared);
const RSS_PER_PLAYER: Row = (
    "RSS per player, KiB",
    |t, s| Some(t.grown / s.players.max(1) as f64 / 1024.0),
    Kind::Compared,
);
const CPU_PER_PULL: Row = (
    "CPU per pull, % of a core",
    |t, s| Some(t.cores() * 100.0 / s.pulls as f64),
    Kind::Compared,
);
const RSS_PER_PULL: Row = (
    "RSS per pull and reader, KiB",
    |t, s| Some(t.grown / s.pulls as f64 / 1024.0),
    Kind::Compared,
);
const RSS_BESIDE_RING: Row = (
    "the same beside the ring, KiB",
    |t, s| Some(t.grown_beside_ring()? / s.pulls as f64 / 1024.0),
    Kind::Told,
);
const P50: Row = ("delay p50, ms", |t, _| Some(t.p50_millis()), Kind::Compared);
const P99: Row = ("delay p99, ms", |t, _| Some(t.p99_millis()), Kind::Compared);
const DELIVERED: Row = ("delivered, %", |t, _| Some(t.delivered * 100.0), Kind::Told);
const GBIT: Row = ("received, Gbit", |t, _| Some(t.gbit()), Kind::Told);
const SHORT: Row = ("players short", |t, _| Some(t.short as f64), Kind::Told);
const MESSAGES: Row = (
    "messages of the source, %",
    |t, _| Some(t.messages * 100.0),
    Kind::Told,
);
const PAYLOAD: Row = (
    "media bytes of it, %",
    |t, _| Some(t.payload * 100.0),
    Kind::Told,
);
const IDLE: Row = ("machine idle, %", |t, _| Some(t.idle * 100.0), Kind::Told);

/// The table of one pull and many players.
pub(crate) fn fan_out(scenario: &Scenario, results: &[Results]) -> String {
    let rows = [
        CPU_PER_GBIT,
        ALL_CPU_PER_GBIT,
        CORES,
        RSS_PER_PLAYER,
        P50,
        P99,
        DELIVERED,
        GBIT,
        SHORT,
        MESSAGES,
        PAYLOAD,
        IDLE,
    ];
    let what = format!("fan-out: 1 pull, {} players", scenario.players);
    let results: Vec<&Results> = results
        .iter()
        .filter(|result| !result.contender.is_bare())
        .collect();
    table(
        &what,
        scenario,
        &results,
        &rows,
        (Contender::REFERENCE, Turn::cpu_per_gbit),
    )
}

/// The table of how far from mere writes a server is.
pub(crate) fn relay(scenario: &Scenario, results: &[Results]) -> String {
    let rows = [
        CPU_PER_GBIT,
        ALL_CPU_PER_GBIT,
        CORES,
        P50,
        P99,
        DELIVERED,
        SHORT,
        MESSAGES,
        IDLE,
    ];
    let what = format!(
        "relay: the same bytes, merely written, {} players",
        scenario.players
    );
    let results: Vec<&Results> = results
        .iter()
        .filter(|result| !matches!(result.contender, Contender::Peer(_)))
        .collect();
    table(
        &what,
        scenario,
        &results,
        &rows,
        (Contender::LIMIT, Turn::cpu_per_gbit),
    )
}

/// The table of many pulls.
pub(crate) fn pulls(scenario: &Scenario, results: &[Results]) -> String {
    let rows = [
        CPU_PER_PULL,
        CORES,
        RSS_PER_PULL,
        RSS_BESIDE_RING,
        P50,
        P99,
        GBIT,
        SHORT,
        MESSAGES,
        PAYLOAD,
        IDLE,
    ];
    let what = format!("pulls: {} pulls, one reader each", scenario.pulls);
    let results: Vec<&Results> = results.iter().collect();
    table(
        &what,
        scenario,
        &results,
        &rows,
        (Contender::REFERENCE, Turn::cores),
    )
}

/// The table of delays.
pub(crate) fn latency(scenario: &Scenario, results: &[Results]) -> String {
    let rows = [P50, P99, CORES, SHORT, MESSAGES, PAYLOAD, IDLE];
    let what = format!("latency: one player among {} others", scenario.players);
    let results: Vec<&Results> = results.iter().collect();
    table(
        &what,
        scenario,
        &results,
        &rows,
        (Contender::REFERENCE, Turn::p99_millis),
    )
}

fn table(
    what: &str,
    scenario: &Scenario,
    results: &[&Results],
    rows: &[Row],
    (reference, rank): (Contender, Rank),
) -> String {
    let title = format!(
        "{what}, {} kbit/s, {} s, rounds: {}; best (median) ratio to {reference}",
        scenario.kbps,
        scenario.seconds.as_secs(),
        scenario.rounds
    );
    let mut head = vec![String::new()];
    head.extend(results.iter().map(|result| result.contender.to_string()));
    let base = results
        .iter()
        .find(|result| result.contender == reference)
        .and_then(|result| result.best(rank));
    let lines = rows.iter().map(|(name, value, kind)| {
        let base = base
            .filter(|_| *kind == Kind::Compared)
            .and_then(|turn| value(turn, scenario));
        let cell = |result: &&Results| {
            let ranked = result.ranked(rank);
            let (Some(best), None) = (ranked.first(), &result.failure) else {
                return "failed".to_owned();
            };
            let median = ranked[(ranked.len() - 1) / 2];
            let base = base.filter(|base| base.is_normal() && result.contender != reference);
            let median = (ranked.len() > 1)
                .then(|| value(median, scenario))
                .flatten();
            cell(value(best, scenario), median, base)
        };
        let mut line = vec![(*name).to_owned()];
        line.extend(results.iter().map(cell));
        line
    });
    let mut out = markdown(&title, &head, &lines.collect::<Vec<_>>());
    for result in results {
        if let Some(why) = &result.failure {
            // Writing into a `String` cannot fail.
            let _ = writeln!(out, "\n{} failed: {}", result.contender, first_line(why));
        }
    }
    out
}

fn cell(best: Option<f64>, median: Option<f64>, base: Option<f64>) -> String {
    let Some(best) = best.filter(|best| best.is_finite()) else {
        return "-".to_owned();
    };
    let median = median.map_or(String::new(), |median| format!(" ({})", short(median)));
    let ratio = base.map_or(String::new(), |base| format!(" {}x", short(best / base)));
    format!("{}{median}{ratio}", short(best))
}

/// Three digits, more or less.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        middle if middle >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The beginning of a failure: servers say a lot.
pub(crate) fn first_line(text: &str) -> String {
    const MOST: usize = 200;
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MOST).collect()
}

/// A title and a table whose columns are aligned.
pub(crate) fn markdown(title: &str, head: &[String], lines: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            let widths = cells.map(|cell| cell.chars().count());
            widths
                .max()
                .unwrap_or(0)
                .max(head[column].chars().count())
                .max(3)
        })
        .collect();
    let line = |cells: &[String]| {
        let mut out = String::from("|");
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(out, " {cell:<width$} |"),
                _ => write!(out, " {cell:>width$} |"),
            };
        }
        out
    };
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, width)| match column {
            0 => "-".repeat(*width),
            _ => format!("{}:", "-".repeat(width - 1)),
        })
        .collect();
    let mut out = format!("\n{title}\n\n{}\n{}\n", line(head), line(&rule));
    for cells in lines {
        out.push_str(&line(cells));
        out.push('\n');
    }
    out
}
