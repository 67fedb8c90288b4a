//! From the blocks of a baseline and of a candidate to changes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Found, Rules, Side, Weight, Worsening};
use crate::cell::{Key, key, ratios_to_direct};
use crate::run::{CONTROL, Measurement, Run, Unit};
use crate::stats::{
    self, Moves, Scatter, Shift, benjamini_hochberg, geometric_mean, hodges_lehmann, holm, median,
};

/// So many baselines show by themselves how much a run moves.
const ENOUGH_RUNS: usize = 3;

/// A cell's blocks in one run.
#[derive(Default)]
struct Blocks {
    /// The figures, in the unit.
    values: Vec<f64>,
    /// Their ratios to `direct` of the same block, where it has one.
    ratios: Vec<f64>,
}

/// Every cell that one of the runs has, in the order of the candidate's and then the baselines'; and by how much a run
/// as a whole is taken to move.
pub(super) fn changes(baselines: &[Run], candidate: &Run, rules: &Rules) -> (Vec<Change>, f64) {
    let before: Vec<_> = baselines.iter().map(cells).collect();
    let after = cells(candidate);
    let mut seen = BTreeSet::new();
    let runs = std::iter::once(candidate).chain(baselines);
    let measured = runs.flat_map(|run| run.measurements.iter().filter(|m| m.valid));
    let order = measured.filter(|m| seen.insert(key(m)));
    let moving = Moving::of(baselines, rules);
    let mut changes: Vec<Change> = order
        .map(|m| {
            let (key, unit) = (key(m), m.unit);
            let before: Vec<&Blocks> = before.iter().filter_map(|run| run.get(&key)).collect();
            let after: Vec<&Blocks> = after.get(&key).into_iter().collect();
            change(key, unit, (&before, &after), (rules, moving.of_cell(key)))
        })
        .collect();
    correct(&mut changes);
    for change in &mut changes {
        judge(change, rules);
    }
    (changes, moving.spread)
}

/// By how much a run as a whole moves: as the baselines show it, or, where there are too few of them, as the rules say.
struct Moving<'a> {
    /// Over all blocking cells: a standard deviation.
    spread: f64,
    /// In each of them, where the baselines show it.
    cells: BTreeMap<Key<'a>, Moves>,
}

impl<'a> Moving<'a> {
    fn of(baselines: &'a [Run], rules: &Rules) -> Self {
        let cells = if baselines.len() >= ENOUGH_RUNS {
            scatter(baselines, rules)
        } else {
            Vec::new()
        };
        let (like, scatters): (Vec<&Measurement>, Vec<Scatter>) = cells.into_iter().unzip();
        let moves = stats::moderated(&scatters);
        Self {
            spread: stats::spread(&scatters).unwrap_or(rules.spread),
            cells: like.into_iter().map(key).zip(moves).collect(),
        }
    }

    fn of_cell(&self, key: Key<'_>) -> Moves {
        self.cells.get(&key).copied().unwrap_or(Moves {
            variance: self.spread.powi(2),
            freedom: None,
        })
    }
}

/// How each blocking cell scatters that all these runs have; all of it logarithms of ratios to `direct`.
pub(super) fn scatter<'a>(runs: &'a [Run], rules: &Rules) -> Vec<(&'a Measurement, Scatter)> {
    let ratios: Vec<_> = runs.iter().map(ratios).collect();
    let mut seen = BTreeSet::new();
    let first = runs.first().into_iter().flat_map(valid);
    let cells = first.filter(|m| {
        let weight = rules.weight(m.method.as_str(), &m.scenario, &m.metric);
        weight == Weight::Blocking && seen.insert(key(m))
    });
    let cells = cells.filter_map(|m| {
        let logs = ratios.iter().map(|run| {
            let blocks = run.get(&key(m))?.values();
            Some(blocks.map(|ratio| ratio.ln()).collect())
        });
        let logs: Option<Vec<Vec<f64>>> = logs.collect();
        Some((m, Scatter::of(&logs?)?))
    });
    cells.collect()
}

fn valid(run: &Run) -> impl Iterator<Item = &Measurement> {
    let all = run.measurements.iter();
    all.filter(|m| m.valid && m.value > 0.0)
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
    (before, after): (&[&Blocks], &[&Blocks]),
    (rules, moves): (&Rules, Moves),
) -> Change {
    let both = [before, after];
    let paired = both
        .iter()
        .all(|side| side.iter().all(|run| !run.ratios.is_empty()));
    let there = both.iter().all(|side| !side.is_empty());
    let unpaired = there && !paired && method.as_str() != CONTROL;
    let [logs_before, logs_after] = both.map(|side| -> Vec<Vec<f64>> {
        let runs = side.iter();
        runs.map(|run| logarithms(run, paired, unit)).collect()
    });
    let side = |runs: &[&Blocks]| {
        let all = |of: fn(&Blocks) -> &[f64]| -> Vec<f64> {
            runs.iter().flat_map(|run| of(run)).copied().collect()
        };
        let (values, ratios) = (all(|run| &run.values), all(|run| &run.ratios));
        Some(Side {
            median: median(&values)?,
            ratio_to_direct: geometric_mean(&ratios).map(|ratio| ratio.value),
            blocks: u32::try_from(values.len()).unwrap_or(u32::MAX),
        })
    };
    Change {
        method: method.clone(),
        scenario: scenario.to_owned(),
        metric: metric.to_owned(),
        unit,
        weight: rules.weight(method.as_str(), scenario, metric),
        baseline: side(before),
        candidate: side(after),
        worsening: worsening(&logs_before, &logs_after, rules.level, moves),
        found: Found::Same,
        note: unpaired.then(|| "not held against `direct`, which is not in all runs".to_owned()),
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

/// The ratio to `direct` in each block, of each cell that can be held against it.
pub(super) fn ratios(run: &Run) -> BTreeMap<Key<'_>, BTreeMap<u32, f64>> {
    let mut ratios = ratios_to_direct(&run.measurements);
    ratios.retain(|(method, ..), blocks| {
        blocks.retain(|_, ratio| *ratio > 0.0);
        method.as_str() != CONTROL && !blocks.is_empty()
    });
    ratios
}

fn worsening(
    before: &[Vec<f64>],
    after: &[Vec<f64>],
    level: f64,
    moves: Moves,
) -> Option<Worsening> {
    let shift = Shift::between(before, after)?.allowing(moves);
    let (low, high) = shift.interval();
    Some(Worsening {
        estimate: hodges_lehmann(&before.concat(), &after.concat())?.exp(),
        low: low.exp(),
        high: high.exp(),
        p: shift.p_above(),
        adjusted: 1.0,
        detectable: shift.detectable(level).exp(),
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
