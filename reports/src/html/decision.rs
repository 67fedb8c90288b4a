//! The decision table: what works through each method, how fast, and what it takes.

use inroads_harness::ids::MethodId;
use inroads_harness::run::{MethodInfo, ScenarioInfo, Unit};
use inroads_harness::stats::{geometric_mean, median};
use maud::{Markup, html};

use super::view::{LATENCY, View, effort_sign, is_control, none, section, wide};
use crate::figures::{figure, ratio};
use crate::matrix::score;
use crate::table::label_of;

/// A figure of a method with what it is ranked by.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    value: f64,
    unit: Unit,
    interval: Option<(f64, f64)>,
    ratio: Option<f64>,
    ratio_interval: Option<(f64, f64)>,
}

/// How a method stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Best,
    /// Its interval overlaps the best's.
    Tie,
    /// Best, but there are too few blocks for intervals.
    Untested,
    /// Not best, and there are too few blocks on one side to say by how much.
    Open,
    Behind,
}

pub(crate) fn decision(view: &View<'_>) -> Markup {
    let mut scenarios = view.measured();
    let first = scenarios.next();
    let others: Vec<&ScenarioInfo> = scenarios.collect();
    let about = "One row for each method. Ratios are to direct, a client inside the cluster, in the same block, with 95% \
                 intervals over blocks. “Best” is among the ways in; “tie” means that the intervals overlap, so that this run \
                 does not tell the two apart. Set-up time is one measurement for each method, and is not ranked.";
    let body = html! {
        (wide("Decision table", table(view, first)))
        @for scenario in others {
            details {
                summary { "The same figures for " (scenario.title) }
                (wide(&scenario.title, figures_only(view, scenario)))
            }
        }
        @if first.is_none() { (none("Nothing was measured in this run.")) }
        (view.stand_in_note())
    };
    section("decision", "Which way in?", about, body)
}

fn table(view: &View<'_>, scenario: Option<&ScenarioInfo>) -> Markup {
    let columns = scenario.map(|it| columns(view, it)).unwrap_or_default();
    let (unmodified, any) = works(view);
    html! {
        table.decision {
            caption {
                "Methods and what they come to"
                @if let Some(scenario) = scenario { "; figures are of “" (scenario.title) "”" }
            }
            thead { tr {
                th scope="col" { "method" }
                th scope="col" { "works unmodified" }
                th scope="col" { "works at any effort" }
                @for column in &columns { th scope="col" { (column.title) } }
                th scope="col" { "set-up" }
                th scope="col" { "what it needs" }
            } }
            tbody { @for (row, method) in view.run.methods.iter().enumerate() {
                tr {
                    th scope="row" { (view.name(&method.id)) small { (method.title) } }
                    td.num { (share(&unmodified, row)) }
                    td.num { (share(&any, row)) }
                    @for column in &columns { (column.cell(view, &method.id)) }
                    td.num { (setup(method)) }
                    td.needs { (needs(method)) }
                }
            } }
        }
    }
}

fn figures_only(view: &View<'_>, scenario: &ScenarioInfo) -> Markup {
    let columns = columns(view, scenario);
    html! {
        table.decision {
            caption { (scenario.title) (view.stand_in_sign()) }
            thead { tr {
                th scope="col" { "method" }
                @for column in &columns { th scope="col" { (column.title) } }
            } }
            tbody { @for method in &view.methods {
                tr {
                    th scope="row" { (view.name(method)) }
                    @for column in &columns { (column.cell(view, method)) }
                }
            } }
        }
    }
}

/// Set-up time: from the first object applied until the first answer.
pub(crate) fn setup(method: &MethodInfo) -> String {
    method
        .setup_ms
        .map_or("not run".to_owned(), |ms| figure(ms / 1e3, Unit::Seconds))
}

/// What a method needs, from whom.
pub(crate) fn needs(method: &MethodInfo) -> Markup {
    html! {
        ul { @for need in &method.needs {
            li {
                @match need.split_once(": ") {
                    Some((whom, what)) => { strong { (whom) } " " (what) }
                    None => { (need) }
                }
            }
        } }
    }
}

/// Required probes that passed, for each method: how many, of how many, and how that stands.
type Shares = Vec<(usize, usize, Place)>;

