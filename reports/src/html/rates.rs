//! Rates: a bar for each method, the interval as a whisker, and every block as a dot.

use inroads_harness::run::{ScenarioInfo, Unit};
use maud::{Markup, html};

use super::axis::{Axis, short};
use super::chart::{Chart, Mark, Pen, Room};
use super::view::{View, none, section};
use crate::figures::figure;
use crate::table::label_of;

/// The height of a bar with the room around it, in pixels.
const ROW: u32 = 30;

pub(crate) fn rates(view: &View<'_>) -> Markup {
    let about = "Longer is better. The bar is the median over blocks, the whisker its 95% interval (from three blocks on), and \
                 each marker is one block.";
    let charts: Vec<Markup> = view
        .measured()
        .filter_map(|it| of_scenario(view, it))
        .collect();
    let body = html! {
        @if charts.is_empty() {
            (none("There are no rates in this run."))
        } @else {
            @for chart in &charts { (chart) }
            (view.stand_in_note())
        }
    };
    section("throughput", "How much goes through", about, body)
}

fn of_scenario(view: &View<'_>, scenario: &ScenarioInfo) -> Option<Markup> {
    let metrics = view.metrics(&scenario.id);
    let charts: Vec<Markup> = metrics
        .iter()
        .filter(|(_, unit)| unit.larger_is_better())
        .filter_map(|(metric, unit)| bars(view, scenario, metric, *unit))
        .collect();
    (!charts.is_empty()).then(|| {
        html! {
            h3 { (scenario.title) (view.stand_in_sign()) }
            div.charts.small { @for chart in &charts { (chart) } }
        }
    })
}

fn bars(view: &View<'_>, scenario: &ScenarioInfo, metric: &str, unit: Unit) -> Option<Markup> {
    let rows: Vec<_> = view
        .methods
        .iter()
        .map(|id| {
            (
                *id,
                view.summary(id, &scenario.id, metric),
                view.valid(id, &scenario.id, metric),
            )
        })
        .collect();
    let known = rows.iter().filter_map(|(_, line, _)| *line);
    let blocks = rows
        .iter()
        .flat_map(|(_, _, blocks)| blocks.iter().map(|it| it.value));
    // A whisker may be cut: an interval of three blocks can be many times as long as the bars.
    let longest = known
        .clone()
        .map(|line| line.median)
        .chain(blocks)
        .fold(0.0, f64::max);
    let whiskers = known
        .filter_map(|line| line.ci_high)
        .map(|high| high.min(longest * 1.25));
    // Links are rated in bits.
    let round = if unit == Unit::BytesPerSecond {
        0.125
    } else {
        1.0
    };
    let x = Axis::from_zero(whiskers.chain([longest]), round, |value| {
        short(&figure(value, unit))
    });
    let count = f64::from(u32::try_from(rows.len()).ok()?);
    let middle = |row: usize| count - 0.5 - f64::from(u32::try_from(row).unwrap_or_default());
    let names = rows
        .iter()
        .enumerate()
        .map(|(row, (id, ..))| (middle(row), id.to_string()));
    let y = Axis::linear(0.0, count, names.collect());
    let longest_name = view.methods.iter().map(|id| id.as_str().len()).max();
    let longest_name = u32::try_from(longest_name.unwrap_or_default().min(20)).ok()?;
    let mut marks = Vec::new();
    for (row, (id, line, blocks)) in rows.iter().enumerate() {
        let (pen, at) = (view.pen(id), middle(row));
        let Some(line) = line else {
            let word = if blocks.is_empty() {
                "no valid figure"
            } else {
                "–"
            };
            marks.push(Mark::Text(word.to_owned(), (0.0, at)));
            continue;
        };
        marks.push(Mark::Bar(
            Pen::Tint(pen),
            (0.0, at - 0.34),
            (line.median, at + 0.34),
        ));
        marks.push(Mark::Line(
            Pen::Whisker,
            vec![(line.median, at - 0.34), (line.median, at + 0.34)],
        ));
        if let Some((low, high)) = line.ci_low.zip(line.ci_high) {
            let high = high.min(x.high());
            marks.push(Mark::Line(Pen::Whisker, vec![(low, at), (high, at)]));
            for end in [low, high] {
                marks.push(Mark::Line(
                    Pen::Whisker,
                    vec![(end, at - 0.15), (end, at + 0.15)],
                ));
            }
        }
        marks.extend(blocks.iter().map(|it| Mark::Dot(pen, (it.value, at))));
        marks.push(Mark::Text(figure(line.median, unit), (x.high(), at)));
    }
    let chart = Chart {
        label: format!(
            "{}: {} by method",
            scenario.title,
            label_of(&scenario.id, metric)
        ),
        size: (380, ROW * u32::try_from(rows.len()).ok()? + 34),
        room: Room {
            above: 4,
            left: longest_name * 8 + 18,
            below: 30,
            right: 84,
        },
        x,
        y,
        marks,
    };
    Some(html! {
        figure { figcaption { (label_of(&scenario.id, metric)) } (chart.render()) }
    })
}
