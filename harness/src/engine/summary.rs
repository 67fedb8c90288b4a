//! From measurements to statistics over blocks: a pure function.

use std::collections::BTreeMap;

use crate::ids::MethodId;
use crate::run::{CONTROL, Measurement, Summary, Unit};
use crate::stats::{geometric_mean, median};

/// One line for each method, scenario and metric, over the blocks in which the figure is valid. Order is
/// that of the measurements.
pub(super) fn summarise(measurements: &[Measurement]) -> Vec<Summary> {
    let valid: Vec<&Measurement> = measurements.iter().filter(|m| m.valid).collect();
    let mut control: BTreeMap<(&str, &str, u32), f64> = BTreeMap::new();
    for m in valid.iter().filter(|m| m.method.as_str() == CONTROL) {
        control.insert((&m.scenario, &m.metric, m.block), m.value);
    }
    let mut order: Vec<(&MethodId, &str, &str, Unit)> = Vec::new();
    for m in &valid {
        let key = (&m.method, m.scenario.as_str(), m.metric.as_str(), m.unit);
        if !order.contains(&key) {
            order.push(key);
        }
    }
    let lines = order
        .into_iter()
        .filter_map(|(method, scenario, metric, unit)| {
            let cells: Vec<&&Measurement> = valid
                .iter()
                .filter(|m| m.method == *method && m.scenario == scenario && m.metric == metric)
                .collect();
            let values: Vec<f64> = cells.iter().map(|m| m.value).collect();
            // The same block's control only: what the machine does in one block it does to both.
            let ratios: Vec<f64> = cells
                .iter()
                .filter_map(|m| {
                    control
                        .get(&(scenario, metric, m.block))
                        .map(|base| m.value / base)
                })
                .collect();
            let interval = geometric_mean(&values).and_then(|estimate| estimate.interval);
            let ratio = geometric_mean(&ratios);
            let ratio_interval = ratio.and_then(|ratio| ratio.interval);
            Some(Summary {
                method: method.clone(),
                scenario: scenario.to_owned(),
                metric: metric.to_owned(),
                unit,
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
    use crate::access::Effort;

    fn cell(method: &str, block: u32, value: f64, valid: bool) -> Measurement {
        Measurement {
            method: method.parse().unwrap(),
            scenario: "http".into(),
            metric: "requests".into(),
            unit: Unit::PerSecond,
            block,
            access: Effort::Unmodified,
            count: 1,
            value,
            p50: None,
            p90: None,
            p99: None,
            max: None,
            errors: 0,
            histogram: None,
            valid,
            invalid_reason: None,
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
