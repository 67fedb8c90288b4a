//! Many questions at once: how likely it is that one of them is answered wrongly.

/// Holm's correction: the chance of any false alarm among all of them is at most the level that an adjusted p is held
/// against, however the questions depend on each other.
///
/// Gives an adjusted p for each, in the order given. S. Holm, "A Simple Sequentially Rejective Multiple Test
/// Procedure", Scandinavian Journal of Statistics 6 (1979), 65-70.
#[must_use]
pub fn holm(ps: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![0.0; ps.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in ascending(ps).into_iter().enumerate() {
        largest = largest.max((ps[index] * count(ps.len() - rank)).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

/// Benjamini and Hochberg's correction: of all that is found, the expected share of false finds is at most the level
/// that an adjusted p is held against.
///
/// Gives an adjusted p for each, in the order given. Y. Benjamini, Y. Hochberg, "Controlling the False Discovery
/// Rate", Journal of the Royal Statistical Society B 57 (1995), 289-300.
#[must_use]
pub fn benjamini_hochberg(ps: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![0.0; ps.len()];
    let mut smallest = 1.0_f64;
    for (rank, index) in ascending(ps).into_iter().enumerate().rev() {
        smallest = smallest.min(ps[index] * count(ps.len()) / count(rank + 1));
        adjusted[index] = smallest;
    }
    adjusted
}

fn ascending(ps: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    order
}

#[expect(clippy::cast_precision_loss, reason = "cells are far fewer than 2^52")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_agree_with_worked_examples() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") and "BH".
        let ps = [0.01, 0.04, 0.03, 0.005];
        let near =
            |got: &[f64], want: &[f64]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(
            near(&holm(&ps), &[0.03, 0.06, 0.06, 0.02]),
            "{:?}",
            holm(&ps)
        );
        let found = benjamini_hochberg(&ps);
        assert!(near(&found, &[0.02, 0.04, 0.04, 0.02]), "{found:?}");
        assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn a_correction_never_helps_and_keeps_the_order(ps in prop::collection::vec(0.0..=1.0f64, 1..60)) {
            for adjusted in [holm(&ps), benjamini_hochberg(&ps)] {
                for (i, p) in ps.iter().enumerate() {
                    prop_assert!(adjusted[i] >= p - 1e-12 && adjusted[i] <= 1.0);
                    for (j, other) in ps.iter().enumerate() {
                        prop_assert!(p > other || adjusted[i] <= adjusted[j] + 1e-12);
                    }
                }
            }
        }

        #[test]
        fn holm_is_the_stricter_one(ps in prop::collection::vec(0.0..=1.0f64, 1..60)) {
            let (strict, mild) = (holm(&ps), benjamini_hochberg(&ps));
            prop_assert!(strict.iter().zip(&mild).all(|(strict, mild)| strict >= &(mild - 1e-12)));
        }
    }
}
