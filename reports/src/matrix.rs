//! The transparency matrix: probes by group, methods beside each other, and what came as a surprise.

use std::fmt::Write as _;

use inroads_harness::expected::Outcome;
use inroads_harness::ids::MethodId;
use inroads_harness::run::{Level, ProbeResult, Run};

/// The width of a probe's name.
const LABEL: usize = 27;

/// The width of a method's column.
const COLUMN: usize = 14;

/// A mark that can be told from the others without colour, and by a screen reader.
pub(crate) fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unmodified => "✔",
        Outcome::Configured | Outcome::Rewritten => "◐",
        Outcome::Fail => "✘",
        Outcome::Unsupported => "∅",
        Outcome::NotRun => "–",
    }
}

/// The probes of a run in report order, by group.
pub(crate) fn groups(run: &Run) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for probe in &run.probes {
        let group = group_of(&probe.id);
        let place = groups.iter().position(|(name, _)| *name == group);
        let place = place.unwrap_or_else(|| {
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, ids)) = groups.get_mut(place)
            && !ids.contains(&probe.id.as_str())
        {
            ids.push(&probe.id);
        }
    }
    groups
}

/// What stands before the slash.
pub(crate) fn group_of(id: &str) -> &str {
    id.split_once('/').map_or(id, |(group, _)| group)
}

/// The result of a probe through a method.
pub(crate) fn find<'a>(run: &'a Run, id: &str, method: &MethodId) -> Option<&'a ProbeResult> {
    run.probes
        .iter()
        .find(|probe| probe.id == id && probe.method == *method)
}

/// How many required probes passed unmodified, how many at any effort, and how many there are: those that were not
/// asked count as not passed.
pub(crate) fn score(run: &Run, method: &MethodId) -> (usize, usize, usize) {
    let must = run
        .probes
        .iter()
        .filter(|probe| probe.method == *method && probe.level == Level::Must);
    must.fold((0, 0, 0), |(unmodified, passed, all), probe| {
        let outcome = probe.outcome();
        let works = matches!(
            outcome,
            Outcome::Unmodified | Outcome::Configured | Outcome::Rewritten
        );
        (
            unmodified + usize::from(outcome == Outcome::Unmodified),
            passed + usize::from(works),
            all + 1,
        )
    })
}

/// The matrix for a terminal, at most 100 columns wide for five methods.
#[must_use]
pub fn matrix(run: &Run) -> String {
    let methods: Vec<&MethodId> = run.methods.iter().map(|method| &method.id).collect();
    let mut text = String::new();
    let mut line = |label: &str, cells: Vec<String>| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("{cell:<COLUMN$}"))
            .collect();
        let line = format!("{label:<LABEL$}{cells}");
        writeln!(text, "{}", line.trim_end()).expect("writing to a string");
    };
    line("", methods.iter().map(ToString::to_string).collect());
    for (group, ids) in groups(run) {
        line("", Vec::new());
        line(group, Vec::new());
        for id in ids {
            let cells = methods.iter().map(|method| cell(run, id, method));
            let name = id.split_once('/').map_or(id, |(_, name)| name);
            line(&format!("  {name}"), cells.collect());
        }
    }
    line("", Vec::new());
    let scores: Vec<_> = methods.iter().map(|method| score(run, method)).collect();
    let share = |passed: usize, all: usize| match (passed * 100).checked_div(all) {
        Some(share) => format!("{passed}/{all} {share}%"),
        None => "–".to_owned(),
    };
    line(
        "required, unmodified",
        scores.iter().map(|(it, _, all)| share(*it, *all)).collect(),
    );
    line(
        "required, at any effort",
        scores.iter().map(|(_, it, all)| share(*it, *all)).collect(),
    );
    text += "\n✔ unmodified  ◐ with the effort named  ✘ fails  ∅ cannot by design  – not run  ! not as expected\n";
    for probe in run.probes.iter().filter(|probe| probe.is_surprise()) {
        let foreseen = probe.foreseen.unwrap_or(Outcome::NotRun);
        writeln!(
            text,
            "! {} through {}: {}, where {foreseen} was expected",
            probe.id,
            probe.method,
            probe.outcome()
        )
        .expect("writing to a string");
    }
    text
}

fn cell(run: &Run, id: &str, method: &MethodId) -> String {
    let Some(probe) = find(run, id, method) else {
        return String::new();
    };
    let outcome = probe.outcome();
    let effort = match outcome {
        Outcome::Configured => " configured",
        Outcome::Rewritten => " rewritten",
        _ => "",
    };
    let surprise = if probe.is_surprise() { " !" } else { "" };
    format!("{}{effort}{surprise}", mark(outcome))
}
