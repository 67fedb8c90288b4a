//! By how much one sample lies above another.

use super::{mean, median, t_above, t_quantile};

/// The power that a smallest detectable shift is stated for.
const POWER: f64 = 0.8;

/// Degrees of freedom beyond which Student's t is the normal distribution to six digits.
const MOST_FREEDOM: f64 = 1e6;

/// The difference between the blocks of some runs and those of others, by Welch's t-test: their variances need not be
/// equal. Each run counts the same, however many blocks it has.
///
/// B. L. Welch, "The Generalization of Student's Problem when Several Different Population Variances are Involved",
/// Biometrika 34 (1947), 28-35: its equation for any number of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// The mean of the second runs' means less that of the first ones'.
    pub difference: f64,
    error: f64,
    freedom: f64,
    /// How much of the variance of one run's move stands between the two sides.
    moves: f64,
}

impl Shift {
    /// From the runs of `first` to those of `second`, each the values of its blocks. A run with fewer than three
    /// values is left out; none where that leaves nothing of one side.
    #[must_use]
    pub fn between<V: AsRef<[f64]>>(first: &[V], second: &[V]) -> Option<Self> {
        let (first, second) = (Side::of(first)?, Side::of(second)?);
        let variance = first.variance + second.variance;
        let spread = first.spread + second.spread;
        // Of runs without any spread the difference is exact; the formula would divide by zero.
        let freedom = if spread > 0.0 {
            variance.powi(2) / spread
        } else {
            first.freedom + second.freedom
        };
        let shift = Self {
            difference: second.mean - first.mean,
            error: variance.sqrt(),
            freedom,
            moves: 1.0 / first.runs + 1.0 / second.runs,
        };
        let figures = [shift.difference, shift.error, shift.freedom];
        figures.iter().all(|it| it.is_finite()).then_some(shift)
    }

    /// The same where each run has also moved as a whole, by a chance that its own values do not show.
    #[must_use]
    pub fn allowing(self, moves: Moves) -> Self {
        let own = self.error.powi(2);
        let moved = self.moves * moves.variance;
        let whole = own + moved;
        // Satterthwaite's; what is known beforehand has no degrees of freedom to lose.
        let spread = own.powi(2) / self.freedom
            + moves.freedom.map_or(0.0, |freedom| moved.powi(2) / freedom);
        let freedom = if spread > 0.0 {
            whole.powi(2) / spread
        } else {
            self.freedom
        };
        Self {
            error: whole.sqrt(),
            freedom: freedom.min(MOST_FREEDOM),
            ..self
        }
    }

    /// The interval that holds the true difference in 95 of 100 cases.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        let half = t_quantile(self.freedom, 0.975) * self.error;
        (self.difference - half, self.difference + half)
    }

    /// How likely a difference of this size or more would be, were there none: one-sided.
    #[must_use]
    pub fn p_above(&self) -> f64 {
        self.p(self.difference)
    }

    /// The same of a difference this far below zero or further.
    #[must_use]
    pub fn p_below(&self) -> f64 {
        self.p(-self.difference)
    }

    /// The smallest true difference that is found at `level`, one-sided, in four of five such pairs of samples.
    #[must_use]
    pub fn detectable(&self, level: f64) -> f64 {
        (t_quantile(self.freedom, 1.0 - level) + t_quantile(self.freedom, POWER)) * self.error
    }

    fn p(&self, difference: f64) -> f64 {
        if self.error > 0.0 {
            t_above(self.freedom, difference / self.error)
        } else if difference > 0.0 {
            0.0
        } else {
            1.0
        }
    }
}

/// By how much a run as a whole moves, beyond what its blocks show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moves {
    /// The variance of it.
    pub variance: f64,
    /// The degrees of freedom that this was estimated with; none where it is known beforehand.
    pub freedom: Option<f64>,
}

/// The runs of one side.
struct Side {
    /// The mean of their means, and its variance.
    mean: f64,
    variance: f64,
    /// What Welch's equation divides by: of each run the squared variance of its part, by its degrees of freedom.
    spread: f64,
    freedom: f64,
    runs: f64,
}

