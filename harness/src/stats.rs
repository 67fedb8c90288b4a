//! Statistics over blocks: pure functions of slices, each naming its source.
//!
//! A replicate is a block, never a request: requests of one block share its noise, and treating them as
//! independent finds differences where there are none.

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
    let n = count(&logs);
    let mean = logs.iter().sum::<f64>() / n;
    let interval = (logs.len() >= 3).then(|| {
        let variance = logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half = t_95(logs.len() - 1) * (variance / n).sqrt();
        ((mean - half).exp(), (mean + half).exp())
    });
    Some(Estimate {
        value: mean.exp(),
        interval,
    })
}

/// The two-sided 95% quantile of Student's t with `freedom` degrees of freedom.
///
/// Tabled up to 30 (NIST/SEMATECH e-Handbook §1.3.6.7.2), the normal quantile's expansion beyond
/// (Abramowitz & Stegun 26.7.5, first two terms), which is right to three digits there.
fn t_95(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    const Z: f64 = 1.959_964;
    match TABLE.get(freedom.wrapping_sub(1)) {
        Some(t) => *t,
        None => Z + (Z.powi(3) + Z) / (4.0 * f64::from(u32::try_from(freedom).unwrap_or(u32::MAX))),
    }
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
        let half = 4.303 / 3.0_f64.sqrt();
        assert!((low.ln() - (1.0 - half)).abs() < 1e-9 && (high.ln() - (1.0 + half)).abs() < 1e-9);
    }

    #[test]
    fn nothing_and_nonsense_have_no_mean() {
        for values in [&[][..], &[0.0], &[-1.0, 1.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!(geometric_mean(values), None);
        }
    }

    #[test]
    fn t_falls_towards_the_normal_quantile() {
        let quantiles: Vec<f64> = (1..200).map(t_95).collect();
        assert!(quantiles.windows(2).all(|pair| pair[0] >= pair[1]));
        assert!((t_95(199) - 1.972).abs() < 1e-3);
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
