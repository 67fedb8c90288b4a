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
    /// How many blocks have no valid figure.
    invalid: usize,
}

/// Every cell that one of the runs has, in the order of the candidate's and then the baselines'; and by how much a run
/// as a whole is taken to move.
pub(super) fn changes(baselines: &[Run], candidate: &Run, rules: &Rules) -> (Vec<Change>, f64) {
    let before: Vec<_> = baselines.iter().map(cells).collect();
    let after = cells(candidate);
    let mut seen = BTreeSet::new();
    let runs = std::iter::once(candidate).chain(baselines);
    let measured = runs.flat_map(valid);
    let order: Vec<&Measurement> = measured.filter(|m| seen.insert(key(m))).collect();
    let weight = |m: &Measurement| rules.weight(m.method.as_str(), &m.scenario, &m.metric);
    let blocking = order.iter().filter(|m| weight(m) == Weight::Blocking);
    let blocking = blocking.count();
    let moving = Moving::of(baselines, rules);
    let mut changes: Vec<Change> = order
        .into_iter()
        .map(|m| {
            let key = key(m);
            let before: Vec<&Blocks> = before.iter().filter_map(|run| run.get(&key)).collect();
            let after: Vec<&Blocks> = after.get(&key).into_iter().collect();
            let asked = match weight(m) {
                Weight::Blocking => blocking,
                Weight::Advisory => 1,
            };
            let test = Test {
                rules,
                moves: moving.of_cell(key),
                asked,
            };
            change(m, (before, after), &test)
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
        let pooled = stats::pooled(&scatters, rules.spread);
        let moves = stats::moderated(&scatters, pooled);
        Self {
            spread: pooled.sqrt(),
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

fn is_valid(m: &Measurement) -> bool {
    m.valid && m.value > 0.0
}

fn valid(run: &Run) -> impl Iterator<Item = &Measurement> {
    run.measurements.iter().filter(|m| is_valid(m))
}

fn cells(run: &Run) -> BTreeMap<Key<'_>, Blocks> {
    let mut cells: BTreeMap<Key<'_>, Blocks> = BTreeMap::new();
    for m in &run.measurements {
        let cell = cells.entry(key(m)).or_default();
        if is_valid(m) {
            cell.values.push(m.value);
        } else {
            cell.invalid += 1;
        }
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

/// How a cell is judged.
struct Test<'a> {
    rules: &'a Rules,
    moves: Moves,
    /// How many cells are asked of which none may be wrong.
    asked: usize,
}

fn change(
    m: &Measurement,
    (mut before, after): (Vec<&Blocks>, Vec<&Blocks>),
    test: &Test<'_>,
) -> Change {
    let unit = m.unit;
    let is_control = m.method.as_str() == CONTROL;
    let lost = lost(&before, &after);
    let has_ratios = |run: &&Blocks| !run.ratios.is_empty();
    if before.iter().any(has_ratios) {
        // A baseline without `direct` is of another kind than the others.
        before.retain(has_ratios);
    }
    let sides = [&before, &after];
    let there = sides
        .iter()
        .all(|side| side.iter().any(|run| !run.values.is_empty()));
    let paired = sides.iter().all(|side| side.iter().all(has_ratios));
    let [logs_before, logs_after] = sides.map(|side| -> Vec<Vec<f64>> {
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
    let unpaired = there && !paired && !is_control;
    let note = if unpaired {
        Some("not held against `direct`, which is not in all runs".to_owned())
    } else {
        lost
    };
    let weight = test.rules.weight(m.method.as_str(), &m.scenario, &m.metric);
    // What is left of it cannot clear a cell that gates.
    let doubtful = weight == Weight::Blocking && note.is_some();
    Change {
        method: m.method.clone(),
        scenario: m.scenario.clone(),
        metric: m.metric.clone(),
        unit,
        weight,
        baseline: side(&before),
        candidate: side(&after),
        worsening: (!doubtful || !unpaired)
            .then(|| worsening(&logs_before, &logs_after, test))
            .flatten(),
        found: if doubtful {
            Found::Unclear
        } else {
            Found::Same
        },
        note,
    }
}

/// Blocks without a valid figure, where the candidate has more of them than the baseline has: those that are left are
/// the better ones.
fn lost(before: &[&Blocks], after: &[&Blocks]) -> Option<String> {
    let of = |runs: &[&Blocks]| {
        let invalid: usize = runs.iter().map(|run| run.invalid).sum();
        let valid: usize = runs.iter().map(|run| run.values.len()).sum();
        (invalid, invalid + valid)
    };
    let ((was, of_before), (is, of_after)) = (of(before), of(after));
    // By share, and by more than a block.
    let more = is * of_before > was * of_after + of_before;
    more.then(|| {
        format!(
            "{is} of {of_after} blocks have no valid figure, {was} of {of_before} in the baseline"
        )
    })
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

fn worsening(before: &[Vec<f64>], after: &[Vec<f64>], test: &Test<'_>) -> Option<Worsening> {
    let shift = Shift::between(before, after)?.allowing(test.moves);
    let (low, high) = shift.interval();
    // As Holm's way begins: the smallest p is held against this.
    let level = test.rules.level / f64::from(u32::try_from(test.asked).ok()?.max(1));
    Some(Worsening {
        estimate: hodges_lehmann(&before.concat(), &after.concat())?.exp(),
        low: low.exp(),
        high: high.exp(),
        p: shift.p_above(),
        adjusted: 1.0,
        detectable: shift.detectable(level).exp().max(1.0 + test.rules.relative),
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
    let doubtful = change.found == Found::Unclear;
    let Some(by) = change.worsening else {
        change.found = Found::Unclear;
        let few = "an interval needs three valid blocks on each side";
        change.note.get_or_insert_with(|| few.to_owned());
        return;
    };
    let large = rules.is_large(before.median, by.estimate, change.unit);
    change.found = if large && by.estimate > 1.0 && by.adjusted < rules.level {
        Found::Worse
    } else if doubtful {
        Found::Unclear
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
