//! How far apart runs lie, beside how far apart their blocks do.

use super::{Moves, count, mean};

/// How many runs more the pool of all cells counts as, beside a cell's own; and what was thought beforehand, beside the
/// pool's.
const POOL: f64 = 4.0;

/// The blocks of several runs with nothing changed between them: a one-way analysis of variance with random effects.
///
/// S. R. Searle, G. Casella, C. E. McCulloch, "Variance Components" (1992), §3.6.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// The mean of each run.
    pub means: Vec<f64>,
    /// The mean of these.
    pub mean: f64,
    /// The variance of a run's mean, as the means show it.
    pub of_means: f64,
    /// The same, as the blocks explain it.
    pub within: f64,
}

impl Scatter {
    /// Of the values of each run's blocks; none of fewer than two runs, or where one has fewer than two blocks.
    #[must_use]
    pub fn of<V: AsRef<[f64]>>(runs: &[V]) -> Option<Self> {
        let each: Option<Vec<_>> = runs
            .iter()
            .map(|run| {
                let (mean, variance) = mean(run.as_ref())?;
                Some((mean, variance?))
            })
            .collect();
        let (means, within): (Vec<f64>, Vec<f64>) = each?.into_iter().unzip();
        let (all, variance) = mean(&means)?;
        let scatter = Self {
            mean: all,
            of_means: variance? * count(&means),
            within: mean(&within)?.0,
            means,
        };
        scatter.of_means.is_finite().then_some(scatter)
    }

    /// The variance of a run as a whole, beyond what its blocks explain. An estimate, which chance may take below zero.
    #[must_use]
    pub fn between(&self) -> f64 {
        self.of_means - self.within
    }
}

/// By how much a run as a whole moves: the standard deviation, pooled over cells. None of no cells.
#[must_use]
pub fn spread(cells: &[Scatter]) -> Option<f64> {
    let between: Vec<f64> = cells.iter().map(Scatter::between).collect();
    Some(mean(&between)?.0.max(0.0).sqrt())
}

/// The variance of a run as a whole, pooled over cells, and drawn towards `thought`, the standard deviation that was
/// thought of beforehand: of few cells and few runs chance alone may show none at all.
#[must_use]
pub fn pooled(cells: &[Scatter], thought: f64) -> f64 {
    let (mut sum, mut freedom) = (POOL * thought.powi(2), POOL);
    for cell in cells {
        let own = count(&cell.means) - 1.0;
        sum += own * cell.between();
        freedom += own;
    }
    (sum / freedom).max(0.0)
}

/// By how much a run as a whole moves in each cell: its own estimate, drawn towards `pooled`, since of few runs alone it
/// is hardly known.
///
/// G. K. Smyth, "Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray
/// Experiments", Statistical Applications in Genetics and Molecular Biology 3 (2004), §3: his moderated variance, with
/// the degrees of freedom of the pool set and not estimated.
#[must_use]
pub fn moderated(cells: &[Scatter], pooled: f64) -> Vec<Moves> {
    let cells = cells.iter().map(|cell| {
        let own = count(&cell.means) - 1.0;
        let variance = (POOL * pooled + own * cell.between()) / (POOL + own);
        Moves {
            variance: variance.max(0.0),
            freedom: Some(POOL + own),
        }
    });
    cells.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_components_agree_with_a_worked_example() {
        // Means 2 and 6, of variance 8; within each run the variance is 1, of the mean of three a third.
        let scatter = Scatter::of(&[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]).unwrap();
        assert_eq!((&scatter.means[..], scatter.mean), (&[2.0, 6.0][..], 4.0));
        assert!((scatter.of_means - 8.0).abs() < 1e-12);
        assert!((scatter.within - 1.0 / 3.0).abs() < 1e-12);
        let moved = spread(&[scatter]).unwrap();
        assert!((moved.powi(2) - (8.0 - 1.0 / 3.0)).abs() < 1e-9);
    }

    #[test]
    fn one_run_or_one_block_shows_nothing() {
        assert_eq!(Scatter::of(&[[1.0, 2.0]]), None);
        assert_eq!(Scatter::of(&[&[1.0, 2.0][..], &[1.0]]), None);
        assert_eq!(Scatter::of(&[[1.0, f64::NAN], [1.0, 2.0]]), None);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn cells_below_and_above_zero_cancel() {
        let alike = Scatter::of(&[[0.0, 2.0], [0.0, 2.0]]).unwrap();
        assert!(alike.between() < 0.0);
        assert_eq!(spread(std::slice::from_ref(&alike)), Some(0.0));
        let apart = Scatter::of(&[[0.0, 2.0], [2.0, 4.0]]).unwrap();
        assert!((apart.between() - 1.0).abs() < 1e-12);
        assert_eq!(spread(&[alike, apart]), Some(0.0));
    }

    #[test]
    fn a_cell_of_its_own_kind_is_drawn_towards_the_others_and_stays_apart() {
        let calm = Scatter::of(&[[0.0, 2.0], [0.0, 2.0], [2.0, 4.0]]).unwrap();
        let wild = Scatter::of(&[[0.0, 2.0], [9.0, 11.0], [18.0, 20.0]]).unwrap();
        let cells = [calm.clone(), wild.clone()];
        let pooled = pooled(&cells, 4.0);
        let [a, b] = moderated(&cells, pooled).try_into().unwrap();
        assert!(calm.between() < a.variance && a.variance < pooled);
        assert!(pooled < b.variance && b.variance < wild.between());
        assert_eq!(a.freedom, Some(6.0));
        assert!(moderated(&[], pooled).is_empty());
    }

    #[test]
    fn what_was_thought_counts_where_little_is_known() {
        let alike = Scatter::of(&[[0.0, 2.0], [0.0, 2.0]]).unwrap();
        let (one, many) = (vec![alike.clone()], vec![alike; 100]);
        assert!(pooled(&one, 3.0) > 5.0, "four runs' worth of 9");
        assert_eq!(pooled(&many, 3.0), 0.0, "a hundred cells know better");
        assert!((pooled(&[], 3.0) - 9.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn moving_all_runs_alike_is_no_move_of_one(
            runs in prop::collection::vec(prop::collection::vec(-1.0..1.0f64, 2..8), 2..5),
            by in -5.0..5.0f64,
        ) {
            let moved: Vec<Vec<f64>> =
                runs.iter().map(|run| run.iter().map(|value| value + by).collect()).collect();
            let (still, moved) = (Scatter::of(&runs).unwrap(), Scatter::of(&moved).unwrap());
            prop_assert!((moved.mean - still.mean - by).abs() < 1e-9);
            prop_assert!((moved.between() - still.between()).abs() < 1e-9);
        }
    }
}
