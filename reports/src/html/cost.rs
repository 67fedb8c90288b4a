//! What a method costs: processor, memory, time to set up, and rights.

use inroads_harness::ids::MethodId;
use maud::{Markup, html};

use super::decision::{needs, setup};
use super::view::{View, none, section, wide};
use crate::figures::figure;
use crate::table::label_of;

pub(crate) fn cost(view: &View<'_>) -> Markup {
    let about = "What runs for a method on the laptop and in the cluster, while the same fixed rate goes through it; the client's \
                 own work is not in it. Medians over blocks, with 95% intervals. A method that has no part on one side has no figure there.";
    let body = html! {
        (figures(view))
        (wide("Set-up and rights", rights(view)))
        (view.stand_in_note())
    };
    section("cost", "What it costs", about, body)
}

/// Whether a metric is one of cost.
fn is_cost(metric: &str) -> bool {
    metric.starts_with("cpu-") || metric.starts_with("memory-")
}

fn figures(view: &View<'_>) -> Markup {
    let costs: Vec<_> = view
        .measured()
        .map(|scenario| (scenario, view.metrics(&scenario.id)))
        .map(|(scenario, metrics)| {
            (
                scenario,
                metrics
                    .into_iter()
                    .filter(|(it, _)| is_cost(it))
                    .collect::<Vec<_>>(),
            )
        })
        .filter(|(_, metrics)| !metrics.is_empty())
        .collect();
    if costs.is_empty() {
        return none("No cost was measured in this run.");
    }
    // The control is a pod, and has nothing in between that could cost.
    let methods: Vec<&MethodId> = view
        .methods
        .iter()
        .copied()
        .filter(|id| {
            // Valid or not: what was tried and failed is no method without costs.
            let mut tried = view.run.measurements.iter();
            tried.any(|it| it.method == **id && is_cost(&it.metric))
        })
        .collect();
    wide(
        "Cost",
        html! {
            table.cost {
                caption { "Processor time for each operation, and memory" }
                thead { tr {
                    th scope="col" { "figure" }
                    @for method in &methods { th scope="col" { (view.name(method)) } }
                } }
                @for (scenario, metrics) in &costs {
                    tbody {
                        tr.group { th scope="rowgroup" colspan=(methods.len() + 1) { span { (scenario.title) } } }
                        @for (metric, _) in metrics {
                            tr {
                                th scope="row" { (name(&scenario.id, metric)) }
                                @for method in &methods { (cell(view, method, &scenario.id, metric)) }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn name<'a>(scenario: &str, metric: &'a str) -> &'a str {
    match metric {
        "cpu-laptop" => "CPU for each operation, laptop",
        "cpu-cluster" => "CPU for each operation, cluster",
        "memory-laptop" => "memory, laptop",
        "memory-cluster" => "memory, cluster",
        other => label_of(scenario, other),
    }
}

fn cell(view: &View<'_>, method: &MethodId, scenario: &str, metric: &str) -> Markup {
    let Some(line) = view.summary(method, scenario, metric) else {
        let tried = !view.blocks(method, scenario, metric).is_empty();
        let word = if tried { "invalid" } else { "not measured" };
        return html! { td.num { span.missing { (word) } } };
    };
    html! {
        td.num {
            b { (figure(line.median, line.unit)) }
            @if let Some((low, high)) = line.ci_low.zip(line.ci_high) {
                small.interval { (figure(low, line.unit)) " – " (figure(high, line.unit)) }
            }
        }
    }
}

fn rights(view: &View<'_>) -> Markup {
    html! {
        table {
            caption { "Set-up time, rights and settings" }
            thead { tr {
                th scope="col" { "method" } th scope="col" { "set-up" } th scope="col" { "rights and settings" }
                th scope="col" { "carries" }
            } }
            tbody { @for method in &view.run.methods {
                tr {
                    th scope="row" { (view.name(&method.id)) small { (method.title) } }
                    td.num { (setup(method)) }
                    td.needs { (needs(method)) }
                    td { (method.exposes.join(", ")) }
                }
            } }
        }
    }
}
