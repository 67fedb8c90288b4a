//! Latency: percentiles in the manner of HdrHistogram, distributions, and how both move from block to block.

use inroads_harness::ids::MethodId;
use inroads_harness::measure::Histogram;
use inroads_harness::run::{Measurement, ScenarioInfo, Unit};
use maud::{Markup, html};

use super::axis::{Axis, short};
use super::chart::{Chart, Mark, Pen, Room};
use super::view::{LATENCY, View, none, section};
use crate::figures::figure;

/// The same operations, timed from when they were sent: it hides what waited.
const RAW: &str = "latency-raw";

/// Pixels of a chart.
const SIZE: (u32, u32) = (540, 300);

/// Room beside the axes.
const ROOM: Room = Room {
    above: 8,
    left: 72,
    below: 34,
    right: 22,
};

/// Shares at which the horizontal axis of a percentile plot has a name, and the curves a marker.
const SHARES: [(f64, &str); 7] = [
    (0.0, "0%"),
    (0.5, "50%"),
    (0.9, "90%"),
    (0.99, "99%"),
    (0.999, "99.9%"),
    (0.9999, "99.99%"),
    (0.99999, "99.999%"),
];

/// Share of all values at or below, and the value in microseconds, rising.
type Distribution = Vec<(f64, f64)>;

pub(crate) fn percentiles(view: &View<'_>) -> Markup {
    let about = "All valid blocks merged. A curve ends where fewer than ten values lie above: beyond, there is no percentile. \
                 Operations start at a fixed rate, the same for every method.";
    let charts: Vec<Markup> = view
        .measured()
        .filter_map(|it| of_scenario(view, it))
        .collect();
    let body = html! {
        @if charts.is_empty() {
            (none("There are no histograms of latency in this run."))
        } @else {
            fieldset.choice {
                legend { "Time of an operation" }
                span {
                    input #corrected type="radio" name="latency" checked;
                    label for="corrected" { "from when it should have begun" small { " corrected: waiting counts" } }
                }
                span {
                    input #raw type="radio" name="latency";
                    label for="raw" { "from when it was sent" small { " raw: what waited is hidden" } }
                }
            }
            (view.legend())
            @for chart in &charts { (chart) }
            (view.stand_in_note())
        }
    };
    section("percentiles", "How latency is distributed", about, body)
}

fn of_scenario(view: &View<'_>, scenario: &ScenarioInfo) -> Option<Markup> {
    let corrected = pair(view, scenario, LATENCY)?;
    Some(html! {
        h3 { (scenario.title) (view.stand_in_sign()) }
        div.corrected { (corrected) }
        div.raw {
            @match pair(view, scenario, RAW) {
                Some(raw) => (raw),
                None => (none("This run has no raw histograms of it.")),
            }
        }
    })
}

/// Percentiles and distribution of a metric through all methods; `None` where there is no histogram.
fn pair(view: &View<'_>, scenario: &ScenarioInfo, metric: &str) -> Option<Markup> {
    let curves: Vec<(usize, Distribution)> = view
        .methods
        .iter()
        .map(|id| {
            (
                view.pen(id),
                distribution(&view.valid(id, &scenario.id, metric)),
            )
        })
        .filter(|(_, curve)| !curve.is_empty())
        .collect();
    let values = || {
        curves
            .iter()
            .flat_map(|(_, curve)| curve.iter().map(|(_, value)| *value))
    };
    let time = Axis::around(values(), tick)?;
    let what = if metric == RAW {
        "raw latency"
    } else {
        "latency"
    };
    Some(html! {
        div.charts {
            figure {
                (percentile_chart(&scenario.title, what, &curves, time.clone()).render())
                figcaption { "Percentiles: " (what) " that a share of operations stays within" }
            }
            figure {
                (distribution_chart(&scenario.title, what, &curves, time).render())
                figcaption { "Distribution: share of operations within a " (what) }
            }
        }
    })
}

/// All blocks merged.
fn distribution(blocks: &[&Measurement]) -> Distribution {
    let mut all = Histogram::default();
    let texts = blocks.iter().filter_map(|it| it.histogram.as_deref());
    for histogram in texts.filter_map(|text| Histogram::decode(text).ok()) {
        all.merge(&histogram);
    }
    all.distribution_us().collect()
}

/// Where a share stands on the horizontal axis: 1/(1−q), so that each nine takes the same room.
fn nines(share: f64) -> f64 {
    1.0 / (1.0 - share).max(1e-9)
}

fn percentile_chart(
    scenario: &str,
    what: &str,
    curves: &[(usize, Distribution)],
    y: Axis,
) -> Chart {
    let last = curves.iter().filter_map(|(_, curve)| curve.last());
    let far = last.map(|(share, _)| nines(*share)).fold(10.0, f64::max);
    let names = SHARES
        .iter()
        .map(|(share, name)| (nines(*share), (*name).to_owned()));
    let x = Axis::log(1.0, far * 1.1, names.collect());
    let mut marks = Vec::new();
    for (pen, curve) in curves {
        let points: Distribution = curve
            .iter()
            .map(|(share, value)| (nines(*share), *value))
            .collect();
        marks.push(Mark::Line(Pen::Line(*pen), thin(&points, &x, &y)));
        let at = |share: f64| curve.iter().find(|(here, _)| *here >= share - 1e-9);
        let named = SHARES
            .iter()
            .skip(1)
            .filter_map(|(share, _)| Some((nines(*share), at(*share)?.1)));
        marks.extend(named.map(|point| Mark::Dot(*pen, point)));
    }
    Chart {
        label: format!(
            "{scenario}: percentiles of {what}, by method; “Every figure” has them as a table"
        ),
        size: SIZE,
        room: ROOM,
        x,
        y,
        marks,
    }
}

