//! An axis: a range of values, linear or logarithmic, with names at some of them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::chart::plain;

/// Values beyond cannot be drawn, and are no latency, rate or ratio.
const LARGEST: f64 = 1e18;

/// A range of values with names at some of them.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    ticks: Vec<(f64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
}

/// Whether a value can stand on a logarithmic axis.
pub(crate) fn is_drawable(value: f64) -> bool {
    value.is_finite() && value > 1.0 / LARGEST && value < LARGEST
}

impl Axis {
    /// From `low` to `high`, with these names.
    pub(crate) fn linear(low: f64, high: f64, ticks: Vec<(f64, String)>) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self {
            low,
            high,
            scale: Scale::Linear,
            ticks,
        }
    }

    /// The same, by the logarithm; all values have to be [drawable](is_drawable).
    pub(crate) fn log(low: f64, high: f64, ticks: Vec<(f64, String)>) -> Self {
        let high = if high > low { high } else { low * 2.0 };
        let ticks = ticks
            .into_iter()
            .filter(|(value, _)| (low..=high).contains(value))
            .collect();
        Self {
            low,
            high,
            scale: Scale::Log,
            ticks,
        }
    }

    /// A logarithmic axis that holds all of `values`, with some room and round numbers; `None` where none is drawable.
    pub(crate) fn around(
        values: impl IntoIterator<Item = f64>,
        name: impl Fn(f64) -> String,
    ) -> Option<Self> {
        let (low, high) = values
            .into_iter()
            .filter(|value| is_drawable(*value))
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = (low / 1.12, high * 1.12);
        is_drawable(low).then(|| {
            let ticks = round_numbers(low, high).into_iter();
            Self::log(low, high, ticks.map(|value| (value, name(value))).collect())
        })
    }

    /// A linear axis from nothing to all of `values`, with up to three numbers that are round in units of `round`.
    pub(crate) fn from_zero(
        values: impl IntoIterator<Item = f64>,
        round: f64,
        name: impl Fn(f64) -> String,
    ) -> Self {
        let values = values.into_iter().filter(|value| is_drawable(*value));
        let high = values.fold(0.0_f64, f64::max) / round;
        if high == 0.0 {
            return Self::linear(0.0, 1.0, Vec::new());
        }
        let decade = 10_f64.powf((high / 3.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|of| of * decade);
        let step = step.into_iter().find(|step| high / step < 3.0);
        let step = step.unwrap_or(high);
        let ticks = (0..3_u8).map(|n| f64::from(n) * step * round);
        let high = high * round * 1.02;
        let ticks = ticks.filter(|value| *value <= high);
        Self::linear(0.0, high, ticks.map(|it| (it, name(it))).collect())
    }

    /// The highest value.
    pub(crate) fn high(&self) -> f64 {
        self.high
    }

    /// Where a value stands: 0 at the low end, 1 at the high one.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a drawing has some thousand units"
    )]
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (self.share(*value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let near = |tick: f64| (self.share(tick) - self.share(*value)).abs() < 1e-6;
        let here = self.ticks.iter().find(|(tick, _)| near(*tick));
        here.map(|(_, name)| plain(name)).unwrap_or_default()
    }
}

/// A figure without the zeros behind its point, for the side of an axis: `1.50 ms` becomes `1.5 ms`.
pub(crate) fn short(figure: &str) -> String {
    match figure.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            let number = number.trim_end_matches('0').trim_end_matches('.');
            if number == "0" {
                "0".to_owned()
            } else {
                format!("{number} {unit}")
            }
        }
        _ => figure.to_owned(),
    }
}

/// Round numbers between two others, no more than some eight: the fewer for each decade, the more decades.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let digits: &[f64] = match decades {
        d if d > 3.5 => &[1.0],
        d if d > 2.0 => &[1.0, 3.0],
        d if d > 0.8 => &[1.0, 2.0, 5.0],
        d if d > 0.3 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        _ => &[
            1.0, 1.1, 1.2, 1.35, 1.5, 1.7, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0,
            9.0,
        ],
    };
    let first = low.log10().floor();
    (0..40_u8)
        .map(|decade| 10_f64.powf(first + f64::from(decade)))
        .take_while(|decade| *decade <= high)
        .flat_map(|decade| digits.iter().map(move |digit| digit * decade))
        .filter(|value| (low..=high).contains(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_a_few_round_numbers_whatever_its_range() {
        for (low, high) in [
            (60.0, 90.0),
            (60.0, 400.0),
            (30.0, 9000.0),
            (1.0, 1e6),
            (2e-3, 2e7),
        ] {
            let numbers = round_numbers(low, high);
            assert!(
                (2..=11).contains(&numbers.len()),
                "{low} to {high}: {numbers:?}"
            );
        }
        let axis = Axis::from_zero([83_000.0, 20_000.0], 1.0, |it| it.to_string());
        assert_eq!(axis.ticks.len(), 2, "0 and 50k: {axis:?}");
    }

    #[test]
    fn names_are_short() {
        for (long, name) in [
            ("20.0 ms", "20 ms"),
            ("1.50 ms", "1.5 ms"),
            ("100 µs", "100 µs"),
            ("1.35 s", "1.35 s"),
            ("0.00 /s", "0"),
        ] {
            assert_eq!(short(long), name);
        }
    }

    #[test]
    fn what_cannot_be_drawn_makes_no_axis() {
        let values = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300];
        assert!(Axis::around(values, |it| it.to_string()).is_none());
        assert!(Axis::from_zero(values, 1.0, |it| it.to_string()).high() > 0.0);
        let one = Axis::around([5.0], |it| it.to_string()).unwrap();
        assert!(one.low < one.high);
    }
}