impl Side {
    fn of<V: AsRef<[f64]>>(runs: &[V]) -> Option<Self> {
        let runs: Vec<&[f64]> = runs
            .iter()
            .map(AsRef::as_ref)
            .filter(|run| run.len() >= 3)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "there are few runs")]
        let count = runs.len() as f64;
        let mut side = Self {
            mean: 0.0,
            variance: 0.0,
            spread: 0.0,
            freedom: 0.0,
            runs: count,
        };
        for run in &runs {
            let (mean, variance) = mean(run)?;
            let (of_mean, freedom) = (variance? / count.powi(2), super::count(run) - 1.0);
            side.mean += mean / count;
            side.variance += of_mean;
            side.spread += of_mean.powi(2) / freedom;
            side.freedom += freedom;
        }
        (!runs.is_empty()).then_some(side)
    }
}

/// The Hodges-Lehmann estimate of the shift from `first` to `second`: the median of all differences between a value
/// of the one and a value of the other. One odd block does not move it. None where one of them is empty.
///
/// J. L. Hodges, E. L. Lehmann, "Estimates of Location Based on Rank Tests", Annals of Mathematical Statistics 34
/// (1963), 598-611.
#[must_use]
pub fn hodges_lehmann(first: &[f64], second: &[f64]) -> Option<f64> {
    let differences: Vec<f64> = second
        .iter()
        .flat_map(|b| first.iter().map(move |a| b - a))
        .collect();
    median(&differences)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn between(first: &[f64], second: &[f64]) -> Option<Shift> {
        Shift::between(&[first], &[second])
    }

    fn known(deviation: f64) -> Moves {
        Moves {
            variance: deviation.powi(2),
            freedom: None,
        }
    }

    #[test]
    fn the_test_agrees_with_a_worked_example() {
        // Variances of 0.5 over five values each: t = 2 / sqrt(0.2) = 4.472 on 8 degrees of freedom, whose 97.5%
        // quantile is 2.306.
        let (a, b) = ([1.0, 2.0, 3.0, 2.0, 2.0], [3.0, 4.0, 5.0, 4.0, 4.0]);
        let shift = between(&a, &b).unwrap();
        assert!((shift.difference - 2.0).abs() < 1e-12);
        let error = (0.5_f64 / 5.0 * 2.0).sqrt();
        assert!((shift.error - error).abs() < 1e-12 && (shift.freedom - 8.0).abs() < 1e-9);
        let (low, high) = shift.interval();
        assert!(
            (low - (2.0 - 2.306 * error)).abs() < 1e-3
                && (high - (2.0 + 2.306 * error)).abs() < 1e-3
        );
        assert!(
            (shift.p_above() - 0.001_037).abs() < 1e-5,
            "{}",
            shift.p_above()
        );
        assert!((shift.p_above() + shift.p_below() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn too_few_blocks_carry_no_shift_and_equal_ones_an_exact_one() {
        assert_eq!(between(&[1.0, 1.1], &[1.0, 1.1, 1.2]), None);
        assert_eq!(between(&[1.0, f64::NAN, 1.0], &[1.0, 1.1, 1.2]), None);
        let exact = between(&[1.0; 3], &[2.0; 3]).unwrap();
        assert_eq!((exact.p_above(), exact.p_below()), (0.0, 1.0));
        assert_eq!(between(&[1.0; 3], &[1.0; 3]).unwrap().p_above(), 1.0);
    }

    #[test]
    fn what_whole_samples_move_by_widens_the_interval_and_hides_what_is_smaller() {
        let (a, b) = ([0.0, 0.01, -0.01, 0.0, 0.01], [0.1, 0.11, 0.09, 0.1, 0.11]);
        let sure = between(&a, &b).unwrap();
        assert!(sure.p_above() < 1e-6);
        let still = sure.allowing(known(0.0));
        assert!((still.p_above() - sure.p_above()).abs() < 1e-12);
        let unsure = sure.allowing(known(0.1));
        assert!((unsure.difference - sure.difference).abs() < 1e-12);
        // 0.1 of a standard error of about 0.1 * sqrt(2): a normal tail of 24%.
        assert!(
            (unsure.p_above() - 0.24).abs() < 0.005,
            "{}",
            unsure.p_above()
        );
        assert!(unsure.detectable(0.05) > sure.detectable(0.05));
        let guessed = sure.allowing(Moves {
            freedom: Some(3.0),
            ..known(0.1)
        });
        assert!(
            guessed.p_above() > unsure.p_above(),
            "an estimate is less sure than what is known"
        );
    }

    #[test]
    fn more_runs_on_a_side_narrow_it_and_count_the_same_each() {
        let (a, b) = ([0.0, 0.01, -0.01, 0.0], [0.1, 0.11, 0.09, 0.1]);
        let low: Vec<f64> = a.iter().map(|value| value - 0.06).collect();
        let long = [0.06; 20];
        let shift = Shift::between(&[&low[..], &a, &long], &[&b[..]]).unwrap();
        assert!((shift.difference - 0.1).abs() < 1e-12, "{shift:?}");
        let one = between(&a, &b).unwrap();
        assert!(shift.error < one.error);
        // Four thirds of a run's variance instead of twice.
        let whole = shift.allowing(known(0.1)).error.powi(2) - shift.error.powi(2);
        assert!((whole - 0.01 * 4.0 / 3.0).abs() < 1e-12, "{whole}");
        let short = Shift::between(&[&a[..], &[9.0, 9.0]], &[&b[..]]).unwrap();
        assert_eq!(short, one, "two blocks are no run");
    }

    #[test]
    fn one_odd_block_does_not_move_the_estimate() {
        let (a, mut b) = ([1.0, 1.1, 0.9, 1.0, 1.05], [1.2, 1.3, 1.1, 1.2, 1.25]);
        assert!((hodges_lehmann(&a, &b).unwrap() - 0.2).abs() < 1e-9);
        b[1] = 100.0;
        assert!((hodges_lehmann(&a, &b).unwrap() - 0.2).abs() < 0.051);
        assert_eq!(hodges_lehmann(&a, &[]), None);
    }

    proptest! {
        #[test]
        fn exchanging_the_samples_turns_everything_round(
            a in prop::collection::vec(-1.0..1.0f64, 3..20),
            b in prop::collection::vec(-1.0..1.0f64, 3..20),
        ) {
            let (there, back) = (between(&a, &b).unwrap(), between(&b, &a).unwrap());
            prop_assert!((there.difference + back.difference).abs() < 1e-9);
            prop_assert!((there.p_above() - back.p_below()).abs() < 1e-9);
            prop_assert!((hodges_lehmann(&a, &b).unwrap() + hodges_lehmann(&b, &a).unwrap()).abs() < 1e-9);
        }

        #[test]
        fn moving_a_sample_moves_the_shift_and_not_its_width(
            a in prop::collection::vec(-1.0..1.0f64, 3..20),
            by in -5.0..5.0f64,
        ) {
            let moved: Vec<f64> = a.iter().map(|value| value + by).collect();
            let (still, shift) = (between(&a, &a).unwrap(), between(&a, &moved).unwrap());
            prop_assert!((shift.difference - by).abs() < 1e-9);
            prop_assert!((still.detectable(0.05) - shift.detectable(0.05)).abs() < 1e-9);
            prop_assert!((hodges_lehmann(&a, &moved).unwrap() - by - hodges_lehmann(&a, &a).unwrap()).abs() < 1e-9);
        }

        #[test]
        fn without_any_difference_p_is_as_often_low_as_it_says(seed in 0u64..20) {
            use rand::{RngExt as _, SeedableRng as _};
            let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
            let mut sample = || -> Vec<f64> { (0..7).map(|_| (0..6).map(|_| random.random::<f64>()).sum()).collect() };
            let low = (0..400).filter(|_| between(&sample(), &sample()).unwrap().p_above() < 0.05).count();
            // 20 expected; beyond 4.6 standard deviations either way there would be something wrong.
            prop_assert!(low <= 40, "{low} of 400");
            prop_assert!(low >= 3, "{low} of 400");
        }
    }
}
