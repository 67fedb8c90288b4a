//! What matters to a team, as one figure with an interval for each method, and the figures that stand as reasons.
//!
//! Over several workloads it is the geometric mean, and its interval is that of the intervals' ends: wider than need be,
//! so that what is called better is.

use inroads_harness::ids::MethodId;
use inroads_harness::run::{MethodInfo, Run, Summary, Unit};

use super::advice::{Evidence, Reason, Side};
use super::needs::{self, COST, LATENCY};
use super::team::{Matters, Team};
use crate::figures::{figure, ratio};
use crate::matrix;

/// A method's figure of what matters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weighed {
    /// The figure.
    value: f64,
    /// Its interval; none where blocks are too few for one.
    interval: Option<(f64, f64)>,
    /// Which direction is better.
    larger_is_better: bool,
    /// It, for people.
    pub(super) text: String,
}

impl Weighed {
    /// Whether it is better than `other` by more than noise.
    pub(super) fn beats(&self, other: &Self) -> bool {
        self.is_better(other) && !self.is_tied(other)
    }

    /// Whether it is better than `other`, noise or not.
    fn is_better(&self, other: &Self) -> bool {
        if self.larger_is_better {
            self.value > other.value
        } else {
            self.value < other.value
        }
    }

    /// Whether noise leaves it open which of the two is better.
    fn is_tied(&self, other: &Self) -> bool {
        match (self.interval, other.interval) {
            (Some(one), Some(two)) => one.0 <= two.1 && two.0 <= one.1,
            // Nothing is known of the noise.
            _ => true,
        }
    }
}

/// The figures of `methods` of what matters to `team`, in their order; none where one of them lacks one.
pub(super) fn weigh(run: &Run, team: &Team, methods: &[&MethodId]) -> Option<Vec<Weighed>> {
    if team.matters == Matters::Effort {
        return methods.iter().map(|id| transparency(run, id)).collect();
    }
    let all = scenarios(team);
    // Only what all of them have can be compared.
    let common: Vec<(&str, &str)> = all
        .into_iter()
        .filter(|it| {
            methods
                .iter()
                .all(|id| part(run, team.matters, it, id, false).is_some())
        })
        .collect();
    // Ratios to the control, unless it was not run; what has no control has none.
    let mut each = common
        .iter()
        .flat_map(|it| methods.iter().map(move |id| (it, id)));
    let ratios = each.all(|(it, id)| part(run, team.matters, it, id, true).is_some());
    let weighed = methods.iter().map(|id| {
        let parts = common
            .iter()
            .filter_map(|it| part(run, team.matters, it, id, ratios));
        mean(&parts.collect::<Vec<_>>()).map(|(value, interval)| Weighed {
            value,
            interval,
            larger_is_better: team.matters == Matters::Throughput,
            text: text(team.matters, &common, value, ratios),
        })
    });
    weighed.collect()
}

/// The team's workloads that scenarios stand for, with the metric of their throughput.
fn scenarios(team: &Team) -> Vec<(&'static str, &'static str)> {
    let known = team
        .workloads
        .iter()
        .filter_map(|it| needs::reached(&it.name));
    let mut all: Vec<(&str, &str)> = known.map(|it| (it.scenario, it.throughput)).collect();
    all.dedup();
    all
}

fn transparency(run: &Run, method: &MethodId) -> Option<Weighed> {
    let score = matrix::score(run, method);
    let value = f64::from(u32::try_from(score.unmodified).ok()?);
    (score.all > 0).then(|| Weighed {
        value,
        interval: Some((value, value)),
        larger_is_better: true,
        text: format!(
            "{} of {} required probes unmodified",
            score.unmodified, score.all
        ),
    })
}

/// A value with its interval, where there is one.
type Part = (f64, Option<(f64, f64)>);

/// What counts of a scenario for a method.
fn part(
    run: &Run,
    matters: Matters,
    (scenario, throughput): &(&str, &str),
    method: &MethodId,
    as_ratio: bool,
) -> Option<Part> {
    let one = |metric: &str| {
        let line = summary(run, method, scenario, metric)?;
        value(line, as_ratio)
    };
    match matters {
        Matters::Effort => None,
        Matters::Latency => one(LATENCY),
        Matters::Throughput => one(throughput),
        // Where nothing of the cluster works for a method, there is no second line; what was tried and is invalid is
        // no zero.
        Matters::Cost => {
            let tried = COST.into_iter();
            let tried = tried.filter(|metric| was_tried(run, method, scenario, metric));
            let parts: Option<Vec<Part>> = tried.map(one).collect();
            parts?.into_iter().reduce(|sum, more| {
                let ends = sum.1.zip(more.1).map(|(a, b)| (a.0 + b.0, a.1 + b.1));
                (sum.0 + more.0, ends)
            })
        }
    }
}

/// Whether a figure was measured at all, valid or not.
fn was_tried(run: &Run, method: &MethodId, scenario: &str, metric: &str) -> bool {
    let mut all = run.measurements.iter();
    all.any(|m| m.method == *method && m.scenario == scenario && m.metric == metric)
}

fn value(line: &Summary, as_ratio: bool) -> Option<Part> {
    if as_ratio {
        let interval = line.ratio_ci_low.zip(line.ratio_ci_high);
        Some((line.ratio_to_direct?, interval))
    } else {
        Some((line.median, line.ci_low.zip(line.ci_high)))
    }
}

