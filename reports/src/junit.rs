//! Verdicts as JUnit XML, which every CI system shows: a suite of probes for each method, and the gate where there is one.
//!
//! A regression or a surprise is a *failure*, trouble with the run itself an *error*, and what cannot be said is *skipped*.
//! What fails as it was foreseen passes here, with its evidence: a method that cannot carry something by design is news on
//! no day.

mod gate;

use std::time::Duration;

use inroads_harness::comparison::Comparison;
use inroads_harness::expected::Outcome;
use inroads_harness::run::{Level, ProbeResult, Run, Status, Verdict};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use crate::escape::terminal;

/// A run, and what changed against a baseline where there is one, as JUnit XML.
///
/// # Panics
/// Never: writing to memory does not fail.
#[must_use]
pub fn junit(run: &Run, against: Option<&Comparison>) -> String {
    let mut report = Report::new("inroads");
    report.add_test_suite(whole(run));
    for method in &run.methods {
        let mut suite = TestSuite::new(format!("probes of {}", method.id));
        let probes = run.probes.iter();
        let probes: Vec<&ProbeResult> = probes.filter(|it| it.method == method.id).collect();
        suite.set_time(probes.iter().map(|probe| time(probe)).sum());
        suite.add_test_cases(probes.into_iter().map(case));
        report.add_test_suite(suite);
    }
    if let Some(comparison) = against {
        report.add_test_suite(gate::suite(comparison));
    }
    report.to_string().expect("writing to memory")
}

/// Whether the run itself went well: without it, one that broke before its first probe would have nothing red.
fn whole(run: &Run) -> TestSuite {
    let mut suite = TestSuite::new("run");
    suite.add_property(Property::new("run", terminal(&run.run.id)));
    suite.add_property(Property::new("started", run.run.started_at.to_string()));
    suite.add_property(Property::new("profile", terminal(&run.run.profile)));
    suite.add_property(Property::new(
        "comparable",
        terminal(&run.environment.comparable_key),
    ));
    let mut status = match run.run.status {
        Status::Complete => TestCaseStatus::success(),
        Status::Partial => TestCaseStatus::skipped(),
        Status::Failed => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    status.set_message("not everything that was asked for was done");
    let warnings = run.warnings.iter();
    let warnings: Vec<String> = warnings
        .map(|it| terminal(&format!("{}: {} ({})", it.kind, it.text, it.remedy)))
        .collect();
    let mut case = TestCase::new("complete", status);
    case.set_classname("run");
    if !warnings.is_empty() {
        case.set_system_out(warnings.join("\n"));
    }
    suite.add_test_case(case);
    suite
}

fn case(probe: &ProbeResult) -> TestCase {
    let evidence = evidence(probe);
    let mut status = match failure(probe) {
        Some((kind, message)) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_type(kind)
                .set_message(message)
                .set_description(evidence.clone());
            status
        }
        None if probe.verdict == Verdict::NotRun => TestCaseStatus::skipped(),
        None => TestCaseStatus::success(),
    };
    if let TestCaseStatus::Skipped { .. } = status {
        status.set_message(terminal(probe.reason.as_deref().unwrap_or("not tried")));
    }
    let shown = !matches!(status, TestCaseStatus::NonSuccess { .. });
    let mut case = TestCase::new(terminal(&probe.id), status);
    case.set_classname(probe.method.as_str())
        .set_time(time(probe));
    if shown {
        case.set_system_out(evidence);
    }
    case
}

/// Whether a probe is a failure: its type and its message. One that is only good to have is none.
fn failure(probe: &ProbeResult) -> Option<(&'static str, String)> {
    let outcome = probe.outcome();
    match probe.foreseen {
        _ if probe.level != Level::Must => None,
        Some(foreseen) if probe.is_surprise() => Some((
            "surprise",
            format!("{outcome}, where {foreseen} was expected"),
        )),
        None if outcome == Outcome::Fail => Some(("fail", "it was tried and is wrong".to_owned())),
        _ => None,
    }
}

fn evidence(probe: &ProbeResult) -> String {
    let foreseen = probe.foreseen.map(|it| it.to_string()).unwrap_or_default();
    let lines = [
        ("outcome", probe.outcome().to_string()),
        ("foreseen", foreseen),
        ("expected", terminal(&probe.expected)),
        ("seen", terminal(&probe.seen)),
        (
            "reason",
            terminal(probe.reason.as_deref().unwrap_or_default()),
        ),
    ];
    let lines = lines.iter().filter(|(_, text)| !text.is_empty());
    let lines: Vec<String> = lines
        .map(|(what, text)| format!("{what}: {text}"))
        .collect();
    lines.join("\n")
}

/// How long all attempts took. What is no duration, as only an edited file has it, is none.
fn time(probe: &ProbeResult) -> Duration {
    Duration::try_from_secs_f64(probe.duration_ms / 1e3).unwrap_or_default()
}
