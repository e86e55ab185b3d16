//! Many provisions in the store: how long it takes to create, to list and to place.

use std::time::{Duration, Instant};

use anyhow::ensure;
use restreamd_tests::api::{Api, provision_path};
use restreamd_tests::cluster::node;
use restreamd_tests::etcd::Etcd;
use restreamd_tests::host::{Builder, TestHost};
use restreamd_tests::provision::Provision;

use super::spread::Spread;
use super::stage::{AT_ONCE, client, etcd, measured};
use super::{Told, row, seconds};
use crate::goal::Goal;
use crate::table::{markdown, short};

/// The last of them are created one by one.
const SINGLE: usize = 500;
/// So many are placed.
const PLACED: usize = 300;
/// What a page has, how many are asked for, and how often the whole list is.
const PAGE: usize = 100;
const PAGES: usize = 50;
const LISTS: usize = 5;

/// What was seen with one store.
struct Seen {
    batches: Spread,
    singles: Spread,
    pages: Spread,
    whole: Spread,
    places: Spread,
    begins: Duration,
    /// etcd's writes for each provision created at once, alone, and placed.
    writes: Option<[f64; 3]>,
}

pub(super) fn run(binary: &str, count: usize) -> anyhow::Result<Told> {
    ensure!(count >= SINGLE + PAGE, "{} at least", SINGLE + PAGE);
    let embedded = of(measured(Builder::new(binary)).start(), None, count)?;
    let store = etcd();
    let host = measured(node(binary, &store.url(), 1)).start();
    let clustered = of(host, Some(&store), count)?;

    let both = [&embedded, &clustered];
    let cells = |of: fn(&Seen) -> &Spread| both.map(|seen| of(seen).millis());
    let writes = |n: usize| {
        both.map(|seen| {
            let writes = seen.writes.map(|writes| short(writes[n]));
            writes.unwrap_or_else(|| "-".to_owned())
        })
    };
    let rows = [
        row(
            &format!("create {AT_ONCE} at a time, ms"),
            cells(|s| &s.batches),
        ),
        row("create one, ms", cells(|s| &s.singles)),
        row(&format!("list a page of {PAGE}, ms"), cells(|s| &s.pages)),
        row("list all, ms", cells(|s| &s.whole)),
        row("place one, ms", cells(|s| &s.places)),
        row(
            "a node with them listens after, s",
            both.map(|s| seconds(s.begins)),
        ),
        row(&format!("writes, create {AT_ONCE}, for each"), writes(0)),
        row("writes, create one", writes(1)),
        row("writes, place one", writes(2)),
    ];
    let title = format!(
        "provisions: {count} in the store, the last {SINGLE} created alone, {PLACED} placed; p50 / p99 / longest"
    );
    let head = ["", "embedded", "etcd"].map(str::to_owned);
    let goal = |name: &str, what: &str, spread: &Spread| {
        let what = format!("{count} provisions, {name}: {what}, p99");
        Goal::told(what, spread.seconds(99).map(|s| s * 1e3), " ms")
    };
    let goals = [("embedded", &embedded), ("etcd", &clustered)];
    let goals = goals.iter().flat_map(|(name, seen)| {
        [
            goal(name, "create", &seen.singles),
            goal(name, "list a page", &seen.pages),
            goal(name, "place", &seen.places),
        ]
    });
    Ok((markdown(&title, &head, &rows), goals.collect()))
}

/// Nobody is at its source.
fn provision(n: usize) -> Provision {
    Provision::pull(
        &format!("stored{n}"),
        &format!("live/stored{n}"),
        &format!("rtmp://127.0.1.{}:9/live/s{n}", 1 + n % 10),
    )
}

fn of(mut host: TestHost, etcd: Option<&Etcd>, count: usize) -> anyhow::Result<Seen> {
    let api = client(&host);
    let all: Vec<_> = (0..count).map(provision).collect();
    let (many, single) = all.split_at(count - SINGLE);
    let revision = || etcd.map_or(0, Etcd::revision);
    let mut revisions = vec![revision()];

    let batches = many.chunks(AT_ONCE).map(|some| {
        let some: Vec<&Provision> = some.iter().collect();
        timed(|| api.try_create(&some).expect(201))
    });
    let batches = batches.collect();
    revisions.push(revision());
    let singles = single.iter().map(|one| timed(|| api.create(one))).collect();
    revisions.push(revision());
    let pages = (0..PAGES).map(|_| timed(|| list(&api, PAGE))).collect();
    let whole = (0..LISTS).map(|_| timed(|| list(&api, count))).collect();
    let before = revision();
    let placed = all.iter().take(PLACED);
    let places = placed.map(|one| timed(|| api.distribute(one))).collect();
    revisions.push(revisions[2] + revision() - before);

    host.kill();
    let begun = Instant::now();
    host.restart();
    let begins = begun.elapsed();
    let per = |n: usize, count: usize| (revisions[n + 1] - revisions[n]) as f64 / count as f64;
    Ok(Seen {
        batches,
        singles,
        pages,
        whole,
        places,
        begins,
        writes: etcd.map(|_| [per(0, many.len()), per(1, SINGLE), per(2, PLACED)]),
    })
}

fn list(api: &Api, count: usize) {
    let page = api.get(&provision_path(&format!("?limit={count}"))).list();
    assert_eq!(page.len(), count, "all that were asked for");
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}
