//! How good a gate is, by nights that are made of blocks that were really measured.
//!
//! Of several runs with nothing changed between them, each cell is taken apart: its mean, by how much each run as a
//! whole lies beside it, and by how much each block lies beside its run. A night puts runs together anew: the moves of all
//! of the runs with signs drawn by lot, which scatter as they do, and blocks of any of them; each for all cells at once, so
//! that what these have in common stays so. The gate judges such runs, and one more stands for the second measurement of what looks worse: an alarm is a false one. To find what
//! a gate would see, the figures of one method are made worse by a factor first.
//!
//! B. Efron, "Bootstrap Methods", Annals of Statistics 7 (1979), 1-26; the signs are those of C. F. J. Wu, "Jackknife,
//! Bootstrap and Other Resampling Methods in Regression Analysis", Annals of Statistics 14 (1986), §7. Whole runs are not
//! simply drawn again, since what chance did to their means would then count twice.

use std::collections::BTreeMap;

use jiff::civil::Date;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use super::{Acknowledgements, Comparison, Decision, Found, Rules, blocks};
use crate::cell::key;
use crate::ids::MethodId;
use crate::run::{CONTROL, Measurement, Run};
use crate::stats::{self, Scatter, median};

/// Runs with nothing changed between them, to make nights of.
pub struct Nights<'a> {
    /// All that a run is beside its figures.
    frame: Run,
    blocks: u32,
    /// Each run and block that there was.
    drawn_from: Vec<(usize, u32)>,
    runs: usize,
    cells: Vec<Cell>,
    spread: f64,
    rules: &'a Rules,
}

/// A blocking cell, taken apart; all of it logarithms of ratios to `direct`.
struct Cell {
    /// Any of its measurements: what they have in common.
    like: Measurement,
    /// The median of `direct`, in the unit.
    control: f64,
    mean: f64,
    /// By how much each run lies beside the mean: so much of it that their sum with signs drawn by lot scatters as a run
    /// does beyond what its blocks explain.
    moves: Vec<f64>,
    /// By how much each block lies beside its run.
    rest: BTreeMap<(usize, u32), f64>,
}

/// How a night is judged.
#[derive(Debug, Clone, Copy)]
pub struct Night<'a> {
    /// So many runs are the baseline.
    pub baselines: u8,
    /// A method that is worse by a factor in all its figures; nothing is, where absent.
    pub worse: Option<(&'a MethodId, f64)>,
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
    /// In how many nothing could be said in the end.
    pub unclear: u32,
}

impl<'a> Nights<'a> {
    /// Of runs that can be compared with each other; none of fewer than two, or where they have no blocking cell in
    /// common.
    #[must_use]
    pub fn of(runs: &[Run], rules: &'a Rules) -> Option<Self> {
        let first = runs.first().filter(|_| runs.len() >= 2)?;
        let (of, scatters): (Vec<&Measurement>, Vec<Scatter>) =
            blocks::scatter(runs, rules).into_iter().unzip();
        let spread = stats::spread(&scatters)?;
        // What is left of a mean's distance from the others without what chance did to its blocks; one share for all
        // cells, since of one alone it is hardly known.
        let of_means: f64 = scatters.iter().map(|scatter| scatter.of_means).sum();
        let between: f64 = scatters.iter().map(Scatter::between).sum();
        let others = f64::from(u32::try_from(runs.len() - 1).ok()?);
        let left = if between > 0.0 {
            (between / of_means / others).sqrt()
        } else {
            0.0
        };
        let ratios: Vec<_> = runs.iter().map(blocks::ratios).collect();
        let cells = of.into_iter().zip(&scatters).filter_map(|(like, scatter)| {
            let of_runs = ratios.iter().map(|run| run.get(&key(like)));
            let of_runs: Option<Vec<_>> = of_runs.collect();
            Cell::take_apart(like, runs, &of_runs?, (scatter, left))
        });
        let cells: Vec<Cell> = cells.collect();
        let drawn_from = runs.iter().enumerate().flat_map(|(index, run)| {
            let blocks = run.measurements.iter().map(|m| m.block + 1).max();
            (0..blocks.unwrap_or_default()).map(move |block| (index, block))
        });
        let drawn_from: Vec<_> = drawn_from.collect();
        let mut frame = first.clone();
        frame.measurements.clear();
        frame.probes.clear();
        let blocks = u32::try_from(drawn_from.len() / runs.len()).ok()?;
        Some(Self {
            frame,
            blocks,
            drawn_from,
            runs: runs.len(),
            cells,
            spread,
            rules,
        })
    }

