//! How good a gate is, by nights that are made of blocks that were really measured.
//!
//! Of several runs with nothing changed between them, each cell is taken apart: its mean, by how much each run as a
//! whole lies beside it, and by how much each block lies beside its run. A night puts runs together anew: the move of one
//! of the runs, and blocks of any of them, each whole, so that what its cells have in common stays so. The gate judges
//! two such runs, and a third stands for the second measurement of what looks worse: an alarm is a false one. To
//! find what a gate would see, the figures of one method are made worse by a factor first.
//!
//! B. Efron, "Bootstrap Methods", Annals of Statistics 7 (1979), 1-26. Whole runs are not simply drawn again, since what
//! chance did to their means would then count twice.

use std::collections::BTreeMap;

use jiff::civil::Date;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use super::{Acknowledgements, Comparison, Decision, Found, Rules, Weight, blocks};
use crate::ids::MethodId;
use crate::run::{CONTROL, Measurement, Run};
use crate::stats::median;

/// Runs with nothing changed between them, to make nights of.
pub struct Nights<'a> {
    /// All that a run is beside its figures.
    frame: Run,
    blocks: u32,
    /// Each run and block that there was.
    drawn_from: Vec<(usize, u32)>,
    runs: usize,
    cells: Vec<Cell>,
    rules: &'a Rules,
}

/// A blocking cell, taken apart; all of it logarithms of ratios to `direct`.
struct Cell {
    /// Any of its measurements: what they have in common.
    like: Measurement,
    /// The median of `direct`, in the unit.
    control: f64,
    mean: f64,
    /// The variance of a run as a whole, beyond what its blocks explain.
    between: f64,
    /// By how much each run lies beside the mean, of which so much is left as the blocks do not explain.
    moves: Vec<f64>,
    /// By how much each block lies beside its run.
    rest: BTreeMap<(usize, u32), f64>,
}

/// What a gate said in many nights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Alarms {
    /// How many nights there were.
    pub nights: u32,
    /// In how many the first measurement alone would have been an alarm.
    pub first: u32,
    /// In how many the second one agreed: what `--confirm` makes of them.
    pub confirmed: u32,
}

impl<'a> Nights<'a> {
    /// Of runs that can be compared with each other; none of fewer than two, or where they have no blocking cell in
    /// common.
    #[must_use]
    pub fn of(runs: &[Run], rules: &'a Rules) -> Option<Self> {
        let first = runs.first().filter(|_| runs.len() >= 2)?;
        let ratios: Vec<_> = runs.iter().map(blocks::ratios).collect();
        let mut cells: Vec<Cell> = Vec::new();
        for m in first.measurements.iter().filter(|m| m.valid) {
            let blocking =
                rules.weight(m.method.as_str(), &m.scenario, &m.metric) == Weight::Blocking;
            let known = cells
                .iter()
                .any(|cell| blocks::key(&cell.like) == blocks::key(m));
            if blocking && !known {
                let of_runs: Option<Vec<_>> =
                    ratios.iter().map(|run| run.get(&blocks::key(m))).collect();
                cells.extend(of_runs.and_then(|of_runs| Cell::take_apart(m, runs, &of_runs)));
            }
        }
        let drawn_from = runs.iter().enumerate().flat_map(|(index, run)| {
            let blocks = run.measurements.iter().map(|m| m.block + 1).max();
            (0..blocks.unwrap_or_default()).map(move |block| (index, block))
        });
        let drawn_from: Vec<_> = drawn_from.collect();
        let mut frame = first.clone();
        frame.measurements.clear();
        frame.probes.clear();
        let blocks = u32::try_from(drawn_from.len() / runs.len()).ok()?;
        (!cells.is_empty()).then_some(Self {
            frame,
            blocks,
            drawn_from,
            runs: runs.len(),
            cells,
            rules,
        })
    }

