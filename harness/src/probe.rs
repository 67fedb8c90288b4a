//! Asking one question through one method: every access in order of effort, with the evidence kept.

use std::fmt::Write as _;
use std::time::Duration;

use crate::access::{Access, Effort};
use crate::clock::Stopwatch;
use crate::dial::Dialer;
use crate::method::{Capability, Method};
use crate::run::{Level, ProbeResult, Verdict};
use crate::scenario::{Scenario, Workload};

/// Longest time for one attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(12);

/// A question, with its stable id.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// `group/name`.
    pub id: &'static str,
    /// What it asks.
    pub asks: &'static str,
    /// Whether transparency requires it.
    pub level: Level,
    /// What a method must carry for it to be possible at all.
    pub needs: &'static [Capability],
}

/// One try, through one access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What a client in a pod would see.
    pub expected: String,
    /// What was seen; `Err` where it is not what was expected, or nothing could be tried.
    pub seen: Result<String, Miss>,
}

/// Why an attempt is no pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// It was tried, and this was seen instead.
    Wrong(String),
    /// It could not be tried here, for this reason: that says nothing of the method.
    NotTried(String),
}

impl Miss {
    /// What was seen instead, or why nothing was.
    #[must_use]
    pub fn text(&self) -> &str {
        let (Self::Wrong(text) | Self::NotTried(text)) = self;
        text
    }
}

impl Attempt {
    /// What was seen, right or wrong, or why nothing was.
    #[must_use]
    pub fn text(&self) -> &str {
        match &self.seen {
            Ok(text) => text,
            Err(miss) => miss.text(),
        }
    }

    /// It was as expected.
    pub fn pass(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            seen: Ok(seen.into()),
        }
    }

    /// It was not.
    pub fn fail(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            seen: Err(Miss::Wrong(seen.into())),
        }
    }

    /// It could not be tried here, such as where a right is missing.
    pub fn not_tried(expected: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            seen: Err(Miss::NotTried(reason.into())),
        }
    }
}

/// Asks `probe` through `method`, on the laptop that this runs on: unmodified first, then each access
/// that the method offers, until one passes.
pub async fn ask(
    probe: &Probe,
    scenario: &dyn Scenario,
    method: &dyn Method,
    accesses: &[Access],
    workload: &Workload,
) -> ProbeResult {
    let stopwatch = Stopwatch::start();
    let mut expected = String::new();
    let mut seen = String::new();
    let mut outcome = Outcome::Failed;
    for (effort, access) in ladder(scenario, accesses) {
        let attempt = attempt(probe, scenario, access, workload).await;
        let separator = if seen.is_empty() { "" } else { "; " };
        write!(seen, "{separator}{effort}: {}", attempt.text()).expect("writing to a string");
        expected = attempt.expected;
        match attempt.seen {
            Ok(_) => {
                outcome = Outcome::Passed(effort);
                break;
            }
            // What was not tried might have passed, so that no later failure decides.
            Err(Miss::NotTried(reason)) => outcome = Outcome::NotTried(reason),
            Err(Miss::Wrong(_)) => {}
        }
    }
    let effort = match outcome {
        Outcome::Passed(effort) => Some(effort),
        Outcome::NotTried(_) | Outcome::Failed => None,
    };
    let (verdict, reason) = judge(probe, method, outcome);
    ProbeResult {
        id: probe.id.to_owned(),
        method: method.id(),
        level: probe.level,
        verdict,
        effort,
        foreseen: None,
        expected,
        seen,
        reason,
        duration_ms: stopwatch.elapsed().as_secs_f64() * 1e3,
    }
}

/// The result of a probe that was not tried.
#[must_use]
pub fn not_run(probe: &Probe, method: &dyn Method, reason: &str) -> ProbeResult {
    ProbeResult {
        id: probe.id.to_owned(),
        method: method.id(),
        level: probe.level,
        verdict: Verdict::NotRun,
        effort: None,
        foreseen: None,
        expected: probe.asks.to_owned(),
        seen: String::new(),
        reason: Some(reason.to_owned()),
        duration_ms: 0.0,
    }
}

/// Unmodified first, whatever the method offers, then its own accesses by what they ask of the scenario's
/// clients.
fn ladder(scenario: &dyn Scenario, accesses: &[Access]) -> Vec<(Effort, Access)> {
    let mut steps: Vec<(Effort, Access)> = accesses
        .iter()
        .map(|access| (scenario.effort(access), access.clone()))
        .filter(|(effort, _)| *effort != Effort::Unmodified)
        .collect();
    steps.sort_by_key(|(effort, _)| *effort);
    steps.insert(0, (Effort::Unmodified, Access::Unmodified));
    steps
}

async fn attempt(
    probe: &Probe,
    scenario: &dyn Scenario,
    access: Access,
    workload: &Workload,
) -> Attempt {
    let dialer = Dialer::new(access);
    tokio::time::timeout(ATTEMPT_LIMIT, scenario.attempt(probe.id, &dialer, workload))
        .await
        .unwrap_or_else(|_| {
            Attempt::fail(
                probe.asks,
                format!("no outcome within {} s", ATTEMPT_LIMIT.as_secs()),
            )
        })
}

/// What all attempts together came to.
enum Outcome {
    /// One passed, at this effort.
    Passed(Effort),
    /// None passed, and one could not be tried, for this reason.
    NotTried(String),
    /// All failed.
    Failed,
}

/// A probe that failed at every effort is a failure where the method claims to carry what it needs, and
/// unsupported where it does not.
fn judge(probe: &Probe, method: &dyn Method, outcome: Outcome) -> (Verdict, Option<String>) {
    let lacking = probe
        .needs
        .iter()
        .find(|need| !method.exposes().contains(need));
    match (outcome, lacking) {
        (Outcome::Passed(_), _) => (Verdict::Pass, None),
        (Outcome::NotTried(reason), _) => (Verdict::NotRun, Some(reason)),
        (Outcome::Failed, Some(need)) => {
            (Verdict::Unsupported, Some(method.limit(*need).to_owned()))
        }
        (Outcome::Failed, None) => (Verdict::Fail, None),
    }
}

#[cfg(test)]
mod tests;
