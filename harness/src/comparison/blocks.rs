//! From the blocks of two runs to changes.

use std::collections::BTreeMap;

use super::{Change, Found, Rules, Side, Weight, Worsening};
use crate::ids::MethodId;
use crate::run::{CONTROL, Measurement, Run, Unit};
use crate::stats::{Shift, benjamini_hochberg, geometric_mean, hodges_lehmann, holm, median};

/// A cell's blocks in one run.
#[derive(Default)]
struct Blocks {
    /// The figures, in the unit.
    values: Vec<f64>,
    /// Their ratios to `direct` of the same block, where it has one.
    ratios: Vec<f64>,
}

/// A method, a scenario and a metric.
pub(super) type Key<'a> = (&'a MethodId, &'a str, &'a str);

/// Every cell that one of the runs has, in the order of the candidate's and then the baseline's.
pub(super) fn changes(baseline: &Run, candidate: &Run, rules: &Rules) -> Vec<Change> {
    let (before, after) = (cells(baseline), cells(candidate));
    let mut order: Vec<(Key<'_>, Unit)> = Vec::new();
    for m in candidate.measurements.iter().chain(&baseline.measurements) {
        let key = (key(m), m.unit);
        if m.valid && !order.contains(&key) {
            order.push(key);
        }
    }
    let mut changes: Vec<Change> = order
        .into_iter()
        .map(|(key, unit)| change(key, unit, (before.get(&key), after.get(&key)), rules))
        .collect();
    correct(&mut changes);
    for change in &mut changes {
        judge(change, rules);
    }
    changes
}

pub(super) fn key(m: &Measurement) -> Key<'_> {
    (&m.method, m.scenario.as_str(), m.metric.as_str())
}

fn valid(run: &Run) -> impl Iterator<Item = &Measurement> {
    let all = run.measurements.iter();
    all.filter(|m| m.valid && m.value > 0.0)
}

/// The figures of `direct`, by scenario, metric and block.
fn control(run: &Run) -> BTreeMap<(&str, &str, u32), f64> {
    let of_control = valid(run).filter(|m| m.method.as_str() == CONTROL);
    of_control
        .map(|m| ((m.scenario.as_str(), m.metric.as_str(), m.block), m.value))
        .collect()
}

fn cells(run: &Run) -> BTreeMap<Key<'_>, Blocks> {
    let mut cells: BTreeMap<Key<'_>, Blocks> = BTreeMap::new();
    for m in valid(run) {
        cells.entry(key(m)).or_default().values.push(m.value);
    }
    for (key, ratios) in ratios(run) {
        cells
            .entry(key)
            .or_default()
            .ratios
            .extend(ratios.into_values());
    }
    cells
}

fn change(
    (method, scenario, metric): Key<'_>,
    unit: Unit,
    (before, after): (Option<&Blocks>, Option<&Blocks>),
    rules: &Rules,
) -> Change {
    let mut note = None;
    let worsening = match (before, after) {
        (Some(before), Some(after)) => {
            let paired = !before.ratios.is_empty() && !after.ratios.is_empty();
            if !paired && method.as_str() != CONTROL {
                note = Some("not held against `direct`, which is not in both runs".to_owned());
            }
            let logs = |blocks: &Blocks| logarithms(blocks, paired, unit);
            worsening(&logs(before), &logs(after), rules)
        }
        _ => None,
    };
    let side = |blocks: &Blocks| {
        Some(Side {
            median: median(&blocks.values)?,
            ratio_to_direct: geometric_mean(&blocks.ratios).map(|ratio| ratio.value),
            blocks: u32::try_from(blocks.values.len()).unwrap_or(u32::MAX),
        })
    };
    Change {
        method: method.clone(),
        scenario: scenario.to_owned(),
        metric: metric.to_owned(),
        unit,
        weight: rules.weight(method.as_str(), scenario, metric),
        baseline: before.and_then(side),
        candidate: after.and_then(side),
        worsening,
        found: Found::Same,
        note,
    }
}

/// The logarithms of a cell's blocks, so signed that more is worse.
fn logarithms(blocks: &Blocks, paired: bool, unit: Unit) -> Vec<f64> {
    let sign = if unit.larger_is_better() { -1.0 } else { 1.0 };
    let values = if paired {
        &blocks.ratios
    } else {
        &blocks.values
    };
    values.iter().map(|value| sign * value.ln()).collect()
}

/// The ratio to `direct` in each block, of each cell that has one.
pub(super) fn ratios(run: &Run) -> BTreeMap<Key<'_>, BTreeMap<u32, f64>> {
    let control = control(run);
    let mut ratios: BTreeMap<Key<'_>, BTreeMap<u32, f64>> = BTreeMap::new();
    for m in valid(run).filter(|m| m.method.as_str() != CONTROL) {
        if let Some(base) = control.get(&(&m.scenario, &m.metric, m.block)) {
            ratios
                .entry(key(m))
                .or_default()
                .insert(m.block, m.value / base);
        }
    }
    ratios
}

fn worsening(before: &[f64], after: &[f64], rules: &Rules) -> Option<Worsening> {
    let shift = Shift::between(before, after)?.allowing(rules.spread);
    let (low, high) = shift.interval();
    Some(Worsening {
        estimate: hodges_lehmann(before, after)?.exp(),
        low: low.exp(),
        high: high.exp(),
        p: shift.p_above(),
        adjusted: 1.0,
        detectable: shift.detectable(rules.level).exp(),
    })
}

/// Corrects for how many are asked: a false alarm in any blocking cell is one of the whole; of advisory cells few of
/// those that are named should be wrong.
fn correct(changes: &mut [Change]) {
    for weight in [Weight::Blocking, Weight::Advisory] {
        let family = changes.iter_mut().filter(|change| change.weight == weight);
        let mut family: Vec<&mut Worsening> =
            family.filter_map(|it| it.worsening.as_mut()).collect();
        let ps: Vec<f64> = family.iter().map(|worsening| worsening.p).collect();
        let corrected = match weight {
            Weight::Blocking => holm(&ps),
            Weight::Advisory => benjamini_hochberg(&ps),
        };
        for (worsening, adjusted) in family.iter_mut().zip(corrected) {
            worsening.adjusted = adjusted;
        }
    }
}

/// What a change comes to.
fn judge(change: &mut Change, rules: &Rules) {
    let (Some(before), Some(_)) = (change.baseline, change.candidate) else {
        change.found = Found::Missing;
        let there = if change.baseline.is_some() {
            "candidate"
        } else {
            "baseline"
        };
        change.note = Some(format!("no valid block in the {there}"));
        return;
    };
    let Some(by) = change.worsening else {
        change.found = Found::Unclear;
        change.note = Some("an interval needs three valid blocks on each side".to_owned());
        return;
    };
    let large = rules.is_large(before.median, by.estimate, change.unit);
    change.found = if large && by.estimate > 1.0 && by.adjusted < rules.level {
        Found::Worse
    } else if large && by.high < 1.0 {
        Found::Better
    } else if by.high > 1.0 + rules.unclear {
        let high = by.high;
        change.note = Some(format!(
            "up to ×{high:.2} worse cannot be ruled out: measure more blocks"
        ));
        Found::Unclear
    } else {
        Found::Same
    };
}
