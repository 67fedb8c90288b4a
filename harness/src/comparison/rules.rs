//! What makes a change a regression.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Weight;
use crate::run::Unit;

/// The built-in rules, as they are documented.
pub const RULES: &str = include_str!("rules.toml");

/// What makes a change a regression.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Rules {
    /// The chance of one false alarm over all blocking cells, above 0 and below 1.
    pub level: f64,
    /// The chance that a second measurement of a cell agrees by accident, above 0 and below 1.
    pub confirm: f64,
    /// The share below which a change is no regression.
    pub relative: f64,
    /// The standard deviation of a run as a whole, as a share, beyond what its blocks show: where there are too few
    /// baselines to show it.
    pub spread: f64,
    /// The share that must be ruled out for a blocking cell to be clear.
    pub unclear: f64,
    absolute: BTreeMap<String, f64>,
    blocking: BTreeMap<String, Vec<String>>,
}

/// A file of rules could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It is not what such a file is.
    #[error("{0}")]
    Form(#[from] toml::de::Error),
    /// A figure is out of its range.
    #[error("`{key}` is {value}, and must be {range}")]
    Range {
        /// Which.
        key: String,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
}

impl Default for Rules {
    fn default() -> Self {
        toml::from_str(RULES).expect("a test reads the built-in rules")
    }
}

impl Rules {
    /// The rules of a file; what it leaves out is as in the built-in ones.
    ///
    /// # Errors
    /// With the line, or the figure, that is not what it should be.
    pub fn read(text: &str) -> Result<Self, RulesError> {
        let file: RulesFile = toml::from_str(text)?;
        let mut rules = Self::default();
        rules.level = file.level.unwrap_or(rules.level);
        rules.confirm = file.confirm.unwrap_or(rules.confirm);
        rules.relative = file.relative.unwrap_or(rules.relative);
        rules.spread = file.spread.unwrap_or(rules.spread);
        rules.unclear = file.unclear.unwrap_or(rules.unclear);
        rules.absolute.extend(file.absolute);
        // Whoever names cells means these.
        if !file.blocking.is_empty() {
            rules.blocking = file.blocking;
        }
        let range = |key: &str, value: f64, fits: bool, range| {
            let error = || RulesError::Range {
                key: key.to_owned(),
                value,
                range,
            };
            if fits { Ok(()) } else { Err(error()) }
        };
        let Self {
            level,
            confirm,
            relative,
            spread,
            unclear,
            absolute,
            ..
        } = &rules;
        for (key, chance) in [("level", *level), ("confirm", *confirm)] {
            let fits = chance > 0.0 && chance < 1.0;
            range(key, chance, fits, "above 0 and below 1")?;
        }
        range(
            "relative",
            *relative,
            *relative >= 0.0 && *relative < 10.0,
            "a share, such as 0.05",
        )?;
        range(
            "spread",
            *spread,
            *spread >= 0.0 && *spread < 1.0,
            "a share, such as 0.03",
        )?;
        range(
            "unclear",
            *unclear,
            *unclear > 0.0 && *unclear < 10.0,
            "a share above 0, such as 0.5",
        )?;
        for (unit, floor) in absolute {
            let known = Self::default().absolute.contains_key(unit);
            range(
                &format!("absolute.{unit}"),
                *floor,
                known,
                "a floor for us, s, per_s, bytes_per_s or bytes",
            )?;
            range(
                &format!("absolute.{unit}"),
                *floor,
                *floor >= 0.0,
                "0 or more",
            )?;
        }
        Ok(rules)
    }

    /// Whether a regression of this cell is one of the whole.
    pub(crate) fn weight(&self, method: &str, scenario: &str, metric: &str) -> Weight {
        let gates = self.blocking.get(scenario);
        let gates = gates.is_some_and(|metrics| metrics.iter().any(|it| it == metric));
        if gates && method != crate::run::CONTROL {
            Weight::Blocking
        } else {
            Weight::Advisory
        }
    }

    /// The scenarios and metrics that gate.
    pub fn blocking(&self) -> impl Iterator<Item = (&str, &str)> {
        self.blocking.iter().flat_map(|(scenario, metrics)| {
            let metrics = metrics.iter();
            metrics.map(move |metric| (scenario.as_str(), metric.as_str()))
        })
    }

    /// Whether a change from `baseline` by a factor is large enough to be worth a word.
    pub(super) fn is_large(&self, baseline: f64, factor: f64, unit: Unit) -> bool {
        let floor = self
            .absolute
            .get(unit.as_str())
            .copied()
            .unwrap_or_default();
        let change = factor.max(1.0 / factor) - 1.0;
        change > self.relative && baseline * change > floor
    }
}

/// The rules as a file has them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    level: Option<f64>,
    confirm: Option<f64>,
    relative: Option<f64>,
    spread: Option<f64>,
    unclear: Option<f64>,
    #[serde(default)]
    absolute: BTreeMap<String, f64>,
    #[serde(default)]
    blocking: BTreeMap<String, Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_name_every_figure() {
        let rules = Rules::read(RULES).unwrap();
        assert_eq!(rules, Rules::default());
        assert!(rules.level > 0.0 && rules.relative > 0.0 && rules.unclear > 0.0);
        assert_eq!(rules.absolute.len(), 5);
        assert!(rules.blocking.values().all(|metrics| !metrics.is_empty()));
    }

    #[test]
    fn a_file_changes_what_it_names() {
        let rules = Rules::read("relative = 0.1\n[blocking]\ndns = [\"latency\"]").unwrap();
        assert!((rules.relative - 0.1).abs() < 1e-12 && (rules.level - 0.05).abs() < 1e-12);
        assert_eq!(rules.weight("route", "dns", "latency"), Weight::Blocking);
        assert_eq!(rules.weight("route", "http", "latency"), Weight::Advisory);
        assert_eq!(rules.weight("direct", "dns", "latency"), Weight::Advisory);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (text, named) in [
            ("level = 0", "`level` is 0"),
            ("confirm = 1", "`confirm` is 1"),
            ("relative = -1", "`relative` is -1"),
            ("[absolute]\nus = -1", "`absolute.us` is -1"),
            ("[absolute]\nkg = 1", "`absolute.kg`"),
            ("levle = 1", "levle"),
        ] {
            let error = Rules::read(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn both_floors_must_be_passed() {
        let rules = Rules::default();
        assert!(rules.is_large(100.0, 1.1, Unit::Microseconds));
        assert!(
            !rules.is_large(100.0, 1.04, Unit::Microseconds),
            "the relative one"
        );
        assert!(!rules.is_large(20.0, 1.1, Unit::Microseconds), "2 µs of 20");
        assert!(
            rules.is_large(100.0, 1.0 / 1.1, Unit::Microseconds),
            "better counts too"
        );
    }
}
