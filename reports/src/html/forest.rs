//! The forest plot: by how much each figure became worse than in the baseline, with its interval.

use inroads_harness::comparison::{Change, Comparison, Found, Named, Side, VerdictChange, Weight};
use inroads_harness::expected::Outcome;
use inroads_harness::run::Unit;
use maud::{Markup, html};

use super::axis::{Axis, is_drawable};
use super::chart::{Chart, Mark, Pen, Room};
use super::view::{View, none, section, wide};
use crate::comparison::allowance;
use crate::figures::{figure, ratio};
use crate::matrix::mark;
use crate::table::label_of;

/// Pixels of a row's drawing.
const SIZE: (u32, u32) = (250, 26);

/// Factors beyond are drawn at the edge; the figures beside say how far they are.
const EDGE: f64 = 32.0;

pub(crate) fn forest(view: &View<'_>, against: &Comparison) -> Markup {
    let about = "By what factor each figure became worse: to the right of ×1 is worse, whatever the unit; the whisker is the 95% \
                 interval. “Detectable” is the smallest true factor that four of five such comparisons would find.";
    let (blocking, advisory): (Vec<&Change>, Vec<&Change>) = against
        .changes
        .iter()
        .partition(|it| it.weight == Weight::Blocking);
    let (quiet, loud): (Vec<&Change>, Vec<&Change>) =
        advisory.into_iter().partition(|it| it.found == Found::Same);
    let x = axis(&against.changes);
    let body = html! {
        p.pairing {
            @for baseline in &against.baselines { (named("Baseline", baseline)) }
            (named("Candidate", &against.candidate))
        }
        p { (allowance(against)) }
        @if blocking.is_empty() { (none("No figure of this comparison is blocking.")) }
        (part("Blocking: a regression here is one of the whole", &blocking, &x))
        (part("Advisory: shown, and not more", &loud, &x))
        @if !quiet.is_empty() {
            details {
                summary { "Advisory, no change found (" (quiet.len()) ")" }
                (part("Advisory, no change found", &quiet, &x))
            }
        }
        h3 { "Verdicts that changed" }
        (verdicts(&against.verdicts))
        (view.stand_in_note())
    };
    section("baseline", "Against the baseline", about, body)
}

fn named(role: &str, run: &Named) -> Markup {
    html! {
        span { strong { (role) } " " code { (run.id) } ", " (run.profile) ", "
            (run.started_at.strftime("%Y-%m-%d %H:%M UTC").to_string()) }
    }
}

/// One scale for all rows, so that they can be compared: the same room to both sides.
fn axis(changes: &[Change]) -> Axis {
    let factors = changes.iter().filter_map(|it| it.worsening);
    let farthest = factors
        .flat_map(|it| [it.low, it.high, it.estimate])
        .filter(|factor| is_drawable(*factor))
        .map(|factor| factor.max(1.0 / factor))
        .fold(1.2, f64::max)
        .min(EDGE);
    let room = farthest * 1.1;
    let names: &[f64] = match farthest {
        f if f > 8.0 => &[0.0625, 0.25, 1.0, 4.0, 16.0],
        f if f > 3.0 => &[0.25, 0.5, 1.0, 2.0, 4.0],
        f if f > 1.5 => &[0.5, 0.7, 1.0, 1.4, 2.0],
        _ => &[0.8, 0.9, 1.0, 1.1, 1.25],
    };
    let name = |factor: &f64| format!("×{factor}").replace("0.0625", "1/16");
    Axis::log(
        1.0 / room,
        room,
        names.iter().map(|it| (*it, name(it))).collect(),
    )
}

fn part(caption: &str, changes: &[&Change], x: &Axis) -> Markup {
    if changes.is_empty() {
        return html! {};
    }
    let ruler = Chart {
        label: "scale: factor of worsening".to_owned(),
        size: (SIZE.0, 30),
        room: Room {
            below: 22,
            ..Room::default()
        },
        x: x.clone(),
        y: Axis::linear(0.0, 1.0, Vec::new()),
        marks: Vec::new(),
    };
    wide(
        caption,
        html! {
            table.forest {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "method, figure" }
                    th scope="col" { "found" }
                    th scope="col" { "worse by" }
                    th.plot scope="col" { span.ends { span { "◂ better" } span { "worse ▸" } } (ruler.render()) }
                    th scope="col" { "detectable" }
                    th scope="col" { "baseline" }
                    th scope="col" { "candidate" }
                } }
                tbody { @for change in changes { (row(change, x)) } }
            }
        },
    )
}

