//! What the GitHub action `benchmark-action/github-action-benchmark` takes of tools of one's own: a list of figures.
//!
//! A tool of that action has one direction, so a run is two files: `customSmallerIsBetter` and `customBiggerIsBetter`.

use inroads_harness::run::{CONTROL, Run, Summary, Unit};
use serde::Serialize;

use crate::again::stand_ins;
use crate::escape::terminal;
use crate::figures::ratio;

/// Which figures: the action is told one direction for all that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Latencies, costs and sizes: the tool `customSmallerIsBetter`.
    SmallerIsBetter,
    /// Rates: the tool `customBiggerIsBetter`.
    BiggerIsBetter,
}

/// A figure, as the action has it.
#[derive(Serialize)]
struct Entry {
    /// What the action finds it again by in the next run.
    name: String,
    unit: &'static str,
    value: f64,
    /// Shown behind the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    /// Shown where the pointer rests on the figure.
    extra: String,
}

/// The figures of a run for which this is the better direction, as JSON.
///
/// Each stands there as a median with its unit, and once more as the ratio to `direct`: a runner that is slower today
/// moves the first and not the second.
///
/// # Panics
/// Never: the entries are plain data.
#[must_use]
pub fn benchmark_action(run: &Run, direction: Direction) -> String {
    let bigger = direction == Direction::BiggerIsBetter;
    let lines = run.summary.iter();
    let entries: Vec<Entry> = lines
        .filter(|line| line.unit.larger_is_better() == bigger)
        .flat_map(|line| [Some(median(run, line)), ratio_to_direct(run, line)])
        .flatten()
        .collect();
    serde_json::to_string_pretty(&entries).expect("the entries are plain data") + "\n"
}

fn median(run: &Run, line: &Summary) -> Entry {
    Entry {
        name: name(line),
        unit: match line.unit {
            Unit::Microseconds => "µs",
            Unit::Seconds => "s",
            Unit::PerSecond => "/s",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Bytes => "bytes",
        },
        value: line.median,
        // In the unit of the value: two of them in one entry are read as one.
        range: interval(line.ci_low, line.ci_high, |value| format!("{value:.3}")),
        extra: extra(run, line),
    }
}

fn ratio_to_direct(run: &Run, line: &Summary) -> Option<Entry> {
    if line.method.as_str() == CONTROL {
        return None;
    }
    Some(Entry {
        name: format!("{}, to {CONTROL}", name(line)),
        unit: "×",
        value: line.ratio_to_direct?,
        range: interval(line.ratio_ci_low, line.ratio_ci_high, ratio),
        extra: extra(run, line),
    })
}

fn name(line: &Summary) -> String {
    terminal(&format!(
        "{}/{} {}",
        line.scenario, line.metric, line.method
    ))
}

fn interval(low: Option<f64>, high: Option<f64>, show: impl Fn(f64) -> String) -> Option<String> {
    Some(format!("95%: {} – {}", show(low?), show(high?)))
}

fn extra(run: &Run, line: &Summary) -> String {
    let blocks = if line.blocks == 1 { "block" } else { "blocks" };
    let profile = terminal(&run.run.profile);
    let stand_ins = match stand_ins(run).join(", ") {
        none if none.is_empty() => none,
        names => format!("\nstand-ins: {}", terminal(&names)),
    };
    format!(
        "{} {blocks}, profile {profile}\nrun {}{stand_ins}",
        line.blocks,
        terminal(&run.run.id)
    )
}