    /// The blocking cells that are judged in a night.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// By how much a run as a whole moves, beyond what its blocks show: a standard deviation of the logarithms, pooled
    /// over the blocking cells. The between-groups component of a one-way analysis of variance with random effects
    /// (S. R. Searle et al., "Variance Components", 1992, §3.6), where what is below zero counts as zero in each cell.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let sum: f64 = self.cells.iter().map(|cell| cell.between).sum();
        (sum / count(self.cells.len())).sqrt()
    }

    /// Has the gate judge `nights`, in which `worse` is worse by its factor in all its figures; an alarm counts where
    /// it names that method, or any where nothing is worse.
    #[must_use]
    pub fn judged(&self, nights: u32, worse: Option<(&MethodId, f64)>, seed: u64) -> Alarms {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut alarms = Alarms {
            nights,
            first: 0,
            confirmed: 0,
        };
        for _ in 0..nights {
            let baseline = self.run(None, &mut random);
            let candidate = self.run(worse, &mut random);
            let again = self.run(worse, &mut random);
            let named = |comparison: &Comparison| {
                comparison.blocking().any(|change| {
                    change.found == Found::Worse
                        && worse.is_none_or(|(method, _)| change.method == *method)
                })
            };
            let mut comparison = self.judge(&baseline, &candidate);
            alarms.first += u32::from(named(&comparison));
            if comparison.decision == Decision::Regressed {
                comparison.confirm(&self.judge(&baseline, &again), self.rules);
                alarms.confirmed += u32::from(named(&comparison));
            }
        }
        alarms
    }

    /// The smallest slowdown of `method`, in whole percent up to 100, that is found in `share` of the nights, with the
    /// second measurement; none where there is none.
    #[must_use]
    pub fn smallest(&self, method: &MethodId, share: f64, nights: u32, seed: u64) -> Option<u32> {
        let found = |percent: u32| {
            let factor = 1.0 + f64::from(percent) / 100.0;
            let alarms = self.judged(nights, Some((method, factor)), seed);
            f64::from(alarms.confirmed) >= share * f64::from(nights)
        };
        if !found(100) {
            return None;
        }
        let (mut missed, mut caught) = (0, 100);
        while caught - missed > 1 {
            let middle = u32::midpoint(missed, caught);
            if found(middle) {
                caught = middle;
            } else {
                missed = middle;
            }
        }
        Some(caught)
    }

    fn judge(&self, baseline: &Run, candidate: &Run) -> Comparison {
        let nothing = Acknowledgements::default();
        Comparison::between((baseline, candidate), self.rules, &nothing, Date::ZERO)
    }

    /// A run that could have been.
    fn run(&self, worse: Option<(&MethodId, f64)>, random: &mut SmallRng) -> Run {
        let mut run = self.frame.clone();
        let moved = random.random_range(0..self.runs);
        for block in 0..self.blocks {
            let from = self.drawn_from[random.random_range(0..self.drawn_from.len())];
            for cell in &self.cells {
                let Some(rest) = cell.rest.get(&from) else {
                    continue;
                };
                let factor = match worse {
                    Some((method, factor)) if cell.like.method == *method => factor,
                    _ => 1.0,
                };
                let factor = if cell.like.unit.larger_is_better() {
                    1.0 / factor
                } else {
                    factor
                };
                let ratio = (cell.mean + cell.moves[moved] + rest).exp() * factor;
                let like = |value: f64| Measurement {
                    block,
                    value,
                    histogram: None,
                    ..cell.like.clone()
                };
                let control = Measurement {
                    method: MethodId::of(CONTROL),
                    ..like(cell.control)
                };
                run.measurements
                    .extend([control, like(cell.control * ratio)]);
            }
        }
        run
    }
}

impl Cell {
    fn take_apart(
        like: &Measurement,
        runs: &[Run],
        ratios: &[&BTreeMap<u32, f64>],
    ) -> Option<Self> {
        let logs = ratios
            .iter()
            .map(|run| run.values().map(|ratio| ratio.ln()).collect());
        let logs: Vec<Vec<f64>> = logs.collect();
        let of_runs: Option<Vec<_>> = logs.iter().map(|run| mean_and_variance(run)).collect();
        let of_runs = of_runs?;
        let means: Vec<f64> = of_runs.iter().map(|(mean, _)| *mean).collect();
        let within = of_runs.iter().map(|(_, variance)| variance).sum::<f64>() / count(runs.len());
        let (mean, of_mean) = mean_and_variance(&means)?;
        let of_means = of_mean * count(means.len());
        let between = (of_means - within).max(0.0);
        let left = if of_means > 0.0 {
            (between / of_means).sqrt()
        } else {
            0.0
        };
        let mut rest = BTreeMap::new();
        for (index, (run, own)) in ratios.iter().zip(&means).enumerate() {
            // A sample lies closer to its own mean than to the true one.
            let n = count(run.len());
            let widened = (n / (n - 1.0)).sqrt();
            rest.extend(
                run.iter()
                    .map(|(block, ratio)| ((index, *block), (ratio.ln() - own) * widened)),
            );
        }
        let of_control = |m: &&Measurement| {
            let same = (&m.scenario, &m.metric) == (&like.scenario, &like.metric);
            m.valid && same && m.method.as_str() == CONTROL
        };
        let control = runs
            .iter()
            .flat_map(|run| run.measurements.iter().filter(of_control));
        Some(Self {
            like: like.clone(),
            control: median(&control.map(|m| m.value).collect::<Vec<_>>())?,
            mean,
            between,
            moves: means.iter().map(|own| (own - mean) * left).collect(),
            rest,
        })
    }
}

/// The mean and the variance of the mean, of two values or more.
fn mean_and_variance(values: &[f64]) -> Option<(f64, f64)> {
    let n = count(values.len());
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() >= 2).then(|| (mean, squares / (n - 1.0) / n))
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