fn mean(parts: &[Part]) -> Option<Part> {
    let of =
        |values: Option<Vec<f64>>| Some(inroads_harness::stats::geometric_mean(&values?)?.value);
    let value = of(Some(parts.iter().map(|it| it.0).collect()))?;
    let low = of(parts.iter().map(|it| Some(it.1?.0)).collect());
    let high = of(parts.iter().map(|it| Some(it.1?.1)).collect());
    Some((value, low.zip(high)))
}

fn text(matters: Matters, common: &[(&str, &str)], value: f64, ratios: bool) -> String {
    let of: Vec<&str> = common.iter().map(|(scenario, _)| *scenario).collect();
    let of = of.join(", ");
    let (what, unit) = match matters {
        Matters::Effort | Matters::Latency => ("latency", Unit::Microseconds),
        Matters::Throughput => ("throughput", Unit::PerSecond),
        Matters::Cost => ("CPU for each request", Unit::Microseconds),
    };
    if ratios {
        format!("{of} {what} {} of direct", ratio(value))
    } else {
        format!("{of} {what} {}", figure(value, unit))
    }
}

/// The figures of `method` that count for `team`, as reasons: for it where it is the best of `all` or cannot be told
/// from it, against it where another one is better.
pub(super) fn reasons(
    run: &Run,
    team: &Team,
    method: &MethodId,
    all: &[&MethodInfo],
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (scenario, throughput) in scenarios(team) {
        let mut metrics = vec![LATENCY];
        match team.matters {
            Matters::Throughput => metrics.push(throughput),
            Matters::Cost => metrics.extend(COST),
            Matters::Effort | Matters::Latency => {}
        }
        for metric in metrics {
            // Not every method has a part in the cluster that could cost something.
            let own = summary(run, method, scenario, metric);
            if metric != COST[1] || was_tried(run, method, scenario, metric) {
                reasons.push(reason(run, scenario, metric, own, all));
            }
        }
    }
    if team.matters == Matters::Effort {
        let score = matrix::score(run, method);
        let best = all
            .iter()
            .map(|it| matrix::score(run, &it.id).unmodified)
            .max();
        reasons.push(Reason {
            side: match score {
                matrix::Score { all: 0, .. } => Side::Open,
                matrix::Score { unmodified, .. } if best > Some(unmodified) => Side::Against,
                _ => Side::For,
            },
            about: "clients that need no change".to_owned(),
            evidence: vec![Evidence::Unmodified {
                passed: score.unmodified,
                of: score.all,
            }],
        });
    }
    reasons
}

fn reason(
    run: &Run,
    scenario: &str,
    metric: &str,
    own: Option<&Summary>,
    all: &[&MethodInfo],
) -> Reason {
    let others = all
        .iter()
        .filter_map(|it| summary(run, &it.id, scenario, metric));
    let lines: Vec<&Summary> = others.collect();
    // Ratios to the control of the same block say more than medians; of parts of a cost there are none.
    let ratios = lines.iter().all(|it| it.ratio_to_direct.is_some());
    let weighed = |line: &Summary| {
        let (value, interval) = value(line, ratios).unwrap_or((line.median, None));
        Weighed {
            value,
            interval,
            larger_is_better: line.unit.larger_is_better(),
            text: String::new(),
        }
    };
    let better = own.and_then(|own| {
        let own = weighed(own);
        let beating = lines.iter().filter(|it| weighed(it).beats(&own));
        beating.reduce(|best, it| {
            if weighed(it).is_better(&weighed(best)) {
                it
            } else {
                best
            }
        })
    });
    Reason {
        side: match (own, better) {
            (None, _) => Side::Open,
            (Some(_), None) => Side::For,
            (Some(_), Some(_)) => Side::Against,
        },
        about: format!("{scenario} {metric}"),
        evidence: vec![Evidence::Figure {
            scenario: scenario.to_owned(),
            metric: metric.to_owned(),
            unit: own.map(|it| it.unit),
            median: own.map(|it| it.median),
            ratio_to_direct: own.and_then(|it| it.ratio_to_direct),
            behind: better.map(|it| it.method.clone()),
        }],
    }
}

fn summary<'a>(
    run: &'a Run,
    method: &MethodId,
    scenario: &str,
    metric: &str,
) -> Option<&'a Summary> {
    let mut lines = run.summary.iter();
    lines.find(|it| it.method == *method && it.scenario == scenario && it.metric == metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weighed {
        /// A latency, for tests.
        pub(crate) fn latency(value: f64, interval: Option<(f64, f64)>) -> Self {
            Self {
                value,
                interval,
                larger_is_better: false,
                text: String::new(),
            }
        }
    }

    #[test]
    fn what_overlaps_or_has_no_interval_is_tied() {
        let one = Weighed::latency(1.0, Some((0.9, 1.1)));
        assert!(one.is_tied(&Weighed::latency(1.15, Some((1.05, 1.3)))));
        assert!(!one.is_tied(&Weighed::latency(1.5, Some((1.2, 1.8)))));
        assert!(one.is_tied(&Weighed::latency(9.0, None)));
        assert!(one.is_better(&Weighed::latency(1.15, None)));
    }

    #[test]
    fn the_mean_of_ratios_is_geometric_and_lacks_an_interval_where_one_does() {
        let (value, interval) = mean(&[(2.0, Some((1.0, 4.0))), (0.5, Some((0.25, 1.0)))]).unwrap();
        assert!((value - 1.0).abs() < 1e-12);
        let (low, high) = interval.unwrap();
        assert!((low - 0.5).abs() < 1e-12 && (high - 2.0).abs() < 1e-12);
        assert_eq!(
            mean(&[(2.0, None), (0.5, Some((0.4, 0.6)))]).unwrap().1,
            None
        );
        assert_eq!(mean(&[]), None);
    }
}
