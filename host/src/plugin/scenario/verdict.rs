//! What was expected against what happened: every difference, with the line of the
//! scenario that expects it and the virtual time to look at.

use toml::Spanned;

use super::document::{Dial, Dials, Ending, Expect, Millis, Status, Window, fits};
use super::record::{Attempt, Record, Seen, clock};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Byte of the scenario.
    pub(super) place: Option<usize>,
    pub(super) at: Option<u64>,
    pub(super) text: String,
}

/// How the last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    By(Ending, String),
    Crashed(String),
    /// What is wrong is in the record.
    Cut,
}

fn finding<T>(spanned: &Spanned<T>, at: Option<u64>, text: String) -> Finding {
    Finding {
        place: Some(spanned.span().start),
        at,
        text,
    }
}

/// All differences; what is wrong in itself first.
pub(super) fn judge(expect: &Expect, record: &Record, end: &End, ended: u64) -> Vec<Finding> {
    let wrong = record.wrong.iter().map(|wrong| Finding {
        place: None,
        at: Some(wrong.at),
        text: wrong.text.clone(),
    });
    let mut findings: Vec<Finding> = wrong.collect();
    findings.extend(outcome(expect, end, ended));
    findings.extend(expect.dial.iter().filter_map(|dial| single(dial, record)));
    let (dials, fetches) = (&record.attempts, &record.fetches);
    findings.extend(expect.dials.iter().flat_map(|d| many("dial", d, dials)));
    findings.extend(
        expect
            .fetches
            .iter()
            .flat_map(|f| many("fetch", f, fetches)),
    );
    findings.extend(expect.status.iter().filter_map(|s| status(s, &record.seen)));
    let lines = expect.log.iter().zip(&record.lines);
    findings.extend(lines.filter_map(|(line, count)| {
        let wanted = line.get_ref().count.unwrap_or(Window(1, u64::MAX));
        let text = &line.get_ref().contains;
        let wrong = !wanted.holds(count);
        wrong.then(|| {
            let wanted = counts(wanted);
            finding(
                line,
                None,
                format!("expected {wanted} lines of log with {text:?}, there were {count}"),
            )
        })
    }));
    if let Some(most) = &expect.open_at_once
        && !most.get_ref().holds(&record.most_open)
    {
        let (wanted, were) = (counts(*most.get_ref()), record.most_open);
        let text = format!("expected {wanted} sources open at once, there were {were}");
        findings.push(finding(most, None, text));
    }
    findings
}

fn outcome(expect: &Expect, end: &End, ended: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let place = expect.outcome.as_ref().map(|outcome| outcome.span().start);
    let wanted = expect
        .outcome
        .as_ref()
        .map_or(Ending::Stopped, |o| *o.get_ref());
    let mut differs = |text| {
        findings.push(Finding {
            place,
            at: Some(ended),
            text,
        });
    };
    match end {
        End::By(ending, _) if *ending == wanted => {}
        End::By(ending, why) => differs(format!(
            "expected the outcome {}, it was {} {why}",
            wanted.as_str(),
            ending.as_str()
        )),
        End::Crashed(why) => differs(format!("the instance {why}")),
        End::Cut => {}
    }
    if let (Some(reason), End::By(_, why)) = (&expect.reason, end)
        && !why.contains(reason.get_ref())
    {
        let text = format!(
            "expected a reason with {:?}, it was {why:?}",
            reason.get_ref()
        );
        findings.push(finding(reason, Some(ended), text));
    }
    if let Some(when) = &expect.ended
        && !when.get_ref().holds(&Millis(ended))
    {
        let text = format!(
            "expected the end {}, it was {}",
            window(*when.get_ref()),
            clock(ended)
        );
        findings.push(finding(when, Some(ended), text));
    }
    findings
}

fn single(expected: &Spanned<Dial>, record: &Record) -> Option<Finding> {
    let Dial {
        nth,
        url,
        at,
        waited,
    } = expected.get_ref();
    let Some(index) = nth.checked_sub(1) else {
        return Some(finding(
            expected,
            None,
            "dials are counted from 1".to_owned(),
        ));
    };
    let Some(dial) = record.attempts.get(index) else {
        let text = format!("expected dial {nth}, there were {}", record.attempts.len());
        return Some(finding(expected, None, text));
    };
    let differs = |text: String| Some(finding(expected, Some(dial.at), text));
    if !fits(url.as_deref(), &dial.url) {
        let wanted = url.as_deref().unwrap_or_default();
        return differs(format!(
            "expected dial {nth} of {wanted}, it was of {}",
            dial.url
        ));
    }
    if let Some(at) = at
        && !at.holds(&Millis(dial.at))
    {
        return differs(format!(
            "expected dial {nth} {}, it was at {}",
            window(*at),
            clock(dial.at)
        ));
    }
    if let Some(wanted) = waited {
        let waits = index
            .checked_sub(1)
            .map(|before| wait(&record.attempts[before], dial));
        return match waits {
            None => differs("nothing was waited for before the first dial".to_owned()),
            Some(waits) => late("dial", *nth, *wanted, waits).and_then(differs),
        };
    }
    None
}

