//! The heat-map: every figure as a ratio to the control, the colour by its logarithm.

use inroads_harness::ids::MethodId;
use inroads_harness::run::{ScenarioInfo, Summary};
use maud::{Markup, html};

use super::view::{View, effort_sign, none, section, wide};
use crate::figures::{figure, ratio};
use crate::table::label_of;

/// Ratios within this factor of 1 are shown as equal.
const EQUAL: f64 = 1.05;

/// The factors at which a ratio becomes a step worse, or better: each about the square of the one before.
const STEPS: [f64; 5] = [EQUAL, 1.3, 2.0, 4.0, 16.0];

pub(crate) fn heat(view: &View<'_>) -> Markup {
    let about = "Each figure as a ratio to direct in the same block, and its 95% interval. ▼ is worse than direct, ▲ better, = \
                 within 5%; the colour deepens with the logarithm. Hatched: invalid, or not measured. ◐: the client had to be \
                 changed.";
    let body = html! {
        @if view.run.summary.iter().any(|it| it.ratio_to_direct.is_some()) {
            (scale())
            (wide("Heat-map", table(view)))
            (view.stand_in_note())
        } @else {
            (none("There are no ratios in this run: they need figures of direct."))
        }
    };
    section("heat", "Everything at a glance", about, body)
}

/// What the colours mean.
fn scale() -> Markup {
    html! {
        ul.scale aria-label="Colours" {
            @for (class, text) in [
                ("w5", "▼ 16× worse"), ("w4", "▼ 4×"), ("w3", "▼ 2×"), ("w2", "▼ 1.3×"), ("w1", "▼ 1.05×"), ("w0", "= equal"),
                ("b1", "▲ better"), ("b3", "▲ 2×"),
            ] { li.(class) { (text) } }
            li.hatched { "invalid or missing" }
        }
    }
}

fn table(view: &View<'_>) -> Markup {
    let ways_in: Vec<&MethodId> = view.contenders().collect();
    html! {
        table.heat {
            caption { "Ratio to direct, by scenario and metric" }
            thead { tr {
                th scope="col" { "figure" }
                th scope="col" { "direct" }
                @for method in &ways_in { th scope="col" { (view.name(method)) } }
            } }
            @for scenario in view.measured() { (rows(view, scenario, &ways_in)) }
        }
    }
}

fn rows(view: &View<'_>, scenario: &ScenarioInfo, ways_in: &[&MethodId]) -> Markup {
    let control = |metric: &str| {
        let direct = view.methods.iter().find(|id| super::view::is_control(id))?;
        view.summary(direct, &scenario.id, metric)
    };
    // What direct has no figure for, its cost, has no ratio either and stands further below.
    let metrics = view.metrics(&scenario.id);
    html! {
        tbody {
            tr.group { th scope="rowgroup" colspan=(ways_in.len() + 2) { span { (scenario.title) } } }
            @for (metric, base) in metrics.iter().filter_map(|(metric, _)| Some((metric, control(metric)?))) {
                tr {
                    th scope="row" { (label_of(&scenario.id, metric)) }
                    td.num { (figure(base.median, base.unit)) }
                    @for method in ways_in { (cell(view, method, &scenario.id, metric)) }
                }
            }
        }
    }
}

fn cell(view: &View<'_>, method: &MethodId, scenario: &str, metric: &str) -> Markup {
    let blocks = view.blocks(method, scenario, metric);
    let line = view.summary(method, scenario, metric);
    match line.and_then(|line| Some((line, line.ratio_to_direct?))) {
        Some((line, by)) => html! {
            td.num.(class(line, by)) {
                b { (sign(line, by)) " " (ratio(by)) }
                @if let Some(it) = blocks.first() { (effort_sign(it.access)) }
                @if let Some((low, high)) = line.ratio_ci_low.zip(line.ratio_ci_high) {
                    small.interval { (ratio(low).trim_start_matches('×')) "–" (ratio(high).trim_start_matches('×')) }
                }
            }
        },
        None => {
            let invalid = blocks.iter().find_map(|it| it.invalid_reason.as_deref());
            let (word, title) = match (blocks.is_empty(), line) {
                (true, _) => ("not measured", ""),
                (false, Some(_)) => ("no ratio", "no block of direct to compare with"),
                (false, None) => ("invalid", invalid.unwrap_or_default()),
            };
            html! { td.num.hatched title=(title) { (word) } }
        }
    }
}

/// By what factor it is worse than the control; below 1 it is better.
fn worse_by(line: &Summary, ratio: f64) -> f64 {
    if line.unit.larger_is_better() {
        1.0 / ratio
    } else {
        ratio
    }
}

fn class(line: &Summary, ratio: f64) -> String {
    let worse = worse_by(line, ratio);
    let step = |factor: f64| STEPS.iter().filter(|step| factor >= **step).count();
    if worse >= 1.0 {
        format!("w{}", step(worse))
    } else {
        match step(1.0 / worse) {
            0 => "w0".to_owned(),
            step => format!("b{}", step.min(3)),
        }
    }
}

fn sign(line: &Summary, ratio: f64) -> Markup {
    let worse = worse_by(line, ratio);
    let (sign, word) = match worse {
        worse if worse >= EQUAL => ("▼", "worse, "),
        worse if worse <= 1.0 / EQUAL => ("▲", "better, "),
        _ => ("=", "equal, "),
    };
    html! { span aria-hidden="true" { (sign) } span.unseen { (word) } }
}

#[cfg(test)]
mod tests {
    use inroads_harness::run::Unit;

    use super::*;

    fn line(unit: Unit) -> Summary {
        Summary {
            method: MethodId::of("route"),
            scenario: String::new(),
            metric: String::new(),
            unit,
            median: 1.0,
            ci_low: None,
            ci_high: None,
            ratio_to_direct: None,
            ratio_ci_low: None,
            ratio_ci_high: None,
            blocks: 3,
        }
    }

    #[test]
    fn colours_follow_what_is_worse_and_not_what_is_more() {
        let (rate, time) = (line(Unit::PerSecond), line(Unit::Microseconds));
        assert_eq!(
            (class(&rate, 0.5), class(&time, 0.5)),
            ("w3".to_owned(), "b3".to_owned())
        );
        assert_eq!(
            (class(&rate, 2.0), class(&time, 2.0)),
            ("b3".to_owned(), "w3".to_owned())
        );
        assert_eq!(
            (class(&rate, 1.02), class(&time, 0.98)),
            ("w0".to_owned(), "w0".to_owned())
        );
        assert_eq!(class(&time, 1334.0), "w5");
    }
}
