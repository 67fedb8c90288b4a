//! How good a gate is, by nights that are made of blocks that were really measured.
//!
//! Of several runs with nothing changed between them, a night takes two at random, draws their blocks anew with
//! replacement (a block whole, with what its cells have in common), and has the gate judge them: an alarm is a false
//! one. A third run stands for the second measurement of what looks worse. To find what a gate would see, the figures of
//! one method are made worse by a factor first. B. Efron, "Bootstrap Methods", Annals of Statistics 7 (1979), 1-26.

use jiff::civil::Date;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use super::{Acknowledgements, Comparison, Decision, Found, Rules, blocks};
use crate::ids::MethodId;
use crate::run::{Measurement, Run};

/// Runs with nothing changed between them, to make nights of.
pub struct Nights<'a> {
    runs: Vec<Run>,
    rules: &'a Rules,
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
    /// Of runs that can be compared with each other; none of fewer than two.
    #[must_use]
    pub fn of(runs: &[Run], rules: &'a Rules) -> Option<Self> {
        let bare = |run: &Run| {
            let mut run = run.clone();
            run.probes.clear();
            for m in &mut run.measurements {
                m.histogram = None;
            }
            run
        };
        (runs.len() >= 2).then(|| Self {
            runs: runs.iter().map(bare).collect(),
            rules,
        })
    }

    /// The blocking cells that are judged in a night.
    #[must_use]
    pub fn cells(&self) -> usize {
        let whole = self.judge(&self.runs[0], &self.runs[1]);
        whole.blocking().count()
    }

    /// By how much a run as a whole moves, beyond what its blocks show: a standard deviation of the logarithms, pooled
    /// over the blocking cells. The between-groups component of a one-way analysis of variance with random effects
    /// (S. R. Searle et al., "Variance Components", 1992, §3.6), where what is below zero counts as zero in each cell.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let runs: Vec<_> = self
            .runs
            .iter()
            .map(|run| blocks::blocking(run, self.rules))
            .collect();
        let of_cell = |key: &blocks::Key<'_>| -> Option<f64> {
            let in_runs: Vec<(f64, f64)> = runs
                .iter()
                .filter_map(|run| mean_and_variance(run.get(key)?))
                .collect();
            let means: Vec<f64> = in_runs.iter().map(|(mean, _)| *mean).collect();
            let within: f64 = in_runs.iter().map(|(_, variance)| variance).sum();
            let (_, of_mean) = mean_and_variance(&means)?;
            let n = count(means.len());
            Some((of_mean * n - within / n).max(0.0))
        };
        let found: Vec<f64> = runs[0].keys().filter_map(of_cell).collect();
        if found.is_empty() {
            return 0.0;
        }
        (found.iter().sum::<f64>() / count(found.len())).sqrt()
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
            let order = self.draw(&mut random);
            let [baseline, candidate, again] =
                order.map(|index| resampled(&self.runs[index], &mut random));
            let changed = |run: Run| match worse {
                Some((method, factor)) => slowed(run, method, factor),
                None => run,
            };
            let (candidate, again) = (changed(candidate), changed(again));
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

    /// Three runs; the last is the first candidate's where there are but two.
    fn draw(&self, random: &mut SmallRng) -> [usize; 3] {
        let n = self.runs.len();
        let baseline = random.random_range(0..n);
        let other = |random: &mut SmallRng, not: &[usize]| loop {
            let index = random.random_range(0..n);
            if !not.contains(&index) {
                return index;
            }
        };
        let candidate = other(random, &[baseline]);
        let again = if n > 2 {
            other(random, &[baseline, candidate])
        } else {
            candidate
        };
        [baseline, candidate, again]
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

/// The run with as many blocks, each drawn from its own with replacement.
fn resampled(run: &Run, random: &mut SmallRng) -> Run {
    let blocks = run
        .measurements
        .iter()
        .map(|m| m.block + 1)
        .max()
        .unwrap_or_default();
    let mut drawn = run.clone();
    drawn.measurements.clear();
    for block in 0..blocks {
        let from = random.random_range(0..blocks);
        let of_block = run.measurements.iter().filter(|m| m.block == from);
        drawn
            .measurements
            .extend(of_block.cloned().map(|m| Measurement { block, ..m }));
    }
    drawn
}

/// The run with all figures of a method worse by a factor.
fn slowed(mut run: Run, method: &MethodId, factor: f64) -> Run {
    for m in run.measurements.iter_mut().filter(|m| m.method == *method) {
        m.value = if m.unit.larger_is_better() {
            m.value / factor
        } else {
            m.value * factor
        };
    }
    run
}
