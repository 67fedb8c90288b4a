//! Figures as people read them: three significant digits, with a unit.

use inroads_harness::run::Unit;

/// A figure with its unit, short: `1.24 ms`, `38.2 k/s`, `9.31 Gbit/s`, `41.0 MiB`.
#[must_use]
pub fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Microseconds => duration(value / 1e6),
        Unit::Seconds => duration(value),
        Unit::PerSecond => scaled(value, &[(1e6, " M/s"), (1e3, " k/s"), (1.0, " /s")]),
        // Links are rated in bits, and powers of ten.
        Unit::BytesPerSecond => scaled(
            value * 8.0,
            &[
                (1e9, " Gbit/s"),
                (1e6, " Mbit/s"),
                (1e3, " kbit/s"),
                (1.0, " bit/s"),
            ],
        ),
        Unit::Bytes => scaled(
            value,
            &[
                (1_073_741_824.0, " GiB"),
                (1_048_576.0, " MiB"),
                (1024.0, " KiB"),
                (1.0, " B"),
            ],
        ),
    }
}

/// A ratio: `×0.31`, `×9.1`, `×1334`.
#[must_use]
pub fn ratio(value: f64) -> String {
    format!("×{}", digits(value))
}

/// A duration in seconds with the unit that fits it.
fn duration(seconds: f64) -> String {
    scaled(seconds, &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs")])
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    // What would round up to a thousand of a unit belongs to the next one.
    let fits = units
        .iter()
        .find(|(scale, _)| value >= scale * 0.9995)
        .or(units.last());
    match fits {
        Some((scale, unit)) => format!("{}{unit}", digits(value / scale)),
        None => digits(value),
    }
}

/// Three significant digits, no fewer than none behind the point.
fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        for (value, unit, text) in [
            (56.4, Unit::Microseconds, "56.4 µs"),
            (999.9, Unit::Microseconds, "1.00 ms"),
            (1240.0, Unit::Microseconds, "1.24 ms"),
            (0.0123, Unit::Seconds, "12.3 ms"),
            (38_211.0, Unit::PerSecond, "38.2 k/s"),
            (12.0, Unit::PerSecond, "12.0 /s"),
            (1.25e9, Unit::BytesPerSecond, "10.0 Gbit/s"),
            (43_000_000.0, Unit::Bytes, "41.0 MiB"),
            (0.0, Unit::Seconds, "0.00 µs"),
        ] {
            assert_eq!(figure(value, unit), text);
        }
        assert_eq!(ratio(0.314), "×0.31");
        assert_eq!(ratio(1334.2), "×1334");
    }
}
