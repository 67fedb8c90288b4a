//! A cell: one method, scenario and metric, and its blocks beside those of `direct`.

use std::collections::BTreeMap;

use crate::ids::MethodId;
use crate::run::{CONTROL, Measurement};

/// A method, a scenario and a metric.
pub(crate) type Key<'a> = (&'a MethodId, &'a str, &'a str);

/// The cell that a figure is of.
pub(crate) fn key(m: &Measurement) -> Key<'_> {
    (&m.method, m.scenario.as_str(), m.metric.as_str())
}

/// The ratio to `direct` in each block that both have a valid figure for: what the machine does in one block it does to
/// both. That of `direct` itself is 1.
pub(crate) fn ratios_to_direct(
    measurements: &[Measurement],
) -> BTreeMap<Key<'_>, BTreeMap<u32, f64>> {
    let valid = || measurements.iter().filter(|m| m.valid);
    let control: BTreeMap<(&str, &str, u32), f64> = valid()
        .filter(|m| m.method.as_str() == CONTROL && m.value > 0.0)
        .map(|m| ((m.scenario.as_str(), m.metric.as_str(), m.block), m.value))
        .collect();
    let mut ratios: BTreeMap<Key<'_>, BTreeMap<u32, f64>> = BTreeMap::new();
    for m in valid() {
        if let Some(base) = control.get(&(&m.scenario, &m.metric, m.block)) {
            let blocks = ratios.entry(key(m)).or_default();
            blocks.insert(m.block, m.value / base);
        }
    }
    ratios
}