    /// The blocking cells that are judged in a night.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// By how much a run as a whole moves, beyond what its blocks show: a standard deviation of the logarithms, pooled
    /// over the blocking cells.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// Has the gate judge so many nights; an alarm counts where it names the method that is worse, or any where nothing
    /// is.
    #[must_use]
    pub fn judged(&self, night: Night<'_>, nights: u32, seed: u64) -> Alarms {
        let Night { baselines, worse } = night;
        let mut random = SmallRng::seed_from_u64(seed);
        let mut alarms = Alarms {
            nights,
            first: 0,
            confirmed: 0,
            unclear: 0,
        };
        let named = |comparison: &Comparison| {
            comparison.blocking().any(|change| {
                change.found == Found::Worse
                    && worse.is_none_or(|(method, _)| change.method == *method)
            })
        };
        for _ in 0..nights {
            let baselines: Vec<Run> = (0..baselines.max(1))
                .map(|_| self.run(None, &mut random))
                .collect();
            let candidate = self.run(worse, &mut random);
            let again = self.run(worse, &mut random);
            let mut comparison = self.judge(&baselines, &candidate);
            alarms.first += u32::from(named(&comparison));
            if comparison.decision == Decision::Regressed {
                comparison.confirm(&self.judge(&baselines, &again), self.rules);
                alarms.confirmed += u32::from(named(&comparison));
            }
            alarms.unclear += u32::from(comparison.decision == Decision::Inconclusive);
        }
        alarms
    }

    /// The smallest slowdown of `method`, in whole percent up to 100, that is found in `share` of the nights, with the
    /// second measurement; none where there is none.
    #[must_use]
    pub fn smallest(
        &self,
        (method, baselines): (&MethodId, u8),
        share: f64,
        (nights, seed): (u32, u64),
    ) -> Option<u32> {
        let found = |percent: u32| {
            let factor = 1.0 + f64::from(percent) / 100.0;
            let worse = Some((method, factor));
            let alarms = self.judged(Night { baselines, worse }, nights, seed);
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

    fn judge(&self, baselines: &[Run], candidate: &Run) -> Comparison {
        let nothing = Acknowledgements::default();
        Comparison::between((baselines, candidate), self.rules, &nothing, Date::ZERO)
    }

    /// A run that could have been.
    fn run(&self, worse: Option<(&MethodId, f64)>, random: &mut SmallRng) -> Run {
        let mut run = self.frame.clone();
        let sign = |_run| if random.random_bool(0.5) { 1.0 } else { -1.0 };
        let signs: Vec<f64> = (0..self.runs).map(sign).collect();
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
                let moved: f64 = cell
                    .moves
                    .iter()
                    .zip(&signs)
                    .map(|(by, sign)| by * sign)
                    .sum();
                let ratio = (cell.mean + moved + rest).exp() * factor;
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
        (scatter, left): (&Scatter, f64),
    ) -> Option<Self> {
        let mut rest = BTreeMap::new();
        for (index, (run, own)) in ratios.iter().zip(&scatter.means).enumerate() {
            // A sample lies closer to its own mean than to the true one.
            let n = f64::from(u32::try_from(run.len()).ok()?);
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
        let moves = scatter.means.iter();
        Some(Self {
            like: like.clone(),
            control: median(&control.map(|m| m.value).collect::<Vec<_>>())?,
            mean: scatter.mean,
            moves: moves.map(|own| (own - scatter.mean) * left).collect(),
            rest,
        })
    }
}
