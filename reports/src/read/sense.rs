//! Whether the fields of a result file go together: what a run cannot have written is refused.
//!
//! Intervals are not computed again: an older program may have had its quantiles from a table.

use std::collections::{BTreeMap, BTreeSet};

use inroads_harness::ids::MethodId;
use inroads_harness::measure::Histogram;
use inroads_harness::run::{Measurement, Run, Summary, Unit};
use inroads_harness::stats::median;

use super::ReadError;
use crate::escape::terminal;

/// How far two figures may be apart that are the same: some were computed by taking logarithms and back.
const ROUNDING: f64 = 1e-6;

/// More blocks than any run has.
const BLOCKS: u32 = 100_000;

/// A metric, and what was measured of it.
type Cells<'a> = BTreeMap<(&'a MethodId, &'a str, &'a str), Vec<&'a Measurement>>;

/// Checks a whole run.
pub(super) fn check(run: &Run) -> Result<(), ReadError> {
    let methods = methods(run)?;
    let mut scenarios = BTreeSet::new();
    for (at, scenario) in run.scenarios.iter().enumerate() {
        if !scenarios.insert(scenario.id.as_str()) {
            let what = format!("`{}` stands here twice", scenario.id);
            return Err(wrong(format!("scenarios[{at}].id"), &what));
        }
    }
    probes(run, &methods)?;
    let mut cells = Cells::new();
    let mut units = BTreeMap::new();
    for (at, m) in run.measurements.iter().enumerate() {
        let place = |field: &str| format!("measurements[{at}].{field}");
        known(&methods, &scenarios, &m.method, &m.scenario, place)?;
        unit(&mut units, &m.scenario, &m.metric, m.unit, place)?;
        measurement(m, place)?;
        let cell = cells
            .entry((&m.method, &m.scenario, &m.metric))
            .or_default();
        if cell.iter().any(|other| other.block == m.block) {
            return Err(wrong(
                place("block"),
                "this block of the cell stands here twice",
            ));
        }
        cell.push(m);
    }
    for (at, line) in run.summary.iter().enumerate() {
        let place = |field: &str| format!("summary[{at}].{field}");
        known(&methods, &scenarios, &line.method, &line.scenario, place)?;
        unit(&mut units, &line.scenario, &line.metric, line.unit, place)?;
        summary(line, &cells, place)?;
    }
    Ok(())
}

fn methods(run: &Run) -> Result<BTreeSet<&MethodId>, ReadError> {
    let mut methods = BTreeSet::new();
    for (at, method) in run.methods.iter().enumerate() {
        if !methods.insert(&method.id) {
            let what = format!("`{}` stands here twice", method.id);
            return Err(wrong(format!("methods[{at}].id"), &what));
        }
        if method.setup_ms.is_some_and(|ms| ms < 0.0) {
            return Err(wrong(format!("methods[{at}].setup_ms"), NEGATIVE));
        }
    }
    Ok(methods)
}

fn probes(run: &Run, methods: &BTreeSet<&MethodId>) -> Result<(), ReadError> {
    let mut asked = BTreeSet::new();
    for (at, probe) in run.probes.iter().enumerate() {
        let place = |field: &str| format!("probes[{at}].{field}");
        if !methods.contains(&probe.method) {
            return Err(wrong(
                place("method"),
                &unknown(probe.method.as_str(), "methods"),
            ));
        }
        if !asked.insert((&probe.id, &probe.method)) {
            let what = format!(
                "`{}` through `{}` stands here twice",
                probe.id, probe.method
            );
            return Err(wrong(place("id"), &what));
        }
        if probe.duration_ms < 0.0 {
            return Err(wrong(place("duration_ms"), NEGATIVE));
        }
        if probe.duration_ms > A_YEAR_MS {
            return Err(wrong(place("duration_ms"), "it is longer than a year"));
        }
    }
    Ok(())
}

/// Whether a method and a scenario are among those of the run.
fn known(
    methods: &BTreeSet<&MethodId>,
    scenarios: &BTreeSet<&str>,
    method: &MethodId,
    scenario: &str,
    place: impl Fn(&str) -> String,
) -> Result<(), ReadError> {
    if !methods.contains(method) {
        return Err(wrong(place("method"), &unknown(method.as_str(), "methods")));
    }
    if !scenarios.contains(scenario) {
        return Err(wrong(place("scenario"), &unknown(scenario, "scenarios")));
    }
    Ok(())
}