/// How long after the end of one attempt the next was made; `None` when it had not ended.
fn wait(before: &Attempt, dial: &Attempt) -> Option<u64> {
    dial.at.checked_sub(before.over?)
}

fn late(what: &str, nth: usize, wanted: Window<Millis>, waits: Option<u64>) -> Option<String> {
    match waits {
        Some(waits) if wanted.holds(&Millis(waits)) => None,
        Some(waits) => Some(format!(
            "expected {what} {nth} {} after the end of the one before, it was {} after it",
            window(wanted),
            clock(waits)
        )),
        None => Some(format!(
            "{what} {nth} was made while the one before was open"
        )),
    }
}

fn many(what: &str, expected: &Spanned<Dials>, attempts: &[Attempt]) -> Vec<Finding> {
    let Dials {
        url,
        from,
        until,
        count,
        waited,
    } = expected.get_ref();
    let span = from.unwrap_or_default().0..until.map_or(u64::MAX, |until| until.0);
    let within = |dial: &Attempt| span.contains(&dial.at) && fits(url.as_deref(), &dial.url);
    let plural = if what == "fetch" { "fetches" } else { "dials" };
    let mut findings = Vec::new();
    let number = attempts.iter().filter(|dial| within(dial)).count() as u64;
    let followed = || attempts.iter().skip(1).any(within);
    if count.is_none() && number == 0 || waited.is_some() && !followed() {
        // What holds of nothing would hold of every plugin.
        let text = format!("expected something of {plural}, and there are none that it is about");
        findings.push(finding(expected, None, text));
        return findings;
    }
    if let Some(wanted) = count
        && !wanted.holds(&number)
    {
        let until = until.map_or("the end".to_owned(), |until| clock(until.0));
        let text = format!(
            "expected {} {plural} from {} to {until}, there were {number}",
            counts(*wanted),
            clock(span.start)
        );
        let at = attempts
            .iter()
            .find(|dial| within(dial))
            .map(|dial| dial.at);
        findings.push(finding(expected, at, text));
    }
    if let Some(wanted) = waited {
        let pairs = attempts.windows(2).enumerate();
        let mut wrong = pairs
            .filter(|(_, pair)| within(&pair[1]))
            .filter_map(|(index, pair)| {
                let text = late(what, index + 2, *wanted, wait(&pair[0], &pair[1]))?;
                Some(finding(expected, Some(pair[1].at), text))
            });
        // The first tells enough.
        findings.extend(wrong.next());
    }
    findings
}

fn status(expected: &Spanned<Status>, seen: &[Seen]) -> Option<Finding> {
    let wanted = expected.get_ref();
    let at = clock(wanted.at.0);
    let differs = |text| Some(finding(expected, Some(wanted.at.0), text));
    let Some(seen) = seen.iter().find(|seen| seen.at == wanted.at.0) else {
        return differs(format!("the run was over before {at}"));
    };
    if let Some(phase) = wanted.phase
        && phase != seen.phase
    {
        return differs(format!(
            "expected the phase {} at {at}, it was {}",
            phase.as_str(),
            seen.phase.as_str()
        ));
    }
    if let Some(on_air) = &wanted.on_air
        && !(on_air.is_empty() && seen.on_air.is_empty()
            || !on_air.is_empty() && fits(Some(on_air), &seen.on_air))
    {
        let shown = |url: &str| match url {
            "" => "nothing".to_owned(),
            url => url.to_owned(),
        };
        return differs(format!(
            "expected {} on air at {at}, it was {}",
            shown(on_air),
            shown(&seen.on_air)
        ));
    }
    if let Some(next) = wanted.next_attempt
        && !seen
            .next_attempt
            .is_some_and(|seen| next.holds(&Millis(seen)))
    {
        let was = seen
            .next_attempt
            .map_or("none was planned".to_owned(), |next| {
                format!("it was in {}", clock(next))
            });
        return differs(format!(
            "expected the next attempt {} after {at}, {was}",
            window(next)
        ));
    }
    None
}

fn window(window: Window<Millis>) -> String {
    match window {
        Window(least, most) if least == most => format!("at {}", clock(least.0)),
        Window(least, most) => format!("between {} and {}", clock(least.0), clock(most.0)),
    }
}

fn counts(window: Window<u64>) -> String {
    match window {
        Window(least, most) if least == most => least.to_string(),
        Window(least, u64::MAX) => format!("{least} or more"),
        Window(least, most) => format!("{least} to {most}"),
    }
}
