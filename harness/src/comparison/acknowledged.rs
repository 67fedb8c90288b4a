//! Changes that somebody has looked at and accepts, for a time.

use jiff::civil::Date;
use serde::Deserialize;
use wildmatch::WildMatch;

/// What is accepted: a file that lives beside the baseline and is reviewed like code.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgements {
    /// One for each thing.
    #[serde(default)]
    acknowledge: Vec<Acknowledgement>,
}

/// One change that is accepted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    /// A cell as `method/scenario/metric`, or a probe as `method/group/name`; `*` stands for any text.
    what: String,
    /// Who has looked.
    by: String,
    /// Why it may be.
    reason: String,
    /// The last day on which it may be.
    until: Date,
}

/// What the file says of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// It may be.
    May(String),
    /// It could have been, once.
    Expired(String),
}

impl Acknowledgements {
    /// Those of a file.
    ///
    /// # Errors
    /// With the line that is not what it should be.
    pub fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Whether `name` may be as it is on a day.
    #[must_use]
    pub fn accepts(&self, name: &str, today: Date) -> bool {
        matches!(self.of(name, today), Said::May(_))
    }

    /// What is said of `name` on a day.
    pub(super) fn of(&self, name: &str, today: Date) -> Said {
        let mut said = Said::Nothing;
        for one in self
            .acknowledge
            .iter()
            .filter(|one| WildMatch::new(&one.what).matches(name))
        {
            let Acknowledgement {
                by, reason, until, ..
            } = one;
            if *until >= today {
                return Said::May(format!("{by}, until {until}: {reason}"));
            }
            said = Said::Expired(format!(
                "the acknowledgement of {by} ended on {until}: {reason}"
            ));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const FILE: &str = "[[acknowledge]]\nwhat = 'wireguard/http/*'\nby = 'ada'\nreason = 'new cipher'\nuntil = '2026-12-01'";

    #[test]
    fn an_acknowledgement_holds_until_its_day_and_no_longer() {
        let file = Acknowledgements::read(FILE).unwrap();
        let of = |name, day| file.of(name, date(2026, 12, day));
        assert!(matches!(of("wireguard/http/latency", 1), Said::May(text) if text.contains("ada")));
        assert!(
            matches!(of("wireguard/http/latency", 2), Said::Expired(text) if text.contains("2026-12-01"))
        );
        assert_eq!(of("wireguard/dns/latency", 1), Said::Nothing);
    }

    #[test]
    fn one_without_a_name_or_a_day_is_refused() {
        for missing in ["by", "reason", "until", "what"] {
            let lines: Vec<&str> = FILE
                .lines()
                .filter(|line| !line.starts_with(missing))
                .collect();
            let error = Acknowledgements::read(&lines.join("\n"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(missing), "{error}");
        }
    }
}
