//! The gate as a suite: a case for each cell that can be a regression, and for each verdict that changed.

use inroads_harness::comparison::{Change, Comparison, Found, VerdictChange, Weight};
use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use crate::comparison::{advisory, decision, factor, found, interval, of_weight, outcome, side};
use crate::escape::terminal;

/// All that a comparison found. Advisory cells that changed are properties: they pass and fail nothing.
pub(super) fn suite(comparison: &Comparison) -> TestSuite {
    let mut suite = TestSuite::new("gate");
    for baseline in &comparison.baselines {
        suite.add_property(Property::new("baseline", terminal(&baseline.id)));
    }
    suite.add_property(Property::new(
        "candidate",
        terminal(&comparison.candidate.id),
    ));
    suite.add_property(Property::new("decision", decision(comparison.decision)));
    let (moved, others) = advisory(comparison);
    for change in moved {
        let name = terminal(&format!("advisory: {}", change.name()));
        suite.add_property(Property::new(name, figures(change)));
    }
    if !others.is_empty() {
        suite.add_property(Property::new("other advisory cells", others.as_str()));
    }
    suite.add_test_cases(of_weight(comparison, Weight::Blocking).map(cell));
    suite.add_test_cases(comparison.verdicts.iter().map(verdict));
    let reasons: Vec<String> = comparison.reasons.iter().map(|it| terminal(it)).collect();
    if !reasons.is_empty() {
        suite.set_system_out(reasons.join("\n"));
    }
    suite
}

fn cell(change: &Change) -> TestCase {
    let mut status = match change.found {
        Found::Worse => TestCaseStatus::non_success(NonSuccessKind::Failure),
        // What the baseline has and this run has not is the run's trouble; the other way round there is nothing to say.
        Found::Missing if change.candidate.is_none() => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
        Found::Missing | Found::Unclear => TestCaseStatus::skipped(),
        Found::Acknowledged | Found::NotConfirmed | Found::Better | Found::Same => {
            TestCaseStatus::success()
        }
    };
    let passed = matches!(status, TestCaseStatus::Success { .. });
    let figures = figures(change);
    if !passed {
        status
            .set_type(found(change.found))
            .set_message(figures.as_str())
            .set_description(figures.as_str());
    }
    let name = terminal(&format!("{}/{}", change.scenario, change.metric));
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("gate.{}", change.method));
    if passed {
        case.set_system_out(figures);
    }
    case
}

/// A change in one line.
fn figures(change: &Change) -> String {
    let by = change.worsening.map(|_| {
        let (factor, interval) = (factor(change.worsening), interval(change.worsening));
        format!(", {factor} ({interval})")
    });
    let note = change.note.as_ref();
    let note = note.map(|note| format!("; {}", terminal(note)));
    format!(
        "{}: {} → {}{}{}",
        found(change.found),
        side(change.baseline, change.unit),
        side(change.candidate, change.unit),
        by.unwrap_or_default(),
        note.unwrap_or_default()
    )
}

fn verdict(change: &VerdictChange) -> TestCase {
    let was_is = format!(
        "was {} and is {}",
        outcome(change.baseline),
        outcome(change.candidate)
    );
    let seen = match change.seen.as_str() {
        "" => String::new(),
        seen => format!("\nseen: {}", terminal(seen)),
    };
    let text = was_is.clone() + &seen;
    let mut status = match (&change.acknowledged, change.candidate) {
        (Some(_), _) => TestCaseStatus::success(),
        (None, Some(_)) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        (None, None) => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    let acknowledged = change.acknowledged.as_ref();
    if acknowledged.is_none() {
        status
            .set_type("verdict changed")
            .set_message(was_is)
            .set_description(text.clone());
    }
    let mut case = TestCase::new(terminal(&change.probe), status);
    case.set_classname(format!("gate.{}", change.method));
    if let Some(by) = acknowledged {
        case.set_system_out(format!("{text}\nacknowledged: {}", terminal(by)));
    }
    case
}
