//! From measurements to statistics over blocks: a pure function.

use crate::cell::{key, ratios_to_direct};
use crate::run::{Measurement, Summary};
use crate::stats::{geometric_mean, median};

/// One line for each method, scenario and metric, over the blocks in which the figure is valid. Order is
/// that of the measurements.
pub(super) fn summarise(measurements: &[Measurement]) -> Vec<Summary> {
    let mut cells: Vec<(&Measurement, Vec<f64>)> = Vec::new();
    for m in measurements.iter().filter(|m| m.valid) {
        match cells.iter_mut().find(|(known, _)| key(known) == key(m)) {
            Some((_, values)) => values.push(m.value),
            None => cells.push((m, vec![m.value])),
        }
    }
    let ratios = ratios_to_direct(measurements);
    let lines = cells.into_iter().filter_map(|(like, values)| {
        let ratios = ratios
            .get(&key(like))
            .map(|blocks| blocks.values().copied());
        let ratios: Vec<f64> = ratios.into_iter().flatten().collect();
        let interval = geometric_mean(&values).and_then(|estimate| estimate.interval);
        let ratio = geometric_mean(&ratios);
        let ratio_interval = ratio.and_then(|ratio| ratio.interval);
        Some(Summary {
            method: like.method.clone(),
            scenario: like.scenario.clone(),
            metric: like.metric.clone(),
            unit: like.unit,
            median: median(&values)?,
            ci_low: interval.map(|(low, _)| low),
            ci_high: interval.map(|(_, high)| high),
            ratio_to_direct: ratio.map(|ratio| ratio.value),
            ratio_ci_low: ratio_interval.map(|(low, _)| low),
            ratio_ci_high: ratio_interval.map(|(_, high)| high),
            blocks: u32::try_from(values.len()).unwrap_or(u32::MAX),
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Unit;

    fn cell(method: &str, block: u32, value: f64, valid: bool) -> Measurement {
        Measurement {
            valid,
            ..Measurement::sample((method, "requests", Unit::PerSecond), block, value)
        }
    }

    #[test]
    fn each_block_is_compared_with_its_own_control() {
        // The machine is twice as slow in the second block; the ratio is not.
        let all = [
            cell("direct", 0, 100.0, true),
            cell("route", 0, 90.0, true),
            cell("direct", 1, 50.0, true),
            cell("route", 1, 45.0, true),
        ];
        let summary = summarise(&all);
        let route = summary
            .iter()
            .find(|line| line.method.as_str() == "route")
            .unwrap();
        assert!((route.ratio_to_direct.unwrap() - 0.9).abs() < 1e-9);
        assert_eq!(route.blocks, 2);
        assert_eq!(route.ratio_ci_low, None, "two blocks carry no interval");
    }

    #[test]
    fn an_invalid_figure_is_left_out_and_not_averaged() {
        let all = [
            cell("direct", 0, 100.0, true),
            cell("route", 0, 1.0, false),
            cell("route", 1, 80.0, true),
        ];
        let summary = summarise(&all);
        let route = summary
            .iter()
            .find(|line| line.method.as_str() == "route")
            .unwrap();
        assert!((route.median - 80.0).abs() < 1e-9);
        assert_eq!(route.ratio_to_direct, None, "its block has no control");
    }
}