/// A metric has one unit throughout: figures of two cannot be put beside each other.
fn unit<'a>(
    units: &mut BTreeMap<(&'a str, &'a str), Unit>,
    scenario: &'a str,
    metric: &'a str,
    unit: Unit,
    place: impl Fn(&str) -> String,
) -> Result<(), ReadError> {
    let first = *units.entry((scenario, metric)).or_insert(unit);
    if first == unit {
        return Ok(());
    }
    let what = format!(
        "`{}`, where `{}` stood for the same metric before",
        unit.as_str(),
        first.as_str()
    );
    Err(wrong(place("unit"), &what))
}

fn measurement(m: &Measurement, place: impl Fn(&str) -> String) -> Result<(), ReadError> {
    if m.value < 0.0 {
        return Err(wrong(place("value"), NEGATIVE));
    }
    if m.block >= BLOCKS {
        return Err(wrong(place("block"), "no run has so many blocks"));
    }
    let percentiles = [
        ("p50", m.p50),
        ("p90", m.p90),
        ("p99", m.p99),
        ("max", m.max),
    ];
    let mut below = ("0", 0.0);
    for (name, value) in percentiles {
        let Some(value) = value else { continue };
        if value < below.1 {
            let what = format!("{value} is below {}, which cannot be", below.0);
            return Err(wrong(place(name), &what));
        }
        below = (name, value);
    }
    if let Some(histogram) = &m.histogram
        && let Err(error) = Histogram::decode(histogram)
    {
        let what = format!("it is no histogram: {error}");
        return Err(wrong(place("histogram"), &what));
    }
    Ok(())
}

/// Whether a line follows from the measurements.
fn summary(
    line: &Summary,
    cells: &Cells<'_>,
    place: impl Fn(&str) -> String,
) -> Result<(), ReadError> {
    let cell = cells.get(&(&line.method, line.scenario.as_str(), line.metric.as_str()));
    let valid = cell.into_iter().flatten().filter(|m| m.valid);
    let values: Vec<f64> = valid.map(|m| m.value).collect();
    if usize::try_from(line.blocks) != Ok(values.len()) {
        let what = format!(
            "{}, where {} valid blocks were measured",
            line.blocks,
            values.len()
        );
        return Err(wrong(place("blocks"), &what));
    }
    let Some(median) = median(&values) else {
        return Err(wrong(place("blocks"), "there is no valid block to sum up"));
    };
    if !close(line.median, median) {
        let what = format!("{}, where the blocks' median is {median}", line.median);
        return Err(wrong(place("median"), &what));
    }
    let (ci, ratio) = (("ci_low", "ci_high"), ("ratio_ci_low", "ratio_ci_high"));
    interval(ci, (line.ci_low, None, line.ci_high), &place)?;
    let ends = (line.ratio_ci_low, line.ratio_to_direct, line.ratio_ci_high);
    interval(ratio, ends, &place)
}

/// Whether the ends of an interval, and what lies in between, can be such.
fn interval(
    names: (&str, &str),
    (low, within, high): (Option<f64>, Option<f64>, Option<f64>),
    place: impl Fn(&str) -> String,
) -> Result<(), ReadError> {
    if low.is_some() != high.is_some() {
        return Err(wrong(place(names.0), "an interval has both ends or none"));
    }
    for (name, end) in [(names.0, low), (names.1, high)] {
        if end.is_some_and(|end| end < 0.0) {
            return Err(wrong(place(name), NEGATIVE));
        }
    }
    if within.is_some_and(|value| value < 0.0) {
        return Err(wrong(place("ratio_to_direct"), NEGATIVE));
    }
    let all: Vec<f64> = [low, within, high].into_iter().flatten().collect();
    let rises = |pair: &[f64]| pair[0] <= pair[1] || close(pair[0], pair[1]);
    if !all.windows(2).all(rises) {
        let what = format!("{all:?} is out of order");
        return Err(wrong(place(names.0), &what));
    }
    Ok(())
}

/// Longer than anything takes, in milliseconds.
const A_YEAR_MS: f64 = 365.0 * 86_400.0 * 1e3;

const NEGATIVE: &str = "it is negative, which cannot be";

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= ROUNDING * one.abs().max(other.abs())
}

fn unknown(id: &str, list: &str) -> String {
    format!("`{id}` is not among `{list}`")
}

fn wrong(place: String, what: &str) -> ReadError {
    ReadError::Sense {
        place,
        what: terminal(what),
    }
}
