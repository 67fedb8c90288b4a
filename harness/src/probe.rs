//! Asking one question through one method: every access in order of effort, with the evidence kept.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::{Access, Effort};
use crate::clock::Stopwatch;
use crate::dial::Dialer;
use crate::method::{Capability, Method};
use crate::run::{Level, ProbeResult, Verdict};
use crate::scenario::{Scenario, Workload};

/// Longest time for one attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(12);

/// The same, where an attempt watches something go and come back.
const WATCH_LIMIT: Duration = Duration::from_secs(125);

/// Why a question that is about laptops has no answer through a method whose client is a pod.
pub(crate) const NO_LAPTOP: &str = "the client is a pod in the cluster: there is no laptop, and nothing of it crosses the office LAN";

/// Whether a probe asks for transparency: the others ask whether the way in lasts, and whether it is safe.
#[must_use]
pub fn is_of_transparency(id: &str) -> bool {
    !["lifecycle/", "safety/"]
        .iter()
        .any(|group| id.starts_with(group))
}

/// A question, with its stable id.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// `group/name`.
    pub id: &'static str,
    /// What it asks.
    pub asks: &'static str,
    /// Whether it is required.
    pub level: Level,
    /// What a method must carry for it to be possible at all.
    pub needs: &'static [Capability],
    /// How it is asked.
    pub manner: Manner,
}

/// How a probe is asked, and what the controller does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Of all methods at the same time.
    Together,
    /// The same, of laptops only: it is about the office LAN.
    OnLaptops,
    /// Of one method after the other, after all that can be asked at once: it disturbs the workload for others.
    Alone,
    /// Of all methods at the same time, while these pods are deleted and others take their place.
    WhileReplaced(Whose),
    /// By the controller, which has the connection itself in hand.
    Tried(Trial),
}

/// Whose pods are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those with this label of the workload.
    Workload(&'static str),
    /// The method's own.
    Method,
}

/// What the controller tries with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// Another host on the LAN uses the method without its credential.
    Neighbour,
    /// What the laptop does elsewhere is compared with how it was before.
    Unrelated,
    /// The connection is ended in order and by SIGKILL, and what is left on the laptop and in the cluster is compared
    /// with how it was before.
    Teardown,
    /// A host whose own network overlaps the cluster's is to be connected.
    Overlap,
    /// The rights that the method's manifests grant are taken away, one after the other.
    Privilege,
}

impl Probe {
    /// A required probe, asked of all methods at the same time.
    #[must_use]
    pub const fn must(id: &'static str, asks: &'static str, needs: &'static [Capability]) -> Self {
        Self {
            id,
            asks,
            level: Level::Must,
            needs,
            manner: Manner::Together,
        }
    }

    /// One that is good to have.
    #[must_use]
    pub const fn should(
        id: &'static str,
        asks: &'static str,
        needs: &'static [Capability],
    ) -> Self {
        Self {
            level: Level::Should,
            ..Self::must(id, asks, needs)
        }
    }

    /// The same, asked in another manner.
    #[must_use]
    pub const fn asked(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// Longest time for one attempt.
    pub(crate) const fn attempt_limit(&self) -> Duration {
        match self.manner {
            Manner::WhileReplaced(_) => WATCH_LIMIT,
            _ => ATTEMPT_LIMIT,
        }
    }
}

/// One try, through one access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What a client in a pod would see.
    pub expected: String,
    /// What was seen; `Err` where it is not what was expected, or nothing could be tried.
    pub seen: Result<String, Miss>,
}

/// Why an attempt is no pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        effort,
        expected,
        seen,
        reason,
        duration_ms: stopwatch.elapsed().as_secs_f64() * 1e3,
        ..result(probe, method, verdict)
    }
}

/// The result of one attempt that the controller made, of which no client's effort is a part.
#[must_use]
pub fn tried(probe: &Probe, method: &dyn Method, attempt: Attempt, took: Duration) -> ProbeResult {
    let seen = attempt.text().to_owned();
    let (verdict, effort, reason) = match attempt.seen {
        Ok(_) => (Verdict::Pass, Some(Effort::Unmodified), None),
        Err(Miss::Wrong(_)) => (Verdict::Fail, None, None),
        Err(Miss::NotTried(reason)) => (Verdict::NotRun, None, Some(reason)),
    };
    ProbeResult {
        effort,
        expected: attempt.expected,
        seen,
        reason,
        duration_ms: took.as_secs_f64() * 1e3,
        ..result(probe, method, verdict)
    }
}

/// The result of a probe that was not tried.
#[must_use]
pub fn not_run(probe: &Probe, method: &dyn Method, reason: &str) -> ProbeResult {
    ProbeResult {
        expected: probe.asks.to_owned(),
        reason: Some(reason.to_owned()),
        ..result(probe, method, Verdict::NotRun)
    }
}

/// A result with nothing but its verdict.
fn result(probe: &Probe, method: &dyn Method, verdict: Verdict) -> ProbeResult {
    ProbeResult {
        id: probe.id.to_owned(),
        method: method.id(),
        level: probe.level,
        verdict,
        effort: None,
        foreseen: None,
        expected: String::new(),
        seen: String::new(),
        reason: None,
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

/// One attempt at `probe`, through one access.
pub async fn attempt(
    probe: &Probe,
    scenario: &dyn Scenario,
    access: Access,
    workload: &Workload,
) -> Attempt {
    let dialer = Dialer::new(access);
    let limit = probe.attempt_limit();
    tokio::time::timeout(limit, scenario.attempt(probe.id, &dialer, workload))
        .await
        .unwrap_or_else(|_| {
            let text = format!("no outcome within {} s", limit.as_secs());
            Attempt::fail(probe.asks, text)
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
