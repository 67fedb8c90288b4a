//! What is expected of each probe through each method: written down beforehand, so that a surprise is seen, the
//! good one like the bad one.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::Effort;
use crate::ids::MethodId;
use crate::run::{ProbeResult, Verdict};

/// How a probe comes out: its verdict, and for a pass the effort that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It passes, and nothing of the client is changed.
    Unmodified,
    /// It passes with a setting of the client.
    Configured,
    /// It passes where another address is typed.
    Rewritten,
    /// It was tried and is wrong.
    Fail,
    /// It was tried, and the method cannot carry it by design.
    Unsupported,
    /// It was not tried.
    NotRun,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unmodified => "unmodified",
            Self::Configured => "configured",
            Self::Rewritten => "rewritten",
            Self::Fail => "fail",
            Self::Unsupported => "unsupported",
            Self::NotRun => "not run",
        })
    }
}

impl ProbeResult {
    /// How it came out.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.verdict, self.effort) {
            (Verdict::Pass, Some(Effort::Unmodified)) => Outcome::Unmodified,
            (Verdict::Pass, Some(Effort::Configured)) => Outcome::Configured,
            (Verdict::Pass, _) => Outcome::Rewritten,
            (Verdict::Fail, _) => Outcome::Fail,
            (Verdict::Unsupported, _) => Outcome::Unsupported,
            (Verdict::NotRun, _) => Outcome::NotRun,
        }
    }

    /// Whether it was tried and came out in another way than was expected.
    #[must_use]
    pub fn is_surprise(&self) -> bool {
        let outcome = self.outcome();
        outcome != Outcome::NotRun && self.foreseen.is_some_and(|foreseen| foreseen != outcome)
    }
}

/// What is expected, by probe and method.
#[derive(Debug, Clone, Default)]
pub struct Expectations(BTreeMap<String, BTreeMap<String, Outcome>>);

impl Expectations {
    /// Reads a table of TOML for each probe, with a key for each method.
    ///
    /// # Errors
    /// With the line, where it is not such a file.
    pub fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text).map(Self)
    }

    /// What is expected of a probe through a method; nothing of peers and variants that are not written down.
    #[must_use]
    pub fn of(&self, probe: &str, method: &MethodId) -> Option<Outcome> {
        self.0.get(probe)?.get(method.as_str()).copied()
    }

    /// The probes that something is expected of.
    pub fn probes(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_one_of_a_probe_and_a_method() {
        let text = "[\"dns/srv\"]\nroute = \"unmodified\"\nforward = \"unsupported\"\n";
        let all = Expectations::read(text).unwrap();
        assert_eq!(
            all.of("dns/srv", &MethodId::of("forward")),
            Some(Outcome::Unsupported)
        );
        assert_eq!(all.of("dns/srv", &MethodId::of("forward:kubectl")), None);
        assert!(Expectations::read("[\"dns/srv\"]\nroute = \"fine\"\n").is_err());
    }
}