fn works(view: &View<'_>) -> (Shares, Shares) {
    let scores: Vec<_> = view.methods.iter().map(|id| score(view.run, id)).collect();
    let shares = |passed: Vec<usize>| -> Shares {
        let ways_in = || {
            view.methods
                .iter()
                .zip(&passed)
                .filter(|(id, _)| !is_control(id))
        };
        let best = ways_in()
            .map(|(_, passed)| *passed)
            .max()
            .unwrap_or_default();
        let heads = ways_in().filter(|(_, passed)| **passed == best).count();
        let rows = view.methods.iter().zip(&passed).zip(&scores);
        rows.map(|((id, passed), score)| {
            let place = match (is_control(id) || *passed < best || best == 0, heads) {
                (true, _) => Place::Behind,
                (false, 1) => Place::Best,
                (false, _) => Place::Tie,
            };
            (*passed, score.all, place)
        })
        .collect()
    };
    (
        shares(scores.iter().map(|it| it.unmodified).collect()),
        shares(scores.iter().map(|it| it.passed).collect()),
    )
}

fn share(shares: &Shares, row: usize) -> Markup {
    let (passed, all, place) = shares.get(row).copied().unwrap_or((0, 0, Place::Behind));
    html! {
        @if all == 0 { span.missing { "not asked" } } @else { (passed) " of " (all) (chip(place)) }
    }
}

struct Column<'a> {
    title: String,
    scenario: &'a str,
    metric: &'a str,
    /// By method, in report order.
    standings: Vec<(&'a MethodId, Option<Standing>)>,
}

/// Median latency, its 99th percentile, and the first rate that was measured.
fn columns<'a>(view: &View<'a>, scenario: &'a ScenarioInfo) -> Vec<Column<'a>> {
    let metrics = view.metrics(&scenario.id);
    let rate = metrics.iter().find(|(_, unit)| unit.larger_is_better());
    let latency = metrics.iter().find(|(name, _)| *name == LATENCY);
    let mut columns = Vec::new();
    let mut column =
        |title: String, metric: &'a str, of: &dyn Fn(&MethodId) -> Option<Standing>| {
            let standings = view.methods.iter().map(|id| (*id, of(id))).collect();
            columns.push(Column {
                title,
                scenario: &scenario.id,
                metric,
                standings,
            });
        };
    if latency.is_some() {
        column("p50".to_owned(), LATENCY, &|id| {
            middle(view, id, &scenario.id, LATENCY)
        });
        column("p99".to_owned(), LATENCY, &|id| {
            tail(view, id, &scenario.id)
        });
    }
    if let Some((metric, _)) = rate {
        let title = label_of(&scenario.id, metric).to_owned();
        column(title, metric, &|id| middle(view, id, &scenario.id, metric));
    }
    columns
}

/// A line of the summary.
fn middle(view: &View<'_>, method: &MethodId, scenario: &str, metric: &str) -> Option<Standing> {
    let line = view.summary(method, scenario, metric)?;
    Some(Standing {
        value: line.median,
        unit: line.unit,
        interval: line.ci_low.zip(line.ci_high),
        ratio: line.ratio_to_direct,
        ratio_interval: line.ratio_ci_low.zip(line.ratio_ci_high),
    })
}

/// The 99th percentile over blocks, by the same rules as the summary.
fn tail(view: &View<'_>, method: &MethodId, scenario: &str) -> Option<Standing> {
    let blocks = view.valid(method, scenario, LATENCY);
    let control = view.methods.iter().find(|id| is_control(id));
    let base = control
        .map(|id| view.valid(id, scenario, LATENCY))
        .unwrap_or_default();
    let values: Vec<f64> = blocks.iter().filter_map(|it| it.p99).collect();
    let ratios: Vec<f64> = blocks
        .iter()
        .filter_map(|it| {
            let same = base.iter().find(|base| base.block == it.block)?;
            Some(it.p99? / same.p99?)
        })
        .collect();
    let of_ratios = geometric_mean(&ratios);
    Some(Standing {
        value: median(&values)?,
        unit: blocks.first()?.unit,
        interval: geometric_mean(&values).and_then(|it| it.interval),
        ratio: of_ratios.map(|it| it.value),
        ratio_interval: of_ratios.and_then(|it| it.interval),
    })
}

