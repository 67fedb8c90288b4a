//! What changed since the runs of a baseline, for a terminal: at most 100 columns wide.

use std::fmt::Write as _;

use inroads_harness::comparison::{
    Change, Comparison, Decision, Found, Named, Side, VerdictChange, Weight, Worsening,
};
use inroads_harness::expected::Outcome;
use inroads_harness::run::Unit;

use crate::escape::terminal;
use crate::figures::{figure, ratio};

/// The widest line.
const WIDTH: usize = 100;

/// The width of a cell's name.
const LABEL: usize = 36;

/// What stands where there is nothing.
const MISSING: &str = "–";

/// A run and its baseline: the cells that can be a regression, what else changed, and what it comes to.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = String::new();
    for baseline in &comparison.baselines {
        text += &format!("baseline   {}\n", named(baseline));
    }
    text += &format!(
        "candidate  {}\n{}\n\n",
        named(&comparison.candidate),
        allowance(comparison)
    );
    let blocking: Vec<&Change> = of_weight(comparison, Weight::Blocking).collect();
    if !blocking.is_empty() {
        heads(&mut text);
        rows(&mut text, &blocking);
        text.push('\n');
    }
    let (moved, others) = advisory(comparison);
    if !moved.is_empty() {
        text.push_str("Advisory, and changed\n");
        rows(&mut text, &moved);
        text.push('\n');
    }
    if !others.is_empty() {
        text += &format!("Other advisory cells: {others}.\n\n");
    }
    if !comparison.verdicts.is_empty() {
        text.push_str("Probes that came out otherwise\n");
        for change in &comparison.verdicts {
            verdict(&mut text, change);
        }
        text.push('\n');
    }
    text += &format!("{}\n", decision(comparison.decision).to_uppercase());
    for reason in &comparison.reasons {
        wrapped(&mut text, "  - ", reason);
    }
    text
}

/// Cells that can, or cannot, make the whole a regression, in report order.
pub(crate) fn of_weight(comparison: &Comparison, weight: Weight) -> impl Iterator<Item = &Change> {
    let changes = comparison.changes.iter();
    changes.filter(move |change| change.weight == weight)
}

/// Advisory cells that changed, and how many of the others there are of each kind.
pub(crate) fn advisory(comparison: &Comparison) -> (Vec<&Change>, String) {
    let (still, moved): (Vec<&Change>, Vec<&Change>) = of_weight(comparison, Weight::Advisory)
        .partition(|change| matches!(change.found, Found::Same | Found::Unclear | Found::Missing));
    let counts = [Found::Same, Found::Unclear, Found::Missing]
        .into_iter()
        .filter_map(|kind| {
            let count = still.iter().filter(|change| change.found == kind).count();
            (count > 0).then(|| format!("{count} {}", found(kind)))
        });
    (moved, counts.collect::<Vec<_>>().join(", "))
}

/// What a change comes to, in a word or two.
pub(crate) fn found(found: Found) -> &'static str {
    match found {
        Found::Worse => "worse",
        Found::Acknowledged => "acknowledged",
        Found::NotConfirmed => "not confirmed",
        Found::Better => "better",
        Found::Unclear => "unclear",
        Found::Missing => "missing",
        Found::Same => "the same",
    }
}

/// All of a comparison, in words.
pub(crate) fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Regressed => "regressed",
        Decision::VerdictChanged => "a verdict changed",
        Decision::Incomplete => "incomplete",
        Decision::Inconclusive => "inconclusive",
        Decision::Pass => "pass",
    }
}

/// What every interval allows for.
pub(crate) fn allowance(comparison: &Comparison) -> String {
    let spread = comparison.spread * 100.0;
    format!("Intervals allow for whole runs that move by {spread:.1}% with nothing changed.")
}

/// The median of one side.
pub(crate) fn side(side: Option<Side>, unit: Unit) -> String {
    side.map_or(MISSING.to_owned(), |side| figure(side.median, unit))
}

/// The factor by which a cell became worse.
pub(crate) fn factor(worsening: Option<Worsening>) -> String {
    worsening.map_or(MISSING.to_owned(), |by| ratio(by.estimate))
}

/// The 95% interval of that factor.
pub(crate) fn interval(worsening: Option<Worsening>) -> String {
    worsening.map_or(MISSING.to_owned(), |by| {
        format!("{} – {}", ratio(by.low), ratio(by.high))
    })
}

/// An outcome on one side.
pub(crate) fn outcome(outcome: Option<Outcome>) -> String {
    outcome.map_or("not asked".to_owned(), |outcome| outcome.to_string())
}

fn named(run: &Named) -> String {
    let started = run.started_at.strftime("%Y-%m-%d %H:%M UTC");
    format!(
        "{} · {started} · {}",
        terminal(&run.id),
        terminal(&run.profile)
    )
}

fn heads(text: &mut String) {
    row(
        text,
        ["", "baseline", "candidate", "worse by", "95% interval", ""],
    );
    text.push_str(&"─".repeat(WIDTH));
    text.push('\n');
}

/// The cells of each method below its name.
fn rows(text: &mut String, changes: &[&Change]) {
    let mut method = None;
    for change in changes {
        if method != Some(&change.method) {
            method = Some(&change.method);
            text.push_str(change.method.as_str());
            text.push('\n');
        }
        let label = terminal(&format!("  {} {}", change.scenario, change.metric));
        row(
            text,
            [
                &label,
                &side(change.baseline, change.unit),
                &side(change.candidate, change.unit),
                &factor(change.worsening),
                &interval(change.worsening),
                found(change.found),
            ],
        );
        if let Some(note) = &change.note {
            wrapped(text, "      ", note);
        }
    }
}

fn row(text: &mut String, [label, baseline, candidate, by, interval, found]: [&str; 6]) {
    let label: String = label.chars().take(LABEL).collect();
    let line =
        format!("{label:<LABEL$}{baseline:>11}{candidate:>13}{by:>10}{interval:>15}  {found}");
    writeln!(text, "{}", line.trim_end()).expect("writing to a string");
}

fn verdict(text: &mut String, change: &VerdictChange) {
    let line = format!(
        "{} through {}: {} → {}",
        change.probe,
        change.method,
        outcome(change.baseline),
        outcome(change.candidate)
    );
    wrapped(text, "  ", &line);
    if !change.seen.is_empty() {
        wrapped(text, "      ", &change.seen);
    }
    if let Some(by) = &change.acknowledged {
        wrapped(text, "      ", &format!("acknowledged: {by}"));
    }
}

/// Text in lines that fit, the first behind `begin` and the others indented as far. A word that is longer than a line is
/// cut into pieces.
fn wrapped(text: &mut String, begin: &str, what: &str) {
    let room = WIDTH - begin.chars().count();
    let mut lines = vec![String::new()];
    for word in terminal(what).split_whitespace() {
        for piece in pieces(word, room) {
            match lines.last_mut() {
                Some(line) if line.is_empty() => line.push_str(&piece),
                Some(line) if line.chars().count() + 1 + piece.chars().count() <= room => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    let indent = " ".repeat(begin.chars().count());
    for (at, line) in lines.iter().enumerate() {
        let begin = if at == 0 { begin } else { &indent };
        writeln!(text, "{begin}{line}").expect("writing to a string");
    }
}

fn pieces(word: &str, room: usize) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    characters.chunks(room).map(String::from_iter).collect()
}
