//! Latencies of one cell, as an HdrHistogram.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};

/// A histogram of durations in nanoseconds, 100 ns to 60 s, to three significant digits.
#[derive(Debug, Clone)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    fn default() -> Self {
        let histogram = hdrhistogram::Histogram::new_with_bounds(100, 60_000_000_000, 3);
        Self(histogram.expect("the bounds are constants that hold"))
    }
}

impl Histogram {
    /// Records one duration; beyond 60 s it counts as 60 s.
    pub fn record(&mut self, duration: Duration) {
        self.0
            .saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many durations it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that a share `quantile` of all is at or below, in microseconds, where at least ten
    /// values lie above it: fewer carry no such percentile.
    #[must_use]
    pub fn percentile_us(&self, quantile: f64) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let above = self.0.len() as f64 * (1.0 - quantile);
        (above >= 10.0 - 1e-9).then(|| micros(self.0.value_at_quantile(quantile)))
    }

    /// The median in microseconds, however few values there are; 0 of none.
    #[must_use]
    pub fn median_us(&self) -> f64 {
        micros(self.0.value_at_quantile(0.5))
    }

    /// The largest value in microseconds, as exact as the histogram keeps it.
    #[must_use]
    pub fn max_us(&self) -> Option<f64> {
        (!self.is_empty()).then(|| micros(self.0.max()))
    }

    /// The distribution, as far as at least ten values lie above: each value that was recorded, in microseconds and
    /// rising, behind the share of all (0 to 1) that is at or below it. Few values carry none of it.
    pub fn distribution_us(&self) -> impl Iterator<Item = (f64, f64)> {
        let all = self.0.len();
        let mut so_far = 0;
        let recorded = self.0.iter_recorded().map(move |step| {
            so_far += step.count_since_last_iteration();
            (so_far, micros(step.value_iterated_to()))
        });
        recorded
            .take_while(move |(so_far, _)| all - so_far >= 10)
            .map(move |(so_far, value)| (share(so_far, all), value))
    }

    /// Adds all values of another.
    ///
    /// # Panics
    /// Never: all histograms here have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all histograms have the same bounds");
    }

    /// The V2 log, deflated, in base64.
    ///
    /// # Panics
    /// Never: writing to memory does not fail.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut log = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut log)
            .expect("writing to memory");
        BASE64.encode(log)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// With what is wrong with the text. A log with other bounds than ours is wrong too: it would not merge.
    pub fn decode(text: &str) -> Result<Self, String> {
        let log = BASE64.decode(text).map_err(|e| e.to_string())?;
        let read: hdrhistogram::Histogram<u64> = Deserializer::new()
            .deserialize(&mut log.as_slice())
            .map_err(|e| e.to_string())?;
        let bounds = |it: &hdrhistogram::Histogram<u64>| (it.low(), it.high(), it.sigfig());
        if bounds(&read) == bounds(&Self::default().0) {
            Ok(Self(read))
        } else {
            Err("the histogram has other bounds than 100 ns to 60 s, three digits".to_owned())
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "60 s in nanoseconds is far below 2^52"
)]
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64) -> Histogram {
        let mut histogram = Histogram::default();
        (1..=count).for_each(|n| histogram.record(Duration::from_micros(n)));
        histogram
    }

    #[test]
    fn a_percentile_needs_ten_values_above_it() {
        assert_eq!(of(999).percentile_us(0.99), None);
        let p99 = of(1000).percentile_us(0.99).unwrap();
        assert!((p99 - 990.0).abs() < 1.0, "{p99}");
    }

    #[test]
    fn the_log_survives_a_round_trip() {
        let original = of(5000);
        let read = Histogram::decode(&original.encode()).unwrap();
        assert_eq!(read.len(), 5000);
        assert_eq!(read.percentile_us(0.5), original.percentile_us(0.5));
        assert!(Histogram::decode("not a histogram").is_err());
    }

    #[test]
    fn a_log_of_other_bounds_is_refused_and_so_cannot_fail_to_merge() {
        let mut wide = hdrhistogram::Histogram::<u64>::new_with_bounds(1, u64::MAX / 2, 2).unwrap();
        wide.record(u64::MAX / 4).unwrap();
        let refused = Histogram::decode(&Histogram(wide).encode()).unwrap_err();
        assert!(refused.contains("other bounds"), "{refused}");
    }

    #[test]
    fn the_distribution_rises_and_ends_where_ten_values_lie_above() {
        let steps: Vec<(f64, f64)> = of(1000).distribution_us().collect();
        assert!(
            steps
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
        );
        let (share, value) = steps[steps.len() - 1];
        assert!((share - 0.99).abs() < 1e-9, "{share}");
        assert!((value - 990.0).abs() < 1.0, "{value}");
        let (_, middle) = steps[steps.iter().position(|(share, _)| *share >= 0.5).unwrap()];
        assert!((middle - 500.0).abs() < 1.0, "{middle}");
        assert_eq!(of(10).distribution_us().count(), 0);
        assert_eq!(Histogram::default().distribution_us().count(), 0);
    }

    #[test]
    fn merging_adds_counts() {
        let mut all = of(10);
        all.merge(&of(20));
        assert_eq!(all.len(), 30);
    }
}