fn distribution_chart(
    scenario: &str,
    what: &str,
    curves: &[(usize, Distribution)],
    x: Axis,
) -> Chart {
    let quarters = [0.0, 0.25, 0.5, 0.75, 1.0];
    let names = quarters.map(|share| (share, format!("{:.0}%", share * 100.0)));
    let y = Axis::linear(0.0, 1.0, names.to_vec());
    let mut marks = Vec::new();
    for (pen, curve) in curves {
        let points: Distribution = curve
            .iter()
            .map(|(share, value)| (*value, *share))
            .collect();
        marks.push(Mark::Line(Pen::Line(*pen), thin(&points, &x, &y)));
        let at = |share: f64| curve.iter().find(|(here, _)| *here >= share);
        let middle = [0.25, 0.5, 0.75].into_iter().filter_map(at);
        marks.extend(middle.map(|(share, value)| Mark::Dot(*pen, (*value, *share))));
    }
    Chart {
        label: format!("{scenario}: distribution of {what}, by method"),
        size: SIZE,
        room: ROOM,
        x,
        y,
        marks,
    }
}

/// Without the points that lie within a pixel of the one before: a curve has thousands, and a screen has not.
fn thin(points: &[(f64, f64)], x: &Axis, y: &Axis) -> Vec<(f64, f64)> {
    let place = |point: (f64, f64)| {
        (
            x.share(point.0) * f64::from(SIZE.0),
            y.share(point.1) * f64::from(SIZE.1),
        )
    };
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for point in points {
        let far = kept.last().is_none_or(|last| {
            let (a, b) = (place(*last), place(*point));
            (a.0 - b.0).abs().max((a.1 - b.1).abs()) >= 1.0
        });
        if far {
            kept.push(*point);
        }
    }
    kept.extend(points.last().filter(|last| kept.last() != Some(last)));
    kept
}

fn tick(micros: f64) -> String {
    short(&figure(micros, Unit::Microseconds))
}

/// Median and 99th percentile of each block.
pub(crate) fn timeline(view: &View<'_>) -> Markup {
    let about = "Each block by itself: a method that drifts, or one bad block behind a wide interval, is seen here.";
    let charts: Vec<Markup> = view
        .measured()
        .filter_map(|it| over_blocks(view, it))
        .collect();
    let body = html! {
        @if charts.is_empty() {
            (none("There are no latencies in this run."))
        } @else {
            (view.legend())
            @for chart in &charts { (chart) }
            (view.stand_in_note())
        }
    };
    section("timeline", "Latency, block by block", about, body)
}

fn over_blocks(view: &View<'_>, scenario: &ScenarioInfo) -> Option<Markup> {
    let line = |of: fn(&Measurement) -> Option<f64>| -> Vec<(usize, Vec<(f64, f64)>)> {
        let points = |id: &MethodId| {
            let blocks = view.valid(id, &scenario.id, LATENCY);
            let mut points: Vec<(f64, f64)> = blocks
                .iter()
                .filter_map(|it| Some((f64::from(it.block) + 1.0, of(it)?)))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        };
        let all = view.methods.iter().map(|id| (view.pen(id), points(id)));
        all.filter(|(_, points)| !points.is_empty()).collect()
    };
    let charts: Vec<Markup> = [("p50", line(|it| it.p50)), ("p99", line(|it| it.p99))]
        .into_iter()
        .filter_map(|(which, lines)| block_chart(view, scenario, which, &lines))
        .collect();
    (!charts.is_empty()).then(|| {
        html! {
            h3 { (scenario.title) (view.stand_in_sign()) }
            div.charts { @for chart in &charts { (chart) } }
        }
    })
}

fn block_chart(
    view: &View<'_>,
    scenario: &ScenarioInfo,
    which: &str,
    lines: &[(usize, Vec<(f64, f64)>)],
) -> Option<Markup> {
    let values = lines
        .iter()
        .flat_map(|(_, points)| points.iter().map(|(_, value)| *value));
    let y = Axis::around(values, tick)?;
    let last = view.block_count();
    let step = usize::try_from(last / 10 + 1).unwrap_or(1);
    let names = (1..=last)
        .step_by(step)
        .take(12)
        .map(|block| (f64::from(block), block.to_string()));
    let x = Axis::linear(0.5, f64::from(last) + 0.5, names.collect());
    let mut marks = Vec::new();
    for (pen, points) in lines {
        // Where a block is missing, so is the line.
        let lines = points.chunk_by(|a, b| b.0 - a.0 < 1.5);
        let lines = lines.filter(|line| line.len() > 1);
        marks.extend(lines.map(|line| Mark::Line(Pen::Line(*pen), line.to_vec())));
        marks.extend(points.iter().map(|point| Mark::Dot(*pen, *point)));
    }
    let chart = Chart {
        label: format!(
            "{}: {which} of latency for each block, by method",
            scenario.title
        ),
        size: (SIZE.0, 240),
        room: ROOM,
        x,
        y,
        marks,
    };
    Some(html! {
        figure { (chart.render()) figcaption { (which) ", by block" } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends_and_its_shape() {
        let x = Axis::log(1.0, 1000.0, Vec::new());
        let y = Axis::log(10.0, 1000.0, Vec::new());
        let points: Vec<(f64, f64)> = (0..10_000_u32)
            .map(|n| (1.0 + f64::from(n) / 11.0, 20.0 + f64::from(n) / 20.0))
            .collect();
        let kept = thin(&points, &x, &y);
        assert!((100..1200).contains(&kept.len()), "{}", kept.len());
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
    }
}