fn row(change: &Change, x: &Axis) -> Markup {
    html! {
        tr {
            th scope="row" {
                (change.method) " "
                small { (change.scenario) " " (label_of(&change.scenario, &change.metric)) }
            }
            td { (found(change.found)) @if let Some(note) = &change.note { small { (note) } } }
            @match change.worsening {
                Some(by) => {
                    td.num { b { (ratio(by.estimate)) } small.interval { (ratio(by.low)) "–" (ratio(by.high).trim_start_matches('×')) } }
                    td.plot { (whisker(change, x)) }
                    td.num { (ratio(by.detectable)) }
                }
                None => { td.num.hatched { "no estimate" } td.plot.hatched {} td.num.hatched { "–" } }
            }
            td.num { (side(change.baseline, change.unit)) }
            td.num { (side(change.candidate, change.unit)) }
        }
    }
}

fn whisker(change: &Change, x: &Axis) -> Markup {
    let Some(by) = change.worsening else {
        return html! {};
    };
    let pen = match change.found {
        Found::Worse => 4,
        Found::Better => 2,
        _ => 0,
    };
    let chart = Chart {
        label: format!(
            "worse by {}, from {} to {}",
            ratio(by.estimate),
            ratio(by.low),
            ratio(by.high)
        ),
        size: SIZE,
        room: Room::default(),
        x: x.clone(),
        y: Axis::linear(0.0, 1.0, Vec::new()),
        marks: vec![
            Mark::Line(Pen::Reference, vec![(1.0, 0.0), (1.0, 1.0)]),
            Mark::Line(Pen::Whisker, vec![(by.low, 0.5), (by.high, 0.5)]),
            Mark::Line(Pen::Whisker, vec![(by.low, 0.3), (by.low, 0.7)]),
            Mark::Line(Pen::Whisker, vec![(by.high, 0.3), (by.high, 0.7)]),
            Mark::Dot(pen, (by.estimate, 0.5)),
        ],
    };
    chart.render()
}

fn side(side: Option<Side>, unit: Unit) -> Markup {
    html! {
        @match side {
            Some(it) => {
                (figure(it.median, unit))
                small {
                    @if let Some(by) = it.ratio_to_direct { (ratio(by)) ", " }
                    (it.blocks) @if it.blocks == 1 { " block" } @else { " blocks" }
                }
            }
            None => { span.missing { "not measured" } }
        }
    }
}

fn found(found: Found) -> Markup {
    let (class, mark, word) = match found {
        Found::Worse => ("fail", "▼", "worse"),
        Found::Acknowledged => ("part", "▽", "worse, acknowledged"),
        Found::NotConfirmed => ("part", "▽", "worse, not confirmed"),
        Found::Better => ("pass", "▲", "better"),
        Found::Unclear => ("part", "?", "unclear"),
        Found::Missing => ("not", "–", "missing"),
        Found::Same => ("not", "=", "no change found"),
    };
    html! { span.answer.(class) { span aria-hidden="true" { (mark) } " " (word) } }
}

fn verdicts(changed: &[VerdictChange]) -> Markup {
    if changed.is_empty() {
        return none("Every required probe came out as in the baseline.");
    }
    let outcome = |outcome: Option<Outcome>| {
        html! {
            @match outcome {
                Some(outcome) => { (mark(outcome)) " " (outcome) }
                None => { "not asked" }
            }
        }
    };
    wide(
        "Verdicts that changed",
        html! {
            table {
                caption { "Required probes that came out otherwise" }
                thead { tr {
                    th scope="col" { "probe" } th scope="col" { "method" } th scope="col" { "was" } th scope="col" { "is" }
                    th scope="col" { "seen this time" } th scope="col" { "acknowledged" }
                } }
                tbody { @for it in changed {
                    tr {
                        th scope="row" { code { (it.probe) } }
                        td { (it.method) }
                        td { (outcome(it.baseline)) }
                        td { strong { (outcome(it.candidate)) } }
                        td { (it.seen) }
                        td { (it.acknowledged.as_deref().unwrap_or("no")) }
                    }
                } }
            }
        },
    )
}
