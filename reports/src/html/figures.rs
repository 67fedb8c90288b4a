//! Every figure that is drawn or compared elsewhere on the page, as text: for readers of tables, and of screen readers.

use inroads_harness::ids::MethodId;
use inroads_harness::run::{ScenarioInfo, Unit};
use inroads_harness::stats::median;
use maud::{Markup, html};

use super::view::{View, none, section, wide};
use crate::figures::{figure, ratio};

/// What stands where there is nothing.
const MISSING: &str = "–";

pub(crate) fn figures(view: &View<'_>) -> Markup {
    let about = "Medians over the valid blocks and their 95% intervals, and the ratio to direct in the same block with its \
                 own. The 99th percentile is the median of the blocks that carry one.";
    let scenarios: Vec<&ScenarioInfo> = view.measured().collect();
    let body = html! {
        @if scenarios.is_empty() { (none("Nothing was measured in this run.")) }
        @for scenario in scenarios {
            details {
                summary { (scenario.title) }
                (wide(&scenario.title, table(view, scenario)))
            }
        }
        (view.stand_in_note())
    };
    section("figures", "Every figure", about, body)
}

fn table(view: &View<'_>, scenario: &ScenarioInfo) -> Markup {
    html! {
        table {
            caption { "Figures of " (scenario.title) }
            thead { tr {
                @for head in ["method", "median", "95% interval", "99th percentile", "to direct", "95% interval", "valid blocks"] {
                    th scope="col" { (head) }
                }
            } }
            @for (metric, unit) in view.metrics(&scenario.id) {
                tbody {
                    tr.group { th scope="rowgroup" colspan="7" { span { (metric) } } }
                    @for method in &view.methods {
                        @if !view.blocks(method, &scenario.id, metric).is_empty() {
                            (row(view, method, (&scenario.id, metric), unit))
                        }
                    }
                }
            }
        }
    }
}

fn row(view: &View<'_>, method: &MethodId, (scenario, metric): (&str, &str), unit: Unit) -> Markup {
    let all = view.blocks(method, scenario, metric).len();
    let valid = view.valid(method, scenario, metric);
    let tails: Vec<f64> = valid.iter().filter_map(|it| it.p99).collect();
    let line = view.summary(method, scenario, metric);
    let ends = |ends: Option<(f64, f64)>, show: &dyn Fn(f64) -> String| {
        ends.map_or(MISSING.to_owned(), |(low, high)| {
            format!("{} – {}", show(low), show(high))
        })
    };
    let show = |value: f64| figure(value, unit);
    html! {
        tr {
            th scope="row" { (view.name(method)) }
            @if let Some(line) = line {
                td.num { (show(line.median)) }
                td.num { (ends(line.ci_low.zip(line.ci_high), &show)) }
                td.num { (median(&tails).map_or(MISSING.to_owned(), show)) }
                td.num { (line.ratio_to_direct.map_or(MISSING.to_owned(), ratio)) }
                td.num { (ends(line.ratio_ci_low.zip(line.ratio_ci_high), &ratio)) }
            } @else {
                td.num colspan="5" { "no valid figure" }
            }
            td.num { (valid.len()) " of " (all) }
        }
    }
}