impl Column<'_> {
    fn cell(&self, view: &View<'_>, method: &MethodId) -> Markup {
        let standing = self.standings.iter().find(|(id, _)| *id == method);
        let Some((_, Some(standing))) = standing else {
            let tried = !view.blocks(method, self.scenario, self.metric).is_empty();
            let few = view.summary(method, self.scenario, self.metric).is_some();
            let word = match (few, tried) {
                (true, _) => "too few values",
                (false, true) => "no valid figure",
                (false, false) => "not measured",
            };
            return html! { td.num.hatched { (word) } };
        };
        let blocks = view.blocks(method, self.scenario, self.metric);
        html! {
            td.num {
                b { (figure(standing.value, standing.unit)) }
                @if let Some(it) = blocks.first() { (effort_sign(it.access)) }
                @if !is_control(method) {
                    (chip(self.place(method)))
                    @if let Some(by) = standing.ratio {
                        small {
                            (ratio(by))
                            @if let Some((low, high)) = standing.ratio_interval {
                                " " span.interval { (ratio(low).trim_start_matches('×')) "–" (ratio(high).trim_start_matches('×')) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn place(&self, method: &MethodId) -> Place {
        let ways_in = self.standings.iter().filter(|(id, _)| !is_control(id));
        let ranked: Vec<(&MethodId, &Standing)> = ways_in
            .filter_map(|(id, it)| Some((*id, it.as_ref()?)))
            .collect();
        place(&ranked, method)
    }
}

/// How a method stands among others: by ratios where all have one, since they leave the machine's noise out.
fn place(ranked: &[(&MethodId, &Standing)], method: &MethodId) -> Place {
    let by_ratio = ranked.iter().all(|(_, it)| it.ratio.is_some());
    let of = |it: &Standing| match it.ratio {
        Some(ratio) if by_ratio => (ratio, it.ratio_interval),
        _ => (it.value, it.interval),
    };
    let larger = ranked.iter().any(|(_, it)| it.unit.larger_is_better());
    let best = ranked.iter().min_by(|(_, a), (_, b)| {
        let order = of(a).0.total_cmp(&of(b).0);
        if larger { order.reverse() } else { order }
    });
    let mine = ranked.iter().find(|(id, _)| *id == method);
    let (Some((id, best)), Some((_, mine))) = (best, mine) else {
        return Place::Behind;
    };
    if ranked.len() < 2 {
        return Place::Behind;
    }
    match (of(best).1, of(mine).1) {
        (None, _) if *id == method => Place::Untested,
        (None, _) | (_, None) if *id != method => Place::Open,
        (Some((low, high)), Some((from, to))) if *id != method && from <= high && low <= to => {
            Place::Tie
        }
        _ if *id == method => Place::Best,
        _ => Place::Behind,
    }
}

fn chip(place: Place) -> Markup {
    html! {
        @match place {
            Place::Best => { " " span.chip.best { "★ best" } }
            Place::Tie => { " " span.chip.tie { "≈ tie" } }
            Place::Untested => { " " span.chip.tie { "best, no interval" } }
            Place::Open => { " " span.chip.tie { "no interval" } }
            Place::Behind => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(value: f64, interval: Option<(f64, f64)>) -> Standing {
        Standing {
            value,
            unit: Unit::PerSecond,
            interval,
            ratio: None,
            ratio_interval: None,
        }
    }

    fn places(all: &[(f64, Option<(f64, f64)>)]) -> Vec<Place> {
        let ids = ["route", "socks", "wireguard"].map(MethodId::of);
        let standings: Vec<Standing> = all
            .iter()
            .map(|(value, interval)| standing(*value, *interval))
            .collect();
        let ranked: Vec<_> = ids.iter().zip(&standings).collect();
        ranked.iter().map(|(id, _)| place(&ranked, id)).collect()
    }

    #[test]
    fn what_overlaps_the_best_is_a_tie_and_the_rest_is_behind() {
        let all = [
            (90.0, Some((80.0, 95.0))),
            (100.0, Some((92.0, 110.0))),
            (50.0, Some((40.0, 60.0))),
        ];
        assert_eq!(places(&all), [Place::Tie, Place::Best, Place::Behind]);
    }

    #[test]
    fn without_an_interval_nothing_is_said_to_be_behind() {
        let all = [(90.0, None), (100.0, None), (50.0, None)];
        assert_eq!(places(&all), [Place::Open, Place::Untested, Place::Open]);
        let all = [(90.0, None), (100.0, Some((92.0, 110.0)))];
        assert_eq!(places(&all), [Place::Open, Place::Best]);
    }

    #[test]
    fn one_alone_is_the_best_of_nothing() {
        assert_eq!(places(&[(90.0, Some((80.0, 95.0)))]), [Place::Behind]);
    }
}
