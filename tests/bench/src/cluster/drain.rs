//! A node that is told to leave: how long each stream that it hands over stands still.
//!
//! Seen twice: by the nodes' logs, from the last append of the one to the first of the
//! other, and by players on the node that stays, from frame to frame.

use std::time::{Duration, Instant};

use anyhow::ensure;
use restreamd_tests::appends::{judge, reigns};
use restreamd_tests::player::Player;

use super::spread::Spread;
use super::stage::{ADDRESSES, GOP, Sources, append_logs, client, nodes, start, wait_until_live};
use super::{Told, row, seconds};
use crate::goal::Goal;
use crate::table::{markdown, short};

const NODES: usize = 2;
/// Streams that are also played.
const PLAYED: usize = 10;
/// Players have media within this, or never.
const SOON: Duration = Duration::from_secs(30);

pub(super) fn run(binary: &str, pulls: usize, kbps: u32) -> anyhow::Result<Told> {
    let sources = Sources::start(kbps)?;
    let mut cluster = nodes(binary, NODES);
    let apis: Vec<_> = cluster.nodes.iter().map(client).collect();
    let all: Vec<_> = (0..pulls).map(|n| sources.pull(n, ADDRESSES)).collect();
    start(&apis[0], &all);
    let before = wait_until_live(&apis, pulls)?;
    let leaving = cluster.nodes[0].rtmp.ip().to_string();
    let handed = all.iter().filter(|pull| {
        let status = apis[1].status(pull.guid());
        status["serverAddress"] == leaving.as_str()
    });
    let players: Vec<Player> = handed
        .take(PLAYED)
        .map(|pull| Player::attach(&cluster.nodes[1].url(pull.stream())))
        .collect();
    for player in &players {
        player.wait_for_more(60, SOON);
    }

    let begun = Instant::now();
    let ended = cluster.nodes[0].drain();
    let took = begun.elapsed();
    ensure!(ended.success(), "the node that drains: {ended}");
    wait_until_live(&apis[1..], pulls)?;
    for player in &players {
        player.wait_for_more(60, SOON);
        player.assert_attached();
    }
    let seen: Spread = players.iter().map(|p| p.longest_gap(begun)).collect();

    let reigns = reigns(&append_logs(&cluster));
    let violations = judge(&reigns);
    ensure!(violations.is_empty(), "{violations:?}");
    let moved = reigns.values().filter(|reigns| reigns.len() > 1);
    let gaps: Spread = moved
        .map(|reigns| reigns[1].first.saturating_sub(reigns[0].last))
        .collect();

    let title = format!(
        "drain: one of {NODES} nodes leaves, {pulls} pulls of {kbps} kbit/s from {ADDRESSES} addresses, \
         group of pictures {} s",
        short(GOP.as_secs_f64())
    );
    let rows = [
        row(
            "pulls handed over",
            [format!("{} of {}", gaps.len(), before[0])],
        ),
        row("the drain took, s", [seconds(took)]),
        row(
            "nobody appended for, p50 / p99 / longest, s",
            [gaps.in_seconds()],
        ),
        row(
            &format!(
                "{} players on the other node got nothing for, s",
                seen.len()
            ),
            [seen.in_seconds()],
        ),
    ];
    let gop = GOP.as_secs_f64();
    let what = format!("drain of {} pulls", gaps.len());
    let goals = vec![
        Goal::at_most(
            format!("{what}: longest gap of appends"),
            gop,
            gaps.seconds(100),
            " s",
        ),
        Goal::told(format!("{what}: p50 of them"), gaps.seconds(50), " s"),
        Goal::at_most(
            format!("{what}: longest gap of a player"),
            gop,
            seen.seconds(100),
            " s",
        ),
    ];
    let head = [String::new(), "measured".to_owned()];
    Ok((markdown(&title, &head, &rows), goals))
}
