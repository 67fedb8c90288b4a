//! Statistics over blocks: pure functions of slices, each naming its source.
//!
//! A replicate is a block, never a request: requests of one block share its noise, and treating them as
//! independent finds differences where there are none. Distributions are those of `statrs`.

mod scatter;
mod several;
mod shift;

pub use scatter::{Scatter, moderated, pooled, spread};
pub use several::{benjamini_hochberg, holm};
pub use shift::{Moves, Shift, hodges_lehmann};

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// A point estimate with its 95% interval, which three values at least are needed for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// The interval's ends.
    pub interval: Option<(f64, f64)>,
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    })
}

/// The geometric mean with Student's t-interval of the logarithms, taken back.
///
/// Ratios multiply, so their logarithms are what averages: ×2 and ×½ cancel. `None` unless every value
/// is positive and finite and there is at least one.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<Estimate> {
    if values.is_empty() || !values.iter().all(|v| v.is_finite() && *v > 0.0) {
        return None;
    }
    let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    let (mean, variance) = mean(&logs)?;
    let interval = variance.filter(|_| logs.len() >= 3).map(|variance| {
        let half = t_quantile(count(&logs) - 1.0, 0.975) * variance.sqrt();
        ((mean - half).exp(), (mean + half).exp())
    });
    Some(Estimate {
        value: mean.exp(),
        interval,
    })
}

/// Which values lie so far from the others that a reader should look at them: further from the median than 14.8 times
/// the median distance from it, which is ten standard deviations of a normal distribution (hyperfine's rule; Iglewicz &
/// Hoaglin, "How to Detect and Handle Outliers", 1993). They are flagged and stay in: what happened, happened.
///
/// Below five values, and where more than half are equal, nothing is.
#[must_use]
pub fn outliers(values: &[f64]) -> Vec<bool> {
    const FAR: f64 = 14.8;
    let distances = |from: f64| values.iter().map(move |value| (value - from).abs());
    let Some(middle) = median(values).filter(|_| values.len() >= 5) else {
        return vec![false; values.len()];
    };
    let typical = median(&distances(middle).collect::<Vec<_>>()).unwrap_or_default();
    distances(middle)
        .map(|distance| typical > 0.0 && distance > FAR * typical)
        .collect()
}

/// The mean and the variance of the mean; the latter only of two values or more.
fn mean(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = count(values);
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let of_mean = (values.len() >= 2).then(|| squares / (n - 1.0) / n);
    (!values.is_empty()).then_some((mean, of_mean))
}

/// The quantile of Student's t; `freedom` is above 0.
fn t_quantile(freedom: f64, share: f64) -> f64 {
    student(freedom).inverse_cdf(share)
}

/// The share of Student's t above `t`.
fn t_above(freedom: f64, t: f64) -> f64 {
    student(freedom).sf(t)
}

fn student(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom).expect("degrees of freedom are above 0")
}

fn count(values: &[f64]) -> f64 {
    f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn opposite_ratios_cancel() {
        let estimate = geometric_mean(&[2.0, 0.5]).unwrap();
        assert!((estimate.value - 1.0).abs() < 1e-12);
        assert_eq!(estimate.interval, None, "two blocks carry no interval");
    }

    #[test]
    fn the_interval_agrees_with_a_worked_example() {
        // ln: 0, 1, 2 → mean 1, s 1, half-width 4.303/√3
        let e = std::f64::consts::E;
        let (low, high) = geometric_mean(&[1.0, e, e * e]).unwrap().interval.unwrap();
        let half = 4.302_653 / 3.0_f64.sqrt();
        assert!((low.ln() - (1.0 - half)).abs() < 1e-6 && (high.ln() - (1.0 + half)).abs() < 1e-6);
    }

    #[test]
    fn nothing_and_nonsense_have_no_mean() {
        for values in [&[][..], &[0.0], &[-1.0, 1.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!(geometric_mean(values), None);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // NIST/SEMATECH e-Handbook of Statistical Methods, §1.3.6.7.2.
        for (freedom, share, t) in [
            (1.0, 0.975, 12.706),
            (4.0, 0.975, 2.776),
            (9.0, 0.95, 1.833),
        ] {
            assert!((t_quantile(freedom, share) - t).abs() < 1e-3, "{freedom}");
            assert!(
                (t_above(freedom, t) - (1.0 - share)).abs() < 1e-4,
                "{freedom}"
            );
        }
    }

    #[test]
    fn what_lies_far_out_is_flagged_and_noise_is_not() {
        let noise = [1.00, 1.02, 0.98, 1.01, 0.99];
        assert_eq!(outliers(&noise), [false; 5]);
        let far = [1.00, 1.02, 0.98, 1.01, 0.99, 1.4];
        assert_eq!(outliers(&far), [false, false, false, false, false, true]);
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 1.0, 9.0]), [false; 5]);
        assert_eq!(outliers(&[1.0, 1.0, 9.0]), [false; 3], "too few to say");
    }

    proptest! {
        #[test]
        fn the_median_lies_between_the_halves(values in prop::collection::vec(-1e9..1e9f64, 1..50)) {
            let m = median(&values).unwrap();
            let below = values.iter().filter(|v| **v < m).count();
            let above = values.iter().filter(|v| **v > m).count();
            prop_assert!(below * 2 <= values.len() && above * 2 <= values.len());
        }

        #[test]
        fn scaling_the_values_scales_the_mean(values in prop::collection::vec(0.1..1e6f64, 1..20), by in 0.1..10f64) {
            let plain = geometric_mean(&values).unwrap();
            let scaled = geometric_mean(&values.iter().map(|v| v * by).collect::<Vec<_>>()).unwrap();
            prop_assert!((scaled.value / (plain.value * by) - 1.0).abs() < 1e-9);
        }
    }
}
