//! One figure out of those of several laptops that ran the same load at the same time.

use super::{Histogram, Reading};
use crate::run::Unit;

impl Reading {
    /// The figures of one load on all laptops: rates are added up, latencies are those of all operations together,
    /// and what holds for one laptop alone, such as the memory it took, is the largest. `all` has the readings of
    /// each laptop; a figure that a laptop lacks is left out.
    ///
    /// # Errors
    /// With what is wrong with a histogram.
    pub fn together(mut all: Vec<Vec<Self>>) -> Result<Vec<Self>, String> {
        if all.len() == 1 {
            return Ok(all.remove(0));
        }
        let Some((first, others)) = all.split_first() else {
            return Ok(Vec::new());
        };
        let figures = first.iter().filter_map(|reading| {
            let same = |other: &Self| other.metric == reading.metric;
            let mut parts = vec![reading.clone()];
            for laptop in others {
                parts.push(laptop.iter().find(|other| same(other))?.clone());
            }
            Some(join(parts))
        });
        figures.collect()
    }
}

/// One reading of those of all laptops, of which there is at least one.
fn join(parts: Vec<Reading>) -> Result<Reading, String> {
    let values = || parts.iter().map(|part| part.value);
    let mut whole = parts[0].clone();
    whole.count = parts.iter().map(|part| part.count).sum();
    whole.errors = parts.iter().map(|part| part.errors).sum();
    let numbered = |(index, part): (usize, &Reading)| {
        let reason = part.invalid_reason.as_ref()?;
        Some(format!("laptop {index}: {reason}"))
    };
    whole.invalid_reason = parts.iter().enumerate().find_map(numbered);
    whole.doubts = parts
        .iter()
        .enumerate()
        .flat_map(|(index, part)| part.doubts.iter().map(move |it| (index, it)))
        .map(|(index, (doubt, text))| (*doubt, format!("laptop {index}: {text}")))
        .collect();
    if whole.histogram.is_some() {
        let mut histogram = Histogram::default();
        for part in parts.iter().filter_map(|part| part.histogram.as_ref()) {
            histogram.merge(&Histogram::decode(part)?);
        }
        whole.of_histogram(&histogram);
    } else {
        whole.value = match whole.unit {
            Unit::PerSecond | Unit::BytesPerSecond => values().sum(),
            _ => values().fold(f64::MIN, f64::max),
        };
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::Errors;

    fn rate(value: f64) -> Reading {
        Reading::plain("requests", Unit::PerSecond, 10, value)
    }

    fn latency(range: std::ops::Range<u64>) -> Reading {
        let mut histogram = Histogram::default();
        range.for_each(|n| histogram.record(Duration::from_micros(n)));
        Reading::latency("latency", &histogram, &Errors::default())
    }

    #[test]
    fn rates_add_up_and_latencies_are_those_of_all_operations() {
        let all = vec![
            vec![rate(100.0), latency(1..1001)],
            vec![rate(50.0), latency(1001..2001)],
        ];
        let whole = Reading::together(all).unwrap();
        assert!((whole[0].value - 150.0).abs() < 1e-9);
        assert_eq!((whole[0].count, whole[1].count), (20, 2000));
        // Neither laptop's own 99th percentile, nor their mean.
        let p99 = whole[1].p99.unwrap();
        assert!((p99 - 1980.0).abs() < 3.0, "{p99}");
        assert!((whole[1].value - 1000.0).abs() < 2.0, "{}", whole[1].value);
    }

    #[test]
    fn what_is_wrong_on_one_laptop_is_wrong_with_the_whole() {
        let mut bad = rate(1.0);
        bad.invalid_reason = Some("refused".to_owned());
        let whole = Reading::together(vec![vec![rate(1.0)], vec![bad]]).unwrap();
        assert_eq!(
            whole[0].invalid_reason.as_deref(),
            Some("laptop 1: refused")
        );
    }

    #[test]
    fn a_figure_that_one_laptop_lacks_is_no_figure_of_all() {
        let whole = Reading::together(vec![vec![rate(1.0)], vec![]]).unwrap();
        assert!(whole.is_empty());
    }

    #[test]
    fn one_laptop_is_left_as_it_is() {
        let whole = Reading::together(vec![vec![rate(7.0)]]).unwrap();
        assert!((whole[0].value - 7.0).abs() < 1e-9);
    }
}
