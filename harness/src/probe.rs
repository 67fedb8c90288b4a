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
    /// What was seen; `Err` where it is not what was expected.
    pub seen: Result<String, String>,
}

impl Attempt {
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
            seen: Err(seen.into()),
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
    let mut passed = None;
    for (effort, access) in ladder(scenario, accesses) {
        let attempt = attempt(probe, scenario, access, workload).await;
        expected = attempt.expected;
        let (Ok(text) | Err(text)) = &attempt.seen;
        let separator = if seen.is_empty() { "" } else { "; " };
        write!(seen, "{separator}{effort}: {text}").expect("writing to a string");
        if attempt.seen.is_ok() {
            passed = Some(effort);
            break;
        }
    }
    let (verdict, reason) = judge(probe, method, passed);
    ProbeResult {
        id: probe.id.to_owned(),
        method: method.id(),
        level: probe.level,
        verdict,
        effort: passed,
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

/// A probe that failed at every effort is a failure where the method claims to carry what it needs, and
/// unsupported where it does not.
fn judge(probe: &Probe, method: &dyn Method, passed: Option<Effort>) -> (Verdict, Option<String>) {
    let lacking = probe
        .needs
        .iter()
        .find(|need| !method.exposes().contains(need));
    match (passed, lacking) {
        (Some(_), _) => (Verdict::Pass, None),
        (None, Some(need)) => (Verdict::Unsupported, Some(method.limit(*need).to_owned())),
        (None, None) => (Verdict::Fail, None),
    }
}
