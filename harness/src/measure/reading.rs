//! Turning tallies into figures for the result file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::open_loop::CARRIED;
use super::{ClosedTally, Errors, Histogram, OpenTally};
use crate::run::Unit;
use crate::validity::Doubt;

/// One figure of a cell, as an agent reports it: the engine adds method, scenario, block and access.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reading {
    /// Which figure.
    pub metric: String,
    /// Its unit.
    pub unit: Unit,
    /// Operations it rests on.
    pub count: u64,
    /// The figure: a rate, or the median of a latency.
    pub value: f64,
    /// Percentiles in the same unit, where the count carries them.
    pub p50: Option<f64>,
    /// See `p50`.
    pub p90: Option<f64>,
    /// See `p50`.
    pub p99: Option<f64>,
    /// The largest value.
    pub max: Option<f64>,
    /// Operations that failed.
    pub errors: u64,
    /// All values.
    pub histogram: Option<String>,
    /// Why the figure must not be used.
    pub invalid_reason: Option<String>,
    /// What a reader should know all the same.
    #[serde(default)]
    pub doubts: Vec<(Doubt, String)>,
}

impl Reading {
    /// A rate: operations, or bytes where the unit says so, over the time they took.
    #[must_use]
    pub fn rate(metric: &str, unit: Unit, tally: &ClosedTally) -> Self {
        let amount = if unit == Unit::BytesPerSecond {
            tally.bytes
        } else {
            tally.ops
        };
        let mut reading = Self::new(
            metric,
            unit,
            tally.ops,
            per_second(amount, tally.elapsed),
            &tally.errors,
        );
        if tally.ops == 0 {
            reading.invalid_reason = Some(reading.nothing(&tally.errors));
        }
        if let Some(drift) = tally.drift.filter(|drift| *drift > DRIFT) {
            let text = format!("the rate moved by {:.0}% within the window", drift * 100.0);
            reading.doubts.push((Doubt::Unsteady, text));
        }
        if !tally.held_still {
            let text = "the rate did not hold still before the window";
            reading
                .doubts
                .push((Doubt::UnstableWarmUp, text.to_owned()));
        }
        reading.saturated(tally.busy);
        reading
    }

    /// A latency, from all its values.
    #[must_use]
    pub fn latency(metric: &str, histogram: &Histogram, errors: &Errors) -> Self {
        let mut reading = Self::new(
            metric,
            Unit::Microseconds,
            histogram.len(),
            histogram.median_us(),
            errors,
        );
        reading.of_histogram(histogram);
        if histogram.is_empty() {
            reading.invalid_reason = Some(reading.nothing(errors));
        }
        reading
    }

    /// Both latencies under a fixed rate, `latency` from the intended sending and `latency-raw` from the actual one.
    #[must_use]
    pub fn latencies(tally: &OpenTally, rate: f64) -> Vec<Self> {
        vec![
            Self::open("latency", &tally.corrected, tally, rate),
            Self::open("latency-raw", &tally.raw, tally, rate),
        ]
    }

    /// A latency under a fixed rate: invalid, and not merely slow, where the rate was not carried.
    #[must_use]
    pub fn open(metric: &str, histogram: &Histogram, tally: &OpenTally, rate: f64) -> Self {
        let mut reading = Self::latency(metric, histogram, &tally.errors);
        if tally.carried() < CARRIED {
            reading.invalid_reason = Some(format!(
                "carried {:.0}% of the asked {rate:.0}/s{}",
                tally.carried() * 100.0,
                tally
                    .errors
                    .first
                    .as_ref()
                    .map(|e| format!(" ({e})"))
                    .unwrap_or_default()
            ));
        }
        if let Some(late) = tally
            .lateness
            .percentile_us(0.99)
            .filter(|late| *late > LATE_US)
        {
            let text = format!("the generator itself woke up to {late:.0} µs late");
            reading.doubts.push((Doubt::GeneratorLate, text));
        }
        reading.saturated(tally.busy);
        reading
    }

    /// A figure as it is.
    #[must_use]
    pub fn plain(metric: &str, unit: Unit, count: u64, value: f64) -> Self {
        Self::new(metric, unit, count, value, &Errors::default())
    }

    /// Takes its figures from all values.
    pub(super) fn of_histogram(&mut self, histogram: &Histogram) {
        self.value = histogram.median_us();
        self.p50 = histogram.percentile_us(0.5);
        self.p90 = histogram.percentile_us(0.9);
        self.p99 = histogram.percentile_us(0.99);
        self.max = histogram.max_us();
        self.histogram = Some(histogram.encode());
    }

    fn new(metric: &str, unit: Unit, count: u64, value: f64, errors: &Errors) -> Self {
        let failed = (errors.count > 0).then(|| {
            let first = errors.first.as_deref().unwrap_or("no reason known");
            format!("{} operations failed, the first: {first}", errors.count)
        });
        Self {
            metric: metric.to_owned(),
            unit,
            count,
            value,
            p50: None,
            p90: None,
            p99: None,
            max: None,
            errors: errors.count,
            histogram: None,
            invalid_reason: None,
            doubts: failed
                .map(|text| (Doubt::FailedOperations, text))
                .into_iter()
                .collect(),
        }
    }

    /// Notes where the generator had hardly any time left, so that more may have been possible.
    fn saturated(&mut self, busy: f64) {
        if busy > SATURATED {
            let text = "the generator's thread was at work all the time";
            self.doubts
                .push((Doubt::GeneratorSaturated, text.to_owned()));
        }
    }

    fn nothing(&self, errors: &Errors) -> String {
        match &errors.first {
            Some(error) => format!("no operation succeeded: {error}"),
            None => "no operation ended within the window".to_owned(),
        }
    }
}

/// By how much the rate may move from the window's first half to its second before the reader is told.
const DRIFT: f64 = 0.25;

/// The share of the window that the generator's thread may be at work before the reader is told.
const SATURATED: f64 = 0.95;

/// How late the generator may wake up, at its 99th percentile, before the reader is told.
const LATE_US: f64 = 1_000.0;

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn per_second(amount: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        0.0
    } else {
        amount as f64 / elapsed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_was_not_carried_makes_the_latency_invalid() {
        let mut tally = OpenTally {
            asked: 100,
            answered: 98,
            ..OpenTally::default()
        };
        (0..98).for_each(|_| tally.corrected.record(Duration::from_micros(100)));
        let reading = Reading::open("latency", &tally.corrected, &tally, 1000.0);
        assert_eq!(
            reading.invalid_reason.as_deref(),
            Some("carried 98% of the asked 1000/s")
        );
        tally.answered = 99;
        assert_eq!(
            Reading::open("latency", &tally.corrected, &tally, 1000.0).invalid_reason,
            None
        );
    }

    #[test]
    fn nothing_answered_is_invalid_and_not_zero() {
        let mut tally = ClosedTally::default();
        tally.errors.add(&super::super::OpError("refused".into()));
        let reading = Reading::rate("requests", Unit::PerSecond, &tally);
        assert_eq!(
            reading.invalid_reason.as_deref(),
            Some("no operation succeeded: refused")
        );
    }
}
