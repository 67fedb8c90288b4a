//! Bencher Metric Format: what `bencher run --adapter json` takes.
//!
//! A measure of Bencher has one unit and one direction in a project, so it follows from the unit of a figure. `latency`
//! (nanoseconds) and `throughput` (operations each second) are Bencher's own; the others it makes when it meets them.

use inroads_harness::run::{CONTROL, Run, Summary, Unit};
use serde_json::{Map, Value, json};

use crate::escape::terminal;

/// Nanoseconds in a microsecond and in a second.
const NS: (f64, f64) = (1e3, 1e9);

/// The figures of a run as Bencher Metric Format: for each `scenario/metric/method` its median over blocks, and its ratio
/// to `direct`, which a slower runner does not move.
///
/// # Panics
/// Never: the map is plain data.
#[must_use]
pub fn bencher(run: &Run) -> String {
    let mut benchmarks = Map::new();
    for line in &run.summary {
        let name = format!("{}/{}/{}", line.scenario, line.metric, line.method);
        benchmarks.insert(terminal(&name), measures(line));
    }
    serde_json::to_string_pretty(&benchmarks).expect("the map is plain data") + "\n"
}

fn measures(line: &Summary) -> Value {
    let (name, scale) = match line.unit {
        Unit::Microseconds => ("latency", NS.0),
        Unit::Seconds => ("latency", NS.1),
        Unit::PerSecond => ("throughput", 1.0),
        Unit::BytesPerSecond => ("bytes-per-second", 1.0),
        Unit::Bytes => ("bytes", 1.0),
    };
    let mut measures = Map::new();
    let scaled = |value: Option<f64>| value.map(|value| value * scale);
    let ends = (scaled(line.ci_low), scaled(line.ci_high));
    measures.insert(name.to_owned(), metric(line.median * scale, ends));
    if let Some(ratio) = line
        .ratio_to_direct
        .filter(|_| line.method.as_str() != CONTROL)
    {
        // Two measures, as a threshold is of one direction.
        let name = if line.unit.larger_is_better() {
            "share-of-direct"
        } else {
            "times-direct"
        };
        let ends = (line.ratio_ci_low, line.ratio_ci_high);
        measures.insert(name.to_owned(), metric(ratio, ends));
    }
    Value::Object(measures)
}

/// A value with its 95% interval. The interval is of the mean and the value a median, which can lie outside; Bencher
/// takes it to lie within.
fn metric(value: f64, ends: (Option<f64>, Option<f64>)) -> Value {
    match ends {
        (Some(low), Some(high)) => json!({
            "value": value,
            "lower_value": low.min(value),
            "upper_value": high.max(value),
        }),
        _ => json!({ "value": value }),
    }
}
